"""The boundaries of figure 4's phases as training has them, and how far they are from the closed form (section 3.5).

    python -m figures.boundaries [--results results/boundaries.npz] [--figure4 results/figure4.npz]

Reads results of `sweeps.boundaries` and of figure 4 and writes OUT.png and OUT.pdf; trains nothing. Array axes: density
P, importance V.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D

from figures.drawing import Page, apart, page, panel, save
from figures.figure4 import problem
from polyjax import phases
from polyjax.cli.command import script
from polyjax.draw import captions
from polyjax.draw.scales import Scale, plain_log_ticks
from polyjax.draw.style import LEVEL, UNCONVERGED, VARIED, style
from polyjax.results import Results, load

WIDTH, TOP, HEIGHT, FOOT = 7.0, 0.24, 2.3, 2.98  # inches
PHASE_COLORS = ("#dce6f2", "#8ab0d6", "#2b5c8f")  # ignored, shared, full
KINDS = {"continuous": "o", "jump": "s", "unresolved": "x"}  # markers
SOURCES = {"adaptive": "1000 x 1000 cells, few of them trained", "figure 4": "100 x 100 cells, sampled"}
BAR, LIMIT = 0.01, 0.0125  # decades: what is asked, and what is shown


class Distance(NamedTuple):
    """How far the boundaries of a grid are from theory, [2, P]: that of the ignored phase, and that of the full one."""

    density: np.ndarray  # [P]
    decades: np.ndarray
    error: np.ndarray
    kind: np.ndarray


def distance(results: Results, rule: str | None = None) -> Distance:
    """The distances of all boundaries, NaN where there is none, in the trained networks or in theory."""
    found, form = phases.boundaries_from(results, rule=rule), problem(results.config)
    edges = np.where((V := np.array(form.boundaries(found.values))) < results.importance.min(), np.nan, V)
    both = found.ignored, found.full
    decades = [phases.decades(each, edge) for each, edge in zip(both, edges, strict=True)]
    return Distance(
        found.values, np.stack(decades), *(np.stack([getattr(each, n) for each in both]) for n in ("error", "kind"))
    )


def draw(adaptive: Results, whole: Results) -> Page:
    """The whole figure, to be called within `style()`. Raises ValueError where the results do not fit it."""
    found = {"adaptive": distance(adaptive), "figure 4": distance(whole)}
    trained = np.isfinite(adaptive.loss).any(-1)
    fig = page(WIDTH, FOOT, *_words(adaptive, whole, trained, found))
    _cells(panel(fig, 0.48, TOP, 2.3, HEIGHT), adaptive, trained)
    for i, (name, each) in enumerate(found.items()):
        _distances(panel(fig, 3.36 + i * 1.84, TOP, 1.7, HEIGHT, xscale="log"), each, first=i == 0)
        fig.axes[-1].set_title(f"{'bc'[i]}  {SOURCES[name].split(',')[0]}")
    return fig


def _cells(ax: Axes, results: Results, trained: np.ndarray) -> None:
    """The cells that were trained, each in the colour of its phase; all others are white."""
    phase = phases.phases(results.select("best").capacity[..., 0])
    image = np.ma.masked_where(~trained, phase)
    scales = Scale("importance", results.importance), Scale("density", results.density)
    ax.pcolormesh(
        *(scale.edges for scale in scales), image, cmap=ListedColormap(PHASE_COLORS), vmin=0, vmax=2, rasterized=True
    )
    for scale, set_scale in zip(scales, ("set_x", "set_y"), strict=True):
        getattr(scale, set_scale)(ax)
    names = ("ignored", "shared", "full")
    handles = [
        Line2D([], [], marker="s", linestyle="", color=c, label=n) for c, n in zip(PHASE_COLORS, names, strict=True)
    ]
    ax.legend(handles=handles, loc="lower center", ncols=3, handletextpad=0.1, columnspacing=0.8, frameon=True)
    ax.set_title("a  Cells that were trained")


def _distances(ax: Axes, found: Distance, *, first: bool) -> None:
    """How far boundaries are from theory over density, with their errors; a mark for each kind of transition."""
    for row, color in enumerate((VARIED, UNCONVERGED)):
        for kind, marker in KINDS.items():
            here = (found.kind[row] == kind) & np.isfinite(found.decades[row])
            values = found.density[here], found.decades[row][here]
            ax.errorbar(*values, yerr=found.error[row][here], fmt="none", ecolor=color, elinewidth=0.3, alpha=0.35)
            ax.plot(*values, marker, color=color, markersize=1.6, markeredgewidth=0.5, linestyle="none")
    for bar in (-BAR, BAR):
        ax.axhline(bar, color=LEVEL, linewidth=0.6, linestyle=(0, (4, 2)))
    ax.set(xlim=(found.density[0], found.density[-1]), ylim=(-LIMIT, LIMIT), xlabel="density $p$")
    plain_log_ticks(ax.xaxis)
    apart(ax)
    if first:
        ax.set_ylabel("from theory (decades of $V$)")
        handles = [Line2D([], [], marker=m, linestyle="", color="0.3", markersize=3, label=n) for n, m in KINDS.items()]
        handles += [
            Line2D([], [], color=c, label=n) for c, n in ((VARIED, "end of ignored"), (UNCONVERGED, "begin of full"))
        ]
        ax.legend(handles=handles, loc="lower left", fontsize=5.5)
    else:
        ax.tick_params(labelleft=False)


def _words(
    adaptive: Results, whole: Results, trained: np.ndarray, found: Mapping[str, Distance]
) -> tuple[str, str, str]:
    """The caption, all details and the line of settings."""
    share = trained.mean()
    caption = (
        f"The cells of figure 4's grid near the boundaries of its phases, {trained.sum():,} of {trained.size:,} "
        f"({share:.1%}), and how far the boundaries in trained networks are from those of the closed form, with "
        f"standard errors (dashed: {BAR:g} decades): b, of these cells, trained on the expected loss; c, of figure 4's "
        "results."
    )
    told = [_numbers(name, each) for name, each in found.items()]
    configs = {"a and b": adaptive.config, "c": whole.config}
    return caption, captions.of_panels(configs, "best", *told), captions.in_a_line([*configs.values()])


def _numbers(name: str, found: Distance) -> str:
    """How far boundaries are from theory, in words."""
    parts = []
    for kind in KINDS:
        d = found.decades[(found.kind == kind) & np.isfinite(found.decades)]
        if d.size:
            parts.append(
                f"{d.size} {kind}: {np.sqrt(np.mean(d**2)):.2g} decades (root mean square), {abs(d).max():.2g} at most"
            )
    return f"Boundaries of {name}: {'; '.join(parts)}."


def work(
    *,
    results: Path = Path("results/boundaries.npz"),
    figure4: Path = Path("results/figure4.npz"),
    out: Path = Path("results/boundaries"),
) -> None:
    """Draw the boundaries of phases from saved results.

    Args:
        results: What sweeps.boundaries saved.
        figure4: What sweeps.figure4 saved.
        out: Path of the images, without suffix.
    """
    with style():
        save(draw(load(results), load(figure4)), out)


def main(argv: Sequence[str] | None = None) -> None:
    script("python -m figures.boundaries", work, argv)


if __name__ == "__main__":
    main()
