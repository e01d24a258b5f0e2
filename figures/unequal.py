"""Features that differ in density: the optimal and the trained capacity of one of them, and their difference.

    python -m figures.unequal [--results results/unequal.npz] [--out results/unequal] [--rule refined]

Reads what `sweeps.unequal` left and writes OUT.png and OUT.pdf; trains nothing.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

import polyjax
from figures.drawing import Page, page, panel, results_command
from polyjax import plot, theory
from polyjax.draw import captions
from polyjax.draw.cells import bar
from polyjax.draw.distances import TOLERANCE, Distance, from_theory
from polyjax.draw.optimum import form_of
from polyjax.draw.style import halo
from polyjax.results import Results, load
from polyjax.theory import Phase, grid
from sweeps import unequal

WIDTH, LEFT, PANEL, GAP, TOP, FOOT = 7.0, 0.46, 1.98, 0.16, 0.24, 3.12  # inches; three panels side by side
# The density of kurtosis 3, which is in inverse proportion to it.
CRITICAL = float(unequal.MODEL.distribution.kurtosis(1.0)) / grid.CRITICAL_KURTOSIS
FINE = 200  # points a side of the lines between phases

Phases = tuple[np.ndarray, np.ndarray, np.ndarray]  # importances [V], densities [P] and the phase of feature 0 [P, V]


def sweep_of(results: Results) -> polyjax.Sweep:
    """The sweep that the results were made of. Raises ValueError where it is none of `sweeps.unequal`."""
    cells = len(results.axes.get("density", ()))
    for preset, (side, *_) in unequal.PRESETS.items():
        if side == cells:
            return unequal.sweep(preset, results.config["seed"])
    raise ValueError(f"results must be those of sweeps.unequal, but have {cells} densities")


def draw(results: Results, rule: str) -> Page:
    """The whole figure, to be called within `style()`. Raises ValueError where the results do not fit it."""
    sweep = sweep_of(results)
    e = from_theory(results, rule, 0, sweep)
    found = phases(results, sweep)
    fig = page(WIDTH, FOOT, *_words(results, rule, e, found))
    panels = [panel(fig, LEFT + i * (PANEL + GAP), TOP, PANEL, PANEL) for i in range(3)]
    plot.diagram(results, "optimum", rule=rule, sweep=sweep, colorbar=False, ax=panels[0])
    plot.diagram(results, rule=rule, sweep=sweep, colorbar=False, ax=panels[1])
    plot.difference(results, rule=rule, sweep=sweep, colorbar=False, ax=panels[2])
    for ax, title in zip(panels, ("Analytical", "Empirical", "Difference"), strict=True):
        ax.set(title=title, xlabel="importance $V$ of feature 0", ylabel="")
        ax.tick_params(labelleft=ax is panels[0])
    for ax in panels[:2]:
        _phases(ax, found)
    panels[0].set_ylabel("density of features 0 to 2")
    mesh, error = panels[0].collections[0], panels[2].collections[0]
    below = panel(fig, LEFT + 0.1, 2.62, 2 * PANEL + GAP - 0.2, 0.07)
    bar(mesh, below, "capacity $C_0$", np.linspace(0, 1, 5), orientation="horizontal")  # type: ignore[arg-type]
    below = panel(fig, LEFT + 2 * (PANEL + GAP) + 0.1, 2.62, PANEL - 0.2, 0.07)
    label, ticks = r"$|C_0 - C_0^\mathrm{theory}|$", 10.0 ** np.arange(-3, 1)
    bar(error, below, label, ticks, orientation="horizontal", extend="min")  # type: ignore[arg-type]
    return fig


def phases(results: Results, sweep: polyjax.Sweep, side: int = FINE) -> Phases:
    """The phase of feature 0 at the optimum, at so many importances and densities."""
    form = form_of(results, sweep)
    axes = {name: np.geomspace(values[0], values[-1], side) for name, values in results.axes.items()}
    found = theory.phase(*grid.problem(form, axes), form.n_neurons)
    return axes["importance"], axes["density"], np.asarray(found)[..., 0]


def _phases(ax: Axes, found: Phases) -> None:
    """Dashed lines between the phases of feature 0, and a dotted one at its kurtosis 3."""
    v, p, phase = found
    for least, color in ((Phase.SHARED, "white"), (Phase.FULL, "black")):
        ax.contour(v, p, phase >= least, [0.5], colors=color, linewidths=0.9, linestyles="dashed")
    ax.axhline(CRITICAL, color="white", linewidth=0.8, linestyle=(0, (1, 2)), path_effects=halo("black", 1.4))


def _words(results: Results, rule: str, e: Distance, found: Phases) -> tuple[str, str, str]:
    """The caption, all details and the line of settings."""
    selection = results.select(rule)
    model = "{n_features} features in {n_neurons} neurons".format(**results.config["model"])
    caption = (
        f"Capacity of feature 0 in the quadratic Redwood model, {model}, where features 0 to 2 have the density of the "
        f"axis and the others {unequal.OTHERS:g}: the optimum, trained networks and their distance, {e.mean:.2g} in "
        f"the mean and {e.maximum:.2g} at most{captions.hatched([selection])}. Dashed lines bound the phases of "
        "feature 0, which above the dotted line (kurtosis below 3) is shared only in the wedge between them."
    )
    _, density, phase = found
    share = float((phase[density > CRITICAL] == Phase.SHARED).mean())
    text = (
        f"More than {TOLERANCE:g} off in {e.share:.2%} of cells; {e.degenerate} cells are left out, whose optimum is "
        f"not unique. Feature 0 is shared at the optimum in {share:.1%} of the area above the dotted line."
    )
    return caption, captions.caption(results.config, rule, selection, text), captions.in_a_line([results.config])


def main(argv: Sequence[str] | None = None) -> None:
    draw_file = lambda path, rule: draw(load(path), rule)  # noqa: E731
    results_command("unequal", "results/unequal.npz", "results/unequal", draw_file, argv, rule="refined")


if __name__ == "__main__":
    main()
