"""The geometry of embeddings: build efficient matrices and take trained ones apart (section 4, appendices B, E and H).

W has shape [D, N]: column i, w_i, embeds feature i, and n_i = w_i . w_i. W is efficient when its capacities (eq. 3) add
up to as much as they can, which is D for D <= N. Theorem 2: then, and only then, its features fall into blocks in
orthogonal subspaces, and within block k W_k W_k^T = mu_k I on the D_k dimensions of the block, so that n_i = mu_k C_i.

All of this is for finished embeddings, on the host and not under `jit`: NumPy in double precision, whatever JAX is set
to. Matrices come back in the float type of the argument (double for lists and integers), measures in double.

`tolerance`, in (0, 1), is what counts as zero beside one: the cosine of two features, the length of a feature beside
that of one it overlaps with, and a singular value of a block beside its scale. So blocks may have any scales. In models
trained on samples, cosines that ought to vanish reach 0.02 and ignored features keep 0.02 of the others' length; the
default of 0.05 is above both. For exact matrices take 1e-6. In many dimensions take less than 1 / sqrt(D), which is the
cosine of random directions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Real
from numpy import ndarray

from polyjax.checks import ArrayLike, broadcast, doubles, is_sequence, number, require


class Blocks(NamedTuple):
    """Blocks are numbered by their first feature; what is given by block, [..., N], is 0 from `n_blocks` on."""

    labels: ndarray  # [..., N], the block of each feature; -1 if it is ignored
    n_blocks: ndarray  # [...]
    sizes: ndarray  # [..., N], N_k by block: how many features it has
    dimensions: ndarray  # [..., N], D_k by block: its rank. Its capacities add up to D_k where W is efficient
    scales: ndarray  # [..., N], mu_k by block: the squared mean of its D_k singular values; NaN if W is not finite


class Decomposition(NamedTuple):
    """W ~ Q B P (section 4.4)."""

    Q: ndarray  # [D, D], orthogonal
    B: ndarray  # [D, N], block diagonal, B_k B_k^T = mu_k I; zero rows and columns at the end
    P: ndarray  # [N, N], a permutation: column i of B P is the column of B that belongs to feature i
    error: float  # ||W - Q B P|| / ||W||, Frobenius norms; 0 for W = 0


class Covariances(NamedTuple):
    """Covariances of the quadratic model's output with products of features (appendix B)."""

    true_target: ndarray  # Cov[y, x_i^2] = (k-1) v_i, [..., N], eq. 39
    true_model: ndarray  # Cov[y~, x_i^2] = (k-1) n_i, [..., N], eq. 42
    hallucinated: ndarray  # Cov[y~, x_i x_j] = 2 w_i . w_j, [..., N, N], eq. 47; 0 for i = j. Cov[y, x_i x_j] is 0


def embedding_with_capacities(capacity: Real[ArrayLike, " N"]) -> Float[ndarray, "D N"]:
    """A semi-orthogonal W, W W^T = I, with these capacities, C_i = n_i: Theorem 1, appendix H.

    One of many, by the Schur-Horn construction: from D unit vectors and N - D zeros, each of at most N - 1 plane
    rotations gives one more feature its capacity. It makes small blocks where it can: halves become antipodal pairs.

    Takes capacities [N], in [0, 1], whose sum is an integer D >= 1 up to 16 N roundings of their float type, and
    returns [D, N]. Raises ValueError for any others, which no semi-orthogonal W has.
    """
    C = doubles("capacity", capacity)
    require(C.ndim == 1 and C.size > 0, "capacity", "have at least one feature, [N]", C.shape)
    require((C >= 0) & (C <= 1), "capacity", "be in [0, 1]", C)
    total, dtype = float(C.sum()), _float_type(capacity)
    D, order = round(total), np.argsort(-C, kind="stable")
    integer = abs(total - D) <= 16 * C.size * np.finfo(dtype).eps
    require(integer and D >= 1, "capacity", "have an integer sum of at least 1", total)
    W = np.empty((D, C.size))
    W[:, order] = _schur_horn(C[order], D)
    return W.astype(dtype)


def _schur_horn(target: ndarray, D: int) -> ndarray:
    """[D, N] with orthonormal rows and squared column lengths `target` [N], which falls and adds up to D.

    Length goes from column i < D, which has too much, to column j >= D, which has too little, until one of them has its
    own. One of the two is as it was at the start, so they are orthogonal, and the sine below is at most sqrt(1/2).
    """
    W, n = np.eye(D, target.size), np.repeat([1.0, 0.0], [D, target.size - D])
    i, j = 0, D
    while i < D and j < target.size:
        excess, deficit = n[i] - target[i], target[j] - n[j]
        moved = min(excess, deficit)
        if moved > 0:
            sine = np.sqrt(moved / (n[i] - n[j]))
            cosine = np.sqrt(1 - sine**2)
            W[:, [i, j]] = W[:, [i, j]] @ np.array([[cosine, -sine], [sine, cosine]])
            n[[i, j]] += [-moved, moved]
        i, j = (i + 1, j) if excess <= deficit else (i, j + 1)
    return W


def tegum_product(factors: Sequence[ArrayLike], scales: Real[ArrayLike, " K"] | None = None) -> Float[ndarray, "D N"]:
    """Block-diagonal W with the blocks sqrt(mu_k) R_k (section 4.3), so that n_i = mu_k C_i as eq. 24 demands.

    Efficient if every R_k is semi-orthogonal up to a factor, as those of `embedding_with_capacities` are.

    Takes K matrices R_k [D_k, N_k] and scales mu [K], above 0, by default 1; returns [sum_k D_k, sum_k N_k] in the
    widest of the factors' float types.
    """
    require(is_sequence(factors) and len(factors) > 0, "factors", "be a sequence of at least one matrix", factors)
    matrices = [doubles("factors", R) for R in factors]
    require(all(R.ndim == 2 for R in matrices), "factors", "be matrices, [D_k, N_k]", [R.shape for R in matrices])
    mu = np.ones(len(matrices)) if scales is None else doubles("scales", scales)
    require(
        mu.shape == (len(matrices),), "scales", f"have shape [{len(matrices)}], one for each of the factors", mu.shape
    )
    require((mu > 0) & (mu < np.inf), "scales", "be finite and above 0", mu)
    W = np.zeros(np.sum([R.shape for R in matrices], axis=0), np.result_type(*map(_float_type, factors)))
    row = column = 0
    for R, scale in zip(matrices, mu, strict=True):
        W[row : row + R.shape[0], column : column + R.shape[1]] = np.sqrt(scale) * R
        row, column = row + R.shape[0], column + R.shape[1]
    return W


def is_efficient(W: Real[ArrayLike, "*batch D N"], tolerance: float = 0.01) -> Bool[ndarray, "*batch"] | np.bool:
    """Say whether sum_i C_i is the most that any matrix of W's shape reaches: min(D, N), up to the absolute
    `tolerance`.

    So a W of lower rank, which leaves dimensions unused, is not efficient. At its maximum the sum changes only with the
    square of a change of W, hence a small tolerance: cosines that are off by 0.01 cost about 1e-4 each.

    Takes W [..., D, N]; returns bool [...], False where W is not finite.
    """
    lack, explained = number("tolerance", tolerance), explained_variance(W)
    require(lack >= 0, "tolerance", "be at least 0", tolerance)
    return explained.sum(-1) >= min(np.shape(W)[-2:]) - lack


def explained_variance(
    W: Real[ArrayLike, "*batch D N"], unembedding: Real[ArrayLike, "*batch N D"] | None = None
) -> Float[ndarray, "*batch N"]:
    """Return the squared correlation of x_i with x~_i, x~ = U W x, for uncorrelated x of unit variance (appendix E).

    With U = W^T, the default, it is the capacity of eq. 3. With the best U, the pseudo-inverse of W, it is that of
    appendix G, as the paper supposes.

    Takes W [..., D, N] and U [..., N, D]; returns [..., N], in [0, 1]; 0 where x~_i is 0, NaN where W is not finite.
    """
    W, _ = _normalised(W)
    U = np.swapaxes(W, -1, -2) if unembedding is None else _matrix(unembedding, "unembedding")
    require(U.shape[-2:] == W.shape[:-3:-1], "unembedding", "have W's shape transposed, [..., N, D]", U.shape)
    broadcast(W=W.shape[:-2], unembedding=U.shape[:-2])
    M = U @ W
    largest = np.abs(M).max(-1, keepdims=True)
    M = M / np.where(largest == 0, 1, largest)  # a row's size cancels, and its square could underflow
    covariance, variance = np.diagonal(M, axis1=-2, axis2=-1), (M * M).sum(-1)
    return covariance**2 / np.where(variance == 0, 1, variance)


def covariances(
    W: Real[ArrayLike, "*#batch D N"],
    importance: Real[ArrayLike, "*#batch N"],
    kurtosis: Real[ArrayLike, "*#batch"],
) -> Covariances:
    """True and hallucinated covariances of the quadratic model with independent features (appendix B).

    Takes W [..., D, N], importance v [..., N], at least 0, and kurtosis k = E[x^4] [...], at least 1.
    """
    W, v, k = _matrix(W), doubles("importance", importance), doubles("kurtosis", kurtosis)
    require(v.shape[-1:] == W.shape[-1:], "importance", f"have shape [..., {W.shape[-1]}], as W has", v.shape)
    require((v >= 0) & (v < np.inf), "importance", "be finite and at least 0", v)
    require((k >= 1) & (k < np.inf), "kurtosis", "be finite and at least 1", k)
    broadcast(W=W.shape[:-2], importance=v.shape[:-1], kurtosis=k.shape)
    gram = np.swapaxes(W, -1, -2) @ W
    n = np.diagonal(gram, axis1=-2, axis2=-1)
    return Covariances((k[..., None] - 1) * v, (k[..., None] - 1) * n, 2 * gram * (1 - np.eye(W.shape[-1])))


def blocks(W: Real[ArrayLike, "*#batch D N"], tolerance: Real[ArrayLike, "*#batch"] = 0.05) -> Blocks:
    """Return the blocks of W: connected components of the graph with an edge where |w_i . w_j| > tolerance ||w_i||
    ||w_j||.

    A feature is ignored, and in no block, if its column is zero or shorter than `tolerance` times another with which it
    shares an edge. Takes W [..., D, N], thousands of small ones at once, and one tolerance or one for each, [...]; a W
    that is not finite has no blocks.
    """
    zero = doubles("tolerance", tolerance)
    require((zero > 0) & (zero < 1), "tolerance", "be above 0 and below 1", tolerance)
    W, size = _normalised(W)
    gram = np.swapaxes(W, -1, -2) @ W
    broadcast(W=size.shape, tolerance=zero.shape)
    labels = _components(gram, zero[..., None])
    member = (labels[..., None] == np.arange(W.shape[-1])).astype(float)  # [..., feature, block]
    dimensions, scales = _spectra(gram, member, zero[..., None])
    scales = np.where(np.isnan(size)[..., None], np.nan, scales * size[..., None] ** 2)
    return Blocks(labels, labels.max(-1) + 1, member.sum(-2).astype(int), dimensions, scales)


def _components(gram: ndarray, tolerance: ndarray) -> ndarray:
    """Return the block of each feature, [..., N], from W^T W."""
    n = np.diagonal(gram, axis1=-2, axis2=-1)
    length, index = np.sqrt(n), np.arange(n.shape[-1])
    edge = np.abs(gram) > tolerance[..., None] * length[..., :, None] * length[..., None, :]
    embedded = n > tolerance**2 * np.where(edge, n[..., None, :], 0).max(-1)
    connected = (edge & embedded[..., :, None] & embedded[..., None, :]).astype(np.float32)  # matmul is slow for bool
    for _ in range((index.size - 1).bit_length()):  # paths of twice the length each time
        connected = np.minimum(connected @ connected, 1)
    first = connected.argmax(-1)
    number = np.cumsum(embedded & (first == index), axis=-1) - 1
    return np.where(embedded, np.take_along_axis(number, first, axis=-1), -1)


def _spectra(gram: ndarray, member: ndarray, tolerance: ndarray) -> tuple[ndarray, ndarray]:
    """Rank and squared mean singular value of every block, [..., N], from one eigendecomposition.

    That of W^T W between blocks set to zero: the trace of a function of a block is a sum over its part of the diagonal.
    """

    def total(x: ndarray) -> ndarray:  # [..., feature] -> [..., block]
        return (x[..., None, :] @ member)[..., 0, :]

    def trace(f: ndarray) -> ndarray:  # [..., eigenvalue] -> [..., block]
        return total((vectors**2 @ f[..., None])[..., 0])

    inner = np.where(member @ np.swapaxes(member, -1, -2) > 0, gram, 0)
    n = total(np.diagonal(inner, axis1=-2, axis2=-1))
    scale = total((inner**2).sum(-1)) / np.where(n == 0, 1, n)  # tr G_k^2 / tr G_k, which is mu_k if W is efficient
    by_feature = (member @ scale[..., None])[..., 0]
    values, vectors = np.linalg.eigh(inner / np.where(by_feature == 0, 1, by_feature)[..., None])
    held = values > np.maximum(tolerance, 1e-6) ** 2  # squaring W has lost what is below
    dimensions = np.rint(trace(held)).astype(int)
    mean = trace(np.sqrt(np.where(held, values, 0))) / np.maximum(dimensions, 1)
    return dimensions, scale * mean**2


def decompose(W: Real[ArrayLike, "D N"], tolerance: float = 0.05) -> Decomposition:
    """Return the efficient matrix Q B P nearby that has the blocks of W: Theorem 2, section 4.4.

    Q is the orthogonal matrix nearest to the blocks' own principal directions, and B the best for that Q. If W is
    efficient within its span the error is that of rounding, provided that `tolerance` is smaller than its cosines.

    Takes one finite W [D, N]. Raises ValueError also if the blocks have more than D dimensions together, which happens
    where W is far from efficient and the tolerance large.
    """
    given, dtype = doubles("W", W), _float_type(W)
    require(given.ndim == 2, "W", "be one matrix, [D, N]", given.shape)
    require(np.isfinite(given), "W", "be finite", given)
    found = blocks(given, number("tolerance", tolerance))
    W, size = _normalised(given)
    D, N = W.shape
    columns = [W[:, found.labels == k] for k in range(found.n_blocks)]
    ranks = found.dimensions[: found.n_blocks]
    require(sum(ranks) <= D, "tolerance", f"be so small that the blocks fit in D = {D} dimensions", tolerance)
    frames = [np.linalg.svd(A)[0][:, :rank] for A, rank in zip(columns, ranks, strict=True)]
    left, _, right = np.linalg.svd(np.concatenate([W[:, :0], *frames], axis=1))
    Q = np.concatenate([left[:, : len(right)] @ right, left[:, len(right) :]], axis=1)
    *axes, unused = np.split(Q, np.cumsum(ranks), axis=1)
    factors = [_semiorthogonal(q.T @ A) for q, A in zip(axes, columns, strict=True)]
    B = tegum_product([*factors, np.zeros((unused.shape[1], N - found.sizes.sum()))])
    P = np.eye(N)[np.argsort(found.labels % (N + 1), kind="stable")]  # -1, ignored, goes last
    error = np.linalg.norm(W - Q @ B @ P) / (np.linalg.norm(W) or 1)
    return Decomposition(Q.astype(dtype), (size * B).astype(dtype), P.astype(dtype), float(error))


def _semiorthogonal(A: ndarray) -> ndarray:
    """Return the nearest multiple of a matrix with orthonormal rows to A [D_k, N_k], D_k <= N_k."""
    left, values, right = np.linalg.svd(A, full_matrices=False)
    return values.mean() * (left @ right)


def _matrix(W: ArrayLike, name: str = "W") -> ndarray:
    """W in double precision, [..., D, N]; NaN throughout where it is not finite."""
    W = doubles(name, W)
    require(W.ndim >= 2 and min(W.shape[-2:]) > 0, name, "have at least one row and one column, [..., D, N]", W.shape)
    return np.where(np.isfinite(W).all((-2, -1), keepdims=True), W, np.nan)


def _normalised(W: ArrayLike) -> tuple[ndarray, ndarray]:
    """W over its largest entry, and that entry, [...], 1 for W = 0 and NaN where W is not finite."""
    W = _matrix(W)
    size = np.abs(W).max((-2, -1))
    size = np.where(size == 0, 1, size)
    return W / size[..., None, None], size


def _float_type(x: Any) -> np.dtype:
    dtype = np.asarray(x).dtype
    return dtype if dtype.kind == "f" else np.dtype(np.float64)
