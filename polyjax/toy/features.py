"""The features of ONE cell: how important each is, how often it is active and with which others, and its values.

Axis letters: N features, M masks, B samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from polyjax.checks import is_sequence, numbers, require, switch, with_suggestions
from polyjax.toy.activity import INDEPENDENT, Activity, Drawn, Independent, along, each
from polyjax.toy.distributions import Distribution, Moments
from polyjax.toy.laws import one_important

LARGEST_IMPORTANCE = 1e12  # beyond, float32 overflows
MOST_MASKS = 512  # that are gone through one by one


@with_suggestions({"sparsity": "density, which is 1 - sparsity"})
@dataclass(frozen=True, eq=False)
class Features:
    """Features of a cell.

    Raises ValueError, naming the field, for values out of range; of traced values only the shapes are checked.
    """

    density: ArrayLike  # [] or [N], each above 0 and at most 1: the probability that a feature is non-zero
    importance: ArrayLike = 1.0  # [] or [N], each at least 0
    distribution: Distribution | Sequence[Distribution] | None = None  # of all, or one a feature; None: the model's own
    activity: Activity = INDEPENDENT  # which features are active together

    def __post_init__(self) -> None:
        for name in ("density", "importance"):
            value = getattr(self, name)
            if isinstance(value, list | tuple) and any(isinstance(each, jax.core.Tracer) for each in value):
                value = jnp.stack([jnp.asarray(each, jnp.float32) for each in value])
                object.__setattr__(self, name, value)
            must = "be a number, or hold one a feature"
            a = numbers(name, value, must)
            require(a.ndim <= 1 and a.size >= 1, name, must, value)
            if not isinstance(value, int | float | jax.Array):
                object.__setattr__(self, name, a[()])
        p, v = (_concrete(a) for a in (self.density, self.importance))
        require(p is None or ((p > 0) & (p <= 1)), "density", "be above 0 and at most 1", p)
        right = v is None or ((v >= 0) & (v < LARGEST_IMPORTANCE))
        require(right, "importance", "be at least 0 and below 1e12", v)
        given: Any = self.distribution
        several = tuple(given) if is_sequence(given) and len(given) else (given,)
        good = given is None or all(isinstance(one, Distribution) for one in several)
        require(good, "distribution", "be a Distribution, or one a feature", given)
        if given is not None:
            for one in several:
                check_distribution("distribution", one)
            object.__setattr__(self, "distribution", several if is_sequence(given) else given)
        is_law = all(callable(getattr(self.activity, name, None)) for name in ("probability", "mask", "kinds"))
        must = "be a law of activity, such as activity.Exclusive([(0, 1)])"
        require(is_law and not isinstance(self.activity, type), "activity", must, self.activity)

    def _key(self) -> tuple[Any, ...]:
        numbers = (np.asarray(a, np.float64) for a in (self.density, self.importance))
        return *((a.shape, a.tobytes()) for a in numbers), self.distribution, self.activity

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Features) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    @property
    def are_alike(self) -> bool:
        """Say whether all features are independent and of one density and distribution."""
        alike = isinstance(self.activity, Independent) and np.ndim(self.density) == 0
        return alike and not isinstance(self.distribution, tuple)

    def have_few_masks(self, n: int) -> bool:
        """Say whether the activity masks of n features are few, and their probabilities known."""
        return 2**n <= MOST_MASKS and not isinstance(self.activity, Drawn)

    def of(self, n: int, distribution: Distribution) -> Features:
        """Return the same features where a distribution was left out. Raises ValueError unless they are n."""
        for name in ("density", "importance"):
            shape = np.shape(getattr(self, name))
            require(shape in ((), (n,)), name, f"be a number, or hold {n}, one a feature", shape)
        if isinstance(self.distribution, tuple):
            must = f"be one Distribution, or {n}, one a feature"
            require(len(self.distribution) == n, "distribution", must, len(self.distribution))
        require(len(self.activity.kinds(n)) == n, "activity", f"be a law of {n} features", self.activity)
        return self if self.distribution is not None else replace(self, distribution=distribution)

    def importances(self, n: int) -> Array:
        """Return v [N] of n features."""
        return jnp.broadcast_to(jnp.asarray(self.importance, jnp.float32), (n,))

    def densities(self, n: int) -> Array:
        """Return p [N] of n features."""
        return each(self._density, n)

    @property
    def _density(self) -> Array:
        return jnp.asarray(self.density, jnp.float32)

    def active_value(self, u: Array) -> Array:
        """Return the values of active features at uniform numbers u [..., N] in (0, 1)."""
        if isinstance(self.distribution, Distribution):
            return self.distribution.active_value(u, along(self._density, u.shape))
        assert self.distribution is not None
        p = self.densities(len(self.distribution))
        values = (d.active_value(u[..., i], p[i]) for i, d in enumerate(self.distribution))
        return jnp.stack([*values], axis=-1)

    def mask_probability(self, masks: np.ndarray) -> Array:
        """Return the probability [M] of activity masks [M, N]. Only where the activity knows it."""
        found = self.activity.probability(masks, self._density)
        assert found is not None
        return found

    def mask(self, u: Array) -> Array:
        """Return activity masks [B, N] from uniform numbers of that shape."""
        return self.activity.mask(u, self._density)

    def moments(self) -> Moments:
        """Return the cumulants of the features, each [] where they are alike, else [N]."""
        return self._moments(Distribution.sparse_moments)

    def active_moments(self) -> Moments:
        """Return the cumulants of the features where they are active, likewise."""
        return self._moments(Distribution.active_moments)

    def _moments(self, of_feature: Callable[[Distribution, Array], Moments]) -> Moments:
        if isinstance(self.distribution, Distribution):
            return of_feature(self.distribution, self._density)
        assert self.distribution is not None
        p = self.densities(len(self.distribution))
        found = (of_feature(d, p[i]) for i, d in enumerate(self.distribution))
        return jax.tree.map(lambda *a: jnp.stack(a), *found)

    @property
    def distributions(self) -> tuple[Distribution, ...]:
        """The distribution of all features, or that of each."""
        given = self.distribution
        return (given,) if isinstance(given, Distribution) else tuple(given or ())

    @property
    def are_symmetric(self) -> bool:
        """Say whether every feature has as much below 0 as above, as far as odd moments tell."""
        return all(distribution.is_symmetric for distribution in self.distributions)


def check_distribution(name: str, given: Any) -> None:
    """Raise ValueError, naming the field, unless this is a distribution whose fields are what they must be."""
    require(isinstance(given, Distribution), name, "be a Distribution", given)
    require(isinstance(given.name, str), f"{name}.name", "be a word", given.name)
    require(callable(given.quantile), f"{name}.quantile", "be a function of uniform numbers", given.quantile)
    switch(**{f"{name}.unit_variance": given.unit_variance})
    moments = numbers(f"{name}.moments", given.moments, must := "be the means of z, z^2, z^3 and z^4")
    whole = isinstance(given.moments, tuple) and moments.shape == (4,)  # an array could not be hashed
    require(whole, f"{name}.moments", f"{must}, a tuple", given.moments)
    finite = not isinstance(moments, np.ndarray) or np.isfinite(moments)  # nothing is added to a program that is traced
    require(finite, f"{name}.moments", "be finite", given.moments)


@dataclass(frozen=True)
class FirstImportance:
    """The paper's features as a function of two axes: the importance is that of feature 0; all others have importance
    1."""

    n_features: int  # N
    distribution: Distribution | None = None

    def __call__(self, density: ArrayLike, importance: ArrayLike = 1.0) -> Features:
        return Features(density, one_important(self.n_features, importance), self.distribution)


def _concrete(value: ArrayLike) -> Any:
    """Return the numbers of an array whose values are known."""
    return None if isinstance(value, jax.core.Tracer) else np.asarray(value, float)[()]
