"""What the loss of blocks is where features are so sparse that hardly two are ever active together.

All features have importance 1, the biases are 0 and the activation is |z|^q. The derivations are ours.

- **Anthropic.** To first order in the density p one feature is active at a time, with u uniform on [0, 1]. With lengths
  n_i = ||w_i||^2 and K_ij = |cos_ij|^(2q), sum_i E[(|w_i . w_j u|^q - d_ij u)^2] is a quadratic form in the n_i^q,
  whose least value is L / p = N / 3 - (2q + 1) / (q + 2)^2 S with S = 1^T K^-1 1. It depends on the embedding by S
  alone. K is 1 in every antipodal pair and 0 between pairs, so that S = D for pairs, for D features alone, and for any
  mixture of these. Six equiangular lines in three dimensions, cos^2 = 1/5, form one block and have
  S = 6 / (1 + 5^(1-q)): more than 3 where q > 1, and less where q < 1. At q = 1 it is a tie, as it is for every tight
  frame of vectors of one length.
- **Redwood.** A feature alone costs nothing if sum_d |W_di|^q = 1. What is left is of pairs, L = p^2 sum_{i<j} I_ij
  with I_ij = E[(sum_d |W_di x + W_dj y|^q - |x|^q - |y|^q)^2]. For q = 2 it is 4 cos^2, so that the loss is 4 times the
  frame potential: the same for every tight frame of vectors of one length, of which three pairs are one.

With relu(z) in place of |z| features that point away from each other cost nothing to first order. At most 2 D vectors
in D dimensions have no positive inner products, and they fall into N - D blocks of k + 1 vectors in k dimensions (and
single ones). To second order a block that is a regular simplex costs p^2 (k + 1) (2k - 1) / (6 k^2), least for k = 1: N
features in D < N <= 2 D neurons fall into N - D pairs and 2 D - N features alone.
"""

from fractions import Fraction

import numpy as np
from numpy.polynomial.legendre import leggauss

NODES = 64  # of Gauss and Legendre's rule, on each side of the kinks at x = 0 and y = 0


def equiangular_lines() -> np.ndarray:
    """Return six lines in three dimensions, [3, 6], the diagonals of an icosahedron."""
    golden = (1 + np.sqrt(5)) / 2
    lines = [(0, 1, s * golden) for s in (1, -1)]
    return np.array([np.roll(line, k) for k in range(3) for line in lines]).T / np.hypot(1, golden)


def pairs(n_neurons: int) -> np.ndarray:
    """Return two features a neuron, [D, 2 D]."""
    return np.repeat(np.eye(n_neurons), 2, axis=1)


def anthropic_loss(W: np.ndarray, q: float) -> float:
    """Return L / p in the limit p -> 0 of the Anthropic model with |z|^q at the best lengths for the directions of
    W [D, N], given that these are not below 0."""
    w = W / np.linalg.norm(W, axis=0)
    K = abs(w.T @ w) ** (2 * q)
    worth = np.linalg.pinv(K, hermitian=True).sum()
    return W.shape[1] / 3 - (2 * q + 1) / (q + 2) ** 2 * worth


def redwood_loss(W: np.ndarray, q: float) -> float:
    """Return L p^(q-2) in the limit p -> 0 of the Redwood model with |z|^q for W [D, N], whose columns are scaled to
    sum_d |W_di|^q = 1. Of features with variance 1, whose active values grow as p^(-1/2)."""
    w = W / (abs(W) ** q).sum(0) ** (1 / q)
    i, j = np.triu_indices(W.shape[1], 1)
    x, y, weight = _square()
    error = (abs(w[:, i, None] * x + w[:, j, None] * y) ** q).sum(0) - x**q - abs(y) ** q
    return float((error**2 @ weight).sum())


def relu_blocks(n_features: int, n_neurons: int) -> list[int] | None:
    """Return the features in each block of the Anthropic ReLU model in the limit p -> 0, or None where N > 2 D."""
    extra = n_features - n_neurons
    if extra > n_neurons:
        return None
    return [2] * max(extra, 0) + [1] * (n_features - 2 * max(extra, 0))


def simplex_loss(k: int) -> Fraction:
    """Return L / p^2 in the limit p -> 0 of k + 1 features whose embeddings are a regular simplex in k dimensions, of
    the Anthropic ReLU model: E[min(x_i, x_j / k)^2] for each ordered pair."""
    return Fraction((k + 1) * (2 * k - 1), 6 * k * k)


def _square() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points x > 0 and y on both sides of 0, and their weights, of two signed uniform variables of variance 1,
    since x and y with both signs changed give the same."""
    u, weight = leggauss(NODES)
    u, weight = (u + 1) / 2, weight / 2  # on [0, 1]
    x, y = np.meshgrid(u, np.concatenate([u, -u]), indexing="ij")
    both = np.outer(weight, np.concatenate([weight, weight]) / 2)
    return np.sqrt(3) * x.ravel(), np.sqrt(3) * y.ravel(), both.ravel()
