"""Curves along one axis of a grid: cuts through a diagram beside theory, and dimensions a feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from polyjax.draw import slices
from polyjax.draw.arguments import check
from polyjax.draw.optimum import any_form
from polyjax.draw.scales import Scale, plain_log_ticks
from polyjax.draw.style import CONSTANT, VARIED, on
from polyjax.theory import grid
from polyjax.theory.quadratic import optimal_capacity

if TYPE_CHECKING:
    from polyjax.draw.slices import Cut
    from polyjax.results import Results
    from polyjax.sweep import Sweep
    from polyjax.theory.grid import ClosedForm, OfFeatures

FINE = 400  # points of a line of theory
# Capacities of a feature in regular embeddings (Elhage et al. 2022): of N features in D dimensions, D / N each.
POLYTOPES = {1.0: "1", 3 / 4: "3/4 tetrahedron", 2 / 3: "2/3 triangle", 1 / 2: "1/2 pair", 2 / 5: "2/5 pentagon"}
POLYTOPES |= {3 / 8: "3/8 antiprism", 0.0: "0"}


def cut(
    results: Results,
    axis: str,
    *,
    rule: str | None = None,
    theory: bool = True,
    sweep: Sweep | None = None,
    ax: Axes | None = None,
    **fixed: float,
) -> Axes:
    """Draw the capacities of all features along one axis, dots for training and lines for the closed-form optimum where
    theory holds. Of the paper's features, feature 0 is blue and the others, which are alike, black. Elsewhere each has
    a colour.

    Args:
        results: of any axes.
        axis: the name of the one along which to draw.
        rule: over restarts (see `Results.select`); None: refined where there is such a diagram, else best.
        theory: whether to draw the optimum.
        sweep: which the results were made of; theory needs it where its features are the user's own.
        ax: what to draw on; None: a new figure.
        **fixed: a value of every other axis, by name; the nearest is drawn, and named in the title.

    Returns:
        The Axes. Raises ValueError where an axis is left out or does not exist.
    """
    check(ax, results, theory=theory)
    found, scale = slices.line(results, axis, fixed), Scale(axis, results.axes[axis])
    capacity = results.select(slices.default_rule(results, rule)).capacity[found.place][scale.order]
    of_paper = grid.is_of_paper(results.config)
    colors = _of_paper(capacity.shape[-1]) if of_paper else _rainbow(capacity.shape[-1])
    with on(ax, width=2.6, right=0.2) as ax:
        if theory and (form := any_form(results, sweep)) is not None:
            _optimum(ax, form, scale, found, colors if not of_paper else None)
        for i in reversed(range(capacity.shape[-1])):
            dots: dict[str, Any] = {"markersize": 2.2, "markeredgewidth": 0, "linestyle": "none"}
            ax.plot(scale.centres, capacity[:, i], "o", color=colors[i], **dots)
        scale.set_x(ax)
        ax.set(ylim=(-0.03, 1.03), ylabel="capacity $C_i$", title=found.words)
        _legend(ax, colors, of_paper=of_paper)
    return ax


def _of_paper(n: int) -> list[str]:
    return [VARIED, *[CONSTANT] * (n - 1)]


def _rainbow(n: int) -> list[str]:
    return [to_hex(color) for color in mpl.colormaps["viridis"](np.linspace(0, 0.85, n))]


def _optimum(ax: Axes, form: ClosedForm | OfFeatures, scale: Scale, found: Cut, colors: list[str] | None) -> None:
    """Draw the optimal capacities of all features, each in its colour; without colours those of feature 0 and of the
    others, which are alike: of dense features, for which some of the others are ignored, the highest and the lowest."""
    bounds = (1e-6, 1) if scale.name == "density" else (0, np.inf)
    low, high = (float(np.clip(edge, *bounds)) for edge in scale.edges[[0, -1]])
    fine = np.geomspace(low, high, FINE) if scale.is_geometric else np.linspace(low, high, FINE)
    at = {name: np.full(FINE, value) for name, value in found.fixed.items()} | {scale.name: fine}
    C = np.asarray(optimal_capacity(*form.at(at), form.n_neurons))
    others = np.sort(C[:, 1:], axis=1)
    of_paper = [(others[:, 0], CONSTANT), (others[:, -1], CONSTANT), (C[:, 0], VARIED)]
    for line, color in of_paper if colors is None else zip(C.T, colors, strict=True):
        ax.plot(fine, line, color=color, linewidth=0.9, alpha=0.6)


def _legend(ax: Axes, colors: list[str], *, of_paper: bool) -> None:
    names = {"0": VARIED, "others": CONSTANT} if of_paper else {str(i): color for i, color in enumerate(colors)}
    if len(names) > 10:
        names = {name: color for name, color in names.items() if name in ("0", str(len(colors) - 1))}
    dot: dict[str, Any] = {"marker": "o", "markersize": 3, "linestyle": "none"}
    handles = [Line2D([], [], color=color, label=name, **dot) for name, color in names.items()]
    options: dict[str, Any] = {"handletextpad": 0, "labelspacing": 0.2, "borderpad": 0.1}
    ax.legend(handles=handles, title="feature", title_fontsize=mpl.rcParams["legend.fontsize"], **options)


def dimensionality(
    results: Results, axis: str = "density", *, rule: str | None = None, ax: Axes | None = None, **fixed: float
) -> Axes:
    """Draw D / ||W||_F^2, the dimensions a feature that is embedded at full length, as a line, and the capacities of
    all features as dots, against the density or another axis (Elhage et al. 2022).

    Against density, sparse is on the right, as there; thin lines are at the capacities of regular polytopes. The
    arguments are those of `cut`; raises ValueError for a rule that averages.
    """
    check(ax, results)
    found, scale = slices.line(results, axis, fixed), Scale(axis, results.axes[axis])
    selection = results.select(slices.default_rule(results, rule))
    W, capacity = (a[found.place][scale.order] for a in (slices.embeddings(selection), selection.capacity))
    with np.errstate(divide="ignore"):
        dimensions = W.shape[-2] / (W**2).sum((-2, -1))
    with on(ax, width=3.0, right=0.85) as ax:
        x = 1 / scale.centres if axis == "density" else scale.centres
        for i in range(capacity.shape[-1]):
            ax.plot(x, capacity[:, i], "o", color=CONSTANT, markersize=2, markeredgewidth=0, alpha=0.6)
        ax.plot(x, dimensions, color=VARIED)
        _dimension_axis(ax, scale, axis == "density")
        ax.set(ylim=(-0.03, 1.1), ylabel="dimensions a feature", title=found.words)
        _polytopes(ax)
        handles = [Line2D([], [], color=VARIED, label=r"$D / ||W||_F^2$")]
        handles += [Line2D([], [], color=CONSTANT, marker="o", markersize=2, linestyle="none", label="capacity $C_i$")]
        ax.legend(handles=handles, loc="upper right", borderpad=0.1)
    return ax


def _dimension_axis(ax: Axes, scale: Scale, is_density: bool) -> None:
    scale.set_x(ax)
    if not is_density:
        return
    ax.set_xscale("log")
    ax.set_xlim(1 / scale.edges[-1], 1 / max(scale.edges[0], scale.centres[0] / 2))
    plain_log_ticks(ax.xaxis)
    ax.set_xlabel("1 / density")


def _polytopes(ax: Axes) -> None:
    """Draw thin lines at the capacities of regular embeddings, with their names to the right."""
    for value, name in POLYTOPES.items():
        ax.axhline(value, color="0.85", linewidth=0.5, zorder=0)
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        shift = {2 / 5: 3, 3 / 8: -3}.get(value, 0)  # points, for two that are close
        size = mpl.rcParams["legend.fontsize"]
        ax.annotate(name, (1, value), (3, shift), va="center_baseline", size=size, color="0.4", **place)
