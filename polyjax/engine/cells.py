"""What a cell is at its coordinates: each part of a sweep is a value, or a function of the axes that its parameters
name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

Coordinates = Mapping[str, Any]  # by axis, arrays of one shape: of the axes that matter
NUMBER = jax.ShapeDtypeStruct((), jnp.float32)  # as tracing sees a coordinate


@dataclass(frozen=True)
class OfAxes:
    """A part of a sweep that is a function of axes."""

    function: Callable[..., Any]
    names: tuple[str, ...]
    # Of each axis the first, a middle and the last value.
    examples: tuple[tuple[float, ...], ...] = field(compare=False)

    def at(self, coordinates: Coordinates) -> Any:
        """Return the part at a cell's coordinates; those that are left out must not matter."""
        values = zip(self.names, self.examples, strict=True)
        return self.function(**{name: coordinates.get(name, some[0]) for name, some in values})


def at(part: Any, coordinates: Coordinates) -> Any:
    """Return a part of a sweep, a value or `OfAxes`, at a cell's coordinates."""
    return part.at(coordinates) if isinstance(part, OfAxes) else part


def names_of(part: Any) -> tuple[str, ...]:
    """Return the axes that a part of a sweep is a function of."""
    return part.names if isinstance(part, OfAxes) else ()


@lru_cache(maxsize=64)
def example(part: Any) -> Any:
    """Return a part of a sweep in one cell, for what is the same in all, such as sizes."""
    return at(part, {})


def n_rows(params: Any) -> int:
    """Return the number P of rows of parameters [P, L, ...]."""
    return len(jax.tree.leaves(params)[0])


def over_rows(f: Callable[[Coordinates], Any], row: Coordinates, rows: int) -> Any:
    """Return `f` of P rows, from their coordinates [P]; without coordinates, rows are all the same."""
    return jax.vmap(f)(row) if row else jax.tree.map(lambda a: jnp.broadcast_to(a, (rows, *jnp.shape(a))), f(row))
