"""The axes on which samples depend, and those on which anything else does, by tracing the features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from polyjax.engine.cells import NUMBER, Coordinates, OfAxes, at, names_of
from polyjax.engine.unroll import dependent, variables

if TYPE_CHECKING:
    from polyjax.toy.features import Features
    from polyjax.toy.model import Model


@lru_cache(maxsize=64)
def row_axes(features: Features | OfAxes, model: Model) -> tuple[str, ...]:
    """Return the axes on which the samples depend."""
    u = jnp.full((1, model.n_features), 0.5)

    def sampled(coordinates: Coordinates) -> Any:
        found = at(features, coordinates).of(model.n_features, model.distribution)
        return found.densities(model.n_features), found.active_value(u), found.mask(u)

    return _of_result(sampled, names_of(features))


@lru_cache(maxsize=64)
def lane_axes(features: Features | OfAxes, *others: Any) -> tuple[str, ...]:
    """Return the axes on which importances depend, and those of other parts of a sweep."""
    of_importance = _of_result(lambda coordinates: at(features, coordinates).importance, names_of(features))
    return tuple(dict.fromkeys([*of_importance, *(name for part in others for name in names_of(part))]))


def _of_result(f: Callable[[Coordinates], Any], names: Sequence[str]) -> tuple[str, ...]:
    """Return on which coordinates the result of `f` depends, by its program."""
    program = jax.make_jaxpr(f)(dict.fromkeys(names, NUMBER)).jaxpr
    results = variables(program.outvars)
    reached = (dependent(program.eqns, [v]) & results for v in program.invars)
    return tuple(name for name, found in zip(sorted(names), reached, strict=True) if found)
