"""The expected loss of given weights in double precision, and the best minima known: what training is held against.

Shares no code with polyjax. The expectation is a weighted sum over all 2^N masks of active features, with scrambled
Sobol points in each; for the square activation it is exact, by the three-node Gauss rule of a sparse feature.

Measured as the relative difference of two randomisations at the best weights known of 132 cells, p from 0.01 to 1: for
Anthropic at most 7e-6 with ReLU and 8e-7 with GELU, for Redwood 1e-5 in the median with ReLU and 3e-6 with GELU, and at
most 6e-5 and 7e-5, where features are dense (p > 0.1): their kinks fill six dimensions. Differences between solutions
of one kind, on the same samples, are far more certain than that.

Axis letters: S samples, N features, D neurons, M minima.
"""

from functools import lru_cache
from itertools import product
from math import sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import qmc

FEATURES = 6
POINTS = 2**20  # of a quadrature, about
BLOCK = 8192  # samples at a time: what a core's cache holds
TABLE = Path(__file__).parent / "data" / "best_known.npz"


class Problem(NamedTuple):
    """What is minimised: one cell of a panel."""

    model: str  # "redwood" or "anthropic"
    activation: str  # "square", "relu" or "gelu"
    neurons: int  # D
    density: float  # p
    importance: float  # V, of feature 0


class Quadrature(NamedTuple):
    """Samples of the features, whose weights sum to 1."""

    x: np.ndarray  # [N, S]
    weight: np.ndarray  # [S]
    target: np.ndarray  # [N, S]: what the features contribute to y, or its even part (see `_redwood`); x for Anthropic


class Loss(NamedTuple):
    """An expected loss and its derivatives."""

    value: float
    W: np.ndarray  # [D, N]
    b: np.ndarray  # [] (Redwood) or [N] (Anthropic)


def problem(panel, density, importance):
    """The problem of a panel's cell; a panel is called as its results file, such as "redwood-relu-6in3"."""
    model, activation, size = panel.split("-")
    return Problem(model, activation, int(size.removeprefix("6in")), float(density), float(importance))


def quadrature(problem, seed=0, points=POINTS, dtype=np.float64):
    """The samples for a problem: exact ones for "square", and about `points` quasi-random ones otherwise.

    Redwood's are for functions with f(-x) = f(x), which is all that `expected_loss` asks of them.
    """
    signed = problem.model == "redwood"
    exact = problem.activation == "square"
    p = problem.density
    x, weight = (a.astype(dtype) for a in (_gauss(signed, p) if exact else _sobol(signed, p, seed, points)))
    return Quadrature(x, weight, _even(problem.activation, x)[0] if signed else x)


@lru_cache(maxsize=8)
def _gauss(signed, p):
    """The product of each feature's three-node Gauss rule, 3^N samples: exact where no feature's power exceeds 5, and
    a squared difference from a square has powers up to 4."""
    node, weight = _three_nodes([1] + [p * m for m in _moments(signed, p)])
    x = np.array(list(product(node, repeat=FEATURES))).T
    return np.ascontiguousarray(x), np.array(list(product(weight, repeat=FEATURES))).prod(1)


def _moments(signed, p):
    """E[z^n], n = 1 to 6, of an active feature: U(-a, a) with a^2 = 3 / p, or U(0, 1)."""
    if not signed:
        return [1 / (n + 1) for n in range(1, 7)]
    return [0 if n % 2 else (3 / p) ** (n / 2) / (n + 1) for n in range(1, 7)]


def _three_nodes(moments):
    """Nodes and weights from the moments 0 to 6, by Golub and Welsch."""
    scale = moments[2] ** 0.5
    moments = [m / scale**n for n, m in enumerate(moments)]
    R = np.linalg.cholesky(np.array([[moments[i + j] for j in range(4)] for i in range(4)])).T
    ratio = [0, *(R[j, j + 1] / R[j, j] for j in range(3))]
    alpha = np.diff(ratio)
    beta = [R[j + 1, j + 1] / R[j, j] for j in range(2)]
    node, vector = np.linalg.eigh(np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1))
    return node * scale, vector[0] ** 2


@lru_cache(maxsize=2)
def _sobol(signed, p, seed, points):
    """Every mask of k active features with 2^m scrambled Sobol points of dimension k, weighted by P(mask) / 2^m."""
    masks = [np.flatnonzero(mask) for mask in product((0, 1), repeat=FEATURES)]
    masks = [m for m in masks if _probability(p, len(m)) > 0]
    random = np.random.default_rng(seed)
    xs, weights = [], []
    for mask, size in zip(masks, _sizes(p, [len(m) for m in masks], points), strict=True):
        x = np.zeros((FEATURES, size))
        if len(mask):
            u = _points(len(mask), size, random)
            if signed:
                u[1:] = 2 * u[1:] - 1  # the first one positive: the other half of the points would be -x
                u *= sqrt(3 / p)
            x[mask] = u
        xs.append(x)
        weights.append(np.full(size, _probability(p, len(mask)) / size))
    return np.concatenate(xs, axis=1), np.concatenate(weights)


def _points(k, size, random):
    """`size` uniform numbers in each of k dimensions. In one dimension midpoints are the best that there is."""
    if k == 1:
        return (np.arange(size)[None] + 0.5) / size
    return qmc.Sobol(k, rng=random).random_base2(size.bit_length() - 1).T


def _probability(p, k):
    """Of one mask with k active features."""
    return p**k * (1 - p) ** (FEATURES - k)


def _sizes(p, active, points):
    """How many samples each mask gets: by the square root of its probability, since that is what keeps the error of
    the sum small, and more where more is active; few in one dimension, where points are evenly spaced."""
    share = np.array([k**2 * sqrt(_probability(p, k)) for k in active])
    share[np.array(active) == 1] = 0
    wanted = points * share / share.sum()
    wanted = [points / 64 if k == 1 else max(n, 8) for k, n in zip(active, wanted, strict=True)]
    return [1 if k == 0 else 2 ** round(np.log2(n)) for k, n in zip(active, wanted, strict=True)]


def expected_loss(problem, W, b, samples=None):
    """The expected loss of W [D, N] and b, with its derivatives; with the quadrature `samples`, or else a fine one."""
    samples = quadrature(problem) if samples is None else samples
    dtype = samples.x.dtype
    v = np.array([problem.importance] + [1] * (FEATURES - 1), dtype)
    of_block = _redwood if problem.model == "redwood" else _anthropic
    W, b = np.asarray(W, dtype), np.asarray(b, dtype)
    parts = [
        of_block(problem.activation, W, b, v, Quadrature(*(a[..., i : i + BLOCK] for a in samples)))
        for i in range(0, samples.weight.size, BLOCK)
    ]
    value, dW, db = (sum(np.asarray(term, float) for term in terms) for terms in zip(*parts, strict=True))
    if problem.model == "redwood" and problem.activation != "square":
        gap = W.sum(0) - v
        value, dW = value + gap @ gap / 4, dW + gap / 2
    return Loss(float(value), dW, db)


def expected_losses(problem, W, b, samples=None):
    """The expected losses [M] of W [M, D, N] and b [M, ...]."""
    samples = quadrature(problem) if samples is None else samples
    return np.array([expected_loss(problem, *weights, samples).value for weights in zip(W, b, strict=True)])


def _redwood(activation, W, b, v, samples):
    """The even part of the loss, sum_s weight_s (sum_d e(w_d . x) + b - sum_i v_i e(x_i))^2, and its derivatives.

    ReLU and GELU are f(z) = z / 2 + e(z) with an even e. The features are symmetric about 0, so that the error's odd
    part, half of (sum_d w_d - v) . x, adds its variance |sum_d w_d - v|^2 / 4 and nothing else.
    """
    value, slope = _even(activation, W @ samples.x)
    error = value.sum(0) + b - v @ samples.target
    weighted = samples.weight * error
    return weighted @ error, 2 * (slope * weighted) @ samples.x.T, 2 * weighted.sum()


def _even(activation, z):
    """e(z) and e'(z)."""
    if activation == "square":
        return z * z, 2 * z
    if activation == "relu":
        return abs(z) / 2, np.sign(z) / 2
    value, slope = _gelu(z)
    return value - z / 2, slope - z.dtype.type(0.5)


def _anthropic(activation, W, b, v, samples):
    """sum_s weight_s sum_i v_i (f(W^T W x + b)_i - x_i)^2 and its derivatives."""
    value, slope = _activation(activation, (W.T @ W) @ samples.x + b[:, None])
    error = value - samples.target
    weighted = v[:, None] * (samples.weight * error)
    slope *= 2 * weighted
    outer = slope @ samples.x.T
    return np.vdot(weighted, error), W @ (outer + outer.T), slope.sum(1)


def _activation(activation, z):
    """f(z) and f'(z)."""
    if activation == "square":
        return z * z, 2 * z
    return (np.maximum(z, 0), (z > 0).astype(z.dtype)) if activation == "relu" else _gelu(z)


def _gelu(z):
    """The tanh form, z (1 + tanh u) / 2 with u = sqrt(2 / pi) (z + 0.044715 z^3), as z / (1 + exp(-2 u))."""
    c, cubic = z.dtype.type(-2 * sqrt(2 / np.pi)), z.dtype.type(0.044715)
    near = np.clip(z, -8, 8)  # beyond, gelu is 0 or z to double precision, and the exponential would overflow
    square = near * near
    sigma = 1 / (1 + np.exp(c * near * (1 + cubic * square)))
    value = z * sigma
    return value, sigma - value * (1 - sigma) * c * (1 + 3 * cubic * square)


def capacities(W):
    """C_i = (w_i . w_i)^2 / sum_j (w_i . w_j)^2 (eq. 3), [..., N]; 0 where feature i is not embedded at all."""
    gram = np.einsum("...di,...dj->...ij", W, W)
    norm = np.einsum("...ii->...i", gram)
    total = (gram**2).sum(-1)
    return np.where(total > 0, norm**2 / np.where(total > 0, total, 1), 0)


def canonical(capacity):
    """The same for every exchange of the features 1 to N - 1, whose importances are equal: these are sorted."""
    return np.concatenate([capacity[..., :1], np.sort(capacity[..., 1:], axis=-1)], axis=-1)


class Cell(NamedTuple):
    """A cell of a panel, and all distinct minima known within 0.02 % of the best one, which is the first."""

    panel: str
    row: int  # index of the density
    column: int  # index of the importance
    problem: Problem
    loss: np.ndarray  # [M], increasing
    capacity: np.ndarray  # [M, N]
    W: np.ndarray  # [M, D, N]
    b: np.ndarray  # [M] or [M, N]


def best_known(path=TABLE):
    """The cells of the table that data/search.py wrote."""
    with np.load(path) as file:
        table = {name: file[name] for name in file}
    cells = []
    for panel, row, column in dict.fromkeys(zip(*(table[k].tolist() for k in ("panel", "row", "column")), strict=True)):
        these = (table["panel"] == panel) & (table["row"] == row) & (table["column"] == column)
        loss, capacity, W, b = (table[name][these] for name in ("loss", "capacity", "W", "b"))
        here = problem(panel, table["density"][these][0], table["importance"][these][0])
        b = b[:, 0] if here.model == "redwood" else b
        cells.append(Cell(panel, row, column, here, loss, capacity, W[:, : here.neurons], b))
    return cells


def quadratic_loss(v, k, n_neurons):
    """Eq. 12, for one kurtosis or one a feature, as a function of the numbers of W [D N]; it returns the gradient,
    too."""
    weight = np.where(np.eye(v.size), k - 1, 2)

    def loss(x):
        W = x.reshape(n_neurons, -1)
        A = W.T @ W - np.diag(v)
        return (weight * A**2).sum(), (4 * W @ (weight * A)).ravel()

    return loss
