"""The critical point k = 3, V = 1 of the quadratic Redwood model: capacities on one scaling function, the jump of the
gain from capacity below it, and how training slows down towards it.

    python -m figures.critical_point [--results results/critical_point] [--out results/critical_point]

Reads the four files of `sweeps.critical_point` and writes OUT.png and OUT.pdf; trains nothing. Array axes: k - 3 E,
scaled importance X, restart R, snapshot K, feature N.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from figures.drawing import Page, load_panel, page, panel, results_command
from polyjax import theory
from polyjax.draw import captions
from polyjax.draw.style import COLORS, LEVEL
from polyjax.embedding.capacity import trained_marginal
from polyjax.results import Results

FILES = ("sampled", "expected", "descent", "adam")  # of `sweeps.critical_point`
KINDS = {"sampled": "best", "polished": "refined", "expected": "best"}  # panels of the function, and the rule of each
TITLES = ("a  Trained on samples", "b  Polished on samples", "c  Trained on the expected loss")
CLOSE = 0.1  # largest k - 3 that counts as next to the critical point
CORNER = 0.05  # what is nearer to a corner of the function, in scaled importance, is not counted
SEEN = 0.05  # capacities below are those of ignored features, whose short embeddings tell nothing
ERROR = 0.05  # mean error of the capacity from which on networks count as settled
WIDTH, TOP, HEIGHT, LOWER, FOOT = 7.0, 0.24, 1.6, 2.5, 4.55  # inches
SCALED = r"$(V - 1)\,/\,|k - 3|$"

Coordinates = tuple[np.ndarray, np.ndarray]  # k - 3 [E, 1] and the scaled importance [X]


def read(folder: Path) -> dict[str, Results]:
    """The four results. Raises ValueError unless they are those of the sweeps of the critical point."""
    found = {name: load_panel(folder, name) for name in FILES}
    for name, results in found.items():
        if [*results.axes] != ["excess", "scaled"]:
            raise ValueError(f"{name}.npz must have the axes excess and scaled, but has {', '.join(results.axes)}")
    return found


def coordinates(results: Results) -> Coordinates:
    return results.axes["excess"][:, None], results.axes["scaled"]


def sizes(results: Results) -> tuple[int, int]:
    """N and D."""
    model = results.config["model"]
    return model["n_features"], model["n_neurons"]


def optimum(results: Results) -> np.ndarray:
    """The optimal C_0 at the coordinates themselves, [E, X]."""
    e, x = coordinates(results)
    n, d = sizes(results)
    v = np.ones((e.size, x.size, n))
    v[..., 0] = 1 + abs(e) * x
    return np.asarray(theory.optimal_capacity(v, 3 + e, d))[..., 0]


def limit(results: Results, x: np.ndarray) -> np.ndarray:
    """The function that C_0 tends to for k -> 3 from above, [X]."""
    return np.asarray(theory.critical_capacity(x, *sizes(results)))


def off(results: Results, rule: str) -> dict[float, float]:
    """The largest distance of C_0 from that function, off its corners, by k - 3 from above 0 to CLOSE."""
    e, x = coordinates(results)
    n, d = sizes(results)
    corners = np.array([-d, n - d]) / (2 * (n - 1))
    inner = (abs(x[:, None] - corners) > CORNER).all(1)
    largest = abs(results.select(rule).capacity[..., 0] - limit(results, x))[:, inner].max(1)
    near = (e[:, 0] > 0) & (e[:, 0] <= CLOSE * (1 + 1e-6))
    return dict(zip(e[near, 0].tolist(), largest[near].tolist(), strict=True))


def scaled_gain(results: Results) -> np.ndarray:
    """(-dL/dC_0 - 2) / |k - 3| of trained networks, [E, X]: of their weights alone where feature 0 is embedded (eq.
    14), else of the capacity (eq. 54)."""
    e, x = coordinates(results)
    selection = results.select("best")
    C, v = selection.capacity[..., :1], (1 + abs(e) * x)[..., None]
    assert selection.W is not None
    of_weights = np.asarray(trained_marginal(selection.W))[..., 0]
    of_capacity = np.asarray(theory.marginal_loss_reduction(C, v, 3 + np.broadcast_to(e, C.shape[:2])))[..., 0]
    return (np.where(C[..., 0] >= SEEN, of_weights, of_capacity) - 2) / abs(e)


def steps_to_settle(results: Results) -> np.ndarray:
    """The steps after which C_0 is within ERROR of the optimum, in the mean over networks of one k, and stays there,
    [E]; NaN where it does not come to that."""
    assert results.snapshots is not None
    error = abs(results.snapshots.capacity[..., 0] - optimum(results)[..., None, None]).mean((1, 2))  # [E, K]
    steps = np.append(results.snapshots.steps, np.nan)
    last = error.shape[1] - (error[:, ::-1] > ERROR).argmax(1)
    return np.where((error > ERROR).any(1), steps[last], steps[0])


def exponent(results: Results) -> float:
    """The slope of the logarithm of steps to settle against that of k - 3, up to CLOSE; NaN of fewer than two."""
    e, steps = results.axes["excess"], steps_to_settle(results)
    near = (e <= CLOSE * (1 + 1e-6)) & np.isfinite(steps)
    return float(np.polyfit(np.log(e[near]), np.log(steps[near]), 1)[0]) if near.sum() > 1 else np.nan


def draw(found: Mapping[str, Results]) -> Page:
    """The whole figure, to be called within `style()`."""
    fig = page(WIDTH, FOOT, *_words(found))
    panels = [panel(fig, 0.46 + 2.14 * i, TOP, 1.98, HEIGHT) for i in range(3)]
    for ax, kind, title in zip(panels, KINDS, TITLES, strict=True):
        _function(ax, found["expected" if kind == "expected" else "sampled"], KINDS[kind])
        ax.set_title(title)
        ax.tick_params(labelleft=kind == "sampled")
    panels[0].set_ylabel("capacity $C_0$")
    _legend(panels[0], found["expected"])
    _gain(panel(fig, 0.46, LOWER, 3.1, HEIGHT), found["expected"])
    _slowing(panel(fig, 4.28, LOWER, 2.46, HEIGHT, xscale="log", yscale="log"), found)
    return fig


def _colors(e: np.ndarray) -> list[str]:
    """From dark to light with the distance from the critical point."""
    nearest, farthest = float(np.min(abs(e))), float(np.max(abs(e)))
    return [to_hex(colormaps["viridis"](0.9 * x)) for x in np.log(abs(e) / nearest) / np.log(farthest / nearest)]


def _function(ax: Axes, results: Results, rule: str) -> None:
    """Trained capacities above the critical point, and the function that they tend to."""
    e, x = coordinates(results)
    fine = np.linspace(x.min(), x.max(), 400)
    ax.plot(fine, limit(results, fine), color="black", linewidth=0.9, zorder=1)
    capacity, colors = results.select(rule).capacity[..., 0], _colors(e[:, 0])
    for i in np.flatnonzero(e[:, 0] > 0)[::-1]:
        ax.plot(x, capacity[i], "o", color=colors[i], markersize=2.4, markeredgewidth=0)
    ax.set(xlabel=SCALED, ylim=(-0.05, 1.05))


def _legend(ax: Axes, results: Results) -> None:
    e = results.axes["excess"]
    dots = [
        Line2D([], [], color=c, marker="o", markersize=2.6, linestyle="none", label=f"{x:g}")
        for x, c in zip(e, _colors(e), strict=True)
        if x > 0
    ]
    line = Line2D([], [], color="black", linewidth=0.9, label="limit")
    ax.legend(handles=[*dots, line], title="$k - 3$", title_fontsize=6.5, loc="upper left", handlelength=1.0)


def _gain(ax: Axes, results: Results) -> None:
    """The gain from capacity, less that at the critical point, on both sides of it."""
    e, x = coordinates(results)
    fine = np.linspace(x.min(), x.max(), 400)
    above = np.asarray(theory.critical_gain(fine, *sizes(results)))
    ax.plot(fine, above, color="black", linewidth=0.9, label="limit, $k > 3$")
    for side in (fine < 0, fine > 0):
        below = np.where(fine > 0, 0.0, -2.0) + 4 * fine
        ax.plot(fine[side], below[side], color=COLORS[1], linewidth=0.9, label="limit, $k < 3$" if side[0] else None)
    gain, colors = scaled_gain(results), _colors(e[:, 0])
    for i in range(e.size):
        ax.plot(x, gain[i], "o" if e[i, 0] > 0 else "v", color=colors[i], markersize=2.6, markeredgewidth=0)
    ax.annotate("", (0, 0), (0, -2), arrowprops={"arrowstyle": "<->", "color": LEVEL, "linewidth": 0.7})
    ax.text(0.02, -1, "gap 2", va="center", color="0.3")
    ax.set(xlabel=SCALED, ylabel=r"$(-\partial L/\partial C_0 - 2)\,/\,|k - 3|$", title="d  The gain from capacity")
    ax.legend(loc="upper left", handlelength=1.2)


def _slowing(ax: Axes, found: Mapping[str, Results]) -> None:
    names = {"descent": ("gradient descent", COLORS[0], "o"), "adam": ("Adam", COLORS[1], "s")}
    for name, (label, color, marker) in names.items():
        results = found[name]
        e, steps, slope = results.axes["excess"], steps_to_settle(results), exponent(results)
        power = "" if np.isnan(slope) else f": $(k - 3)^{{{slope:.2f}}}$"
        ax.plot(e, steps, marker, color=color, markersize=3, label=label + power)
        near = (e <= CLOSE * (1 + 1e-6)) & np.isfinite(steps)
        if not np.isnan(slope):
            middle = np.log(steps[near]).mean() + slope * (np.log(e[near]) - np.log(e[near]).mean())
            ax.plot(e[near], np.exp(middle), color=color, linewidth=0.9)
    ax.set(xlabel="$k - 3$", ylabel="steps to settle", title="e  Critical slowing down")
    ax.legend(loc="lower left", handlelength=1.0)


def _words(found: Mapping[str, Results]) -> tuple[str, str, str]:
    """The caption, all details and the line of settings."""
    n, d = sizes(found["expected"])
    distances = {
        kind: off(found["expected" if kind == "expected" else "sampled"], rule) for kind, rule in KINDS.items()
    }
    caption = (
        f"Near the critical point k = 3, V = 1 capacities of the quadratic Redwood model, {n} features in {d} neurons, "
        f"depend on (V - 1)/(k - 3) alone (line): off its corners networks (dots) of k - 3 ≤ {CLOSE:g} are within "
        f"{max(distances['expected'].values()):.2g} on the expected loss, and on samples the further off the nearer "
        "k is to 3. The gain from capacity is continuous above k = 3 (dots) and jumps below it (triangles) in "
        "proportion to 3 - k; training takes the longer to settle the nearer k is to 3."
    )
    ways = " and ".join(f"{name}: exponent {exponent(found[name]):.3f}" for name in ("descent", "adam"))
    told = "; ".join(
        f"{kind}: {', '.join(f'{value:.2g} at {e:g}' for e, value in found.items())}"
        for kind, found in distances.items()
    )
    text = (
        f"Largest distance of C from the limit, by k - 3: {told}. They leave out |x - corner| < {CORNER:g} of "
        "x = (V - 1)/(k - 3). d: 2 (n/C)² of trained weights (eq. 14) "
        f"where C ≥ {SEEN:g}, else eq. 54 at the trained capacity. e: steps from which on the mean |C - C_theory| of "
        f"networks of one k is at most {ERROR:g}, on the expected loss at a constant rate; lines: fits up to k - 3 = "
        f"{CLOSE:g}; {ways}."
    )
    configs = [results.config for results in found.values()]
    details = captions.of_panels(dict(zip(FILES, configs, strict=True)), "best", text)
    return caption, details, captions.in_a_line(configs[:2])


def main(argv: Sequence[str] | None = None) -> None:
    folder, draw_folder = "results/critical_point", lambda path, _: draw(read(path))
    results_command("critical_point", folder, folder, draw_folder, argv, rule=None)


if __name__ == "__main__":
    main()
