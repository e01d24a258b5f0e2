"""The values of one feature, x = s z with s ~ Bernoulli(p) and z from a base distribution (appendix D).

A base is known by its quantile function, which turns uniform numbers, random or quasi-random, into values, and by its
moments, which give the kurtosis of the sparse feature in closed form. p is the `density`, the probability that the
feature is non-zero; sparsity is 1 - p.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


class Batch(NamedTuple):
    """Weighted feature vectors: sum_i weight_i g(x_i) estimates E[g(x)]."""

    x: Array  # [B, N]
    weight: Array  # [B], >= 0


class Moments(NamedTuple):
    """Cumulants of a sparse feature x = s z: its mean, and its second to fourth cumulants, of any shape."""

    mean: Array
    variance: Array
    third: Array
    fourth: Array  # E[(x - E x)^4] - 3 Var[x]^2


@dataclass(frozen=True)
class Distribution:
    """Bernoulli(p) times a base."""

    name: str
    quantile: Callable[[Array], Array]  # u in (0, 1) -> a value of the base
    moments: tuple[float, float, float, float]  # E[z], E[z^2], E[z^3], E[z^4] of the base
    unit_variance: bool  # the base is scaled by 1 / sqrt(p), so that the sparse feature has variance 1

    @property
    def is_symmetric(self) -> bool:
        """Say whether the base has as much below 0 as above, as far as its odd moments tell."""
        odd = self.moments[0], self.moments[2]
        return all(not isinstance(m, jax.core.Tracer) and m == 0 for m in odd)

    def active_value(self, u: Array, density: ArrayLike) -> Array:
        """Return the value of an active feature at uniform number u in (0, 1)."""
        z = self.quantile(u)
        return z / jnp.sqrt(density) if self.unit_variance else z

    def sparse_moments(self, density: Array) -> Moments:
        """Return the cumulants of the sparse feature at a density in (0, 1]."""
        return self._cumulants(density, density)

    def active_moments(self, density: Array) -> Moments:
        """Return the cumulants of the feature where it is active."""
        return self._cumulants(density, jnp.ones_like(density))

    def _cumulants(self, density: Array, probability: Array) -> Moments:
        """Return the cumulants of a feature that is active with this probability."""
        scale = 1 / jnp.sqrt(density) if self.unit_variance else jnp.ones_like(density)
        m1, m2, m3, m4 = (probability * scale**order * m for order, m in enumerate(self.moments, 1))
        variance = m2 - m1**2
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4 - 3 * variance**2
        return Moments(m1, variance, m3 - 3 * m1 * m2 + 2 * m1**3, fourth)

    def kurtosis(self, density: ArrayLike) -> Array:
        """Return E[(x - E x)^4] / Var[x]^2; E[z^4] / (p E[z^2]^2) where E[z] = 0 (eq. 59). NaN for a density outside
        (0, 1]."""
        density = jnp.asarray(density)
        p = jnp.where((density > 0) & (density <= 1), density, jnp.nan)
        m1, m2, m3, m4 = (p * m for m in self.moments)
        variance = m2 - m1**2
        return (m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4) / variance**2


UNIFORM_SIGNED = Distribution(
    "uniform_signed", lambda u: sqrt(3) * (2 * u - 1), (0, 1, 0, 9 / 5), unit_variance=True
)  # U(-a, a) with a = sqrt(3 / p): the features of the Redwood model (D.2)
UNIFORM_POSITIVE = Distribution(
    "uniform_positive", lambda u: u, (1 / 2, 1 / 3, 1 / 4, 1 / 5), unit_variance=False
)  # U(0, 1): the features of the Anthropic model (Elhage et al. 2022)
NORMAL = Distribution("normal", jax.scipy.special.ndtri, (0, 1, 0, 3), unit_variance=True)
RADEMACHER = Distribution("rademacher", lambda u: jnp.where(u < 0.5, -1.0, 1.0), (0, 1, 0, 1), unit_variance=True)

ALL = (UNIFORM_SIGNED, UNIFORM_POSITIVE, NORMAL, RADEMACHER)


def by_name(name: str) -> Distribution:
    """Return the distribution of that name. Raises ValueError for an unknown one."""
    names = [d.name for d in ALL]
    if not isinstance(name, str) or name not in names:
        told = repr(name) if isinstance(name, str) else f"of type {type(name).__name__}"
        raise ValueError(f"the name of a distribution must be one of {', '.join(names)}, but is {told}")
    return ALL[names.index(name)]
