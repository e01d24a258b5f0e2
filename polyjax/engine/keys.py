"""The random keys of a sweep."""

from typing import NamedTuple

import jax
from jax import Array


class Keys(NamedTuple):
    """One key for each use of random numbers in a sweep."""

    start: Array
    draw: Array
    evaluate: Array
    polish: Array


def keys(seed: int) -> Keys:
    """Return the keys of the sweep with this seed."""
    key = jax.random.key(seed)
    start, draw, evaluate = jax.random.split(key, 3)
    return Keys(start, draw, evaluate, jax.random.fold_in(key, 3))
