"""Laws by which a number differs from feature to feature, by name: of importances, and of densities."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from polyjax.checks import require


def one_important(n: int, first: ArrayLike) -> Array:
    """Return (first, 1, ..., 1) [N]: the paper's importances, where only that of feature 0 varies."""
    return jnp.concatenate([jnp.asarray(first, jnp.float32)[None], jnp.ones(n - 1)])


def geometric(n: int, ratio: ArrayLike) -> Array:
    """Return (1, ratio, ratio^2, ...) [N]."""
    return jnp.asarray(ratio, jnp.float32) ** jnp.arange(n)


def grouped(n: int, sizes: Sequence[int], values: Sequence[ArrayLike]) -> Array:
    """Return the first value as often as the first size says, then the second, and so on, [N]. Raises ValueError
    unless the sizes are whole numbers that add up to N, one a value."""
    whole = all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes)
    require(whole and sum(sizes) == n, "grouped", f"have sizes that add up to the {n} features", [*sizes])
    require(len(sizes) == len(values), "grouped", f"have {len(sizes)} values, one a size", len(values))
    return jnp.concatenate([jnp.full(size, value, jnp.float32) for size, value in zip(sizes, values, strict=True)])
