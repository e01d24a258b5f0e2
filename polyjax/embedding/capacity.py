"""Capacity: the fraction of a dimension that an embedding W spends on each feature (section 2.1, appendices E and G).

W has shape [D, N]: column i, w_i, is the embedding of feature i in D dimensions. Both definitions are unchanged by a
rotation and by a rescaling of the whole embedding. A W that holds NaN or infinity gives NaN, so that a diverged
model is not mistaken for one that ignores its features.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

from polyjax.checks import ArrayLike, floating, require

MARGIN = 0.02  # of a capacity from 0 or 1 that still counts as that: more than training's noise


def capacities(W: Real[ArrayLike, "*batch D N"]) -> Float[Array, "*batch N"]:
    """C_i = (w_i . w_i)^2 / sum_j (w_i . w_j)^2, eq. 3.

    It is also the squared correlation of x_i with (W^T W x)_i for uncorrelated x of unit variance (appendix E). In
    float32 entries from 1e-37 to 1e37 are safe, side by side too: smaller ones count as zero, larger ones may give NaN.

    Args:
        W: [..., D, N], any real values. A transposed one cannot be told from a W of more neurons than features.

    Returns:
        [..., N], in [0, 1]; 0 where the column is zero, NaN where W holds NaN or infinity. The sum over features is 0
        for W = 0, else between 1 and the rank of W (appendix F). Gradients are finite; that with respect to a zero
        column is 0.

    Raises:
        ValueError: W is not a matrix, or has no row or no column.
    """
    return _capacities(_matrix(W))


def isotropic_capacities(W: Real[ArrayLike, "*batch D N"]) -> Float[Array, "*batch N"]:
    """C~_i = [R^T R]_ii, with the compact SVD W = Q S R: the capacities once W is made isotropic (appendix G, eq. 88).

    C~_i is the variance of x_i explained by the best linear reconstruction from W x, where eq. 3 has that by W^T.
    The two agree exactly where the capacities of eq. 3 add up to D (eq. 89), and elsewhere C <= C~ (Lemma 1).

    Args:
        W: [..., D, N], any real values.

    Returns:
        [..., N], in [0, 1], summing to rank(W) (eq. 90); accurate to about eps times the condition number. Singular
        values up to max(D, N) eps times the largest count as zero, as in `numpy.linalg.matrix_rank`. Differentiable
        wherever the rank does not change nearby; elsewhere the gradient is that at fixed rank, and finite.

    Raises:
        ValueError: W is not a matrix, or has no row or no column.
    """
    return _isotropic_capacities(_matrix(W))


def trained_marginal(W: Real[ArrayLike, "*batch D N"]) -> Float[Array, "*batch N"]:
    """-dL/dC_i = 2 (n_i / C_i)^2, eq. 14, of a trained quadratic Redwood model, with its own C_i and n_i = w_i . w_i.

    Holds at the best lengths, dL/dn_i = 0, which training finds; no importance and no kurtosis is used. n_i / C_i is
    u . W W^T u with the unit vector u along w_i, so that it is as accurate for short embeddings as for long ones.

    Args:
        W: [..., D, N], any real values.

    Returns:
        [..., N], >= 0; NaN where the column is zero: an ignored feature has no length to tell its gain from. Neither
        does one of a nearly zero column, whose direction is noise; there u . W W^T u is about that of other features.

    Raises:
        ValueError: W is not a matrix, or has no row or no column.
    """
    return _trained_marginal(_matrix(W))


def _matrix(W: ArrayLike) -> jax.Array:
    array = floating("W", W, "be an array of real numbers, [..., D, N]")
    shape = "have at least one row and one column, [..., D, N]"
    require(array.ndim >= 2 and min(array.shape[-2:]) > 0, "W", shape, array.shape)
    return array


@jax.jit
@partial(jnp.vectorize, signature="(d,n)->(n)")
def _capacities(W: jax.Array) -> jax.Array:
    """Eq. 3 of one matrix as 1 / sum_j q_ij^2, with q_ij = (w_i . w_j) / (w_i . w_i)."""
    length, embedded = _nonzero(jnp.max(jnp.abs(W), axis=0))
    unit = W / length[None, :]
    gram = jnp.matmul(unit.T, unit, precision="highest")  # by default accelerators round to TF32 or bfloat16
    norm = jnp.where(embedded, jnp.diagonal(gram), 1)  # a zero column must not divide by zero, in the gradient either
    largest = jnp.finfo(W.dtype).max ** 0.5 / W.shape[0] / W.shape[1]  # its square, summed over D and N, is finite
    ratio = jnp.minimum(length[None, :] / length[:, None], largest)
    interference = jnp.sum((gram * ratio / norm[:, None]) ** 2, axis=1)
    C = jnp.minimum(1 / jnp.where(embedded, interference, 1), 1)  # above 1 by rounding only
    return jnp.where(embedded, C, 0)


@jax.jit
@partial(jnp.vectorize, signature="(d,n)->(n)")
def _trained_marginal(W: jax.Array) -> jax.Array:
    """2 (sum_j (u_i . w_j)^2)^2, with the unit vectors u_i = w_i / ||w_i||."""
    length, embedded = _nonzero(jnp.max(jnp.abs(W), axis=0))
    scaled = W / length[None, :]
    norm = jnp.where(embedded, jnp.sum(scaled**2, axis=0), 1)
    projections = jnp.matmul(scaled.T, W, precision="highest") ** 2
    return jnp.where(embedded, 2 * (jnp.sum(projections, axis=1) / norm) ** 2, jnp.nan)


@jax.jit
@partial(jnp.vectorize, signature="(d,n)->(n)")
def _isotropic_capacities(W: jax.Array) -> jax.Array:
    """Diagonal of the projector W^+ W, which unlike R alone is smooth where singular values coincide."""
    W = W / _nonzero(jnp.max(jnp.abs(W)))[0]
    inverse = jnp.linalg.pinv(W, rtol=max(W.shape) * float(jnp.finfo(W.dtype).eps))
    return jnp.clip(jnp.sum(inverse.T * W, axis=0), 0, 1)  # outside by rounding only


def _nonzero(scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the scale to divide by, 1 where it is zero, and whether it is not; NaN counts as non-zero, and so stays
    NaN.

    The results do not depend on the scale that an embedding is divided by, so no gradient goes through it.
    """
    nonzero = ~(scale < jnp.finfo(scale.dtype).tiny)
    return jax.lax.stop_gradient(jnp.where(nonzero, scale, 1)), nonzero


def phases(capacity: np.ndarray, margin: float = MARGIN) -> np.ndarray:
    """Return 0 where a feature of this capacity is ignored, 1 where it is shared, 2 where it is full, int8; -1 where
    the capacity is not known."""
    found = (capacity >= margin).astype(np.int8) + (capacity > 1 - margin)
    return np.where(np.isnan(capacity), np.int8(-1), found)
