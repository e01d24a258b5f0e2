"""The pictures of a page, empty but for their axes: page.js fills them.

A diagram has one unit a cell on both axes, so that any values, in any order and on any scale, make cells of one size;
ticks are where their values are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.models import (
    Arrow,
    ColorBar,
    ColorMapper,
    ColumnDataSource,
    CustomJS,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    Range1d,
    VeeHead,
)
from bokeh.plotting import figure
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.ticker import LogLocator, MaxNLocator

from polyjax.draw.page.colours import bar
from polyjax.draw.scales import FEW, Scale
from polyjax.draw.style import SIGNED_MAP
from polyjax.theory import grid

if TYPE_CHECKING:
    from polyjax.results import Results

TOOLS = "pan,wheel_zoom,box_zoom,reset,save"
SIDE, HEIGHT = 300, 230  # pixels of the smaller pictures
FRAME = {"frame_width": 500, "frame_height": 200}  # pixels of the arrows, which page.js gives one unit for both axes
PLAIN = {"tools": "save", "toolbar_location": None}
BLUE = "#0072b2"


def place(scale: Scale, values: np.ndarray) -> np.ndarray:
    """Return where values are on an axis of one unit a cell."""
    f = np.log if scale.is_geometric else np.asarray
    return np.interp(f(values), f(scale.edges), np.arange(scale.edges.size), left=np.nan, right=np.nan)


def _ticks(scale: Scale) -> dict[float, str]:
    """Return the places of ticks, and their words."""
    low, high = scale.edges[[0, -1]]
    if scale.centres.size <= FEW:
        values = scale.centres
    elif scale.is_geometric:
        located = LogLocator(subs=(1, 3) if high / low < 10**2.5 else (1,), numticks=20)
        values = np.asarray(located.tick_values(low, high))
    else:
        values = np.asarray(MaxNLocator(6).tick_values(low, high))
    values = values[(values >= scale.edges[0]) & (values <= scale.edges[-1])]
    return {float(at): f"{value:.3g}" for at, value in zip(place(scale, values), values, strict=True)}


def diagram(
    results: Results, title: str, side: int, mappers: Mapping[str, ColorMapper], ranges: Any, *, with_bar: bool
) -> dict[str, Any]:
    """Return the models of one diagram, by the names that page.js has for them."""
    names = [*results.axes]
    x = Scale(names[1 if len(names) > 1 else 0], results.axes[names[1 if len(names) > 1 else 0]])
    y = Scale(names[0], results.axes[names[0]]) if len(names) > 1 else Scale("", np.zeros(1))
    columns, rows = x.centres.size, y.centres.size
    options = {"x_range": ranges[0], "y_range": ranges[1], "title": title, "tools": TOOLS, "toolbar_location": "right"}
    plot = figure(frame_width=side, frame_height=side, **options)
    for axis, scale in ((plot.xaxis, x), (plot.yaxis, y)):
        ticks = _ticks(scale)
        axis.ticker, axis.major_label_overrides = FixedTicker(ticks=[*ticks]), ticks
        axis.axis_label = scale.name.replace("_", " ")
    plot.grid.visible, plot.toolbar.logo = False, None
    source = ColumnDataSource({"image": [np.zeros((rows, columns), np.float32)]})
    renderer = plot.image("image", x=0, y=0, dw=columns, dh=rows, source=source, color_mapper=mappers["capacity"])
    _boundaries(plot, results, x, y)
    marks, chosen = ColumnDataSource({"x": [], "y": [], "kind": []}), ColumnDataSource(_BOX)
    plot.scatter("x", "y", marker="x", size=5, color="kind", source=marks)
    box: dict[str, Any] = {"fill_alpha": 0, "source": chosen}
    plot.quad("left", "right", "bottom", "top", line_color="white", line_width=4, **box)
    plot.quad("left", "right", "bottom", "top", line_color="red", line_width=2, **box)
    bars = {name: bar(name, mapper) for name, mapper in mappers.items()} if with_bar else _unseen(mappers)
    for each in bars.values() if with_bar else ():
        plot.add_layout(each, "right")
    return {
        "figure": plot,
        "source": source,
        "renderer": renderer,
        "marks": marks,
        "chosen": chosen,
        "bars": bars,
    }


_BOX: dict[str, list[float]] = {"left": [], "right": [], "bottom": [], "top": []}


def _unseen(mappers: Mapping[str, ColorMapper]) -> dict[str, ColorBar]:
    """Return colour bars that no figure has, for the colours."""
    return {name: ColorBar(color_mapper=mapper) for name, mapper in mappers.items()}


def _boundaries(plot: figure, results: Results, x: Scale, y: Scale) -> None:
    """Draw the closed-form boundaries of phases, where theory holds."""
    if (y.name, x.name) != ("density", "importance") or not grid.has_closed_form(results.config):
        return
    form = grid.closed_form(results.config)
    low, high = max(y.edges[0], 1e-4), min(y.edges[-1], 1.0)
    density = np.geomspace(low, high, 200)
    curves = zip(form.boundaries(density), ("white", "black"), strict=True)
    for importance, color in curves:
        inside = np.clip(importance, None, x.edges[-1] * 10)
        plot.line(place(x, np.maximum(inside, 1e-12)), place(y, density), color=color, line_dash=[6, 3], line_width=1.5)


def arrows() -> dict[str, Any]:
    """Return the models of the picture of embedding vectors."""
    names = ("x0", "y0", "x1", "y1", "color", "text", "dx", "dy")
    source = ColumnDataSource({name: [] for name in names})
    outlines = ColumnDataSource({"xs": [], "ys": [], "color": []})
    x, y = Range1d(-1, 1), Range1d(-1, 1)
    plot = figure(**FRAME, **PLAIN, x_range=x, y_range=y, title="embedding, by block")
    plot.axis.visible, plot.grid.visible = False, False
    plot.multi_line("xs", "ys", color="color", line_dash=[4, 3], source=outlines)
    head = VeeHead(size=9, fill_color="color", line_color="color")
    at: dict[str, Any] = {"x_start": "x0", "y_start": "y0", "x_end": "x1", "y_end": "y1"}
    plot.add_layout(Arrow(source=source, end=head, line_color="color", line_width=2, **at))
    centred: dict[str, Any] = {"text_align": "center", "text_baseline": "middle", "text_font_size": "12px"}
    plot.text("x1", "y1", "text", x_offset="dx", y_offset="dy", text_color="color", source=source, **centred)
    return {"figure": plot, "arrows": source, "outlines": outlines, "arrow_x": x, "arrow_y": y}


def matrix(title: str, width: int) -> dict[str, Any]:
    """Return the models of a heat map, whose entries are written where there are few."""
    palette = [to_hex(color) for color in colormaps[SIGNED_MAP](np.linspace(0, 1, 255))]
    mapper, x, y = LinearColorMapper(palette=palette, low=-1, high=1), Range1d(0, 1), Range1d(1, 0)
    source = ColumnDataSource({name: [] for name in ("x", "y", "value", "text", "color")})
    plot = figure(width=width, height=HEIGHT, x_range=x, y_range=y, title=title, **PLAIN)
    plot.axis.visible, plot.grid.visible = False, False
    plot.rect("x", "y", 1, 1, color={"field": "value", "transform": mapper}, source=source)
    centred: dict[str, Any] = {"text_align": "center", "text_baseline": "middle", "text_font_size": "11px"}
    plot.text("x", "y", "text", text_color="color", source=source, **centred)
    plot.add_tools(HoverTool(tooltips=[("", "@value{0.0000}")]))
    return {"figure": plot, "source": source, "mapper": mapper, "x": x, "y": y}


def restarts() -> dict[str, Any]:
    """Return the models of the capacities and of the losses of all restarts."""
    x = Range1d(-0.6, 1)
    dots = ColumnDataSource({name: [] for name in ("x", "y", "color", "fill")})
    losses = ColumnDataSource({name: [] for name in ("x", "loss", "restart", "settled", "attempt")})
    upper = figure(width=2 * SIDE, height=HEIGHT - 40, x_range=x, y_range=Range1d(-0.05, 1.05), **PLAIN)
    upper.scatter("x", "y", size=6, line_color="color", fill_color="fill", source=dots)
    lower = figure(width=2 * SIDE, height=HEIGHT - 60, x_range=x, **PLAIN)
    bars = lower.scatter("x", "loss", size=8, color=BLUE, source=losses)
    told = [("restart", "@restart"), ("loss", "@loss{0.000000}"), ("settled", "@settled"), ("attempt", "@attempt")]
    lower.add_tools(HoverTool(tooltips=told, renderers=[bars]))
    upper.title.text = "capacities of all restarts, of lowest loss first"
    upper.yaxis.axis_label, lower.yaxis.axis_label = "capacity", "loss"
    upper.xaxis.visible, lower.xaxis.visible = False, False
    return {"figures": [upper, lower], "restarts": dots, "losses": losses, "restart_x": x}


def gain() -> dict[str, Any]:
    """Return the models of the marginal loss reduction against capacity."""
    curves = ColumnDataSource({"xs": [], "ys": [], "color": []})
    optima, trained = (ColumnDataSource({"x": [], "y": [], "color": []}) for _ in range(2))
    plot = figure(width=2 * SIDE, height=HEIGHT, x_range=Range1d(-0.03, 1.03), y_axis_type="log", **PLAIN)
    plot.title.text = "gain from capacity, -dL/dC: ● optimum, ○ trained"
    plot.xaxis.axis_label = "capacity"
    plot.multi_line("xs", "ys", color="color", line_width=2, source=curves)
    plot.scatter("x", "y", size=11, line_color="color", fill_color="white", source=trained)
    plot.scatter("x", "y", size=6, color="color", source=optima)
    return {"gain": plot, "curves": curves, "optima": optima, "trained": trained}


def on(plot: figure, event: str, code: str) -> None:
    """Let an event of the mouse call a function of page.js."""
    plot.js_on_event(event, CustomJS(code=code))
