"""Diagrams: two axes of a grid, one colour a cell. Every function draws on an Axes, or makes a figure, and returns the
Axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from polyjax.checks import doubles, one_of, require
from polyjax.draw import boundaries as lines
from polyjax.draw import cells, distances, shapes, slices
from polyjax.draw.arguments import check
from polyjax.draw.optimum import any_form
from polyjax.draw.quantities import Quantity, quantity
from polyjax.draw.slices import Plane, default_rule
from polyjax.draw.style import ERROR_MAP, ERROR_NORM, on
from polyjax.theory import grid

if TYPE_CHECKING:
    from polyjax.results import Results
    from polyjax.sweep import Sweep

LEVELS = (0.25, 0.5, 0.75)
PLATEAU_LEVELS = (0.25, 0.47, 0.53, 0.75)  # two for 1/2, so that a plateau there is a region and not a ragged line


def diagram(
    results: Results,
    color: str = "capacity",
    *,
    feature: int = 0,
    rule: str | None = None,
    x: str | None = None,
    levels: Sequence[float] | None = None,
    boundaries: bool = True,
    colorbar: bool = True,
    sweep: Sweep | None = None,
    ax: Axes | None = None,
    **fixed: float,
) -> Axes:
    """Draw a phase diagram: two axes of the grid, the others fixed by keyword at the value that is nearest.

    Axes are logarithmic where their values are geometric. Cells that failed are hatched in grey, those not settled in
    orange.

    Args:
        results: of two axes or more.
        color: "capacity" or the "optimum" of a feature, "loss", its "excess" over the optimum, the number of
            "blocks", the features in the "largest" of them, "settled", or the "attempt" that was kept.
        feature: whose capacity, from 0.
        rule: over restarts (see `Results.select`); None: refined where there is such a diagram, else best.
        x: the axis to be drawn horizontally; None: the later one.
        levels: of contours through capacities, each in [0, 1]; None: 0.25, 0.5 and 0.75, with their values, where there
            is a closed form, and elsewhere two lines around 1/2, where antipodal pairs make a plateau.
        boundaries: whether to draw the closed-form boundaries of phases, where theory holds.
        colorbar: whether to draw a colour bar to the right.
        sweep: which the results were made of; theory needs it where its features are the user's own.
        ax: what to draw on; None: a new figure.
        **fixed: values of the other axes, by name.

    Returns:
        The Axes. Raises ValueError for names that do not exist, and unless two axes are left.
    """
    check(ax, results, boundaries=boundaries, colorbar=colorbar)
    levels = None if levels is None else _levels(levels)
    found, plane = quantity(results, color, rule, feature, sweep), slices.plane(results, x, fixed)
    states = cells.states(results.select(default_rule(results, rule))) if found.is_trained else (None, None)
    with on(ax) as ax:
        _draw(ax, plane, found, states, colorbar)
        if color in ("capacity", "optimum"):
            smooth, of_paper = any_form(results, sweep) is not None, grid.has_closed_form(results.config)
            shown = levels if levels is not None else LEVELS if smooth else PLATEAU_LEVELS
            labelled = smooth and levels is None
            cells.contours(ax, plane.x, plane.y, plane.of(found.value), shown, labelled=labelled)
            if boundaries and of_paper and feature == 0 and {plane.x.name, plane.y.name} == {"density", "importance"}:
                form = grid.closed_form(results.config)
                lines.phase_boundaries(ax, form, upright=plane.y.name == "density")
    return ax


def _levels(levels: Sequence[float]) -> Sequence[float]:
    """Return levels of contours, in ascending order and each once."""
    found = doubles("levels", levels)
    require(found.ndim == 1 and ((found >= 0) & (found <= 1)).all(), "levels", "be numbers in [0, 1]", levels)
    return np.unique(found).tolist()


def _draw(
    ax: Axes, plane: Plane, found: Quantity, states: Sequence[np.ndarray | None], colorbar: bool, **bar: Any
) -> None:
    """Draw the cells, the hatches of those that failed and are not settled (none where None), the colour bar and what
    is fixed."""
    failed, unsettled = (None if a is None else plane.of(a) for a in states)
    hatched: dict[str, Any] = {"failed": failed, "unsettled": unsettled}
    mesh = cells.colour(ax, plane.x, plane.y, plane.of(found.value), cmap=found.cmap, norm=found.norm, **hatched).mesh
    ax.set_title(plane.cut.words)
    if colorbar:
        cells.bar(mesh, cells.beside(ax), found.label, found.ticks, **bar)


def difference(
    results: Results,
    *,
    feature: int = 0,
    rule: str | None = None,
    x: str | None = None,
    colorbar: bool = True,
    sweep: Sweep | None = None,
    ax: Axes | None = None,
    **fixed: float,
) -> Axes:
    """Draw by how much capacities differ from the closed-form optimum, on a logarithmic scale, with the mean, the
    largest and the share of cells above 0.05.

    Cells in which the optimum is not unique are left blank. The arguments are those of `diagram`. Raises ValueError
    where there is no closed form.
    """
    check(ax, results, colorbar=colorbar)
    found, plane = distances.from_theory(results, rule, feature, sweep), slices.plane(results, x, fixed)
    with on(ax) as ax:
        label = rf"$|C_{{{feature}}} - C_{{{feature}}}^\mathrm{{theory}}|$"
        failed, _ = cells.states(results.select(default_rule(results, rule)))
        _difference(ax, plane, found.cells, failed, label, colorbar)
    return ax


def compare(
    a: Results,
    b: Results,
    *,
    feature: int = 0,
    rule: str | None = None,
    x: str | None = None,
    colorbar: bool = True,
    ax: Axes | None = None,
    **fixed: float,
) -> Axes:
    """Draw by how much the capacities of two results of one grid differ, on a logarithmic scale, with statistics as for
    `difference`.

    Cells that failed in either are hatched. The arguments are those of `diagram`. Raises ValueError where the
    grids or the numbers of features differ.
    """
    check(ax, a, name="a", colorbar=colorbar)
    check(ax, b, name="b")
    found, plane = distances.between(a, b, rule, feature), slices.plane(a, x, fixed)
    with on(ax) as ax:
        label = rf"$|C_{{{feature}}} - C_{{{feature}}}'|$"
        failed = np.logical_or(*(cells.states(each.select(default_rule(each, rule)))[0] for each in (a, b)))
        _difference(ax, plane, found.cells, failed, label, colorbar)
    return ax


def _difference(ax: Axes, plane: Plane, value: np.ndarray, failed: np.ndarray, label: str, colorbar: bool) -> None:
    """Colour distances [*axes], and write the statistics of those that are drawn."""
    found = Quantity(value, label, ERROR_MAP, ERROR_NORM, 10.0 ** np.arange(-3, 1))
    _draw(ax, plane, found, (failed, None), colorbar, extend="min")
    seen = plane.of(value)
    if np.isfinite(seen).any():
        statistics(ax, distances.distance(seen, np.zeros_like(seen)))


def statistics(ax: Axes, found: distances.Distance) -> None:
    """Write the statistics of a distance in the upper left corner: of the paper's diagrams that is where dense,
    unimportant features have capacity 0, which nothing contests."""
    box = {"boxstyle": "square,pad=0.25", "facecolor": "white", "edgecolor": "0.5", "linewidth": 0.4}
    place: dict[str, Any] = {"transform": ax.transAxes, "ha": "left", "va": "top", "bbox": box}
    ax.text(0.03, 0.97, found.words, size=mpl.rcParams["legend.fontsize"], **place)


def blocks(
    results: Results,
    show: str = "largest",
    *,
    rule: str | None = None,
    x: str | None = None,
    colorbar: bool = True,
    ax: Axes | None = None,
    **fixed: float,
) -> Axes:
    """Draw the features in the "largest" block of every cell's embedding, or the "number" of its blocks (section 4.6),
    and hatch in white where the embedding is not efficient, so that Theorem 2 does not hold and blocks are approximate.

    A block is one of features whose cosines are above what the cell's certificate leaves open, or else 0.05, among
    those with 0.03 < C < 0.97; a feature of higher capacity is a block of one, one of lower capacity is in none. The
    other arguments are those of `diagram`. Raises ValueError for a rule that averages.
    """
    check(ax, results, colorbar=colorbar)
    one_of("show", show, ("largest", "number"))
    rule = default_rule(results, rule)
    found, plane = quantity(results, "blocks" if show == "number" else show, rule, 0), slices.plane(results, x, fixed)
    selection = results.select(rule)
    states = cells.states(selection)
    with on(ax) as ax:
        _draw(ax, plane, found, states, colorbar)
        inefficient = ~shapes.is_efficient(selection) & ~states[0]
        cells.region(ax, plane.x, plane.y, plane.of(inefficient), "/" * 4, "white")
    return ax
