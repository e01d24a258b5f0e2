"""A weighted batch of feature vectors of ONE cell: sum_i weight_i g(x_i) estimates E[g(x)] without bias.

A sampler turns uniform numbers into a batch, so that the same code serves training and evaluation. Axis letters: B
samples, M masks, N features. The density is the probability p that a feature is non-zero.

- `enumerated`: every one of the 2^N activity masks, weighted by its probability; only the values vary. For small N.
- `stratified`: the number of active features is stratified and size-biased. For large N, where features are alike.
- `iid`: independent samples of equal weight, the literature's choice. At density 0.01 nearly all of them are zero.

The uniform numbers of the first two are quasi-random: every number is uniform, so that every batch is unbiased, and
successive steps of training fill the unit interval evenly, so that their errors cancel instead of adding up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import lgamma
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from polyjax.checks import one_of, require
from polyjax.toy.distributions import Batch

if TYPE_CHECKING:
    from polyjax.toy.features import Features


@dataclass(frozen=True)
class Sampler:
    """`sampler(u, features)` maps uniform numbers u in (0, 1), of shape `sampler.shape`, to a `Batch`.

    Raises ValueError for an unknown name and for a batch that is too small.
    """

    name: str
    n_features: int  # N
    batch: int  # B

    def __post_init__(self) -> None:
        one_of("sampler", self.name, SAMPLERS)
        least = {"enumerated": 2**self.n_features, "stratified": 2, "iid": 1}[self.name]
        require(self.batch >= least, "batch", f"be at least {least} for the {self.name} sampler", self.batch)

    def check(self, features: Features) -> None:
        """Raise ValueError unless the sampler can draw these features."""
        alike = self.name != "stratified" or features.are_alike
        require(alike, "sampler", "be enumerated or iid where features are not alike and independent", self.name)
        known = self.name != "enumerated" or features.have_few_masks(self.n_features)
        require(known, "sampler", "be iid where the probabilities of the masks are not known", self.name)

    @property
    def shape(self) -> tuple[int, int]:
        """[B, uniform numbers a sample]"""
        return self.batch, self.n_features * (1 if self.name == "enumerated" else 2)

    def uniforms(self, key: Array, step: Array) -> Array:
        """Return the numbers of one training step, in (0, 1) and of `shape`."""
        if self.name == "iid":
            return jax.random.uniform(jax.random.fold_in(key, step), self.shape, minval=2.0**-25)
        return kronecker(jax.random.bits(key, self.shape), step)

    def __call__(self, u: Array, features: Features) -> Batch:
        n = self.n_features
        active, weight = SAMPLERS[self.name](u, features, n)
        return Batch(jnp.where(active, features.active_value(u[:, -n:]), 0), weight)


def default_sampler(features: Features, n_features: int, batch: int) -> str:
    """Return `enumerated` where the batch has room for every mask, else `stratified`, or `iid` where features are not
    alike."""
    if 2**n_features <= batch and features.have_few_masks(n_features):
        return "enumerated"
    return "stratified" if features.are_alike else "iid"


def sequence(features: Features, n_features: int, shift: Array, index: Array) -> Batch:
    """Return a batch from points `index` [B] of one Kronecker sequence with shift [2 N], where masks are not
    enumerated."""
    sampler = Sampler("stratified" if features.are_alike else "iid", n_features, len(index))
    return sampler(kronecker(shift[None], index[:, None]), features)


def kronecker(shift: Array, index: Array) -> Array:
    """Return point `index` of the Kronecker sequence (shift + index alpha) mod 1 with alpha_d = sqrt of the d-th prime.

    shift: uint32 [..., d], in units of 2^-32; index: an integer, broadcast against shift. Returns numbers in (0, 1).
    """
    step = np.floor(np.sqrt(_primes(shift.shape[-1])) % 1 * 2.0**32).astype(np.uint32)
    alpha = jnp.broadcast_to(step, jnp.broadcast_shapes(shift.shape, jnp.shape(index)))
    bits = shift + jnp.asarray(index).astype(jnp.uint32) * alpha
    return ((bits >> 9).astype(jnp.float32) + 0.5) * 2.0**-23  # 24 bits in all, as many as float32 holds


def _primes(n: int) -> list[int]:
    """Return the first n primes."""
    primes: list[int] = []
    candidate = 2
    while len(primes) < n:
        if all(candidate % p for p in primes):
            primes.append(candidate)
        candidate += 1
    return primes


def masks(n: int) -> np.ndarray:
    """[2^N, N] bool: which features are active in each activity mask."""
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(bool)


def allocate(share: Array, samples: int) -> Array:
    """[samples]: which of the masks each sample goes to, so that the counts are in proportion to their shares."""
    total = jnp.cumsum(share)
    return jnp.searchsorted(total[:-1], total[-1] * (jnp.arange(samples) + 0.5) / max(samples, 1), side="right")


def _enumerated(u: Array, features: Features, n: int) -> tuple[Array, Array]:
    """Draw by enumeration: half of the batch goes to all masks alike, and to each at least once; the rest to mask m in
    proportion to |m| P(m), where more is active. A mask's probability is divided among its samples."""
    probability, active = features.mask_probability(masks(n)), masks(n).sum(1)
    copies = max(1, len(u) // 2 // len(active))
    rest = len(u) - copies * len(active)
    more = allocate(probability * active, rest)
    chosen = jnp.concatenate([jnp.repeat(jnp.arange(len(active)), copies), more])
    samples = jnp.full(len(active), float(copies)).at[more].add(1)
    return jnp.asarray(masks(n))[chosen], (probability / samples)[chosen]


def _stratified(u: Array, features: Features, n: int) -> tuple[Array, Array]:
    """One empty sample, and B - 1 with k >= 1 active features, k drawn with probability proportional to
    k Binomial(N, p)(k), so weighted by N p / k: where more is active, more is learnt. That size-biased k is
    1 + Binomial(N - 1, p), whose distribution function is inverted at stratified numbers."""
    rest, density = len(u) - 1, jnp.asarray(features.density, jnp.float32)
    level = (jnp.arange(rest) + u[0, 0]) / rest
    k = 1 + jnp.searchsorted(_binomial_cdf(n - 1, density)[:-1], level, side="right")
    count = jnp.concatenate([jnp.zeros(1, k.dtype), k])
    weight = jnp.concatenate([jnp.reshape((1 - density) ** n, 1), n * density / (k * rest)])
    return _chosen(u[:, :n], count), weight


def _chosen(u: Array, count: Array) -> Array:
    """[B, N]: `count` [B] of N features, any set of them as probable as any other, from uniform numbers [B, N].

    One feature after the other is chosen with the probability (how many are wanted yet) / (how many are left), which
    is algorithm S of Knuth (The Art of Computer Programming, 3.4.2), many samples at a time."""
    n = u.shape[1]

    def next_feature(wanted: Array, this: tuple[Array, Array]) -> tuple[Array, Array]:
        u, left = this
        chosen = (u * left < wanted) | (wanted >= left)  # also where u * left is rounded to `left`
        return wanted - chosen, chosen

    return lax.scan(next_feature, count, (u.T, n - jnp.arange(n)))[1].T


def _iid(u: Array, features: Features, n: int) -> tuple[Array, Array]:
    return features.mask(u[:, :n]), jnp.full(len(u), 1 / len(u))


def _binomial_cdf(n: int, p: Array) -> Array:
    """[n + 1]: P(K <= k) for K ~ Binomial(n, p), p in (0, 1]."""
    k = np.arange(n + 1)
    log_choose = np.array([lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) for i in k])  # in double precision
    # In logarithms, as the factors leave the range of float32; bounded, as training knows no infinity.
    log_p, log_q = jnp.log(p), jnp.log(jnp.maximum(1 - p, 1e-30))
    return jnp.cumsum(jnp.exp(log_choose + k * log_p + (n - k) * log_q))


SAMPLERS: dict[str, Callable[[Array, Features, int], tuple[Array, Array]]] = {
    "enumerated": _enumerated,
    "stratified": _stratified,
    "iid": _iid,
}
