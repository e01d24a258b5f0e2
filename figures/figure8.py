"""Figure 8, not in the paper: how many blocks trained embeddings have and how large they are, to verify section 4.6.

    python -m figures.figure8 [--results results/figure7] [--out results/figure8]

Reads figure 7's folder of results, the refined diagrams, and writes OUT.png and OUT.pdf; trains nothing. Array axes:
density P, importance V, neuron D, feature N.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from figures.drawing import Page, apart, load_panels, page, panel, results_command
from polyjax import plot
from polyjax.draw import captions, cells
from polyjax.draw.shapes import MOST, Shapes, shapes, tolerance_of
from polyjax.draw.style import integers
from polyjax.results import Results
from polyjax.selection import Selection

# name -> its title and its colour in the histogram: blues for one model, oranges for the other
PANELS = {
    "redwood-square-6in3": ("Redwood, square", "#0072b2"),
    "redwood-relu-6in3": ("Redwood, ReLU", "#7cc0ea"),
    "anthropic-square-6in3": ("Anthropic, square", "#d55e00"),
    "anthropic-relu-6in3": ("Anthropic, ReLU", "#f0b35a"),
}
LETTERS = dict(zip(PANELS, "abcd", strict=True))
FACTORS = (0.5, 2)  # times the tolerance, to show that little depends on it
LARGE = 4  # a block of this many features or more is no regular polytope in the dimensions that 6 in 3 leaves it
WIDTH, LEFT, TOP, SIDE, HEIGHT, GAP, ROW = 7.0, 0.48, 0.24, 1.41, 1.3, 0.12, 1.58  # inches
ROWS = {"largest": "largest block: features", "number": "number of blocks"}
HISTOGRAM, FOOT = 3.76, 5.48  # inches from the upper edge: the histogram and the caption


def draw(panels: Mapping[str, Results]) -> Page:
    """The whole figure, to be called within `style()`."""
    chosen = {name: panels[name].select("refined") for name in PANELS}
    zero = {name: tolerance_of(panels[name], "refined") for name in PANELS}
    found = {name: [shapes(s, f * zero[name]) for f in (1, *FACTORS)] for name, s in chosen.items()}
    fig = page(WIDTH, FOOT, *_words(panels, chosen, found))
    for row, (show, label) in enumerate(ROWS.items()):
        axes = [_map(fig, row, column, panels[name], show) for column, name in enumerate(PANELS)]
        most = max(int(found[name][0]._asdict()[show].max()) for name in PANELS)
        _bar(fig, row, axes, label, most)
    _histogram(fig, {name: np.stack([shape.share for shape in f]) for name, f in found.items()})
    return fig


def _map(fig: Figure, row: int, column: int, results: Results, show: str) -> Axes:
    ax = panel(fig, LEFT + column * (SIDE + GAP), TOP + row * ROW, SIDE, HEIGHT)
    plot.blocks(results, show, rule="refined", colorbar=False, ax=ax)
    apart(ax)
    ax.tick_params(labelleft=column == 0, labelbottom=row == 1)
    name = list(PANELS)[column]
    ax.set_title(f"{LETTERS[name]}  {PANELS[name][0]}" if row == 0 else "")
    if row == 0:
        ax.set_xlabel("")
    if column > 0:
        ax.set_ylabel("")
    return ax


def _bar(fig: Figure, row: int, axes: Sequence[Axes], label: str, most: int) -> None:
    """The colour bar of a row of maps, which share its colours."""
    cmap, norm = integers(most)
    for ax in axes:
        ax.collections[0].set(cmap=cmap, norm=norm)
    ax = panel(fig, LEFT + 4 * SIDE + 3.6 * GAP, TOP + row * ROW, 0.09, HEIGHT)
    cells.bar(axes[0].collections[0], ax, label, np.arange(1, most + 1))  # type: ignore[arg-type]


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


def _words(
    panels: Mapping[str, Results], chosen: Mapping[str, Selection], found: Mapping[str, Sequence[Shapes]]
) -> tuple[str, str, str]:
    """The caption, all details and the line of settings."""
    caption = (
        "Blocks of trained embeddings, 6 features in 3 neurons, and the share of all superposed features in blocks of "
        "each size; white hatches: the embedding is not efficient, so that blocks are approximate"
        f"{captions.hatched([*chosen.values()])}. "
        f"{_conclusion({LETTERS[name]: shape[0] for name, shape in found.items()})}"
    )
    configs = {LETTERS[name]: panels[name].config for name in PANELS}
    return caption, _details(panels, chosen, found, configs), captions.in_a_line([*configs.values()])


def _details(
    panels: Mapping[str, Results],
    chosen: Mapping[str, Selection],
    found: Mapping[str, Sequence[Shapes]],
    configs: Mapping[str, Any],
) -> str:
    text = (
        f"Blocks: features linked by cosines above {_shown(panels)} (in brackets and as whiskers: times {FACTORS[0]:g} "
        f"and {FACTORS[1]:g}) among those with 0.03 < C < 0.97; a feature of higher capacity is a block of one, one "
        "of lower capacity is in none. Not efficient: the capacities add up to less than 2.99, so that Theorem 2 does "
        "not hold. Superposed features in blocks of "
        f"{LARGE} or more / in pairs / cells with two superposed blocks or more, of those with any / cells not "
        "efficient / cells failed (hatched grey) / not settled (hatched orange): "
        f"{'; '.join(_numbers(LETTERS[name], chosen[name], found[name]) for name in PANELS)}."
    )
    return captions.of_panels(configs, "refined", text)


def _shown(panels: Mapping[str, Results]) -> str:
    """The tolerances of all panels in words."""
    zero = [f"{tolerance_of(panels[name], 'refined'):.2g}" for name in PANELS]
    if len({*zero}) == 1:
        return zero[0]
    return f"what the certificates of {MOST:.0%} of the cells leave open, {', '.join(zero[:-1])} and {zero[-1]}"


def _numbers(letter: str, selection: Selection, found: Sequence[Shapes]) -> str:
    """Of the default tolerance, with those of the others in brackets."""
    large, pairs = ([f"{share:.1%}" for share in shares] for shares in zip(*map(_large_and_pairs, found), strict=True))
    words = [f"{first} ({', '.join(others)})" for first, *others in (large, pairs)]
    failed, unsettled = cells.states(selection)
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
    return f"Most superposed features are in {told}."


def main(argv: Sequence[str] | None = None) -> None:
    draw_folder = lambda path, _: draw(load_panels(path, PANELS))  # noqa: E731
    results_command("figure8", "results/figure7", "results/figure8", draw_folder, argv, rule=None)


if __name__ == "__main__":
    main()
