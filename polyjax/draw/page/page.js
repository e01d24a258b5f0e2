// The page of `polyjax explore`: what is coloured, what the mouse is over, and what is shown of the cell that is chosen.
// `models` are Bokeh's, by name; `panels` is what `pack.packed` made of each file. Cells are numbered in row-major order.

const FULL = 65535, LARGEST = 32767, IGNORED = 255
const ASPECT = 2.5  // of the picture of arrows
const BLUE = "#0072b2", BLACK = "#222222"
const COLORS = [BLUE, "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"]
const TYPES = {
  float32: Float32Array, uint16: Uint16Array, int16: Int16Array, uint8: Uint8Array,
}

function decoded({type, data}) {
  const text = atob(data), bytes = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i)
  return new TYPES[type](bytes.buffer)
}

function prepared(panel) {
  panel.arrays = Object.fromEntries(Object.entries(panel.arrays).map(([name, a]) => [name, decoded(a)]))
  panel.y = panel.axes.length > 1 ? panel.axes[0] : {name: "", values: [0], order: [0]}
  panel.x = panel.axes.length > 1 ? panel.axes[1] : panel.axes[0]
  return panel
}

const all = panels.map(prepared)
const state = {panel: 0, row: 0, column: 0, others: all[0].axes.slice(2).map(() => 0)}

// --- cells

// The number of the cell in a row and a column of a picture, which are in ascending order of their axes.
function cell(panel, row, column) {
  const index = [panel.y.order[row], panel.x.order[column], ...state.others]
  const places = panel.axes.length > 1 ? index : [index[1]]
  return places.reduce((k, i, axis) => k * panel.axes[axis].values.length + i, 0)
}

function shape(panel) {
  return [panel.y.order.length, panel.x.order.length]
}

function coordinates(panel, row, column) {
  const found = {}
  if (panel.axes.length > 1) found[panel.y.name] = panel.y.values[panel.y.order[row]]
  found[panel.x.name] = panel.x.values[panel.x.order[column]]
  panel.axes.slice(2).forEach((axis, i) => { found[axis.name] = axis.values[state.others[i]] })
  return found
}

function number(x) {
  if (!Number.isFinite(x)) return "none"
  return Number(x.toPrecision(4)).toString()
}

function words(found) {
  return Object.entries(found).map(([name, value]) => `${name} = ${number(value)}`).join(", ")
}

function capacity(panel, k, i) {
  return Number.isFinite(panel.arrays.loss[k]) ? panel.arrays.capacity[k * panel.sizes.N + i] / FULL : NaN
}

function blocks(panel, k) {
  const {N} = panel.sizes, found = []
  for (let i = 0; i < N; i++) {
    const label = panel.arrays.label[k * N + i]
    if (label !== IGNORED) {
      found[label] ??= {features: [], rank: panel.arrays.rank[k * N + i]}
      found[label].features.push(i)
    }
  }
  return found
}

const QUANTITIES = {
  "capacity": (panel, k, i) => capacity(panel, k, Math.min(i, panel.sizes.N - 1)),
  "loss": (panel, k) => panel.arrays.loss[k],
  "excess": (panel, k) => panel.has_theory ? panel.arrays.loss[k] / panel.arrays.least[k] - 1 : NaN,
  "blocks": (panel, k) => blocks(panel, k).length || NaN,
  "largest": (panel, k) => Math.max(...blocks(panel, k).map((block) => block.features.length)) || NaN,
  "settled": (panel, k) => panel.arrays.settled[k],
  "attempt": (panel, k) => panel.arrays.state[k * panel.sizes.R + panel.arrays.order[k * panel.sizes.R]] >> 1,
}

// --- diagrams

function quantity() {
  return Object.keys(QUANTITIES)[models.quantity.active]
}

function colour() {
  const name = quantity(), value = QUANTITIES[name], feature = models.feature.value
  all.forEach((panel, p) => {
    const [rows, columns] = shape(panel), {source, renderer, bars, marks} = models.diagrams[p]
    const image = source.data.image[0], found = {x: [], y: [], kind: []}
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const k = cell(panel, row, column), failed = !Number.isFinite(panel.arrays.loss[k])
        image[row * columns + column] = failed ? NaN : value(panel, k, feature)
        if (failed || !panel.arrays.settled[k]) {
          found.x.push(column + 0.5)
          found.y.push(row + 0.5)
          found.kind.push(failed ? "black" : "#d55e00")
        }
      }
    }
    renderer.glyph.color_mapper = bars[name].color_mapper
    Object.entries(bars).forEach(([other, bar]) => { bar.visible = other === name })
    marks.data = found
    source.change.emit()
  })
  models.feature.disabled = name !== "capacity"
}

// --- what the mouse is over

function place(panel, x, y) {
  const [rows, columns] = shape(panel)
  const row = Math.floor(y), column = Math.floor(x)
  return row >= 0 && row < rows && column >= 0 && column < columns ? [row, column] : null
}

function described(panel, row, column) {
  const k = cell(panel, row, column), name = quantity(), value = QUANTITIES[name](panel, k, models.feature.value)
  const what = name === "capacity" ? `capacity of feature ${models.feature.value}` : name
  const loss = panel.arrays.loss[k]
  const told = [words(coordinates(panel, row, column)), `${what} ${number(value)}`, `loss ${number(loss)}`]
  if (!Number.isFinite(loss)) told.push("failed")
  else if (!panel.arrays.settled[k]) told.push("not settled")
  return told.join(" · ")
}

function hover(p, x, y) {
  const found = place(all[p], x, y)
  if (found) models.hover.text = `<b>${all[p].name}</b> ${described(all[p], ...found)}`
}

// --- the cell that is chosen

function tap(p, x, y) {
  const found = place(all[p], x, y)
  if (!found) return
  state.panel = p;
  [state.row, state.column] = found
  show()
}

function nearest(axis, value) {
  const away = axis.order.map((i) => Math.abs(axis.values[i] - value))
  return away.indexOf(Math.min(...away))
}

// Mark the same coordinates in all panels.
function mark(panel) {
  const y = panel.y.values[panel.y.order[state.row]], x = panel.x.values[panel.x.order[state.column]]
  all.forEach((other, p) => {
    const row = nearest(other.y, y), column = nearest(other.x, x)
    models.diagrams[p].chosen.data = {left: [column], right: [column + 1], bottom: [row], top: [row + 1]}
  })
}

function show() {
  const panel = all[state.panel], k = cell(panel, state.row, state.column)
  mark(panel)
  models.title.text = heading(panel, k)
  models.table.text = table(panel, k)
  arrows(panel, k)
  matrices(panel, k)
  restarts(panel, k)
  gains(panel, k)
}

function heading(panel, k) {
  const {loss, loss_se, settled, least} = panel.arrays
  const told = [`<b>${panel.name}</b> (${panel.rule})`, words(coordinates(panel, state.row, state.column))]
  if (!Number.isFinite(loss[k])) return [...told, "failed: no restart is finite"].join("<br>")
  const above = panel.has_theory ? `, ${(100 * (loss[k] / least[k] - 1)).toFixed(2)} % above the optimum` : ""
  const error = Number.isFinite(loss_se[k]) ? ` ± ${number(loss_se[k])}` : "" // snapshots have none
  told.push(`loss ${number(loss[k])}${error}${above}; ${settled[k] ? "settled" : "not settled"}`)
  const names = blocks(panel, k).map(({features, rank}) => `{${features.join(", ")}} in ${rank}`)
  told.push(`blocks: ${names.join("; ") || "none"}`)
  return told.join("<br>")
}

function table(panel, k) {
  const {N} = panel.sizes, rows = []
  for (let i = 0; i < N; i++) {
    const optimum = panel.has_theory ? `<td>${(panel.arrays.optimum[k * N + i] / FULL).toFixed(4)}</td>` : ""
    const shown = capacity(panel, k, i)
    rows.push(`<tr><td>${i}</td><td>${Number.isFinite(shown) ? shown.toFixed(4) : "none"}</td>${optimum}</tr>`)
  }
  const head = `<tr><th>feature</th><th>capacity</th>${panel.has_theory ? "<th>optimum</th>" : ""}</tr>`
  return `<table class="capacities" cellpadding="3">${head}${rows.join("")}</table>`
}

function weights(panel, k) {
  const {D, N} = panel.sizes, {W, W_scale} = panel.arrays
  return Array.from(W.subarray(k * D * N, (k + 1) * D * N), (w) => w / LARGEST * W_scale[k])
}

// Blocks beside each other, each in the plane of its two principal axes; features of no block in the first plane.
function arrows(panel, k) {
  const {N} = panel.sizes, {arrow, arrow_scale, label} = panel.arrays, flat = panel.sizes.D <= 2
  const found = blocks(panel, k), size = 1.3 * arrow_scale[k]
  const data = {x0: [], y0: [], x1: [], y1: [], color: [], text: [], dx: [], dy: []}
  for (let i = 0; i < N; i++) {
    const block = label[k * N + i], plane = flat || block === IGNORED ? 0 : block, x0 = 2 * size * plane
    const [x, y] = [0, 1].map((j) => arrow[(k * N + i) * 2 + j] / LARGEST * arrow_scale[k])
    const length = Math.hypot(x, y) || 1
    data.x0.push(x0)
    data.y0.push(0)
    data.x1.push(x0 + x)
    data.y1.push(y)
    data.color.push(block === IGNORED ? "#999999" : COLORS[block % COLORS.length])
    data.text.push(`${i}`)
    data.dx.push(9 * x / length)
    data.dy.push(-9 * y / length)
  }
  models.arrows.data = data
  models.outlines.data = outlines(found, data, flat)
  const planes = flat ? 1 : Math.max(found.length, 1), half = Math.max(size, size * planes / ASPECT)
  const middle = size * (planes - 1)
  Object.assign(models.arrow_x, {start: middle - half * ASPECT, end: middle + half * ASPECT})
  Object.assign(models.arrow_y, {start: -half, end: half})
}

function outlines(found, data, flat) {
  const drawn = {xs: [], ys: [], color: []}
  found.filter(({features}) => features.length > 1).forEach(({features}) => {
    const angle = (i) => Math.atan2(data.y1[i] - data.y0[i], data.x1[i] - data.x0[i])
    const around = [...features].sort((i, j) => angle(i) - angle(j))
    around.push(around[0])
    drawn.xs.push(around.map((i) => data.x1[i]))
    drawn.ys.push(around.map((i) => data.y1[i]))
    drawn.color.push(data.color[features[0]])
  })
  return drawn
}

function matrices(panel, k) {
  const {D, N} = panel.sizes, W = weights(panel, k)
  const gram = []
  for (let i = 0; i < N; i++) {
    for (let j = 0; j < N; j++) {
      let sum = 0
      for (let d = 0; d < D; d++) sum += W[d * N + i] * W[d * N + j]
      gram.push(sum)
    }
  }
  matrix("W", W, D, N)
  matrix("gram", gram, N, N)
}

function matrix(name, values, rows, columns) {
  const most = Math.max(...values.map(Math.abs)) || 1, {source, mapper, x, y} = models.matrices[name]
  const data = {x: [], y: [], value: values, text: [], color: []}
  values.forEach((value, at) => {
    data.x.push(at % columns + 0.5)
    data.y.push(Math.floor(at / columns) + 0.5)
    data.text.push(columns <= 8 ? value.toFixed(2).replace("-0.00", "0.00").replace("-", "\u2212") : "")
    data.color.push(Math.abs(value) > 0.65 * most ? "white" : "black")
  })
  Object.assign(mapper, {low: -most, high: most})
  Object.assign(x, {start: 0, end: columns})
  Object.assign(y, {start: rows, end: 0})
  source.data = data
}

// All restarts in order of the losses by which they are chosen.
function restarts(panel, k) {
  const {R, N} = panel.sizes, {capacities, losses, order: orders, state: states} = panel.arrays
  const order = [...orders.subarray(k * R, (k + 1) * R)]
  const dots = {x: [], y: [], color: [], fill: []}, bars = {x: [], loss: [], restart: [], settled: [], attempt: []}
  order.forEach((r, rank) => {
    const at = k * R + r, loss = losses[at], settled = states[at] % 2
    bars.x.push(rank)
    bars.loss.push(loss)
    bars.restart.push(r)
    bars.settled.push(settled ? "yes" : "no")
    bars.attempt.push(states[at] >> 1)
    for (let i = 0; i < N && Number.isFinite(loss); i++) {
      const color = panel.is_paper ? (i ? BLACK : BLUE) : COLORS[i % COLORS.length]
      dots.x.push(rank + (N > 1 ? 0.5 * i / (N - 1) - 0.25 : 0))
      dots.y.push(capacities[at * N + i] / FULL)
      dots.color.push(color)
      dots.fill.push(settled ? color : "white")
    }
  })
  models.restarts.data = dots
  models.losses.data = bars
  Object.assign(models.restart_x, {start: -0.6, end: R - 0.4})
}

// -dL/dC = 2 ((k - 1) v / ((k - 3) C + 2))^2 of feature 0 and of the others, with dots at the optimum (eqs. 14 and 54).
function gains(panel, k) {
  models.gain.visible = panel.has_theory
  if (!panel.has_theory) return
  const {N} = panel.sizes, {optimum, kurtosis} = panel.arrays
  const V = coordinates(panel, state.row, state.column).importance ?? 1
  const gain = (C, v) => 2 * ((kurtosis[k] - 1) * v / ((kurtosis[k] - 3) * C + 2)) ** 2
  const steps = [...Array(51).keys()].map((i) => i / 50)
  const importances = [...Array(N).keys()].map((i) => i ? 1 : V)
  const curves = N > 1 ? [1, V] : [V]
  models.curves.data = {
    xs: curves.map(() => steps),
    ys: curves.map((v) => steps.map((C) => gain(C, v))),
    color: N > 1 ? [BLACK, BLUE] : [BLUE],
  }
  const C = importances.map((_, i) => optimum[k * N + i] / FULL)
  models.optima.data = {
    x: C, y: C.map((c, i) => gain(c, importances[i])), color: importances.map((_, i) => i ? BLACK : BLUE),
  }
  const trained = importances.map((_, i) => capacity(panel, k, i))
  models.trained.data = {
    x: trained, y: trained.map((c, i) => gain(c, importances[i])), color: importances.map((_, i) => i ? BLACK : BLUE),
  }
}

// --- the other axes

function slide(axis, index) {
  state.others[axis] = index
  models.sliders[axis].label.text = `${all[0].axes[axis + 2].name} = ${number(all[0].axes[axis + 2].values[index])}`
  colour()
  show()
}

window.polyjax_pages ??= {}
window.polyjax_pages[name] = {colour, hover, tap, slide, state, panels: all, quantities: QUANTITIES, models, cell}
colour()
state.row = Math.floor(shape(all[0])[0] / 2)
state.column = Math.floor(shape(all[0])[1] / 2)
show()
