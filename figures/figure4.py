"""Figure 4: the analytical and the empirical phase diagram of the quadratic Redwood model, their difference, and the
marginal loss reduction at six points of the diagram.

    python -m figures.figure4 [--results results/figure4.npz] [--out results/figure4] [--rule best]

Reads a results file and writes OUT.png and OUT.pdf; trains nothing. Array axes: density P, importance V, feature N.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from figures.drawing import results_command
from polyjax import theory
from polyjax.draw import captions, plotting
from polyjax.results import Results, Selection, load
from polyjax.toy import distributions

TOLERANCE = 0.05  # cells further than this from the theory are counted as off
WIDTH, LEFT, PANEL, GAP = 7.0, 0.46, 1.89, 0.16  # inches: the page's two columns; three panels side by side
CAPTION_TOP, CAPTION_LEFT, CAPTION_LINE, CAPTION_SIZE = 5.94, 0.1, 0.118, 6.5  # inches; the size in points
Points = dict[str, tuple[float, float]]  # letter -> (importance, density)
_boundaries = jax.jit(theory.boundaries, static_argnums=(1, 2))  # one compilation, not one an operation


@dataclass(frozen=True)
class Problem:
    """One feature of importance V, the others of importance 1: sizes and the kurtosis at a density."""

    n_features: int
    n_neurons: int
    kurtosis: Callable[[Any], Any]

    def importances(self, importance: ArrayLike) -> np.ndarray:
        """[...] -> [..., N]"""
        v = np.ones((*np.shape(importance), self.n_features))
        v[..., 0] = importance
        return v

    def shared(self, density: float) -> tuple[float, float]:
        """The importances between which feature 0 is shared."""
        ignored, full = _boundaries(self.kurtosis(density), self.n_features, self.n_neurons)
        return float(ignored), float(full)

    def capacity(self, importance: np.ndarray, kurtosis: np.ndarray) -> np.ndarray:
        """The optimal capacities, [..., N]; the two arguments have one shape."""
        return np.asarray(theory.optimal_capacity(self.importances(importance), kurtosis, self.n_neurons))


class Errors(NamedTuple):
    """|C - C_theory| of feature 0, and its statistics over the cells that did not fail and where theory is unique."""

    cells: np.ndarray  # [P, V], NaN where failed or not unique
    mean: float
    maximum: float
    share: float  # of cells above TOLERANCE, in [0, 1]
    degenerate: int  # cells of V = 1 and k <= 3, in which feature 0 ties with the others and any split is optimal


def problem(config: dict[str, Any]) -> Problem:
    """Raises ValueError unless the closed form of `polyjax.theory` holds for what the configuration describes."""
    try:
        model, base = config["model"], distributions.by_name(config["distribution"])
        kind, sizes = (model["name"], model["activation"]), (model["n_features"], model["n_neurons"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"the results' configuration must name a model and a distribution: {error!r}") from error
    if kind != ("Redwood", "square") or base.moments[0] != 0 or not base.unit_variance:
        raise ValueError(
            "figure 4 needs the Redwood model with square activation and features of mean 0 and variance 1, for which "
            f"there is a closed form, but the results are of {kind[0]}, {kind[1]}, {base.name}"
        )
    if not 1 <= sizes[1] < sizes[0]:
        raise ValueError(f"figure 4 needs fewer neurons than features, but the results have {sizes[1]} and {sizes[0]}")
    return Problem(*sizes, jax.jit(base.kurtosis))


def errors(capacity: np.ndarray, expected: np.ndarray, importance: np.ndarray, kurtosis: np.ndarray) -> Errors:
    """`capacity` and `expected` of feature 0 [P, V], `importance` [V], `kurtosis` [P]."""
    # Within rounding of a geometric grid that was computed in single precision.
    tie = np.isclose(importance, 1, rtol=1e-6) & (kurtosis[:, None] <= 3 * (1 + 1e-6)) & np.isfinite(capacity)
    cells = np.where(tie, np.nan, abs(capacity - expected))
    valid = cells[np.isfinite(cells)]
    if not valid.size:
        raise ValueError("the results hold no cell that can be compared with the theory")
    return Errors(cells, valid.mean(), valid.max(), (valid > TOLERANCE).mean(), int(tie.sum()))


def points(p: Problem, importance: np.ndarray, density: np.ndarray) -> Points:
    """The six points (importance, density) of the paper's figure: A and B where k < 3, the critical point C, and D, E,
    F in a sparse row, where feature 0 is ignored, shared and full. Each is well inside its phase, but none further
    than a factor of 3 from a boundary, so that the curves of a row fit on one axis. Takes the grid's [V] and [P]."""
    (left, right), (bottom, top) = importance[[0, -1]], density[[0, -1]]
    critical = plotting.density_at(p.kurtosis, 3.0, bottom, top)
    if not bottom < critical < top or not left < 1 < right:
        raise ValueError("figure 4 needs a grid around the critical point, kurtosis 3 and importance 1")
    dense, sparse = np.sqrt(critical * top), critical ** (2 / 3) * bottom ** (1 / 3)
    ignored, full = p.shared(sparse)
    ignored, full = max(ignored, left), min(full, right)
    return {
        "A": (np.sqrt(max(left, 1 / 9)), dense),
        "B": (np.sqrt(min(right, 9)), dense),
        "C": (1.0, critical),
        "D": (max(left, ignored / 9) ** 0.6 * ignored**0.4, sparse),
        "E": (ignored**0.52 * full**0.48, sparse),
        "F": (np.sqrt(full * min(right, full * 9)), sparse),
    }


def draw(results: Results, rule: str = "best") -> Figure:
    """The whole figure, to be called within `plotting.style()`. Raises ValueError where the results do not fit it."""
    p, selection = problem(results.config), results.select(rule)
    marked = points(p, results.importance, results.density)
    V, P = (a.ravel() for a in np.meshgrid(results.importance, results.density))
    # The grid and the points in one call, since compiling it takes longer than running it.
    v, density = np.concatenate([[V, P], np.array(list(marked.values())).T], axis=1)
    k = np.asarray(p.kurtosis(density))
    optimum = p.capacity(v, k)
    theoretical = optimum[: V.size, 0].reshape(selection.loss.shape)
    grid = results.importance, k[: V.size : results.importance.size]
    e = errors(selection.capacity[..., 0], theoretical, *grid)
    polished = _polished(results, rule, theoretical, *grid)
    text = captions.caption(results.config, rule, selection, *_sentences(e, polished))
    lines = captions.wrapped(text, 72 * (WIDTH - 2 * CAPTION_LEFT), CAPTION_SIZE)
    fig = Figure(figsize=(WIDTH, CAPTION_TOP + CAPTION_LINE * len(lines) + 0.06))
    _upper(fig, p, results, selection, theoretical, e, marked)
    _lower(fig, p, marked, k[V.size :], optimum[V.size :])
    where = _place(fig, CAPTION_LEFT, CAPTION_TOP)
    fig.text(*where, "\n".join(lines), size=CAPTION_SIZE, va="top", parse_math=False)
    return fig


def _upper(
    fig: Figure, p: Problem, results: Results, selection: Selection, theoretical: np.ndarray, e: Errors, marked: Points
) -> None:
    """The two diagrams, their difference and the colour bars."""
    analytical, empirical, difference = (_axes(fig, column, 0.24, PANEL) for column in range(3))
    grid, found = (results.density, results.importance), selection.capacity[..., 0]
    failed, unsettled = plotting.cell_states(selection)
    capacities = plotting.phase_diagram(analytical, *grid, theoretical)
    plotting.phase_diagram(empirical, *grid, found, failed=failed, unsettled=unsettled)
    colors: dict[str, Any] = {"cmap": plotting.ERROR_MAP, "norm": plotting.ERROR_NORM}
    off = plotting.phase_diagram(difference, *grid, e.cells, failed=failed, **colors)
    for ax, capacity in ((analytical, theoretical), (empirical, found)):
        plotting.capacity_contours(ax, *grid, capacity)
        plotting.phase_boundaries(ax, p.kurtosis, p.n_features, p.n_neurons)
    plotting.label_points(analytical, marked)
    _phase_names(analytical, p, marked)
    _label_diagrams(analytical, empirical, difference, p, e)
    _bar(fig, capacities.mesh, 0, 2, "capacity $C_0$ of the feature of importance $V$", np.linspace(0, 1, 5))
    _bar(fig, off.mesh, 2, 1, r"$|C_0 - C_0^\mathrm{theory}|$", 10.0 ** np.arange(-3, 1), extend="min")


def _label_diagrams(analytical: Axes, empirical: Axes, difference: Axes, p: Problem, e: Errors) -> None:
    for ax, title in ((analytical, "Analytical"), (empirical, "Empirical"), (difference, "Difference")):
        ax.set_title(title)
        ax.set_xlabel("importance $V$")
    analytical.set_ylabel("density $p$ (sparsity $1 - p$)")
    for ax in (empirical, difference):
        ax.tick_params(labelleft=False)
    plotting.kurtosis_axis(difference, p.kurtosis)
    # In the corner of the dense, unimportant features, whose capacity 0 is the least contested of the diagram.
    text = f"mean {e.mean:.2g}\nmax {e.maximum:.2g}\n> {TOLERANCE:g}: {e.share:.2%}"
    box = {"boxstyle": "square,pad=0.25", "facecolor": "white", "edgecolor": "0.5", "linewidth": 0.4}
    difference.text(0.03, 0.97, text, transform=difference.transAxes, ha="left", va="top", size=6.5, bbox=box)


def _phase_names(ax: Axes, p: Problem, marked: Points) -> None:
    """Above the points D and F and below E, where each phase is wide."""
    critical, sparse, bottom = marked["C"][1], marked["D"][1], ax.get_ylim()[0]
    left, right = ax.get_xlim()
    above, below = critical**0.6 * sparse**0.4, sparse**0.5 * bottom**0.5
    names = {"ignored": (left**0.68, above, "white"), "full": (right**0.68, above, "black")}
    names["shared"] = (max(left, p.shared(below)[0]) ** 0.6 * marked["E"][0] ** 0.4, below, "white")
    for name, (v, density, color) in names.items():
        ax.text(v, density, name, color=color, ha="center", va="center", size=8, style="italic")


def _lower(fig: Figure, p: Problem, marked: Points, kurtosis: np.ndarray, capacity: np.ndarray) -> None:
    """The six panels, A to C above D to F, from the kurtosis [6] and the optimum [6, N] at each of the points; the
    panels of a row share their axes."""
    rows = [["A", "B", "C"], ["D", "E", "F"]]
    at = dict(zip(marked, zip(kurtosis, capacity, strict=True), strict=True))
    for row, letters in enumerate(rows):
        panels: list[Axes] = []
        for column, letter in enumerate(letters):
            ax = _axes(fig, column, 3.36 + 1.22 * row, 0.95, sharey=panels[0] if panels else None)
            panels.append(ax)
            _marginal_panel(ax, p, letter, *marked[letter], *at[letter])
            ax.tick_params(labelleft=column == 0, labelbottom=row == len(rows) - 1)
            if row == len(rows) - 1:
                ax.set_xlabel("capacity $C$")
        panels[0].set_ylabel(r"$-\partial L/\partial C$")
        plotting.plain_log_ticks(panels[0].yaxis)
    handles = [
        Line2D([], [], color=plotting.VARIED, label="feature of importance $V$"),
        Line2D([], [], color=plotting.CONSTANT, label="each of the others, importance 1"),
        Line2D([], [], color=plotting.CONSTANT, marker="o", markersize=3.5, linestyle="none", label="optimal capacity"),
        Line2D([], [], color=plotting.LEVEL, linestyle=(0, (4, 2)), linewidth=0.7, label=r"$2\lambda^2$"),
    ]
    middle = LEFT + 1.5 * PANEL + GAP
    fig.legend(handles=handles, ncols=4, loc="center", bbox_to_anchor=_place(fig, middle, 3.05), borderpad=0)


def _marginal_panel(
    ax: Axes, p: Problem, letter: str, importance: float, density: float, kurtosis: float, capacity: np.ndarray
) -> None:
    ax.set(yscale="log", xlim=(0, 1), xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
    plotting.marginal_loss_curves(ax, p.importances(importance), kurtosis, capacity)
    ax.set_title(f"$\\bf{{{letter}}}$   $V$ = {importance:.2g},  $p$ = {density:.2g},  $k$ = {kurtosis:.3g}")
    if letter == "C":
        ax.text(0.5, 0.7, "any allocation is optimal", transform=ax.transAxes, ha="center")


def _polished(
    results: Results, rule: str, theoretical: np.ndarray, importance: np.ndarray, kurtosis: np.ndarray
) -> Errors | None:
    """The errors once every cell is polished on samples; None where nothing was, or where that is what is drawn."""
    if results.refined is None or results.refined.excess is None or rule == "refined":
        return None
    return errors(results.refined.capacity[..., 0], theoretical, importance, kurtosis)


def _sentences(e: Errors, polished: Errors | None) -> list[str]:
    text = [
        "Lines: closed-form phase boundaries, solid where capacity jumps, dashed where it is continuous.",
        f"Distance of C from theory, feature of importance V: mean {e.mean:.2g}, maximum {e.maximum:.2g}, more than "
        f"{TOLERANCE:g} in {e.share:.2%} of cells.",
    ]
    if polished is not None:
        text.append(f"Polished on a fixed batch of samples: mean {polished.mean:.2g}, maximum {polished.maximum:.2g}.")
    if e.degenerate:
        text.append(f"Left out (blank): {e.degenerate} cells of V = 1 and k ≤ 3, where the optimum is not unique.")
    return text


def _bar(fig: Figure, mesh: QuadMesh, column: int, span: int, label: str, ticks: np.ndarray, **options: Any) -> None:
    ax = _axes(fig, column, 2.5, 0.07, span, inset=0.1)  # so that the end labels of two bars keep apart
    bar = fig.colorbar(mesh, cax=ax, orientation="horizontal", ticks=ticks, format="{x:g}", **options)
    ax.minorticks_off()
    bar.outline.set_linewidth(0.6)
    bar.set_label(label)


def _axes(fig: Figure, column: int, top: float, height: float, span: int = 1, inset: float = 0, **options: Any) -> Axes:
    """Axes in a column of panels, `top` inches below the upper edge, narrowed by `inset` inches on both sides."""
    left, bottom = _place(fig, LEFT + column * (PANEL + GAP) + inset, top + height)
    width = span * PANEL + (span - 1) * GAP - 2 * inset
    return fig.add_axes((left, bottom, width / fig.get_figwidth(), height / fig.get_figheight()), **options)


def _place(fig: Figure, right: float, down: float) -> tuple[float, float]:
    """Inches from the upper left corner, as fractions of the figure: the caption's length moves nothing above it."""
    return right / fig.get_figwidth(), 1 - down / fig.get_figheight()


def main(argv: Sequence[str] | None = None) -> None:
    results_command(
        "figure4", "figure 4", "results/figure4.npz", "results/figure4", lambda path, rule: draw(load(path), rule), argv
    )


if __name__ == "__main__":
    main()
