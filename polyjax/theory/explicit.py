"""Four explicit solutions of the Anthropic ReLU model with N features in N - 1 neurons, and their exact losses.

Active features are uniform on [0, 1]; feature 0 has importance r, the others 1 (M. Wattenberg's exact toy models, in
Elhage et al. 2022). Every solution represents all but one or two features perfectly, each by a neuron of its own:

- an ignored feature is predicted by its mean p/2, and costs its variance, p/3 - p^2/4;
- an antipodal pair (i, j) shares a neuron, with weights 1 and -1: x~_i = relu(x_i - x_j) misses x_i by min(x_i, x_j),
  so that the pair costs (v_i + v_j) p^2 E[min^2] = (v_i + v_j) p^2 / 6.

The lengths and biases of a pair can be had better than 1 and 0: `best_explicit_losses` takes the best ones (Elhage et
al. 2022 draw the phases of such a pair alone). An ignored feature has its best bias, and the others cost nothing.

All are feasible weights, so the optimum of a cell is never worse than the best of them; it may be better.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Real

from polyjax.checks import ArrayLike, broadcast, count, doubles, floating, number, one_of, require
from polyjax.theory.pair import best_pair

MOST_FEATURES = 10_000  # of weights [N - 1, N]
LEAST_GAIN = 1e-4  # a pair that gains less than this share over ignoring one of the two counts as that


class ExplicitLosses(NamedTuple):
    """Expected loss of each solution, [...]."""

    ignore_ordinary: jax.Array | np.ndarray  # a feature of importance 1 is ignored
    ignore_swept: jax.Array | np.ndarray  # feature 0 is ignored
    pair_ordinary: jax.Array | np.ndarray  # two features of importance 1 form an antipodal pair
    pair_swept: jax.Array | np.ndarray  # feature 0 and another form one


def explicit_losses(importance: Real[ArrayLike, "*#batch"], density: Real[ArrayLike, "*#batch"]) -> ExplicitLosses:
    """Return the losses for importance r >= 0 of feature 0 and density p in (0, 1]; the two broadcast against each
    other.

    They do not depend on N, which must be at least 2, or 3 for `pair_ordinary`. Raises ValueError for values out of
    range.
    """
    r, p = floating("importance", importance), floating("density", density)
    require((r >= 0) & (r < jnp.inf), "importance", "be at least 0 and finite", importance)
    require((p > 0) & (p <= 1), "density", "be above 0 and at most 1", density)
    broadcast(importance=r.shape, density=p.shape)
    r, p = jnp.broadcast_arrays(r, p)
    variance, overlap, one = p / 3 - p**2 / 4, p**2 / 6, jnp.ones_like(r)
    return ExplicitLosses(one * variance, r * variance, 2 * one * overlap, (1 + r) * overlap)


def best_explicit_losses(importance: Real[ArrayLike, "*#batch"], density: Real[ArrayLike, "*#batch"]) -> ExplicitLosses:
    """Return the losses where a pair has the best lengths and biases: at most those of `explicit_losses`.

    Arguments and errors are the same, except that importance must be above 0. In double precision and by a search (see
    `theory.pair`), which JAX cannot trace. Where one of a pair is better ignored, the pair costs the same as that.
    """
    r, p = doubles("importance", importance), doubles("density", density)
    swept, ordinary = best_pair(r, p).loss, best_pair(1.0, p).loss
    variance, one = p / 3 - p**2 / 4, np.ones_like(r)
    return ExplicitLosses(one * variance, r * variance, one * ordinary, swept)


class LeastExplicit(NamedTuple):
    """The explicit solution of least loss, [...]."""

    solution: np.ndarray  # its place among the fields of `ExplicitLosses`
    loss: np.ndarray
    capacity: np.ndarray  # of feature 0


def least_explicit(
    importance: Real[ArrayLike, "*#batch"], density: Real[ArrayLike, "*#batch"], n_features: int
) -> LeastExplicit:
    """Return the solution of least loss for n_features >= 2 in one neuron fewer; pairs have their best lengths and
    biases.

    Arguments and errors are otherwise those of `best_explicit_losses`. Two features have no `pair_ordinary`. A pair of
    which one is all but ignored counts as ignoring it.
    """
    require(n_features >= 2, "n_features", "be at least 2", n_features)
    r, p = np.broadcast_arrays(doubles("importance", importance), doubles("density", density))
    loss = np.stack(np.broadcast_arrays(*best_explicit_losses(r, p)))
    if n_features == 2:
        loss[ExplicitLosses._fields.index("pair_ordinary")] = np.inf
    pair = np.array([name.startswith("pair") for name in ExplicitLosses._fields]).reshape(-1, *[1] * r.ndim)
    solution = np.where(pair, loss * (1 + LEAST_GAIN), loss).argmin(0)
    w = best_pair(r, p).w ** 2
    capacity = np.choose(solution, [np.ones(r.shape), np.zeros(r.shape), np.ones(r.shape), w[..., 0] / w.sum(-1)])
    return LeastExplicit(solution, loss.min(0), capacity)


def explicit_weights(
    solution: str, n_features: int, density: float
) -> tuple[Float[np.ndarray, "D N"], Float[np.ndarray, " N"]]:
    """W [N - 1, N] and b [N] of a solution, one of the fields of `ExplicitLosses`, at a density in (0, 1]."""
    one_of("solution", solution, ExplicitLosses._fields)
    i = 1 if solution.endswith("ordinary") else 0  # the feature that has no neuron of its own
    least = 3 if solution == "pair_ordinary" else 2
    N, p = count("n_features", n_features, least, MOST_FEATURES), number("density", density)
    require(0 < p <= 1, "density", "be above 0 and at most 1", density)
    W, b = np.delete(np.eye(N), i, axis=0), np.zeros(N)
    if solution.startswith("ignore"):
        b[i] = p / 2
    else:
        W[i, i] = -1  # row i, once i is deleted, is feature i + 1's
    return W, b


def best_explicit_weights(
    solution: str, n_features: int, importance: float, density: float
) -> tuple[Float[np.ndarray, "D N"], Float[np.ndarray, " N"]]:
    """W [N - 1, N] and b [N] that have the loss of `best_explicit_losses`; arguments and errors as for both above."""
    W, b = explicit_weights(solution, n_features, density)
    r = number("importance", importance)
    require(r > 0, "importance", "be above 0 and finite", importance)
    if solution.startswith("pair"):
        i = 1 if solution == "pair_ordinary" else 0
        pair = best_pair(1.0 if i else r, density)
        W[i, i : i + 2], b[i : i + 2] = pair.w, pair.b
    return W, b
