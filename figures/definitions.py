"""Two definitions of capacity, eq. 3 and that of appendix G, and which tells more of what trained networks do.

    python -m figures.definitions [--results results/figure7] [--out results/definitions]

Reads figure 7's folder of results, the refined diagrams, and writes OUT.png and OUT.pdf; trains nothing. What is
measured is in `usefulness`. Array axes: density P, importance V, neuron D, feature N.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from figures.drawing import Page, apart, load_panels, page, panel, results_command
from figures.figure7 import ACTIVATIONS, PANELS
from figures.usefulness import (
    PARTED,
    Capacities,
    Compared,
    Measured,
    capacities,
    compare,
    measure,
    observed,
    refined_of,
)
from polyjax.draw import captions, cells
from polyjax.draw.scales import Scale
from polyjax.draw.style import AXIS, ERROR_MAP, ERROR_NORM, UNCONVERGED, VARIED
from polyjax.results import Results

SHOWN = "redwood-relu-6in3"  # the panel that is drawn whole
ROW = 0.1  # the density of the row whose features are drawn
DEFINITIONS = {"eq. 3": ("o", VARIED), "appendix G": ("s", UNCONVERGED)}
MEASURES = {
    "error": "recovery:\nerror",
    "recovery": "recovery:\nexplained",
    "gain": "gain:\nexplained",
    "loss": "loss, cells:\ncorrelation",
    "restarts": "loss, restarts:\ncorrelation",
    "blocks": "blocks:\nshortfall",
}
WIDTH, TOP, HEIGHT, LOWER, BELOW, FOOT = 7.0, 0.24, 1.5, 2.38, 1.35, 4.24  # inches


def draw(panels: Mapping[str, Results]) -> Page:
    """The whole figure, to be called within `style()`."""
    found = {name: capacities(refined_of(results).embedding) for name, results in panels.items()}
    measured = {name: measure(results) for name, results in panels.items()}
    fig = page(WIDTH, FOOT, *_words(panels, found, measured))
    _map(panel(fig, 0.48, TOP, 1.7, HEIGHT), panel(fig, 2.24, TOP, 0.09, HEIGHT), panels[SHOWN], found[SHOWN])
    _gains([panel(fig, 3.36 + i * 1.8, TOP, 1.7, HEIGHT) for i in range(2)], panels[SHOWN], found[SHOWN])
    names = list(panels)[::-1]
    share = panel(fig, 1.36, LOWER, 0.78, BELOW)
    share.barh(range(len(names)), [found[name].parted.mean() for name in names], 0.6, color="0.6")
    share.set(
        xlim=(0, 1),
        xticks=[0, 1],
        ylim=(-0.6, len(names) - 0.4),
        xlabel=f"cells that differ\nby > {PARTED:g}",
        title="d",
    )
    apart(share)
    share.set_yticks(range(len(names)), [_title(name) for name in names])
    for i, (name, label) in enumerate(MEASURES.items()):
        ax = panel(fig, 2.24 + i * 0.79, LOWER, 0.69, BELOW)
        _dots(ax, {n: compare(getattr(m, name)) for n, m in measured.items()}, names)
        ax.set(xlabel=label, title="efghij"[i])
    return fig


def _title(name: str) -> str:
    """Such as "Redwood ReLU, 6 in 3"."""
    model, activation, size = name.split("-")
    return f"{model.title()} {ACTIVATIONS[activation]}, {size.replace('in', ' in ')}"


def _map(ax: Axes, bar: Axes, results: Results, found: Capacities) -> None:
    """The largest difference between the capacities of a feature in every cell."""
    scales = Scale("importance", results.importance), Scale("density", results.density)
    value = abs(found.eq3 - found.isotropic).max(-1)
    drawn = cells.colour(ax, *scales, value, cmap=ERROR_MAP, norm=ERROR_NORM)
    cells.bar(drawn.mesh, bar, r"largest $\tilde C_i - C_i$", 10.0 ** np.arange(-3, 1), extend="min")
    ax.set_title(f"a  {_title(SHOWN)}")


def _gains(axes: Sequence[Axes], results: Results, found: Capacities) -> None:
    """The gain of every feature of one density over its capacity by both definitions."""
    row = int(np.argmin(abs(np.log(results.density / ROW))))
    parted = found.parted[row]
    gain = observed(results, row, parted).gain
    for ax, (name, (marker, color)), C, letter in zip(axes, DEFINITIONS.items(), found, "bc", strict=True):
        ax.plot(C[row][parted].ravel(), gain.ravel(), marker, color=color, markersize=1.6, alpha=0.5, markeredgewidth=0)
        ax.set(xlim=(-0.03, 1.03), xlabel=f"capacity by {name}")
        ax.set_title(f"{letter}  Gains at $p$ = {results.density[row]:.2g}")
    axes[0].set_ylabel("gain of a feature")
    axes[1].set_ylim(axes[0].get_ylim())
    axes[1].tick_params(labelleft=False)


def _dots(ax: Axes, found: Mapping[str, Compared | None], names: Sequence[str]) -> None:
    """A measure of both definitions in every panel that has it, with 95 % intervals."""
    for i, name in enumerate(names):
        compared = found.get(name)
        for k, (marker, color) in enumerate(DEFINITIONS.values() if compared else ()):
            assert compared
            spread = np.abs([[compared.low[k] - compared.mean[k]], [compared.high[k] - compared.mean[k]]])
            y = i + 0.16 * (0.5 - k) * 2
            ax.errorbar(compared.mean[k], y, xerr=spread, fmt=marker, color=color, markersize=2.6, elinewidth=0.8)
    ax.set(ylim=(-0.6, len(names) - 0.4), yticks=range(len(names)), yticklabels=[])
    ax.margins(x=0.15)
    ax.xaxis.set_major_locator(MaxNLocator(2))
    if not any(found.values()):
        ax.set_xticks([])
    ax.tick_params(axis="y", length=0)
    for y in np.arange(len(names) - 1) + 0.5:
        ax.axhline(y, color=AXIS, linewidth=0.3)


def _words(
    panels: Mapping[str, Results], found: Mapping[str, Capacities], measured: Mapping[str, Measured]
) -> tuple[str, str, str]:
    """The caption, all details and the line of settings."""
    caption = (
        "The capacity of eq. 3 (blue circles) and that of appendix G (orange squares) in figure 7's networks, where "
        f"the two differ by more than {PARTED:g}. b, c: the gain of a feature (how far the output follows it) over its "
        "capacity. e to j: means over densities, with 95 % intervals of a bootstrap over them. Recovery, the squared "
        "correlation of a feature with an autoencoder's output for it: how far it is from capacity (e), and the share "
        "of it that a rising function of capacity explains (f), in all restarts; g: that share of gains; h, i: the "
        "rank correlation of the loss with the importance that has no capacity; j: by how much the capacities of a "
        "block miss its rank."
    )
    letters = dict(zip("123456789", panels, strict=False))
    configs = {letter: panels[name].config for letter, name in letters.items()}
    told = [_numbers(_title(name), each) for name, each in measured.items()]
    parts = ", ".join(f"{_title(name)} {found[name].parted.mean():.1%}" for name in panels)
    return (
        caption,
        captions.of_panels(configs, "refined", f"Cells that differ: {parts}.", *told),
        captions.in_a_line([*configs.values()]),
    )


def _numbers(title: str, measured: Measured) -> str:
    """The measures of a panel in words: eq. 3, appendix G, and the difference with its interval."""
    told = []
    for name in MEASURES:
        compared = compare(getattr(measured, name))
        if compared:
            eq3, isotropic, difference = compared.mean
            low, high = compared.low[2], compared.high[2]
            told.append(f"{name} {eq3:.3f} / {isotropic:.3f} / {difference:+.3f} ({low:+.3f} to {high:+.3f})")
    return f"{title}, eq. 3 / appendix G / difference: {'; '.join(told)}."


def main(argv: Sequence[str] | None = None) -> None:
    draw_folder = lambda path, _: draw(load_panels(path, PANELS))  # noqa: E731
    results_command("definitions", "results/figure7", "results/definitions", draw_folder, argv, rule=None)


if __name__ == "__main__":
    main()
