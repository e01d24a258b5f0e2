"""Figure 8, not in the paper: how many blocks trained embeddings have and how large they are, to verify section 4.6.

    python -m figures.figure8 [--results results/figure7] [--out results/figure8]

Reads figure 7's folder of results, the refined diagrams, and writes OUT.png and OUT.pdf; trains nothing. Array axes:
density P, importance V, neuron D, feature N.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from figures.drawing import apart, load_panels, page, panel, results_command
from polyjax.draw import captions, diagram, plotting
from polyjax.embedding import geometry
from polyjax.engine import certificate
from polyjax.results import Results, Selection

# name -> its title and its colour in the histogram: blues for one model, oranges for the other
PANELS = {
    "redwood-square-6in3": ("Redwood, square", "#0072b2"),
    "redwood-relu-6in3": ("Redwood, ReLU", "#7cc0ea"),
    "anthropic-square-6in3": ("Anthropic, square", "#d55e00"),
    "anthropic-relu-6in3": ("Anthropic, ReLU", "#f0b35a"),
}
LETTERS = dict(zip(PANELS, "abcd", strict=True))
TOLERANCE = 0.05  # cosines that count as zero in solutions that are not polished
RANGE = (0.005, 0.05)  # in polished ones, where they follow from the certificate: rounding, and the most that is clear
FACTORS = (0.5, 2)  # times the tolerance, to show that little depends on it
LARGE = 4  # a block of this many features or more is no regular polytope in the dimensions that 6 in 3 leaves it
WIDTH, LEFT, TOP, SIDE, HEIGHT, GAP, ROW = 7.0, 0.48, 0.24, 1.41, 1.3, 0.12, 1.58  # inches
HISTOGRAM, FOOT = 3.76, 5.48  # inches from the upper edge: the histogram and the caption


class Shapes(NamedTuple):
    """The blocks of a diagram's embeddings."""

    largest: np.ndarray  # [P, V], features in the largest block
    number: np.ndarray  # [P, V], blocks, those of one feature included
    share: np.ndarray  # [N + 1], of all superposed features of the diagram, by the size of their block
    features: int  # superposed features of the diagram
    several: float  # of the cells with superposed features, the share with two such blocks or more
    efficient: np.ndarray  # [P, V], bool: Theorem 2 holds


def tolerances(results: Results) -> np.ndarray:
    """What counts as zero in every cell, [P, V]: twice what the certificate leaves open, since a cosine is of two."""
    refined = results.refined
    if refined is None or refined.excess is None or refined.spectrum is None:
        return np.full(results.loss.shape[:2], TOLERANCE)
    found = 2 * certificate.uncertainty(refined.excess, refined.spectrum)
    return np.clip(np.nan_to_num(found, nan=np.inf), *RANGE)


def shapes(selection: Selection, tolerance: float | np.ndarray = TOLERANCE) -> Shapes:
    """The blocks among the superposed features, those with 0.03 < C < 0.97, beside which full features are blocks of
    one and ignored ones none: the cosines of an ignored feature's short embedding are noise."""
    if selection.W is None:
        raise ValueError("selection must hold embeddings, which a mean over restarts does not have")
    inside = diagram.superposed(selection.capacity)
    full = (selection.capacity >= 1 - diagram.MARGIN).sum(-1)
    found = geometry.blocks(np.where(inside[..., None, :], selection.W, 0), tolerance)
    sizes = found.sizes  # [P, V, N], by block
    count = np.bincount(sizes.ravel(), weights=sizes.ravel(), minlength=sizes.shape[-1] + 1)
    crowded = (sizes > 1).sum(-1)
    return Shapes(
        np.maximum(sizes.max(-1), full > 0),
        found.n_blocks + full,
        count / max(count.sum(), 1),
        int(count.sum()),
        int((crowded > 1).sum()) / max(int((crowded > 0).sum()), 1),
        geometry.is_efficient(selection.W),
    )


def draw(panels: Mapping[str, Results]) -> Figure:
    """The whole figure, to be called within `plotting.style()`."""
    chosen = {name: panels[name].select("refined") for name in PANELS}
    zero = {name: tolerances(panels[name]) for name in PANELS}
    found = {name: [shapes(s, f * zero[name]) for f in (1, *FACTORS)] for name, s in chosen.items()}
    fig = page(WIDTH, FOOT, _caption(panels, chosen, found))
    n_features = len(next(iter(found.values()))[0].share) - 1
    n_blocks = max(int(shape[0].number.max()) for shape in found.values())
    rows = (
        ("largest", "largest block: features", n_features),
        ("number", "number of blocks", n_blocks),
    )
    for row, (field, label, most) in enumerate(rows):
        cmap, norm = _integers(most)
        for column, name in enumerate(PANELS):
            ax = panel(fig, LEFT + column * (SIDE + GAP), TOP + row * ROW, SIDE, HEIGHT)
            mesh = _map(ax, panels[name], chosen[name], found[name][0], field, {"cmap": cmap, "norm": norm})
            _label(ax, row, column, f"{LETTERS[name]}  {PANELS[name][0]}")
        _bar(fig, mesh, row, most, label)
    _histogram(fig, {name: np.stack([shape.share for shape in f]) for name, f in found.items()})
    return fig


def _integers(most: int) -> tuple[ListedColormap, BoundaryNorm]:
    """A colour for each of 1 to `most`, on which hatching in orange shows, and hatching in white: not the palest."""
    colors = colormaps["viridis"](np.linspace(0.05, 0.92, max(most, 2)))[:most]
    return ListedColormap(colors), BoundaryNorm(np.arange(most + 1) + 0.5, most)


def _map(
    ax: Axes, results: Results, selection: Selection, shape: Shapes, field: str, colors: dict[str, Any]
) -> QuadMesh:
    """Colours the cells by a field of `shape`, blank where there is no block, and hatches the inefficient ones."""
    failed, unsettled = plotting.cell_states(selection)
    value, cells = getattr(shape, field), ~shape.efficient & ~failed
    value = np.where(value > 0, value, np.nan)
    marked: dict[str, Any] = {"failed": failed, "unsettled": unsettled}
    mesh = plotting.phase_diagram(ax, results.density, results.importance, value, **marked, **colors).mesh
    if cells.any():  # as one region: thousands of hatched cells would take half a minute to draw
        grid = results.importance, results.density, cells.astype(float)
        region = ax.contourf(*grid, levels=[0.5, 1.5], colors="none", hatches=["/" * 4])
        region.set(edgecolor="white", linewidth=0)
    return mesh


def _label(ax: Axes, row: int, column: int, title: str) -> None:
    apart(ax)
    ax.tick_params(labelleft=column == 0, labelbottom=row == 1)
    if row == 0:
        ax.set_title(title)
    else:
        ax.set_xlabel("importance $V$")
    if column == 0:
        ax.set_ylabel("density $p$")


def _bar(fig: Figure, mesh: QuadMesh, row: int, most: int, label: str) -> None:
    ax = panel(fig, LEFT + 4 * SIDE + 3.6 * GAP, TOP + row * ROW, 0.09, HEIGHT)
    bar = fig.colorbar(mesh, cax=ax, ticks=np.arange(1, most + 1), format="{x:.0f}")
    ax.minorticks_off()
    bar.outline.set_linewidth(0.6)
    bar.set_label(label)


def _histogram(fig: Figure, shares: Mapping[str, np.ndarray]) -> None:
    """Bars for the default tolerance, whiskers over all of them; `shares` are [tolerance, size]."""
    ax = panel(fig, LEFT, HISTOGRAM, WIDTH - LEFT - 0.2, 1.28)
    sizes = np.arange(2, next(iter(shares.values())).shape[1])
    for i, (name, share) in enumerate(shares.items()):
        x, bars = sizes + 0.2 * (i - 1.5), share[:, 2:]
        spread = abs(np.stack([bars.min(0), bars.max(0)]) - bars[0])
        error: dict[str, Any] = {"elinewidth": 0.7, "capsize": 1.5, "capthick": 0.7}
        ax.bar(x, bars[0], 0.18, color=PANELS[name][1], yerr=spread, error_kw=error)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set(xticks=sizes, xlabel="features in the block", ylabel="share of superposed features", ylim=(0, 1))
    handles = [Patch(color=color, label=title) for title, color in PANELS.values()]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.43, 1), ncols=2)


def _caption(
    panels: Mapping[str, Results], chosen: Mapping[str, Selection], found: Mapping[str, Sequence[Shapes]]
) -> str:
    text = [
        f"Blocks: features linked by cosines above {_shown(panels)} (in brackets and as whiskers: times {FACTORS[0]:g} "
        f"and {FACTORS[1]:g}) among those with 0.03 < C < 0.97; a feature of higher capacity is a block of one, one "
        "of lower capacity is in none. Hatched white: "
        "the embedding is not efficient (its capacities add up to less than 2.99), so that Theorem 2 does not hold and "
        "blocks are approximate. Superposed features in blocks of "
        f"{LARGE} or more / in pairs / cells with two superposed blocks or more, of those with any / cells not "
        "efficient / cells failed (hatched grey) / not settled (hatched orange): "
        f"{'; '.join(_numbers(LETTERS[name], chosen[name], found[name]) for name in PANELS)}.",
        _conclusion({LETTERS[name]: shape[0] for name, shape in found.items()}),
    ]
    return captions.of_panels({LETTERS[name]: panels[name].config for name in PANELS}, "refined", *text)


def _shown(panels: Mapping[str, Results]) -> str:
    """The tolerances of all panels in words."""
    zero = np.concatenate([tolerances(panels[name]).ravel() for name in PANELS])
    if zero.min() == zero.max():
        return f"{zero[0]:g}"
    return f"what each cell's certificate leaves open, {RANGE[0]:g} to {RANGE[1]:g} (median {np.median(zero):.2g})"


def _numbers(letter: str, selection: Selection, found: Sequence[Shapes]) -> str:
    """Of the default tolerance, with those of the others in brackets."""
    large, pairs = ([f"{share:.1%}" for share in shares] for shares in zip(*map(_large_and_pairs, found), strict=True))
    words = [f"{first} ({', '.join(others)})" for first, *others in (large, pairs)]
    failed, unsettled = plotting.cell_states(selection)
    off = (~found[0].efficient & ~failed).mean()
    states = f"{failed.sum()}", f"{unsettled.sum()}"
    return f"{letter} {' / '.join([*words, f'{found[0].several:.1%}', f'{off:.1%}', *states])}"


def _large_and_pairs(shape: Shapes) -> tuple[float, float]:
    return float(shape.share[LARGE:].sum()), float(shape.share[2])


def _conclusion(found: Mapping[str, Shapes]) -> str:
    """Which of the two holds most of the superposed features."""
    most: dict[str, list[str]] = {f"blocks of {LARGE} or more": [], "pairs": [], "neither": []}
    for letter, shape in found.items():
        large, pairs = _large_and_pairs(shape)
        kinds = list(most)
        most[kinds[0] if large > 0.5 else kinds[1] if pairs > 0.5 else kinds[2]].append(letter)
    told = ", ".join(f"{kind} ({', '.join(letters)})" for kind, letters in most.items() if letters)
    return f"So most superposed features are in {told}."


def main(argv: Sequence[str] | None = None) -> None:
    draw_folder = lambda path, _: draw(load_panels(path, PANELS))  # noqa: E731
    results_command("figure8", "the block sizes", "results/figure7", "results/figure8", draw_folder, argv, rule=None)


if __name__ == "__main__":
    main()
