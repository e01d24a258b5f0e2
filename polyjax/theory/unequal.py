"""The optimal allocation of capacity among features of unequal kurtosis, which sections 3.4 and 3.5 leave out. The
derivation is ours.

At its best length a feature of capacity C costs g(C) = 2 (k-1) v^2 (1-C) / ((k-3) C + 2) (eqs. 13 and 52): convex for
k >= 3, concave below. The least sum of costs with sum_i C_i = D is the global optimum, since an embedding has these
capacities: all shared features have one n/C, and are one block (theorem 1).

- Two shared concave features could exchange capacity and gain, whichever way. So at most one is shared, and of the
  others the full ones are those that gain most by it, (k-1) v^2.
- The convex features share what is left as in eq. 15, each with its own k: for m full concave ones, D - m.
- Where a concave feature j is shared too, the sum of the capacities, as a function of lambda, must pass D downwards as
  lambda falls: j gives more than the convex ones take, (k_j-1) v_j / (3-k_j) >= sum (k_i-1) v_i / (k_i-3). All
  capacities are lines in 1/lambda between the values of lambda at which a convex feature enters or is complete, and
  the sum falls by at most 1 between two of these: it passes at most one whole number there, D less the full ones.

So there are N + 1 allocations without a shared concave feature and at most N (2N + 1) with one; the cheapest is taken.
O(N^3 log N) operations, O(N^2) of memory.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Split(NamedTuple):
    """Which features share, and which are represented in full; the others are ignored."""

    shared: jax.Array  # bool [..., N]
    full: jax.Array


class Allocation(NamedTuple):
    """Capacities of a split that add up to D, or to the number of its features."""

    capacity: jax.Array  # [N]
    lack: jax.Array  # [N], 1 - C
    multiplier: jax.Array  # [], lambda: n/C of the shared ones, else (k-1)/2 v of the best ignored one


def best_split(v: jax.Array, k: jax.Array, D: jax.Array) -> Split:
    """Return the split of least cost, of one set of features: v [N] >= 0, k [N] >= 1 and D >= 1.

    Of equal costs that without a shared concave feature and with the most full ones, and of equal features those of
    lowest index.
    """
    most = jnp.minimum(D, jnp.sum((v > 0) & (k < 3)))
    n_full = jnp.minimum(jnp.arange(v.size, -1, -1), most)
    convex_alone = jax.vmap(lambda n: _split_of_convex(n, v, k, D))(n_full)
    without, cost = _cheapest(v, k, D, convex_alone, jnp.ones(v.size + 1, bool))
    found, costs = jax.lax.map(lambda j: _cheapest(v, k, D, *_splits_with(j, v, k, D)), jnp.arange(v.size))
    best = jnp.argmin(costs)
    better = costs[best] < cost * (1 - 4 * jnp.finfo(v.dtype).eps)  # by more than the rounding of costs
    return jax.tree.map(lambda with_one, others: jnp.where(better, with_one[best], others), found, without)


def _cheapest(v: jax.Array, k: jax.Array, D: jax.Array, splits: Split, valid: jax.Array) -> tuple[Split, jax.Array]:
    """Return the first split of least cost among those that are valid, and this cost; infinity where none is."""

    def cost(split: Split) -> jax.Array:
        C, lack, _ = allocation(v, k, D, split)
        denominator = (k - 1) * C + 2 * lack
        return jnp.sum(2 * (k - 1) * v**2 * lack / jnp.where(denominator > 0, denominator, 1))  # 0 at k = C = 1

    costs = jnp.where(valid, jax.vmap(cost)(splits), jnp.inf)
    best = jnp.argmin(costs)
    return jax.tree.map(lambda a: a[best], splits), costs[best]


def _split_of_convex(n_full: jax.Array, v: jax.Array, k: jax.Array, D: jax.Array) -> Split:
    """The split in which so many concave features are full, and none of them is shared.

    The sum of the capacities of the convex ones rises as lambda falls: one of them is not ignored where the sum is
    below its aim as the feature enters, at lambda = (k-1)/2 v, and full where it is at most that when the feature is
    complete, at lambda = v.
    """
    convex, concave = (v > 0) & (k >= 3), (v > 0) & (k < 3)
    steepness = 2 / jnp.maximum(k - 3, 0)  # infinite at k = 3, except between equals

    def over(C: jax.Array, lack: jax.Array) -> jax.Array:  # sum C less its aim, in which large C swallow no small ones
        large = convex & (C > 0.5)
        part = jnp.where(large, -jnp.clip(lack, 0, 1), jnp.where(convex, jnp.clip(C, 0, 1), 0))
        return jnp.sum(part) + (jnp.sum(large) - (D - n_full))

    def enters(u: jax.Array, q: jax.Array) -> jax.Array:
        apart = v - u + (v * (k - 3) - u * (q - 3)) / 2
        C = jnp.where(apart == 0, 0, steepness * apart / (u + u * (q - 3) / 2))
        return over(C, 1 - C) < 0

    def completes(u: jax.Array) -> jax.Array:
        gain = jnp.where(v == u, 0, steepness * ((v - u) / u))
        return over(v / u + gain, (u - v) / u - gain) <= 0

    # Features of importance 0 give NaN, which does no harm: they are not convex.
    entered = convex & jax.vmap(enters)(v, k)
    full = entered & jax.vmap(completes)(v)
    return Split(entered & ~full, full | (concave & (_rank(v, k, concave) < n_full)))


def _splits_with(j: jax.Array, v: jax.Array, k: jax.Array, D: jax.Array) -> tuple[Split, jax.Array]:
    """The splits in which the concave feature j is shared, [2N + 1, N], and which of them are valid.

    lambda falls from v_j, where C_j = 1, to (k_j-1)/2 v_j, where C_j = 0. It is measured by x = (1 - lambda / v_j) /
    (3 - k_j), from 0 to 1/2, which has its digits also where all k are about 3.
    """
    convex, concave = (v > 0) & (k >= 3), (v > 0) & (k < 3)
    below, itself = 3 - k[j], jnp.arange(v.size) == j
    completes = (v[j] - v) / (v[j] * below)
    enters = completes - v * (k - 3) / (2 * v[j] * below)
    corners = jnp.clip(jnp.stack([jnp.where(convex, x, 0) for x in (enters, completes)]), 0, 0.5).ravel()
    order = jnp.argsort(corners)
    points = jnp.concatenate([jnp.zeros(1), corners[order], jnp.full(1, 0.5)])
    place = jnp.argsort(order).reshape(2, -1)  # of corners, which unlike x is not rounded in several ways
    rounding = 8 * v.size * jnp.finfo(v.dtype).eps
    rank = _rank(v, k, concave)
    of_others = rank - (rank > rank[j])

    def between(n: jax.Array, before: jax.Array, after: jax.Array) -> tuple[Split, jax.Array]:
        """The split between two corners, after the first n of them."""
        full = convex & (place[1] < n)
        shared = convex & (place[0] < n) & ~full

        def total(x: jax.Array) -> jax.Array:
            lines = v / v[j] + 2 * below / jnp.where(shared, k - 3, 1) * (x - completes)
            return jnp.sum(full) + (jnp.sum(lines, where=shared) + 1 - 2 * x) / (1 - below * x)

        first, last = total(before), total(after)
        rest = jnp.floor(first + rounding)  # the whole number that the sum passes
        # Where none of the convex ones shares, it passes one with C_j = 0 or 1 alone, and j does not share either.
        passes = (first - last > rounding) & (last - rounding <= rest) & jnp.any(shared)
        n_full = D - rest
        valid = concave[j] & (k[j] > 1) & passes & (n_full >= 0) & (n_full < jnp.sum(concave))
        return Split(shared | itself, full | (concave & ~itself & (of_others < n_full))), valid

    return jax.vmap(between)(jnp.arange(2 * v.size + 1), points[:-1], points[1:])


def _rank(v: jax.Array, k: jax.Array, concave: jax.Array) -> jax.Array:
    """Return the place of each concave feature among them, by what it gains when it is full: (k-1) v^2, then v."""
    order = jnp.lexsort((-v, jnp.where(concave, -(k - 1) * v**2, jnp.inf)))
    return jnp.argsort(order)


def allocation(v: jax.Array, k: jax.Array, D: jax.Array, split: Split) -> Allocation:
    """Return the capacities of a split, from eq. 15 with each feature's own k: a linear equation for 1/lambda. Its
    gradient is finite; at k = 3, where C is a step, it is that of sharing in proportion to importance."""
    shared, full = split
    left = D - jnp.sum(full)
    lines = _lines(v, k, shared)
    mean = left / lines.number
    start = lines.ratio * (mean + (1 - mean) * lines.bend) + lines.apart * lines.per_excess
    by = (left - jnp.sum(start, where=shared)) / _nonzero(jnp.sum(lines.slope, where=shared))
    C = jnp.clip(start + lines.slope * by, 0, 1)  # outside by rounding only
    lack = jnp.where(jnp.any(shared & (k < 3)), 1 - C, _lack(v, k, shared, C, left))
    best = jnp.max((k - 1) / 2 * v, where=~shared & ~full, initial=0)
    inverse = (lines.excess * mean + 2) / _nonzero(lines.excess + 2) + lines.unit * by
    price = jnp.where(jnp.any(shared), lines.reference / _nonzero(inverse), best)
    return Allocation(jnp.where(shared, C, full), jnp.where(shared, lack, ~full), price)


def _lack(v: jax.Array, k: jax.Array, shared: jax.Array, C: jax.Array, left: jax.Array) -> jax.Array:
    """1 - C of shared convex features whose capacities add up to `left`. Where C is above 1/2, 1 - C would lose its
    digits; the sum of these is what the others take."""
    large = shared & (jax.lax.stop_gradient(C) > 0.5)
    lines = _lines(v, k, large)
    total = jnp.sum(C, where=shared & ~large) + (jnp.sum(large) - left)
    start = lines.ratio * total / lines.number * (1 - lines.bend) - lines.apart * (1 + lines.per_excess)
    by = (jnp.sum(start, where=large) - total) / _nonzero(jnp.sum(lines.slope, where=large))
    return jnp.clip(jnp.where(large, start - lines.slope * by, 1 - C), 0, 1)


class _Lines(NamedTuple):
    """Capacities of members as lines in 1/lambda: C = ratio (c + (1-c) bend) + apart per_excess + slope t, where the
    reference has the capacity c at t = 0; there lambda is reference / ((excess c + 2) / (excess + 2) + unit t)."""

    number: jax.Array  # [], of members, at least 1
    reference: jax.Array  # [], the importance of the member whose k is next to 3
    excess: jax.Array  # [], its k - 3
    unit: jax.Array  # [], of t
    ratio: jax.Array  # [N], v / reference; all of these are 0 or 1 for others than members
    apart: jax.Array  # [N], ratio - 1
    per_excess: jax.Array  # [N], 2 / (k-3), 0 at k = 3
    bend: jax.Array  # [N], 0 where k is that of the reference
    slope: jax.Array  # [N]


def _lines(v: jax.Array, k: jax.Array, members: jax.Array) -> _Lines:
    """Return the lines of members, [N].

    Members of k near 3 share only where their importances differ by as little as k - 3 does, so that nothing here is
    divided by k - 3 that does not vanish with it. At k = 3 itself, where lambda can only be v, t is the capacity that
    is free.
    """
    excess = k - 3
    nearest = jnp.argmin(jax.lax.stop_gradient(jnp.where(members, abs(excess), jnp.inf)))
    reference = jax.lax.stop_gradient(jnp.where(jnp.any(members), v[nearest], 1))
    unit = jax.lax.stop_gradient(jnp.minimum(abs(excess[nearest]), 1))
    apart = jnp.where(members, v - reference, 0) / reference
    divisor, critical = _nonzero(excess), excess == 0
    bend = 2 * (excess - excess[nearest]) / (divisor * _nonzero(excess[nearest] + 2))
    ratio = jnp.where(members, v, reference) / reference
    slope = ratio * (unit + 2 * jnp.where(critical, 1, unit / divisor))
    per_excess = jnp.where(critical, 0, 2 / divisor)
    number = jnp.maximum(jnp.sum(members), 1)
    return _Lines(number, reference, excess[nearest], unit, ratio, apart, per_excess, bend, slope)


def _nonzero(x: jax.Array) -> jax.Array:
    return jnp.where(x == 0, np.ones((), x.dtype), x)
