"""Certificates of minima: by how much the loss still falls nearby, and the Hessian's spectrum.

Both are found by a further attempt at polishing (`polish`), on samples that the solution has not seen. The fall is
measured and not extrapolated, since a ReLU model's loss has kinks where a weight is 0, at which minima sit with a
gradient that does not vanish; it includes what a step along the direction of least curvature gains, so that a saddle
does not pass. The spectrum is in units in which embeddings have length about 1 (`Model.scale`), beside the loss: a step
of length e along an eigenvector of eigenvalue s changes the loss by the fraction e^2 s / 2. Beside a kink it is that of
a chord. Directions that rotate the neurons, where a model's loss does not notice them, are left out. NumPy in double
precision, on the host.

Axis letters: L cells, n parameters, D neurons, N features, G rotations.
"""

from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from polyjax.engine.descent import ENOUGH
from polyjax.toy.model import Model, Parameters, embeds_by_parameter, n_neurons, one_model

SETTLED = 1e-3  # the largest fraction by which the loss of a minimum still falls when it is polished further
FLATTEST = 0.04  # curvatures below count as flat: a step of 0.1 changes the loss by less than 0.02 %


class Certificate(NamedTuple):
    """Certificate of solutions, [...]."""

    excess: np.ndarray  # [...], the fraction by which the loss fell when polished further, on independent samples
    spectrum: np.ndarray  # [..., n], ascending, beside the loss; NaN at the end for rotations


def fall(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the fraction by which losses fell; none where both are the same, also 0, infinite where one was not
    finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = np.where(before == after, 0, np.maximum(before / after - 1, 0))  # below 0 by rounding alone
        return np.where(np.isfinite(before), fraction, np.inf)


def uncertainty(excess: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    """Return how far a solution may be from its minimum, [...], in units of the embeddings' lengths.

    The distance at which a loss of the given excess lies along the flattest direction, (2 excess / s)^(1/2), where s is
    no less than `FLATTEST`: directions that are flatter are no part of what makes the minimum. The excess is no less
    than `descent.ENOUGH`, which polishing leaves over without seeing it. NaN where nothing is known.
    """
    flattest = np.maximum(np.nanmin(abs(spectrum), axis=-1, initial=np.inf), FLATTEST)
    return np.sqrt(2 * np.maximum(excess, ENOUGH) / flattest)


def spectrum(
    model: Model, params: Parameters, scale: np.ndarray | None, loss: np.ndarray, hessian: np.ndarray
) -> np.ndarray:
    """Return the spectrum [L, n] of solutions, params [L, ...], of this loss [L] and Hessian [L, n, n].

    `scale` [L, N] is the model's scale of every feature, if it has one. NaN where a solution is not finite.
    """
    units = _units(params, scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = (
            hessian.astype(np.float64) * units[:, :, None] * units[:, None, :] / loss.astype(np.float64)[:, None, None]
        )
    flat = _flat(params)
    finite = np.isfinite(scaled).all((1, 2)) & np.isfinite(flat).all(1)
    scaled = np.where(finite[:, None, None], scaled, 0)
    turned = np.zeros((*flat.shape, 0))
    if has_rotations(model):
        turned = _rotations(params._replace(W=np.where(finite[:, None, None], params.W, 0))) / units[:, :, None]
    return np.where(finite[:, None], _eigenvalues(scaled, turned), np.nan)


def _flat(params: Parameters) -> np.ndarray:
    """Return parameters [L, ...] as one array [L, n]."""
    return np.concatenate([np.asarray(leaf, float).reshape(len(leaf), -1) for leaf in params], axis=1)


def _units(params: Parameters, scale: np.ndarray | None) -> np.ndarray:
    """Return the size that each parameter is measured in, [L, n]: for the columns of W the model's `scale` [L, N] of
    their features, else 1."""
    ones = jax.tree.map(np.ones_like, params)
    return _flat(ones if scale is None else ones._replace(W=ones.W * np.where(scale > 0, scale, 1)[:, None]))


def _eigenvalues(hessian: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Return the eigenvalues [L, n] in ascending order, NaN in place of those of the rotations [L, n, G]."""
    left, size, _ = np.linalg.svd(rotations, full_matrices=False)
    real = size > 1e-6 * np.maximum(size.max(1, initial=0, keepdims=True), 1e-30)
    left = left * real[:, None]
    projector = left @ np.swapaxes(left, 1, 2)
    rest, top = np.eye(hessian.shape[1]) - projector, 10 * abs(hessian).sum(2).max(1) + 1  # which puts them last
    values = np.linalg.eigvalsh(rest @ hessian @ rest + top[:, None, None] * projector)
    return np.where(np.arange(hessian.shape[1]) < hessian.shape[1] - real.sum(1)[:, None], values, np.nan)


def _rotations(params: Parameters) -> np.ndarray:
    """Return the changes of parameters [L, ...] that rotate the neurons, [L, n, G]."""
    W, zeros = np.asarray(params.W, float), jax.tree.map(lambda a: np.zeros(a.shape), params)
    turned = []
    for i, j in combinations(range(W.shape[1]), 2):
        change = np.zeros(W.shape)
        change[:, i], change[:, j] = W[:, j], -W[:, i]
        turned.append(_flat(zeros._replace(W=change)))
    return np.stack(turned, axis=-1)


@lru_cache(maxsize=32)
def has_rotations(model: Model) -> bool:
    """Say whether the loss is unchanged when the neurons are rotated, the rows of a parameter W that is the embedding,
    by trying it."""
    one, D = one_model(model), n_neurons(model)
    if not embeds_by_parameter(model) or D == 1:
        return False
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), one)
    Q = jnp.asarray(np.linalg.qr(rng.normal(size=(D, D)))[0], jnp.float32)
    x, v = (jnp.asarray(rng.random((8, model.n_features)) + 0.1, jnp.float32) for _ in range(2))
    loss = jax.vmap(model.loss, (None, 0, 0))
    with jax.default_matmul_precision("float32"):
        before, after = loss(params, x, v), loss(params._replace(W=Q @ params.W), x, v)
    return bool(np.allclose(before, after, rtol=1e-3))
