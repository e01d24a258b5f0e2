"""The parts of a sweep: values, or functions of the axes that their parameters name."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polyjax.checks import require
from polyjax.engine.cells import OfAxes
from polyjax.toy.model import Model

MOST_AXES = 4

Coordinates = Mapping[str, tuple[float, ...]]  # the values of every axis


def axis(name: str, values: Any) -> tuple[float, ...]:
    """Return the values of an axis. Raises ValueError unless they are numbers, finite, at least one."""
    a = np.asarray(values)
    require(a.ndim == 1 and a.size >= 1, name, "be one-dimensional and hold at least one value", values)
    require(a.dtype.kind in "iuf", name, "hold numbers", values)
    return tuple(a.astype(np.float64).tolist())


def named_axes(axes: Any) -> dict[str, tuple[float, ...]]:
    """Return axes by name. Raises ValueError unless they are values by name."""
    good = isinstance(axes, Mapping) and all(isinstance(name, str) and name.isidentifier() for name in axes)
    require(good, "axes", 'be values by name, such as {"density": [0.1, 0.2]}', axes)
    return {name: axis(name, values) for name, values in axes.items()}


def part(name: str, value: Any, coordinates: Coordinates) -> Any:
    """Return a part of a sweep: the value as it is, or a function of axes as `OfAxes`.

    Raises ValueError for a function with a parameter that is no axis and has no default.
    """
    if not callable(value) or isinstance(value, type | Model):
        return value
    parameters = inspect.signature(value).parameters.values()
    names = tuple(p.name for p in parameters if p.name in coordinates)
    others = [p.name for p in parameters if p.name not in coordinates and p.default is p.empty]
    if others:
        axes = ", ".join(coordinates) or "none"
        raise ValueError(f"{name} must be a function of axes ({axes}), but has the parameter {others[0]}")
    return OfAxes(value, names, tuple(_examples(coordinates[name]) for name in names))


def check_taken(coordinates: Coordinates, taken: Sequence[str]) -> None:
    """Raise ValueError for an axis that no part of the sweep is a function of, or for too many axes."""
    require(1 <= len(coordinates) <= MOST_AXES, "axes", f"be 1 to {MOST_AXES}", len(coordinates))
    for name in coordinates:
        must = "hold names that features, model or optimizer have as a parameter"
        require(name in taken, "axes", must, name)


def _examples(values: tuple[float, ...]) -> tuple[float, ...]:
    return values[0], values[len(values) // 2], values[-1]
