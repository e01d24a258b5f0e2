"""Figure 4: the analytical and the empirical phase diagram of the quadratic Redwood model, their difference, and the
marginal loss reduction at six points of the diagram.

    python -m figures.figure4 [--results results/figure4.npz] [--out results/figure4] [--rule best]

Reads a results file and writes OUT.png and OUT.pdf; trains nothing. Array axes: density P, importance V, feature N.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.drawing import Page, page, panel, results_command
from polyjax import plot
from polyjax.draw import captions, style
from polyjax.draw.boundaries import kurtosis_axis, label_points
from polyjax.draw.cells import bar
from polyjax.draw.distances import TOLERANCE, Distance, from_theory
from polyjax.draw.marginal import marginal_loss_curves
from polyjax.draw.scales import plain_log_ticks
from polyjax.results import Results, load
from polyjax.theory.grid import CRITICAL_KURTOSIS, ClosedForm, closed_form

WIDTH, LEFT, PANEL, GAP, TOP, FOOT = 7.0, 0.46, 1.89, 0.16, 0.24, 5.94  # inches; three panels side by side
Points = dict[str, tuple[float, float]]  # letter -> (importance, density)


def problem(config: dict[str, Any]) -> ClosedForm:
    """Raises ValueError unless the closed form of `polyjax.theory` holds for what the configuration describes."""
    form = closed_form(config)
    if form.n_neurons >= form.n_features:
        sizes = f"{form.n_neurons} and {form.n_features}"
        raise ValueError(f"figure 4 needs fewer neurons than features, but the results have {sizes}")
    return form


def points(form: ClosedForm, importance: np.ndarray, density: np.ndarray) -> Points:
    """The six points (importance, density) of the paper's figure: A and B where k < 3, the critical point C, and D, E,
    F in a sparse row, where feature 0 is ignored, shared and full. Each is well inside its phase, but none further
    than a factor of 3 from a boundary, so that the curves of a row fit on one axis. Takes the grid's [V] and [P]."""
    (left, right), (bottom, top) = importance[[0, -1]], density[[0, -1]]
    critical = form.density_at(CRITICAL_KURTOSIS, bottom, top)
    if not bottom < critical < top or not left < 1 < right:
        raise ValueError("figure 4 needs a grid around the critical point, kurtosis 3 and importance 1")
    dense, sparse = np.sqrt(critical * top), critical ** (2 / 3) * bottom ** (1 / 3)
    ignored, full = map(float, form.boundaries(sparse))
    ignored, full = max(ignored, left), min(full, right)
    return {
        "A": (np.sqrt(max(left, 1 / 9)), dense),
        "B": (np.sqrt(min(right, 9)), dense),
        "C": (1.0, critical),
        "D": (max(left, ignored / 9) ** 0.6 * ignored**0.4, sparse),
        "E": (ignored**0.52 * full**0.48, sparse),
        "F": (np.sqrt(full * min(right, full * 9)), sparse),
    }


def draw(results: Results, rule: str = "best") -> Page:
    """The whole figure, to be called within `style()`. Raises ValueError where the results do not fit it."""
    form, e = problem(results.config), from_theory(results, rule)
    marked = points(form, results.importance, results.density)
    fig = page(WIDTH, FOOT, *_words(results, rule, e))
    _upper(fig, form, results, rule, marked)
    _lower(fig, form, marked)
    return fig


def _upper(fig: Figure, form: ClosedForm, results: Results, rule: str, marked: Points) -> None:
    """The two diagrams, their difference and the colour bars."""
    panels = [panel(fig, LEFT + i * (PANEL + GAP), TOP, PANEL, PANEL) for i in range(3)]
    shown: dict[str, Any] = {"rule": rule, "colorbar": False}
    analytical = plot.diagram(results, "optimum", ax=panels[0], **shown)
    empirical = plot.diagram(results, ax=panels[1], **shown)
    difference = plot.difference(results, ax=panels[2], **shown)
    for ax, title in zip(panels, ("Analytical", "Empirical", "Difference"), strict=True):
        ax.set_title(title)
    for ax in (empirical, difference):
        ax.set_ylabel("")
        ax.tick_params(labelleft=False)
    analytical.set_ylabel("density $p$ (sparsity $1 - p$)")
    label_points(analytical, marked)
    _phase_names(analytical, form, marked)
    kurtosis_axis(difference, form)
    label = "capacity $C_0$ of the feature of importance $V$"
    _bar(fig, analytical, LEFT, 2 * PANEL + GAP, label, np.linspace(0, 1, 5))
    left, label = LEFT + 2 * (PANEL + GAP), r"$|C_0 - C_0^\mathrm{theory}|$"
    _bar(fig, difference, left, PANEL, label, 10.0 ** np.arange(-3, 1), extend="min")


def _bar(fig: Figure, ax: Axes, left: float, width: float, label: str, ticks: np.ndarray, **options: Any) -> None:
    """The colour bar of a panel, narrower than what it is below, so that the end labels of two bars keep apart."""
    below = panel(fig, left + 0.1, 2.5, width - 0.2, 0.07)
    bar(ax.collections[0], below, label, ticks, orientation="horizontal", **options)  # type: ignore[arg-type]


def _phase_names(ax: Axes, form: ClosedForm, marked: Points) -> None:
    """Above the points D and F and below E, where each phase is wide."""
    critical, sparse, bottom = marked["C"][1], marked["D"][1], ax.get_ylim()[0]
    left, right = ax.get_xlim()
    above, below = critical**0.6 * sparse**0.4, sparse**0.5 * bottom**0.5
    names = {"ignored": (left**0.68, above, "white"), "full": (right**0.68, above, "black")}
    names["shared"] = (max(left, float(form.boundaries(below)[0])) ** 0.6 * marked["E"][0] ** 0.4, below, "white")
    for name, (v, density, color) in names.items():
        ax.text(v, density, name, color=color, ha="center", va="center", size=8, style="italic")


def _lower(fig: Figure, form: ClosedForm, marked: Points) -> None:
    """The six panels, A to C above D to F; the panels of a row share their axes."""
    V, p = np.array(list(marked.values())).T
    k = np.asarray(form.kurtosis(p))
    at = dict(zip(marked, zip(V, p, k, form.capacity(V, k), strict=True), strict=True))
    rows = [["A", "B", "C"], ["D", "E", "F"]]
    for row, letters in enumerate(rows):
        panels: list[Axes] = []
        for column, letter in enumerate(letters):
            place = LEFT + column * (PANEL + GAP), 3.36 + 1.22 * row, PANEL, 0.95
            ax = panel(fig, *place, sharey=panels[0] if panels else None)
            panels.append(ax)
            _marginal_panel(ax, form, letter, *at[letter])
            ax.tick_params(labelleft=column == 0, labelbottom=row == len(rows) - 1)
            if row == len(rows) - 1:
                ax.set_xlabel("capacity $C$")
        panels[0].set_ylabel(r"$-\partial L/\partial C$")
        plain_log_ticks(panels[0].yaxis)
    _legend(fig)


def _legend(fig: Figure) -> None:
    handles = [
        Line2D([], [], color=style.VARIED, label="feature of importance $V$"),
        Line2D([], [], color=style.CONSTANT, label="each of the others, importance 1"),
        Line2D([], [], color=style.CONSTANT, marker="o", markersize=3.5, linestyle="none", label="optimal capacity"),
        Line2D([], [], color=style.LEVEL, linestyle=(0, (4, 2)), linewidth=0.7, label=r"$2\lambda^2$"),
    ]
    middle = (LEFT + 1.5 * PANEL + GAP) / WIDTH, 1 - 3.05 / fig.get_figheight()
    fig.legend(handles=handles, ncols=4, loc="center", bbox_to_anchor=middle, borderpad=0)


def _marginal_panel(
    ax: Axes, form: ClosedForm, letter: str, importance: float, density: float, kurtosis: float, capacity: np.ndarray
) -> None:
    ax.set(yscale="log", xlim=(0, 1), xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
    marginal_loss_curves(ax, form.importances(importance), kurtosis, capacity)
    ax.set_title(f"$\\bf{{{letter}}}$   $V$ = {importance:.2g},  $p$ = {density:.2g},  $k$ = {kurtosis:.3g}")
    if letter == "C":
        ax.text(0.5, 0.7, "any allocation is optimal", transform=ax.transAxes, ha="center")


def _words(results: Results, rule: str, e: Distance) -> tuple[str, str, str]:
    """The caption, all details and the line of settings."""
    selection = results.select(rule)
    model = "{n_features} features in {n_neurons} neurons".format(**results.config["model"])
    caption = (
        f"Capacity of the feature of importance V in the quadratic Redwood model, {model}: the closed-form optimum, "
        f"the trained networks and the distance between the two, which is {e.mean:.2g} in the mean and {e.maximum:.2g} "
        f"at most{captions.hatched([selection])}{_ties(e)}. Thick lines are the closed-form boundaries of phases, "
        "solid where capacity jumps and dashed where it is continuous; below, the gain from capacity at the six points."
    )
    details = captions.caption(results.config, rule, selection, *_sentences(e, _polished(results, rule)))
    return caption, details, captions.in_a_line([results.config])


def _ties(e: Distance) -> str:
    return f"; blank: {e.degenerate} cells of V = 1 and k ≤ 3, whose optimum is not unique" if e.degenerate else ""


def _polished(results: Results, rule: str) -> Distance | None:
    """The errors once every cell is polished on samples; None where nothing was, or where that is what is drawn."""
    if results.refined is None or results.refined.excess is None or rule == "refined":
        return None
    return from_theory(results, "refined")


def _sentences(e: Distance, polished: Distance | None) -> list[str]:
    text = [
        f"Distance of C from theory, feature of importance V: mean {e.mean:.2g}, maximum {e.maximum:.2g}, more than "
        f"{TOLERANCE:g} in {e.share:.2%} of cells.",
    ]
    if polished is not None:
        text.append(f"Polished on a fixed batch of samples: mean {polished.mean:.2g}, maximum {polished.maximum:.2g}.")
    if e.degenerate:
        text.append(f"Left out (blank): {e.degenerate} cells of V = 1 and k ≤ 3, where the optimum is not unique.")
    return text


def main(argv: Sequence[str] | None = None) -> None:
    draw_file = lambda path, rule: draw(load(path), rule)  # noqa: E731
    results_command("figure4", "results/figure4.npz", "results/figure4", draw_file, argv)


if __name__ == "__main__":
    main()
