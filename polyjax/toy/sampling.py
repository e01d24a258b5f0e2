"""A weighted batch of feature vectors for ONE density: sum_i weight_i g(x_i) estimates E[g(x)] without bias.

A sampler turns uniform numbers into a batch, so that the same code serves training and evaluation. Axis letters: B
samples, N features. The density is the probability p that a feature is non-zero.

- `enumerated`: every one of the 2^N activity masks, weighted by its probability; only the values vary. For small N.
- `stratified`: the number of active features is stratified and size-biased. For large N.
- `iid`: independent samples of equal weight, the literature's choice. At density 0.01 nearly all of them are zero.

The uniform numbers of the first two are quasi-random: every number is uniform, so that every batch is unbiased, and
successive steps of training fill the unit interval evenly, so that their errors cancel instead of adding up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import lgamma

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from polyjax.checks import require
from polyjax.toy.distributions import Batch, Distribution

LARGEST_ENUMERATED = 512  # masks
MOST_PAIRED = 40  # features that are ranked by comparing all pairs


@dataclass(frozen=True)
class Sampler:
    """`sampler(u, density)` maps uniform numbers u in (0, 1), of shape `sampler.shape`, to a `Batch`.

    Raises ValueError for an unknown name and for a batch that is too small.
    """

    name: str
    distribution: Distribution
    n_features: int  # N
    batch: int  # B

    def __post_init__(self) -> None:
        require(self.name in SAMPLERS, "sampler", f"be one of {', '.join(SAMPLERS)}", self.name)
        least = {"enumerated": 2**self.n_features, "stratified": 2, "iid": 1}[self.name]
        require(self.batch >= least, "batch", f"be at least {least} for the {self.name} sampler", self.batch)

    @property
    def shape(self) -> tuple[int, int]:
        """[B, uniform numbers a sample]"""
        return self.batch, self.n_features * (1 if self.name == "enumerated" else 2)

    def uniforms(self, key: Array, step: Array) -> Array:
        """Return the numbers of one training step, in (0, 1) and of `shape`."""
        if self.name == "iid":
            return jax.random.uniform(jax.random.fold_in(key, step), self.shape, minval=2.0**-25)
        return kronecker(jax.random.bits(key, self.shape), step)

    def __call__(self, u: Array, density: Array) -> Batch:
        n = self.n_features
        active, weight = SAMPLERS[self.name](u, density, n)
        values = self.distribution.active_value(u[:, -n:], density)
        return Batch(jnp.where(active, values, 0), weight)


def default_sampler(n_features: int, batch: int) -> str:
    """Return `enumerated` where the batch has room for every mask, else `stratified`."""
    return "enumerated" if 2**n_features <= min(batch, LARGEST_ENUMERATED) else "stratified"


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


def mask_probability(density: Array, n: int) -> Array:
    """[2^N]: P(m) = p^|m| (1 - p)^(N - |m|) of every mask."""
    return jnp.prod(jnp.where(masks(n), density, 1 - density), axis=1)


def allocate(share: Array, samples: int) -> Array:
    """[samples]: which of the masks each sample goes to, so that the counts are in proportion to their shares."""
    total = jnp.cumsum(share)
    return jnp.searchsorted(total[:-1], total[-1] * (jnp.arange(samples) + 0.5) / max(samples, 1), side="right")


def _enumerated(u: Array, density: Array, n: int) -> tuple[Array, Array]:
    """Draw by enumeration: half of the batch goes to all masks alike, and to each at least once; the rest to mask m in
    proportion to |m| P(m), where more is active. A mask's probability is divided among its samples."""
    probability, active = mask_probability(density, n), masks(n).sum(1)
    copies = max(1, len(u) // 2 // len(active))
    rest = len(u) - copies * len(active)
    more = allocate(probability * active, rest)
    chosen = jnp.concatenate([jnp.repeat(jnp.arange(len(active)), copies), more])
    samples = jnp.full(len(active), float(copies)).at[more].add(1)
    return jnp.asarray(masks(n))[chosen], (probability / samples)[chosen]


def _stratified(u: Array, density: Array, n: int) -> tuple[Array, Array]:
    """One empty sample, and B - 1 with k >= 1 active features, k drawn with probability proportional to
    k Binomial(N, p)(k), so weighted by N p / k: where more is active, more is learnt. That size-biased k is
    1 + Binomial(N - 1, p), whose distribution function is inverted at stratified numbers."""
    rest = len(u) - 1
    level = (jnp.arange(rest) + u[0, 0]) / rest
    k = 1 + jnp.searchsorted(_binomial_cdf(n - 1, density)[:-1], level, side="right")
    count = jnp.concatenate([jnp.zeros(1, k.dtype), k])
    weight = jnp.concatenate([jnp.reshape((1 - density) ** n, 1), n * density / (k * rest)])
    return _rank(u[:, :n]) < count[:, None], weight


def _rank(u: Array) -> Array:
    """[B, N]: how many numbers of the same row are smaller, or equal and further to the left. Comparing all pairs is
    tens of times faster than sorting for tens of features, but takes memory in proportion to N^2."""
    if u.shape[1] > MOST_PAIRED:
        return jnp.argsort(jnp.argsort(u, axis=1), axis=1)
    i = np.arange(u.shape[1])
    left = jnp.asarray(i[:, None] > i[None])[None]
    this, other = u[:, :, None], u[:, None, :]
    return jnp.where(left, other <= this, other < this).sum(-1)


def _iid(u: Array, density: Array, n: int) -> tuple[Array, Array]:
    return u[:, :n] < density, jnp.full(len(u), 1 / len(u))


def _binomial_cdf(n: int, p: Array) -> Array:
    """[n + 1]: P(K <= k) for K ~ Binomial(n, p), p in (0, 1]."""
    k = np.arange(n + 1)
    log_choose = np.array([lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) for i in k])  # in double precision
    # In logarithms, as the factors leave the range of float32; bounded, as training knows no infinity.
    log_p, log_q = jnp.log(p), jnp.log(jnp.maximum(1 - p, 1e-30))
    return jnp.cumsum(jnp.exp(log_choose + k * log_p + (n - k) * log_q))


SAMPLERS: dict[str, Callable[[Array, Array, int], tuple[Array, Array]]] = {
    "enumerated": _enumerated,
    "stratified": _stratified,
    "iid": _iid,
}
