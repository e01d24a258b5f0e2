"""How far capacities are from theory, or two results from each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from polyjax.checks import place, require
from polyjax.draw.optimum import form_of
from polyjax.draw.slices import default_rule
from polyjax.theory import grid

if TYPE_CHECKING:
    from polyjax.results import Results
    from polyjax.sweep import Sweep

TOLERANCE = 0.05  # cells further apart are counted as off


class Distance(NamedTuple):
    """|C - C'| of a feature, and its statistics over the cells in which both are known."""

    cells: np.ndarray  # [*axes], NaN where unknown
    mean: float
    maximum: float
    share: float  # of cells above TOLERANCE, in [0, 1]
    degenerate: int = 0  # cells left out, in which the optimum is not unique

    @property
    def words(self) -> str:
        return f"mean {self.mean:.2g}\nmax {self.maximum:.2g}\n> {TOLERANCE:g}: {self.share:.2%}"


def distance(capacity: np.ndarray, other: np.ndarray, ties: np.ndarray | None = None) -> Distance:
    """Return the distance of two arrays of capacities; cells of `ties` are left out. Raises ValueError where there is
    no cell to compare."""
    off = abs(capacity - other)
    left_out = np.zeros(off.shape, bool) if ties is None else ties & np.isfinite(off)
    cells = np.where(left_out, np.nan, off)
    valid = cells[np.isfinite(cells)]
    if not valid.size:
        raise ValueError("the results must hold a cell that can be compared, but hold none")
    return Distance(cells, valid.mean(), valid.max(), (valid > TOLERANCE).mean(), int(left_out.sum()))


def from_theory(results: Results, rule: str | None = None, feature: int = 0, sweep: Sweep | None = None) -> Distance:
    """Return the distance of a feature's capacities from the closed-form optimum, where that is unique. The sweep is
    needed where features are the user's. Raises ValueError where there is no closed form."""
    form, feature = form_of(results, sweep), _feature(results, feature)
    expected = grid.capacity(form, results.axes)[..., feature]
    capacity = results.select(default_rule(results, rule)).capacity[..., feature]
    return distance(capacity, expected, grid.ties(form, results.axes)[..., feature])


def _feature(results: Results, feature: int) -> int:
    return place("feature", feature, results.capacity.shape[-1], "features")


def between(a: Results, b: Results, rule: str | None = None, feature: int = 0) -> Distance:
    """Return the distance between two results of one grid. Raises ValueError where their grids or features differ."""
    same = [*a.axes] == [*b.axes] and all(np.array_equal(a.axes[name], b.axes[name]) for name in a.axes)
    require(same, "b", "have the axes of a", ", ".join(b.axes))
    n = a.capacity.shape[-1]
    require(b.capacity.shape[-1] == n, "b", f"have {n} features, as a has", b.capacity.shape[-1])
    feature = _feature(a, feature)
    capacities = (each.select(default_rule(each, rule)).capacity[..., feature] for each in (a, b))
    return distance(*capacities)
