"""The shapes in signatures, checked: jaxtyping and beartype compare what public functions are given and return with
their annotations, in the tests alone."""

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import isfunction, signature
from types import ModuleType
from typing import Any, get_origin

import numpy as np
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

import polyjax
from polyjax import embedding, theory
from polyjax.embedding import capacity, geometry
from polyjax.theory import explicit, pair, quadratic

SWITCH = {"on": True}  # off where a test gives what no signature promises to take
MODULES = (theory, quadratic, explicit, pair, embedding, capacity, geometry)


def check_all() -> None:
    """Check the public functions of `theory` and `embedding`, wherever tests take them from. What a model's methods
    return is checked by the library (`toy.contract`)."""
    public = {getattr(module, name) for module in (theory, embedding) for name in module.__all__}
    found = {f: checked(f) for f in public if isfunction(f)}
    for module in (polyjax, *MODULES):
        replace(module, found)


def replace(module: ModuleType, found: dict[Callable[..., Any], Callable[..., Any]]) -> None:
    for name, value in vars(module).copy().items():
        if isfunction(value) and value in found:
            setattr(module, name, found[value])


def checked(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with its shapes checked. What it refuses itself, it still refuses in its own words."""
    strict = jaxtyped(f, typechecker=beartype)
    sequences = {name for name, annotation in f.__annotations__.items() if get_origin(annotation) is Sequence}

    @wraps(f)
    def in_shape(*arguments: Any, **named: Any) -> Any:
        if not SWITCH["on"]:
            return f(*arguments, **named)
        try:
            given = signature(f).bind(*arguments, **named)
            given.arguments |= {n: as_array(a) for n, a in given.arguments.items() if n not in sequences}
            return strict(*given.args, **given.kwargs)
        except TypeCheckError:
            f(*arguments, **named)
            raise

    return in_shape


def as_array(value: Any) -> Any:
    """Return a list of numbers as the array that polyjax makes of it, which has a shape, and an array without axes as
    the number that it is."""
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iuf":
        return value.item()
    try:
        a = np.asarray(value) if type(value) in (list, tuple) else value
    except Exception:  # rows of several lengths, or what JAX traces
        return value
    return a if getattr(a, "dtype", np.dtype(object)).kind in "iuf" else value
