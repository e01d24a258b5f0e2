"""The closed-form optimum of the quadratic Redwood model (sections 2.2 and 3.2 to 3.5, appendices A and C).

The model has N features of importance v and kurtosis k = E[x^4] (zero mean, unit variance) in D neurons. Its expected
loss depends on the embedding W only through each feature's capacity C_i and squared length n_i (eq. 13), and is least
where capacity goes to the features that gain most from it. This file shares no code with training, which it checks.

Arguments, in every function: importance v [..., N], finite and >= 0; kurtosis k [...] or [..., N], finite and >= 1;
capacity C [..., N], in [0, 1]; n_neurons D, a Python integer >= 1 (static under `jit`). Leading axes broadcast.
Anything else raises a ValueError that names the argument, unless its values are traced.

Kurtosis is one a feature where it has as many axes as importance, or more, and N > 1 values along the last. Otherwise
all features of a model have one, and its axes are leading axes: for a curve over N values of kurtosis importance must
have such an axis too, importance[None]. The formulas of the paper hold with k_i in place of k, but not the phases that
follow from k on one side of 3 for all (see `optimal_capacity` and `unequal`).

k - 3 divides only differences that vanish with it, so float32 is as good near the critical point k = 3 as elsewhere.
"""

import enum
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int8, Real

from polyjax.checks import ArrayLike, broadcast, count, floating, require
from polyjax.theory import unequal


class Phase(enum.IntEnum):
    """Phase of a feature at the optimum: C = 0, 0 < C < 1 (polysemantic) or C = 1."""

    IGNORED = 0
    SHARED = 1
    FULL = 2


class Boundaries(NamedTuple):
    """Importances V of feature 0, the others having 1, that bound its phases: ignored at V <= `ignored`, full at
    V >= `full`; both [...]."""

    ignored: jax.Array
    full: jax.Array


def expected_loss(
    W: Real[ArrayLike, "*#batch D N"],
    importance: Real[ArrayLike, "*#batch N"],
    kurtosis: Real[ArrayLike, "*k"],
    b: Real[ArrayLike, "*#batch"] | None = None,
) -> Float[Array, "*#batch"]:
    """E[(sum_d (W x)_d^2 + b - sum_i v_i x_i^2)^2]: eq. 33 for a given bias, eq. 12 for the best one, b = None.

    sum_i (k_i-1) (n_i - v_i)^2 + 2 sum_{i != j} (w_i . w_j)^2, and with b also (b + sum_i (n_i - v_i))^2, where w_i is
    a column of W and n_i its squared length. Only products and sums, so that it can be trained on; NaN in W gives NaN.

    Args:
        W: [..., D, N], any real values.
        importance, kurtosis: [..., N] and [...] or [..., N], as above.
        b: [...], or None for its optimum sum_i (v_i - n_i), which makes the last term zero.

    Returns:
        [...], >= 0.
    """
    W, (v, k) = floating("W", W), _features(importance, kurtosis)
    n_columns = W.shape[-1] if W.ndim >= 2 else None
    require(n_columns == v.shape[-1], "W", f"have shape [..., D, {v.shape[-1]}], as importance has", W.shape)
    given = {"W": (W, 2), "importance": (v, 1), "kurtosis": (k, 1)}
    if b is None:
        return _expected_loss(*_same_rank(**given), None)
    return _expected_loss(*_same_rank(**given, b=(floating("b", b), 0)))


@partial(jnp.vectorize, signature="(d,n),(n),(m),()->()")  # one kurtosis, m = 1, or one a feature
def _expected_loss(W: jax.Array, v: jax.Array, k: jax.Array, b: jax.Array | None) -> jax.Array:
    gram = jnp.matmul(W.T, W, precision="highest")  # by default accelerators round to TF32 or bfloat16
    excess = jnp.sum(W**2, axis=0) - v
    distinct = (1 - np.eye(v.size)).astype(v.dtype)
    loss = jnp.sum((k - 1) * excess**2) + 2 * jnp.sum(distinct * gram**2)
    return loss if b is None else loss + (b + jnp.sum(excess)) ** 2


def loss_from_capacity(
    capacity: Real[ArrayLike, "*#batch #N"],
    squared_norm: Real[ArrayLike, "*#batch #N"],
    importance: Real[ArrayLike, "*#batch #N"],
    kurtosis: Real[ArrayLike, "*k"],
) -> Float[Array, "*#batch"]:
    """Eq. 13, sum_i (k-1) (n_i - v_i)^2 - 2 n_i^2 + 2 n_i^2 / C_i: eq. 12 for every W, given its own C and n.

    Takes the squared lengths n, [..., N], >= 0, as well; returns [...]. A feature with C = n = 0 costs (k-1) v^2, with
    gradient 0 in C. One with C = 0 < n, which no W has, costs infinity.
    """
    n = floating("squared_norm", squared_norm)
    require(n >= 0, "squared_norm", "be at least 0", n)
    v, k = _features(importance, kurtosis)
    C = _capacity(capacity)
    C, n, v, k = _same_rank(capacity=(C, 1), squared_norm=(n, 1), importance=(v, 1), kurtosis=(k, 1))
    embedded = C > 0
    # Double where: the unused branch must not divide by zero, or its gradient is NaN.
    interference = n**2 * (1 - C) / jnp.where(embedded, C, 1)
    interference = jnp.where(embedded, interference, jnp.where(n > 0, jnp.inf, 0))
    return jnp.sum((k - 1) * (n - v) ** 2 + 2 * interference, axis=-1)


def squared_norm(
    capacity: Real[ArrayLike, "*#batch #N"],
    importance: Real[ArrayLike, "*#batch #N"],
    kurtosis: Real[ArrayLike, "*k"],
) -> Float[Array, "*#batch #N"]:
    """n* = (k-1) v / ((k-3) + 2/C), the best squared embedding length for a given capacity, eq. 52.

    Returns [..., N], in [0, v]; 0 at C = 0 and v at C = 1.
    """
    C, _, slope = _length_per_capacity(capacity, importance, kurtosis)
    return C * slope


def marginal_loss_reduction(
    capacity: Real[ArrayLike, "*#batch #N"],
    importance: Real[ArrayLike, "*#batch #N"],
    kurtosis: Real[ArrayLike, "*k"],
) -> Float[Array, "*#batch #N"]:
    """-dL/dC = 2 (n*/C)^2 = 2 ((k-1) v / ((k-3) C + 2))^2, eqs. 14 and 54, at the best length n*.

    Falls with C for k > 3 (diminishing returns), rises for k < 3.

    Returns [..., N], >= 0. At k = C = 1, where every length is optimal, it is that of n* = v, the limit from k > 1.
    """
    return 2 * _length_per_capacity(capacity, importance, kurtosis)[2] ** 2


def optimal_capacity(
    importance: Real[ArrayLike, "*#batch N"], kurtosis: Real[ArrayLike, "*k"], n_neurons: int
) -> Float[Array, "*#batch N"]:
    """Return the capacities of the global optimum, eq. 15: C_i = clip((k-1)/(k-3) v_i/lambda - 2/(k-3), 0, 1), sum_i
    C_i = D.

    Exact up to rounding, by sorting: O(N log N) operations. A feature of importance 0 gets 0, since capacity
    gains nothing there; the sum is therefore min(D, number of positive importances).

    For k < 3 the D most important features get 1 (section 3.4), and of equal ones those of lowest index, though any
    choice is optimal. At k = 3 it is the limit from k > 3, in which equal importances at the threshold share equally;
    there every allocation among them is optimal (the critical point of figure 4).

    Where kurtosis differs the same holds for features of k_i >= 3 among themselves, C_i = clip((k_i-1)/(k_i-3)
    v_i/lambda - 2/(k_i-3), 0, 1). Those of k_i < 3 are full or ignored, the full ones those of largest (k_i-1) v_i^2,
    except that one of them may share with those of k_i > 3, where that is best. The allocation is the global optimum,
    exact up to rounding, in O(N^3 log N) operations. Where another allocation becomes the best it jumps, as for equal
    kurtosis at k < 3; of equally good ones it is that in which more features of k_i < 3 are full. The derivation is
    ours (`unequal`).

    Returns [..., N], in [0, 1]. The gradient is finite everywhere: one-sided at a phase boundary, 0 for k < 3, and at
    k = 3, where C is a step, that of sharing in proportion to importance.
    """
    return _optimum(importance, kurtosis, n_neurons).capacity


def optimal_squared_norm(
    importance: Real[ArrayLike, "*#batch N"], kurtosis: Real[ArrayLike, "*k"], n_neurons: int
) -> Float[Array, "*#batch N"]:
    """Return the squared embedding lengths of the global optimum, eq. 16; [..., N]."""
    return squared_norm(optimal_capacity(importance, kurtosis, n_neurons), importance, kurtosis)


def optimal_loss(
    importance: Real[ArrayLike, "*#batch N"], kurtosis: Real[ArrayLike, "*k"], n_neurons: int
) -> Float[Array, "*#batch"]:
    """Return the least expected loss that any W reaches; [...].

    Eq. 13 at the lengths of eq. 52 is sum_i 2 (1 - C_i) v_i n*_i / C_i, all terms positive, and 1 - C is not taken from
    a rounded C, so that it keeps its digits where every capacity is nearly 0 or 1.
    """
    C, lack, *_ = _optimum(importance, kurtosis, n_neurons)
    _, v, slope = _length_per_capacity(C, importance, kurtosis, lack)
    return jnp.sum(2 * lack * v * slope, axis=-1)


def multiplier(
    importance: Real[ArrayLike, "*#batch N"], kurtosis: Real[ArrayLike, "*k"], n_neurons: int
) -> Float[Array, "*#batch"]:
    """lambda of section 3.4: n*/C of every shared feature, at most that of full ones and at least that of ignored ones.

    The Lagrange multiplier of eqs. 4 to 8, which the paper calls lambda as well, is 2 lambda^2.

    With no shared feature (always, where k < 3 for all) the conditions (6) to (8) leave an interval, from the largest
    (k-1)/2 v of an ignored feature to the smallest v of a full one. This returns its lower end, so that 2 lambda^2 is
    always what a little more capacity would gain; 0 where every feature of positive importance is full.

    Returns [...], >= 0.
    """
    return _optimum(importance, kurtosis, n_neurons).multiplier


def phase(
    importance: Real[ArrayLike, "*#batch N"], kurtosis: Real[ArrayLike, "*k"], n_neurons: int
) -> Int8[Array, "*#batch N"]:
    """Return the `Phase` of each feature at the optimum; int8 [..., N].

    Decided by comparing exact sums with D, not by rounding the capacities (eqs. 17 and 18).
    """
    return _optimum(importance, kurtosis, n_neurons).phase


def boundaries(kurtosis: Real[ArrayLike, "*#batch"], n_features: int, n_neurons: int) -> Boundaries:
    """Return where feature 0 changes phase as its importance V varies and the others keep importance 1 (section 3.5.2).

    Ignored at V <= 2 (N-1) / ((k-3) D + 2 (N-1)), full at V >= (k-1) (N-1) / ((k-3) (D-1) + 2 (N-1)). For k <= 3
    both are 1, a first-order line. For D >= N both are 0: full at every V > 0. As k grows the full boundary tends to
    (N-1) / (D-1), without bound if D = 1. n_features is N >= 1.
    """
    n_features, n_neurons = count("n_features", n_features), count("n_neurons", n_neurons)
    excess = jnp.maximum(_kurtosis(kurtosis) - 3, 0)
    if n_neurons >= n_features:
        return Boundaries(jnp.zeros_like(excess), jnp.zeros_like(excess))
    others, D = float(n_features - 1), float(n_neurons)
    ignored = 2 * others / (excess * D + 2 * others)
    return Boundaries(ignored, (excess + 2) * others / (excess * (D - 1) + 2 * others))


class _Optimum(NamedTuple):
    capacity: jax.Array  # [..., N]
    lack: jax.Array  # [..., N], 1 - C, to as many digits as it would have by itself
    multiplier: jax.Array  # [...], lambda
    phase: jax.Array  # [..., N]


def _optimum(importance: ArrayLike, kurtosis: ArrayLike, n_neurons: int) -> _Optimum:
    v, k = _features(importance, kurtosis)
    D = jnp.asarray(count("n_neurons", n_neurons), v.dtype)
    if k.shape[-1] == 1:
        return _Optimum(*_solve(*_same_rank(importance=(v, 1), kurtosis=(k[..., 0], 0), n_neurons=(D, 0))))
    return _Optimum(*_solve_unequal(*_same_rank(importance=(v, 1), kurtosis=(k, 1), n_neurons=(D, 0))))


@jax.jit
@partial(jnp.vectorize, signature="(n),(n),()->(n),(n),(),(n)")
def _solve_unequal(v: jax.Array, k: jax.Array, D: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    split = unequal.best_split(*jax.lax.stop_gradient((v, k, D)))
    return *unequal.allocation(v, k, D, split), _codes(split.full, ~(split.full | split.shared))


def _codes(full: jax.Array, ignored: jax.Array) -> jax.Array:
    return jnp.where(full, Phase.FULL, jnp.where(ignored, Phase.IGNORED, Phase.SHARED)).astype(jnp.int8)


@jax.jit  # D is an array here, so that one compilation serves every n_neurons
@partial(jnp.vectorize, signature="(n),(),()->(n),(n),(),(n)")
def _solve(v: jax.Array, k: jax.Array, D: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Eq. 15 for one set of features, from the phases: lambda is linear in the capacity left to the shared ones."""
    ignored, full = _split(*jax.lax.stop_gradient((v, k, D)))
    shared = ~(ignored | full)
    m, left = jnp.maximum(jnp.sum(shared), 1), D - jnp.sum(full)
    excess = jnp.maximum(k - 3, 0)
    # Measured from a shared feature, nearly equal importances keep their difference, and equal ones differ by 0.
    reference = jax.lax.stop_gradient(jnp.max(v, where=shared, initial=0))
    reference = jnp.where(reference > 0, reference, 1)
    ratio = jnp.where(shared, v, reference) / reference
    offset = jnp.where(shared, v - reference, 0) / reference
    center = jnp.sum(offset) / m
    mean = jnp.where(jnp.any(shared), jnp.sum(ratio, where=shared) / m, 1)  # 1 + center, which may be near 0
    per_excess = jnp.where(excess > 0, 2 / jnp.where(excess > 0, excess, 1), 0)
    C = jnp.clip((left / m * ratio + per_excess * (offset - center)) / mean, 0, 1)  # outside by rounding only
    price = jnp.where(
        jnp.any(shared),
        reference * mean * (excess + 2) / (excess * left / m + 2),
        (k - 1) / 2 * jnp.max(v, where=ignored, initial=0),
    )
    lack = _lack(C, shared, left, offset, (left / m + per_excess) / mean)
    return jnp.where(shared, C, full), jnp.where(shared, lack, ~full), price, _codes(full, ignored)


def _lack(C: jax.Array, shared: jax.Array, left: jax.Array, offset: jax.Array, rise: jax.Array) -> jax.Array:
    """1 - C of the shared features [N], whose capacities add up to `left` and rise by `rise` times `offset`.

    Where C is above 1/2, 1 - C would lose its digits. Their sum over these features is what the others take, and
    around the mean of that sum they differ by offsets.
    """
    large = shared & (jax.lax.stop_gradient(C) > 0.5)
    n = jnp.maximum(jnp.sum(large), 1)
    total = jnp.sum(C, where=shared & ~large) + (jnp.sum(large) - left)
    mean = (total + rise * jnp.sum(offset, where=large)) / n
    return jnp.clip(jnp.where(large, mean - rise * offset, 1 - C), 0, 1)  # outside by rounding only


def _split(v: jax.Array, k: jax.Array, D: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Say which features the optimum ignores and which it represents in full; v [N], k and D scalars.

    sum_i C_i falls with lambda. Hence a feature of importance u is not ignored where the sum at lambda = (k-1)/2 u, at
    which it enters, is below D, and is full where the sum at lambda = u, at which it is complete, is at most D.
    """
    first = jnp.argsort(-v)  # stable: of equal features, the one of lowest index
    rank = jnp.argsort(first)

    def gain(u: jax.Array) -> jax.Array:  # at k = 3 it is infinite, except between equals
        return jnp.where(v == u, 0, 2 / jnp.maximum(k - 3, 0) * ((v - u) / u))

    def over(C: jax.Array, lack: jax.Array) -> jax.Array:  # sum C - D, in which large C do not swallow small ones
        large = C > 0.5
        return jnp.sum(jnp.where(large, -jnp.clip(lack, 0, 1), jnp.clip(C, 0, 1))) + (jnp.sum(large) - D)

    # Importances of zero, last in order, give infinity and NaN, which do no harm: they are ignored in any case.
    entered = _n_leading(lambda u: over(gain(u), 1 - gain(u)) < 0, v[first])
    complete = _n_leading(lambda u: over(v / u + gain(u), (u - v) / u - gain(u)) <= 0, v[first])
    ignored = (rank >= jnp.where(k < 3, D, entered)) | (v == 0)
    return ignored, (rank < jnp.where(k < 3, D, complete)) & ~ignored


def _n_leading(test: Callable[[jax.Array], jax.Array], descending: jax.Array) -> jax.Array:
    """Return how many of the sorted importances pass a test that they pass up to some point; by halving."""
    n = jnp.zeros((), int)
    for bit in reversed(range(descending.size.bit_length())):
        u = descending[jnp.minimum(n + 2**bit, descending.size) - 1]
        n = jnp.where((n + 2**bit <= descending.size) & test(u), n + 2**bit, n)
    return n


def _length_per_capacity(
    capacity: ArrayLike, importance: ArrayLike, kurtosis: ArrayLike, lack: jax.Array | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """C, v and n*/C = (k-1) v / ((k-3) C + 2), [..., N], with the denominator as a sum of terms >= 0.

    `lack` is 1 - C where it is known better than from C.
    """
    v, k = _features(importance, kurtosis)
    C, v, k = _same_rank(capacity=(_capacity(capacity), 1), importance=(v, 1), kurtosis=(k, 1))
    denominator = (k - 1) * C + 2 * (1 - C if lack is None else lack)
    positive = denominator > 0  # except at k = C = 1
    return C, v, jnp.where(positive, (k - 1) * v / jnp.where(positive, denominator, 1), v)


def _same_rank(**given: tuple[jax.Array, int]) -> list[jax.Array]:
    """Each array, given with the number of its own axes, with as many leading axes as the others. Raises ValueError,
    naming the arguments, where these do not broadcast, or nor do the own axes of those that have one."""
    broadcast(**{name: a.shape[: a.ndim - own] for name, (a, own) in given.items()})
    broadcast(**{name: a.shape[a.ndim - own :] for name, (a, own) in given.items() if own == 1})
    rank = max(a.ndim - own for a, own in given.values())
    return [a.reshape((1,) * (rank + own - a.ndim) + a.shape) for a, own in given.values()]


def _importance(importance: ArrayLike) -> jax.Array:
    v = floating("importance", importance)
    require(v.ndim >= 1 and v.shape[-1] > 0, "importance", "have at least one feature, [..., N]", v.shape)
    require((v >= 0) & (v < jnp.inf), "importance", "be finite and at least 0", v)
    return v


def _features(importance: ArrayLike, kurtosis: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """v [..., N], and k [..., N] where there is one a feature, else [..., 1]."""
    v, k = _importance(importance), _kurtosis(kurtosis)
    n = v.shape[-1]
    return v, k if n > 1 and k.ndim >= v.ndim and k.shape[-1] == n else k[..., None]


def _kurtosis(kurtosis: ArrayLike) -> jax.Array:
    k = floating("kurtosis", kurtosis)
    require((k >= 1) & (k < jnp.inf), "kurtosis", "be finite and at least 1", k)
    return k


def _capacity(capacity: ArrayLike) -> jax.Array:
    C = floating("capacity", capacity)
    require((C >= 0) & (C <= 1), "capacity", "be in [0, 1]", C)
    return C
