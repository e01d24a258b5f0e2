"""What of a grid is drawn: two of its axes, one, or a cell; the others are fixed at the value that is nearest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from polyjax.checks import known, number, one_of, require
from polyjax.draw.scales import Scale

if TYPE_CHECKING:
    from polyjax.results import Results
    from polyjax.selection import Selection

Index = tuple[int | slice, ...]


class Cut(NamedTuple):
    """A part of the grid: an index of its axes, and the values of those that are fixed."""

    place: Index
    fixed: dict[str, float]

    @property
    def words(self) -> str:
        """Such as "importance = 1, rate = 0.01"; empty where no axis is fixed."""
        return ", ".join(f"{name.replace('_', ' ')} = {value:.3g}" for name, value in self.fixed.items())


class Plane(NamedTuple):
    """Two axes of a grid, the others fixed."""

    x: Scale
    y: Scale
    cut: Cut
    swapped: bool  # x comes before y in the arrays

    def of(self, a: np.ndarray) -> np.ndarray:
        """Return the part of an array [*axes, ...] to be drawn, [y, x, ...], in ascending order of both."""
        part = a[self.cut.place]
        part = np.swapaxes(part, 0, 1) if self.swapped else part
        return part[self.y.order][:, self.x.order]


def cut(results: Results, free: tuple[str, ...], fixed: Mapping[str, float]) -> Cut:
    """Return the part of the grid in which some axes are free, and all others, unless of one value, are fixed."""
    index: list[int | slice] = []
    found: dict[str, float] = {}
    for name, values in results.axes.items():
        if name in free:
            index.append(slice(None))
            continue
        place = int(np.argmin(abs(values - fixed[name]))) if name in fixed else 0
        index.append(place)
        found[name] = float(values[place])
    return Cut(tuple(index), found)


def plane(results: Results, x: str | None, fixed: Mapping[str, float]) -> Plane:
    """Return the two axes that are not fixed; `x` says which is drawn horizontally, else it is the later one. Raises
    ValueError unless two are left."""
    _check(results, fixed)
    free = _two_free(results, fixed)
    x = free[-1] if x is None else x
    one_of("x", x, free)
    y = free[0] if x == free[1] else free[1]
    across, upright = (Scale(name, results.axes[name]) for name in (x, y))
    return Plane(across, upright, cut(results, free, fixed), swapped=x == free[0])


def _two_free(results: Results, fixed: Mapping[str, float]) -> tuple[str, ...]:
    """Return the axes that are not fixed, without those of one value where there are others."""
    free = [name for name in results.axes if name not in fixed]
    for name in [name for name in free if len(results.axes[name]) == 1]:
        if len(free) > 2:
            free.remove(name)
    if len(free) != 2:
        told = f"fix {len(free) - 2} of them by keyword" if len(free) > 2 else "one is left: draw a cut"
        raise ValueError(f"a diagram has two axes, but of {', '.join(results.axes)} {len(free)} are not fixed: {told}")
    return tuple(free)


def line(results: Results, axis: str, fixed: Mapping[str, float]) -> Cut:
    """Return the part of the grid along one axis. Raises ValueError unless all others are fixed or have one value."""
    _check(results, fixed)
    one_of("axis", axis, results.axes)
    require(axis not in fixed, axis, "not be fixed, since the curves are drawn along it", fixed.get(axis))
    _require_all(results, (axis,), fixed)
    return cut(results, (axis,), fixed)


def cell(results: Results, coordinates: Mapping[str, float]) -> Cut:
    """Return the cell nearest to the coordinates. Raises ValueError unless every axis is given or has one value."""
    _check(results, coordinates)
    _require_all(results, (), coordinates)
    return cut(results, (), coordinates)


def _check(results: Results, fixed: Mapping[str, float]) -> None:
    known(fixed, [*results.axes], {}, "the grid of these results")
    for name, value in fixed.items():
        number(name, value)


def _require_all(results: Results, free: tuple[str, ...], fixed: Mapping[str, float]) -> None:
    for name, values in results.axes.items():
        must = f"be given: one of its {len(values)} values from {min(values):.3g} to {max(values):.3g}"
        require(name in free or name in fixed or len(values) == 1, name, must, None)


def default_rule(results: Results, rule: str | None) -> str:
    """Return the rule by which restarts are combined: `refined` where there is such a diagram, else `best`."""
    return ("best" if results.refined is None else "refined") if rule is None else rule


def embeddings(selection: Selection) -> np.ndarray:
    """Return the embeddings W [*axes, D, N] of a selection; where models differ in size, features and neurons that one
    has not are columns and rows of zeros. Raises ValueError where a mean over restarts has none."""
    if selection.params is None:
        raise ValueError("rule must choose one restart, best or refined, since a mean has no embeddings")
    if not selection.params:
        raise ValueError("results must have embeddings, which snapshots have by Sweep(snapshot_weights=True)")
    assert selection.embedding is not None
    return filled(selection.embedding)


def filled(W: np.ndarray) -> np.ndarray:
    """Return W [..., D, N] with zeros for the rows and columns that are NaN, unless all of them are."""
    missing = np.isnan(W)
    padding = missing.all(-1, keepdims=True) | missing.all(-2, keepdims=True)
    return np.where(padding & ~missing.all((-2, -1), keepdims=True), 0, W)
