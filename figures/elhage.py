"""Elhage et al. 2022, "Toy Models of Superposition": phases, dimensions a feature, correlated pairs, computed features.

    python -m figures.elhage [--results results/elhage] [--out results/elhage]

Reads a folder of results of `sweeps.elhage` and writes OUT.png and OUT.pdf; trains nothing. Array axes: density P,
importance V or correlation C, neuron D, feature N, bin B of a histogram.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from figures.drawing import Page, apart, load_panel, page, panel, results_command, rotation
from polyjax import plot, theory
from polyjax.draw import arrows, captions, cells
from polyjax.draw.curves import POLYTOPES
from polyjax.draw.scales import Scale, plain_log_ticks
from polyjax.draw.style import CONSTANT, SIGNED_MAP, UNCONVERGED, VARIED, halo
from polyjax.results import Results
from polyjax.theory import ExplicitLosses
from sweeps.elhage import DECAY

PHASES = {"phases-2in1": 2, "phases-3in2": 3}  # features
DIMENSIONS = {"features-400in30": "400 in 30", "features-80in20": "80 in 20"}
BLOCKS, PAIRS, ABSOLUTE = "blocks", "pairs-4in2", "absolute-100in40"
PANELS = (*PHASES, *DIMENSIONS, BLOCKS, PAIRS, ABSOLUTE)
WORDS = {"ignore_swept": "ignore", "pair_swept": "pair", "ignore_ordinary": "own", "pair_ordinary": "own"}
SHOWN = ((0.1, -0.6), (0.03, 0.6), (0.45, 0.95))  # density and correlation of three cells: their embeddings are drawn
BINS = np.linspace(0, 1, 41)  # of capacities

WIDTH, LEFT, TOP, SIDE, GAP = 7.0, 0.46, 0.24, 1.36, 0.12  # inches
ROWS, HEIGHTS, FOOT = (0.24, 2.16, 4.42), (1.3, 1.66, 1.56), 6.4  # inches: upper edges, heights, the caption


def load_all(folder: Path) -> dict[str, Results]:
    """The results of all panels. Raises ValueError where one is missing."""
    return {name: load_panel(folder, name) for name in PANELS}


def excess(results: Results, n_features: int) -> np.ndarray:
    """By how much the loss of every cell is above that of the least explicit solution, relative, [P, V]."""
    least = theory.least_explicit(results.importance, results.density[:, None], n_features).loss
    return results.select("refined").loss / least - 1


def dimensions(results: Results) -> tuple[np.ndarray, np.ndarray]:
    """D / ||W||_F^2 of the best restart and of every one, [P] and [P, R]."""
    W = np.asarray(results.embedding)
    best = np.asarray(results.select("best").embedding)
    return tuple(w.shape[-2] / (w**2).sum((-2, -1)) for w in (best, W))  # type: ignore[return-value]


def above_blocks(results: Results, small: Results) -> dict[str, np.ndarray]:
    """By how much the loss of a large network is above that of equal blocks side by side, whose other features are
    ignored, relative, [P], by the kind of block, such as "5 in 2"."""
    p, best = results.density, results.select("best")
    D, N = np.asarray(best.embedding).shape[-2:]
    found = {}
    rows = np.isfinite(np.asarray(small.embedding)[:, 0, 0]).any(-1)  # smaller networks are filled up with NaN
    for n, d, loss in zip(small.axes["n_features"], rows.sum(-1), small.select("best").loss, strict=True):
        copies = D // d
        found[f"{n:.0f} in {d}"] = best.loss / (copies * loss + (N - copies * n) * (p / 3 - p**2 / 4)) - 1
    return found


def cosines(results: Results) -> np.ndarray:
    """The cosine of the two features of a pair, the mean of both pairs, [P, C]."""
    W = np.asarray(results.select("refined").embedding)
    W = W / np.linalg.norm(W, axis=-2, keepdims=True)
    return ((W[..., 0] * W[..., 1]).sum(-1) + (W[..., 2] * W[..., 3]).sum(-1)) / 2


def least_correlated(density: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """Which of `CorrelatedLosses` is the least, [P, C], at densities [P] and correlations [C]."""
    p, c = density[:, None], correlation
    losses = theory.correlated_losses(p, (1 - abs(c)) * p**2 + np.maximum(c, 0) * p)
    return np.argmin(np.broadcast_arrays(*losses), axis=0)


def features_a_neuron(results: Results, rule: str = "refined") -> np.ndarray:
    """How many features a neuron reads, (sum_i w_i^2)^2 / sum_i w_i^4, [P, D]; NaN for neurons that
    are shorter than a hundredth of the longest."""
    squares = np.asarray(results.select(rule).embedding) ** 2
    total = squares.sum(-1)
    held = total > 1e-4 * total.max(-1, keepdims=True)
    return np.where(held, total**2 / np.where(held, (squares**2).sum(-1), 1), np.nan)


def draw(panels: Mapping[str, Results]) -> Page:
    """The whole figure, to be called within `style()`; `panels` holds all of `PANELS`."""
    fig = page(WIDTH, FOOT, *_words(panels))
    for i, (name, n) in enumerate(PHASES.items()):
        _phases(fig, i, panels[name], n)
    bar = panel(fig, LEFT + 4 * SIDE + 3 * GAP + 0.08, ROWS[0], 0.08, HEIGHTS[0])
    mesh: Any = fig.axes[0].collections[0]
    cells.bar(mesh, bar, "capacity $C_0$", [0, 0.25, 0.5, 0.75, 1])
    for i, name in enumerate(DIMENSIONS):
        _dimensions(fig, i, panels[name], DIMENSIONS[name])
    _pairs(fig, panels[PAIRS])
    _absolute(fig, panels[ABSOLUTE])
    return fig


def _phases(fig: Figure, column: int, results: Results, n_features: int) -> None:
    """The trained diagram, and beside it the capacity in the least explicit solution, with its regions in both."""
    places = [LEFT + (2 * column + i) * (SIDE + GAP) for i in range(2)]
    trained, explicit = (panel(fig, left, ROWS[0], SIDE, HEIGHTS[0]) for left in places)
    plot.diagram(results, levels=(), boundaries=False, colorbar=False, ax=trained)
    if n_features == 3:
        _triangle(trained, results)
    x, y = Scale("importance", results.importance), Scale("density", results.density)
    capacity = theory.least_explicit(results.importance, results.density[:, None], n_features).capacity
    cells.colour(explicit, x, y, capacity)
    for ax, name, letter in ((trained, "trained", "ac"[column]), (explicit, "explicit", "bd"[column])):
        _regions(ax, n_features)
        ax.set_title(f"{letter}  {n_features} in {n_features - 1}, {name}")
        apart(ax)
        if ax is not fig.axes[0]:
            ax.tick_params(labelleft=False)
            ax.set_ylabel("")


def _triangle(ax: Axes, results: Results) -> None:
    """A word beside the cells in which all three features have a capacity of about 2/3, which no explicit solution
    has."""
    capacity = results.select("refined").capacity
    rows, columns = np.nonzero((abs(capacity - 2 / 3) < 0.15).all(-1))
    if rows.size:
        at = results.importance[int(np.max(columns))], results.density[int(rows.mean())]
        ax.annotate("triangle", at, (6, 0), textcoords="offset points", size=6.5, va="center_baseline")


def _regions(ax: Axes, n_features: int) -> None:
    """Lines between the regions in which one of the explicit solutions is the least, each with its word."""
    importance, density = (np.geomspace(*limits, 161) for limits in (ax.get_xlim(), ax.get_ylim()))
    density = np.minimum(density, 1)  # the upper edge of the cells at 1 is above it
    names = np.array([WORDS[name] for name in ExplicitLosses._fields])
    words = names[theory.least_explicit(importance, density[:, None], n_features).solution]
    place = np.select([words == "ignore", words == "pair"], [0, 1], 2)
    line: dict[str, Any] = {"colors": UNCONVERGED, "linewidths": 1, "linestyles": "dashed"}
    ax.contour(importance, density, place, levels=[0.5, 1.5], **line)
    for word in ("ignore", "pair", "own"):
        rows, columns = np.nonzero(words == word)
        if rows.size:
            at = importance[int(columns.mean())], density[int(rows.mean())]
            color = "black" if word == "own" else "white"
            ax.text(*at, word, size=6.5, color=color, ha="center", va="center")


def _dimensions(fig: Figure, column: int, results: Results, name: str) -> None:
    """The histogram of capacities at each density, and D / ||W||_F^2."""
    ax = panel(fig, LEFT + column * 3.34, ROWS[1], 2.3, HEIGHTS[1])
    x = Scale("1 / density", 1 / results.density)
    capacity = results.select("best").capacity[x.order]  # [P, N]
    share = np.stack([np.histogram(each, BINS)[0] for each in capacity]) / capacity.shape[1]
    ax.set(xscale="log", xlim=x.edges[[0, -1]], ylim=(0, 1.12), xlabel="1 / density", title=f"{'ef'[column]}  {name}")
    look: dict[str, Any] = {"cmap": "Greys", "norm": LogNorm(1e-3, 1), "rasterized": True}
    mesh = ax.pcolormesh(x.edges, BINS, np.ma.masked_equal(share, 0).T, **look)
    best, every = dimensions(results)
    ax.plot(x.centres, every[x.order], ".", color=VARIED, markersize=2.5)
    ax.plot(x.centres, best[x.order], color=VARIED, label=r"$D / ||W||_F^2$")
    _polytopes(ax, named=column == 0)
    plain_log_ticks(ax.xaxis)
    ax.legend(loc="upper right", borderpad=0.1)
    if column == 0:
        ax.set_ylabel("capacity $C_i$")
        return
    bar = panel(fig, WIDTH - 0.55, ROWS[1], 0.08, HEIGHTS[1])
    cells.bar(mesh, bar, "share of features", [1e-3, 1e-2, 0.1, 1])


def _polytopes(ax: Axes, *, named: bool) -> None:
    """Lines at the capacities of regular polytopes, with their fractions, or also their names, to the right."""
    for value, name in POLYTOPES.items():
        if 0 < value < 1:
            ax.axhline(value, color=UNCONVERGED, linewidth=0.4, alpha=0.6)
            shift = {2 / 5: 3, 3 / 8: -3}.get(value, 0)  # points, for two that are close
            place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
            text = name if named else name.split()[0]
            ax.annotate(text, (1, value), (3, shift), va="center_baseline", size=6.5, color="0.3", **place)


def _pairs(fig: Figure, results: Results) -> None:
    """The cosine of a pair over density and correlation, with the regions of the explicit solutions, and the embeddings
    of three cells."""
    ax = panel(fig, LEFT, ROWS[2], 1.75, HEIGHTS[2])
    x, y = (Scale(name, results.axes[name]) for name in ("correlation", "density"))
    mesh = cells.colour(ax, x, y, cosines(results), cmap=SIGNED_MAP, norm=Normalize(-1, 1)).mesh
    c, p = np.linspace(-1, 1, 201), np.geomspace(*ax.get_ylim(), 201)
    line: dict[str, Any] = {"colors": UNCONVERGED, "linewidths": 1, "linestyles": "dashed"}
    ax.contour(c, p, least_correlated(p, c), levels=[0.5, 1.5], **line)
    ax.set_title("g  two pairs, 4 in 2")
    cells.bar(mesh, panel(fig, LEFT + 1.81, ROWS[2], 0.08, HEIGHTS[2]), "cosine of a pair", [-1, 0, 1])
    W = np.asarray(results.select("refined").embedding)
    for i, (density, correlation) in enumerate(SHOWN):
        cell = results.sel(density=density, correlation=correlation)
        at = cell.coordinates["correlation"], cell.coordinates["density"]
        ax.text(*at, str(i + 1), size=7, weight="bold", ha="center", va="center", path_effects=halo("white"))
        _arrows(panel(fig, 2.95, ROWS[2] + i * HEIGHTS[2] / 3, 0.8, HEIGHTS[2] / 3), f"{i + 1}", W[cell.index])


def _arrows(ax: Axes, name: str, W: np.ndarray) -> None:
    """An embedding W [2, 4], a colour a pair, turned so that texts have room, which changes nothing; features that
    coincide have one text."""
    W = rotation(40 - np.degrees(np.arctan2(*W[::-1, 0]))) @ W
    arrows.plane(ax, (-3, 3), (-1.95, 1.95))
    arrows.vectors(ax, W, [VARIED, VARIED, UNCONVERGED, UNCONVERGED])
    unit = W / np.linalg.norm(W, axis=0)
    alike = unit.T @ unit > 0.99
    first = np.flatnonzero(alike.argmax(0) == np.arange(4))
    texts = [", ".join(map(str, np.flatnonzero(alike[i]))) for i in first]
    arrows.at_tips(ax, W[:, first], texts, [CONSTANT] * len(first))
    ax.text(-3, 1.5, name, size=7, weight="bold", va="top")


def _absolute(fig: Figure, results: Results) -> None:
    """How many features every neuron reads that computes absolute values, refined, and the means of both rules."""
    ax = panel(fig, 4.6, ROWS[2], 2.3, HEIGHTS[2], xscale="log", yscale="log")
    x = Scale("1 / density", 1 / results.density)
    read = features_a_neuron(results)[x.order]
    ax.plot(x.centres, read, "o", color=CONSTANT, markersize=2, markeredgewidth=0, alpha=0.5)
    for rule, color, label in (("refined", VARIED, "mean, refined"), ("best", UNCONVERGED, "mean, best restart")):
        ax.plot(x.centres, np.nanmean(features_a_neuron(results, rule)[x.order], axis=1), color=color, label=label)
    ax.set(xlim=x.edges[[0, -1]], xlabel="1 / density", ylabel="features a neuron", title="h  |x|, 100 in 40")
    for axis in (ax.xaxis, ax.yaxis):
        plain_log_ticks(axis)
    ax.legend(loc="upper left")


def _words(panels: Mapping[str, Results]) -> tuple[str, str, str]:
    """The caption, all details and the line of settings."""
    caption = (
        "The experiments of Elhage et al. 2022: a to d, the capacity of the feature of importance V in trained "
        "networks and in the least of the explicit solutions (dashed: between those that ignore it, pair it or give it "
        "a dimension of its own); e and f, histograms of capacities (orange: regular polytopes), and D / ||W||² of "
        "both restarts (dots) and the better one (line); g, the cosine of pairs that "
        "exclude each other (correlation -1), are independent (0) or active together (1), with the explicit solutions' "
        "regions (dashed) and three embeddings; h, how many features a neuron reads (dots: refined) where a hidden "
        "layer computes |x|."
    )
    told = [
        *(_excess(panels[name], n) for name, n in PHASES.items()),
        *(_plateau(panels[name], title) for name, title in DIMENSIONS.items()),
        _blocks(panels["features-400in30"], panels[BLOCKS]),
        _agreement(panels[PAIRS]),
        _neurons(panels[ABSOLUTE]),
    ]
    letters = ("a", "c", "e", "f", "blocks", "g", "h")
    configs = {letter: panels[name].config for letter, name in zip(letters, PANELS, strict=True)}
    return caption, captions.of_panels(configs, "best", *told), captions.in_a_line([*configs.values()])


def _excess(results: Results, n_features: int) -> str:
    above = excess(results, n_features)
    return (
        f"Loss of {n_features} in {n_features - 1} above that of the least explicit solution: {np.median(above):+.2%} "
        f"in the median, {above.min():+.2%} to {above.max():+.2%}."
    )


def _plateau(results: Results, title: str) -> str:
    best = dimensions(results)[0]
    words = ", ".join(f"{d:.3f} at {1 / p:.3g}" for p, d in zip(results.density, best, strict=True))
    moving = (~results.select("best").settled).sum()
    return f"D / ||W||^2 of {title} over 1 / density: {words}; {moving} networks not settled."


def _blocks(results: Results, small: Results) -> str:
    """How the loss of a large network compares with those of blocks."""
    told = []
    for name, above in above_blocks(results, small).items():
        words = ", ".join(f"{a:+.2%} at {1 / p:.3g}" for p, a in zip(results.density, above, strict=True))
        told.append(f"{name} {words}")
    return f"Loss of 400 in 30 above that of equal blocks side by side over 1 / density: {'; '.join(told)}."


def _agreement(results: Results) -> str:
    """In how many cells pairs are as the least explicit solution has them."""
    expected = np.array([-1, 0, 1])[least_correlated(results.density, results.axes["correlation"])]
    agree = abs(cosines(results) - expected) < 0.5
    return f"Pairs are arranged as in the least explicit solution in {agree.sum():,} of {agree.size:,} cells."


def above_monosemantic(results: Results, rule: str) -> np.ndarray:
    """By how much the loss is above that of D / 2 features computed exactly by two neurons each, relu(x) + relu(-x),
    where all others are predicted by their mean, relative, [P]."""
    p, best = results.density, results.select(rule)
    D, N = np.asarray(best.embedding).shape[-2:]
    others = (DECAY ** np.arange(D // 2, N)).sum()
    return best.loss / (others * (p / 3 - p**2 / 4)) - 1


def _neurons(results: Results) -> str:
    told = []
    for rule in ("best", "refined"):
        read, above = features_a_neuron(results, rule), above_monosemantic(results, rule)
        words = (
            f"{np.nanmean(n):.2f}, {(n > 1.2).sum()}, {a:+.0%} at {1 / p:.3g}"
            for p, n, a in zip(results.density, read, above, strict=True)
        )
        told.append(f"{rule} {'; '.join(words)}")
    return (
        "Features a neuron reads in the mean, how many neurons read more than 1.2, and the loss above that of two "
        f"neurons a feature, over 1 / density: {'. '.join(told)}."
    )


def main(argv: Sequence[str] | None = None) -> None:
    draw_folder = lambda path, rule: draw(load_all(path))  # noqa: E731
    results_command("elhage", "results/elhage", "results/elhage", draw_folder, argv, rule=None)


if __name__ == "__main__":
    main()
