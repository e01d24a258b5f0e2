"""The critical point of the quadratic Redwood model, k = 3 and V = 1: scaling functions of its neighbourhood. The paper
leaves open whether there are critical exponents (section 3.6); the derivation is ours.

One feature has importance V = 1 + |e| x, with e = k - 3, the N - 1 others have 1, and 1 <= D < N. To first order in e
the least loss is L = 2 (N - D) + e Phi, where Phi is the least value, for e < 0 the greatest, over capacities of

    sum_i (1 - C_i)^2 +- 4 x (1 - C_0),    sum_i C_i = D, 0 <= C_i <= 1,

with the sign of e. For e > 0 that is a parabola in C_0 between hard walls. Capacity and Phi depend on V through x
alone, and are piecewise linear and quadratic in it. docs/beyond.md states the exponents.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from polyjax.checks import floating, require


def critical_capacity(scaled: ArrayLike, n_features: int, n_neurons: int) -> jax.Array:
    """Return C_0 = clip(D/N + 2 (N-1)/N x, 0, 1), the limit of the optimal capacity for k -> 3 from above.

    Takes x = (V - 1) / (k - 3), any real numbers [...]; 1 <= D < N. Below k = 3 the limit is the step from 0 to 1 at x
    = 0. Raises ValueError for other sizes.
    """
    _check(n_features, n_neurons)
    x = floating("scaled", scaled)
    return jnp.clip((n_neurons + 2 * (n_features - 1) * x) / n_features, 0, 1)


def critical_loss(scaled: ArrayLike, n_features: int, n_neurons: int) -> jax.Array:
    """Return Phi, [...], the limit of (L - 2 (N - D)) / (k - 3) for k -> 3 from above; arguments as above.

    Its slope is 4 (1 - C_0): C_0 is conjugate to V as a magnetisation is to a field.
    """
    C = critical_capacity(scaled, n_features, n_neurons)
    x, others = floating("scaled", scaled), n_features - 1
    return (1 - C) ** 2 + others * (1 - (n_neurons - C) / others) ** 2 + 4 * x * (1 - C)


def critical_gain(scaled: ArrayLike, n_features: int, n_neurons: int) -> jax.Array:
    """Return 2 + 4 x - 2 C_0, [...], the limit of (-dL/dC_0 - 2) / (k - 3) for k -> 3 from above; arguments as above.

    It is continuous. Below k = 3, with C_0 the step from 0 to 1 and x = (V - 1) / (k - 3), it jumps by 2 (3 - k).
    """
    return 2 + 4 * floating("scaled", scaled) - 2 * critical_capacity(scaled, n_features, n_neurons)


def _check(n_features: int, n_neurons: int) -> None:
    require(
        isinstance(n_features, int) and n_features >= 2, "n_features", "be a whole number of at least 2", n_features
    )
    right = isinstance(n_neurons, int) and 1 <= n_neurons < n_features
    require(right, "n_neurons", f"be a whole number from 1 to {n_features - 1}", n_neurons)
