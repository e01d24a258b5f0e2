"""The random keys of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

if TYPE_CHECKING:
    from polyjax.engine.cells import Coordinates


class Keys(NamedTuple):
    """One key for each use of random numbers in a sweep."""

    start: Array
    draw: Array
    evaluate: Array
    polish: Array


def keys(seed: int) -> Keys:
    """Return the keys of the sweep with this seed, below 2^32: of one generator, whatever JAX's settings name another
    or add to seeds. Raises ValueError where a setting would change its numbers."""
    if not jax.config.jax_threefry_partitionable:  # type: ignore[attr-defined]
        raise ValueError("JAX_THREEFRY_PARTITIONABLE must be true, since random numbers depend on it, but is false")
    key = jax.random.wrap_key_data(jnp.array([0, seed], jnp.uint32), impl="threefry2x32")
    start, draw, evaluate = jax.random.split(key, 3)
    return Keys(start, draw, evaluate, jax.random.fold_in(key, 3))


def of_coordinates(key: Array, coordinates: Coordinates) -> Array:
    """Return a key for coordinates, made from their values in the order of their names."""
    for name in sorted(coordinates):
        bits = lax.bitcast_convert_type(jnp.asarray(coordinates[name], jnp.float32), jnp.uint32)
        key = jax.random.fold_in(key, bits)
    return key
