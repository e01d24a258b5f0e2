"""The parts of a sweep: values, or functions of the axes that their parameters name."""

import inspect
from collections.abc import Callable, Collection, Mapping
from keyword import iskeyword
from typing import Any

import jax
import numpy as np

from polyjax.checks import doubles, require
from polyjax.engine.cells import OfAxes, at, names_of
from polyjax.toy.model import Model
from polyjax.tracing import explained

MOST_AXES = 4
TAKEN = ("restart", "neuron", "feature", "parameter")  # other axes of the results

Values = Mapping[str, tuple[float, ...]]  # of every axis, by name


def axis(name: str, values: Any) -> tuple[float, ...]:
    """Return the values of an axis, in the order in which they are given. Raises ValueError unless they are numbers, at
    least one, each of them once."""
    a = doubles(name, values, "hold numbers")
    require(a.ndim == 1 and a.size >= 1, name, "be one-dimensional and hold at least one value", values)
    require(np.unique(a).size == a.size or np.isnan(a).any(), name, "hold every value once", values)
    return tuple(a.tolist())


def named_axes(axes: Any) -> dict[str, tuple[float, ...]]:
    """Return axes by name. Raises ValueError unless they are values by name."""
    good = isinstance(axes, Mapping) and all(isinstance(name, str) and name.isidentifier() for name in axes)
    require(good, "axes", 'be values by name, such as {"density": [0.1, 0.2]}', axes)
    for name in axes:
        require(name not in TAKEN and not iskeyword(name), "axes", f"have other names than {', '.join(TAKEN)}", name)
    found = {name: axis(name, values) for name, values in axes.items()}
    for name, values in found.items():
        largest = np.finfo(np.float32).max
        require(abs(np.asarray(values)) <= largest, name, "be finite in single precision", np.asarray(values))
    return found


def is_function(part: Any) -> bool:
    """Say whether a part of a sweep is a function of axes."""
    return callable(part) and not isinstance(part, type | Model)


def parameters(part: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's parameters. Raises ValueError for functions that do not tell them, as some do
    that are not written in Python."""
    try:
        return tuple(inspect.signature(part).parameters)
    except ValueError as error:
        raise ValueError(f"a function of axes must tell its parameters, but {part!r} does not") from error


def part(name: str, value: Any, axes: Values) -> Any:
    """Return a part of a sweep: the value as it is, or a function of axes as `OfAxes`.

    Raises ValueError for a function with a parameter that is no axis and has no default.
    """
    if not is_function(value):
        return value
    taken = inspect.signature(value).parameters.values()
    names = tuple(p.name for p in taken if p.name in axes)
    others = [p.name for p in taken if p.name not in axes and p.default is p.empty]
    if others:
        words = ", ".join(axes) or "none"
        raise ValueError(f"{name} must be a function of axes ({words}), but has the parameter {others[0]}")
    return OfAxes(value, names, tuple(_examples(axes[name]) for name in names))


def traced(name: str, value: Any, f: Callable[[Any], Any]) -> Any:
    """Return the shapes of `f` of a part at the coordinates of a cell. Raises ValueError in words that name the part
    where JAX cannot trace it."""
    number = jax.ShapeDtypeStruct((), np.float32)
    try:
        return jax.eval_shape(lambda coordinates: f(at(value, coordinates)), dict.fromkeys(names_of(value), number))
    except ValueError:  # which says by itself what is wrong
        raise
    except Exception as error:  # whatever the user's code raises
        raise ValueError(f"{name} must be made of jax.numpy operations, but {explained(error)}") from error


def check_taken(axes: Values, taken: Collection[str]) -> None:
    """Raise ValueError for an axis that no part of the sweep is a function of, or for too many axes."""
    require(len(axes) <= MOST_AXES, "axes", f"be at most {MOST_AXES}", len(axes))
    for name in axes:
        must = "hold names that features, model, optimizer, batch or steps have as a parameter"
        require(name in taken, "axes", must, name)


def _examples(values: tuple[float, ...]) -> tuple[float, ...]:
    return values[0], values[len(values) // 2], values[-1]
