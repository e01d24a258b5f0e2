"""Axes that decide shapes, such as numbers of features, neurons, samples or steps: each value is another program.

A sweep with such axes is a sweep for each of their values, and these are trained one after the other.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp

from polyjax.expressions import as_whole
from polyjax.parts import Values, is_function, parameters
from polyjax.toy.features import Features
from polyjax.toy.model import Model, one_model

ALWAYS = ("batch", "steps")  # fields of a sweep that are whole numbers, or functions of axes


def size_axes(parts: Mapping[str, Any], axes: Values) -> tuple[str, ...]:
    """Return the axes that decide shapes: those of which `batch` or `steps` is a function, and those of whole numbers
    on which another part depends in a way that JAX cannot trace."""

    def decides(axis: str) -> bool:
        whole = all(value == int(value) for value in axes[axis])
        fields = [field for field, part in parts.items() if is_function(part) and axis in parameters(part)]
        return any(field in ALWAYS or (whole and not _is_traced(parts[field], axis, axes)) for field in fields)

    return tuple(axis for axis in axes if decides(axis))


def _is_traced(part: Callable[..., Any], axis: str, axes: Values) -> bool:
    """Say whether a part of a sweep can be traced with a number of an axis that is not known yet."""
    others = {name: as_whole(axes[name][0]) for name in parameters(part) if name in axes and name != axis}
    try:
        jax.eval_shape(lambda value: computed(part(**others, **{axis: value})), jnp.float32(0))
    except Exception:  # whatever a function of the user's raises
        return False
    return True


def computed(part: Any) -> Any:
    """Return what JAX computes with a part of a sweep."""
    if isinstance(part, Model):
        x = jnp.zeros(part.n_features)
        params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), one_model(part))
        return part.init(jax.random.key(0)), part.loss(params, x, x)
    return (part.importance, part.density) if isinstance(part, Features) else ()


def combinations(sizes: tuple[str, ...], axes: Values) -> list[dict[str, float]]:
    """Return all values of some axes together, the last axis changing fastest."""
    return [dict(zip(sizes, map(as_whole, values), strict=True)) for values in product(*(axes[name] for name in sizes))]


def at_sizes(part: Any, values: Mapping[str, float], axes: Values) -> Any:
    """Return a part of a sweep at some sizes: a function of the other axes that it depends on, or what it is."""
    if not is_function(part):
        return part
    taken = {name: value for name, value in values.items() if name in parameters(part)}
    others = [name for name in parameters(part) if name in axes and name not in values]
    if hasattr(part, "fixed"):  # which can then still be told (see `described`)
        return part.fixed(taken)
    return partial(part, **taken) if others else part(**taken)
