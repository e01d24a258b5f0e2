"""Figure 7: nine empirical phase diagrams, of two toy models, two sizes and three activations (section 3.7).

    python -m figures.figure7 [--results results/figure7] [--out results/figure7/figure7] [--rule refined]

Reads a folder of results files and writes OUT.png and OUT.pdf; trains nothing. Array axes: density P, importance V.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.drawing import Page, apart, load_panels, page, panel, results_command
from polyjax import plot, theory
from polyjax.draw import captions, cells
from polyjax.draw.diagrams import PLATEAU_LEVELS
from polyjax.draw.numbers import isolated
from polyjax.draw.style import UNCONVERGED, halo
from polyjax.results import Results
from polyjax.selection import Selection

MODELS = (("Redwood", 3), ("Anthropic", 3), ("Anthropic", 5))  # the rows
ACTIVATIONS = {"square": "square", "relu": "ReLU", "gelu": "GELU"}  # the columns
PANELS = [f"{model.lower()}-{activation}-6in{d}" for model, d in MODELS for activation in ACTIVATIONS]
EXPLICIT = "anthropic-relu-6in5"  # for which there are explicit solutions to compare with

WIDTH, LEFT, TOP, SIDE, HEIGHT, GAP, ROW = 7.0, 0.46, 0.24, 1.98, 1.66, 0.13, 1.92  # inches
BAR, FOOT = 6.13, 6.54  # inches from the upper edge: the colour bar and the caption
WORDS = ("ignore", "pair", "pair of\nothers")  # the best explicit solution from left to right; feature 0, unless others
# A pair one of whose features is all but ignored gains less than this share over ignoring it, and counts as that.
LEAST_GAIN = 1e-4


class Bound(NamedTuple):
    """The trained loss beside that of the best explicit solution, in one cell."""

    excess: float  # trained / explicit - 1
    error: float  # the standard error of the trained loss, over the explicit one
    importance: float
    density: float


def bound(results: Results, rule: str, which: Callable[..., np.intp] = np.nanargmax) -> Bound:
    """The cell of largest excess over the best explicit solution, which no optimum exceeds; below 0 if none does.
    `np.nanargmin` gives that of the smallest, where training has found most that is better."""
    found, best = results.select(rule), explicit(results.density, results.importance).min(0)
    excess = found.loss / best - 1
    i, j = np.unravel_index(which(excess), excess.shape)
    return Bound(
        float(excess[i, j]),
        float(found.loss_se[i, j] / best[i, j]),
        float(results.importance[j]),
        float(results.density[i]),
    )


def explicit(density: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """[4, P, V], the losses of the explicit solutions, in which pairs have their best lengths and biases."""
    losses = theory.best_explicit_losses(importance, density[:, None])
    return np.stack([np.broadcast_to(loss, (density.size, importance.size)) for loss in losses])


def given_up(density: np.ndarray, lowest: float) -> np.ndarray:
    """The importance between `lowest` and 1, [P], below which it is best to ignore feature 0 and above which to pair
    it; by halving, to 0.1 %. Above importance 1 it is best to pair two others, at any density.
    """
    low, high = np.full(density.size, np.log(lowest)), np.zeros(density.size)
    for _ in range(12):
        middle = (low + high) / 2
        ignored = np.exp(middle) * (density / 3 - density**2 / 4)
        paired = theory.best_pair(np.exp(middle), density).loss < (1 - LEAST_GAIN) * ignored
        low, high = np.where(paired, low, middle), np.where(paired, middle, high)
    return np.exp(low)


def draw(panels: Mapping[str, Results], rule: str = "refined") -> Page:
    """The whole figure, to be called within `style()`; `panels` holds all of `PANELS`, on one grid."""
    chosen = {name: panels[name].select(rule) for name in PANELS}
    fig = page(WIDTH, FOOT, *_words(panels, chosen, rule))
    for index, name in enumerate(PANELS):
        ax = _panel(fig, index, panels[name], rule)
        if name == EXPLICIT:
            explicit_map(ax)
    below = panel(fig, LEFT + 1, BAR, 3 * SIDE + 2 * GAP - 2, 0.08)
    mesh: Any = fig.axes[1].collections[0]
    label = "capacity $C_0$ of the feature of importance $V$"
    cells.bar(mesh, below, label, [0, 0.25, 0.5, 0.75, 1], orientation="horizontal")
    for contour in PLATEAU_LEVELS:
        below.axvline(contour, color="white" if contour < 0.4 else "black", linewidth=0.8)
    return fig


def _panel(fig: Figure, index: int, results: Results, rule: str) -> Axes:
    row, column = divmod(index, len(ACTIVATIONS))
    ax = panel(fig, LEFT + column * (SIDE + GAP), TOP + row * ROW, SIDE, HEIGHT)
    plot.diagram(results, rule=rule, levels=PLATEAU_LEVELS, boundaries=False, colorbar=False, ax=ax)
    model, activation = MODELS[row], list(ACTIVATIONS.values())[column]
    ax.set_title(f"{_letter(index)}  {model[0]}, 6 in {model[1]}, {activation}")
    apart(ax)
    ax.tick_params(labelleft=column == 0, labelbottom=row == len(MODELS) - 1)
    if column > 0:
        ax.set_ylabel("")
    if row < len(MODELS) - 1:
        ax.set_xlabel("")
    return ax


def explicit_map(ax: Axes) -> None:
    """Thin lines between the regions in which one of the explicit solutions has the lowest loss, each with its word."""
    importance, density = (np.geomspace(*limits, 101) for limits in (ax.get_xlim(), ax.get_ylim()))
    density = np.minimum(density, 1)  # the upper edge of the cells at 1 is above it
    edge = given_up(density, importance[0])
    dashed: dict[str, Any] = {"color": UNCONVERGED, "linewidth": 1, "linestyle": (0, (3, 1.5)), "zorder": 3}
    ax.plot(np.where(edge > 1.01 * importance[0], edge, np.nan), density, **dashed)
    ax.axvline(1, **dashed)
    inside: dict[str, Any] = {"clip_on": True, "path_effects": halo("white", 1.6)}
    region = (importance >= edge[:, None]).astype(int) + (importance >= 1)
    for i, word in enumerate(WORDS):
        rows, columns = np.nonzero(region == i)
        if rows.size:
            x, y = importance[int(columns.mean())], density[int(rows.mean())]
            ax.text(x, y, word, size=6.5, color="#8a3a00", ha="center", va="center", zorder=6, **inside)


def _words(panels: Mapping[str, Results], chosen: Mapping[str, Selection], rule: str) -> tuple[str, str, str]:
    """The caption, all details and the line of settings."""
    letter, levels = _letter(PANELS.index(EXPLICIT)), ", ".join(f"{level:g}" for level in PLATEAU_LEVELS)
    caption = (
        "Capacity of the feature of importance V, where the others have importance 1, in the trained networks of both "
        f"toy models, with contours at {levels}{captions.hatched([*chosen.values()])}. Orange lines in {letter} bound "
        "the regions in which one of the explicit solutions has the lowest loss: to ignore the feature, to pair it, or "
        "to pair two others."
    )
    configs = {_letter(i): panels[name].config for i, name in enumerate(PANELS)}
    return caption, _details(panels, chosen, rule, configs), captions.in_a_line([*configs.values()])


def _details(
    panels: Mapping[str, Results], chosen: Mapping[str, Selection], rule: str, configs: Mapping[str, Any]
) -> str:
    rows, columns, restarts = panels[PANELS[0]].loss.shape
    text = [
        f"Each panel: {rows} densities x {columns} importances x {restarts} restarts = {rows * columns * restarts:,} "
        "models; importance 1 for the other features; density is 1 - sparsity, dense on top.",
        _numbers(panels, chosen),
        *_bounds(panels[EXPLICIT]),
    ]
    return captions.of_panels(configs, rule, *text)


def _numbers(panels: Mapping[str, Results], chosen: Mapping[str, Selection]) -> str:
    """What training, refining and polishing left, panel by panel."""
    told = []
    for i, (name, selection) in enumerate(chosen.items()):
        counted = *cells.states(selection), isolated(selection.capacity[..., 0])
        told.append(f"{_letter(i)} {' / '.join([*(f'{c.sum()}' for c in counted), _left(panels[name])])}")
    return (
        "Cells failed (hatched grey) / not settled (hatched orange) / isolated (further than 0.25 from all neighbours) "
        "/ by how much losses fall when polished further on other samples, in the median and at most: "
        f"{'; '.join(told)}."
    )


def _left(results: Results) -> str:
    """By how much losses still fall; a dash where nothing was polished."""
    if results.refined is None or results.refined.excess is None:
        return "-"
    excess = results.refined.excess
    return f"{np.median(excess):.2%}, {np.max(excess):.2%}"


def _bounds(results: Results) -> list[str]:
    letter = _letter(PANELS.index(EXPLICIT))
    lines = (
        f"Orange lines in {letter}: where another explicit solution has the lowest loss, of four that ignore a feature "
        "or make two an antipodal pair, of the best lengths and biases. The lowest bounds the optimum from above; that "
        "proves nothing about phases. Excess of the trained loss over it, largest and smallest:"
    )
    rules = {"best": "best of the restarts"} | ({"refined": "refined"} if results.refined is not None else {})
    words = []
    for rule, name in rules.items():
        most, least = bound(results, rule), bound(results, rule, np.nanargmin)
        words.append(f"{name} {_excess(most)} and {_excess(least)}")
    return [f"{lines} {'; '.join(words)}."]


def _excess(b: Bound) -> str:
    return f"{100 * b.excess:+.3g}% ± {100 * b.error:.1g}% (V = {b.importance:.2g}, p = {b.density:.2g})"


def _letter(index: int) -> str:
    return "abcdefghi"[index]


def main(argv: Sequence[str] | None = None) -> None:
    draw_folder = lambda path, rule: draw(load_panels(path, PANELS), rule)  # noqa: E731
    folder, out = "results/figure7", "results/figure7/figure7"
    results_command("figure7", folder, out, draw_folder, argv, rule="refined")


if __name__ == "__main__":
    main()
