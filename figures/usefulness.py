"""How well the two definitions of capacity, eq. 3 and that of appendix G, tell what a trained network does.

Measures of the network's own behaviour under the law of its features:

- *recovery*: the squared correlation of x_i with the model's own output for it, of an autoencoder;
- *gain*: what the loss would rise by if x_i were replaced by an independent copy where the model sees it, over what it
  would rise by if the model knew the feature perfectly. That is Cov[x~_i, x_i] / Var[x_i] of the Anthropic model, and
  Cov[y~, f(x_i)] / (v_i Var[f(x_i)]) of Redwood's (the ratio of eqs. 42 and 39);
- *loss*: of a cell, over the loss of a network that ignores all features; and of the restarts of a cell, which
  differ in nothing but where they ended;
- *blocks*: the rank of each block, to which its capacities should add up (eq. 25).

Array axes: density P, importance V, neuron D, feature N, sample B.
"""

from itertools import product
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import qmc, rankdata, spearmanr

import polyjax
from polyjax import embedding
from polyjax.draw.shapes import tolerance_of
from polyjax.results import Results
from polyjax.selection import Refined
from polyjax.toy.activations import find_activation

POINTS = 256  # of each pattern of active features
PARTED = 0.01  # by which the capacities of a feature differ in cells where the definitions part
FEWEST = 8  # cells in which a density's ranks are looked at
SPREAD = 0.01  # by which the losses of a cell's restarts must differ
ROUNDING = 1e-5  # of capacities in single precision
RESAMPLES = 2000  # of the densities


ToyModel = polyjax.Redwood | polyjax.Anthropic


class Samples(NamedTuple):
    """Weighted features of one density."""

    x: np.ndarray  # [B, N]
    weight: np.ndarray  # [B], adds up to 1


class Behaviour(NamedTuple):
    """What the networks of one density do with their features."""

    recovery: np.ndarray  # [V, N]; NaN where the model has no output for each feature
    gain: np.ndarray  # [V, N]
    unexplained: np.ndarray  # [V], the loss of a network that ignores all, by which losses are divided


class Capacities(NamedTuple):
    """Both definitions for embeddings, [..., N]."""

    eq3: np.ndarray
    isotropic: np.ndarray

    @property
    def parted(self) -> np.ndarray:
        """Where the definitions part, [...] bool."""
        return abs(self.eq3 - self.isotropic).max(-1) > PARTED


def samples(n: int, density: float, distribution: polyjax.distributions.Distribution, seed: int = 0) -> Samples:
    """Return all 2^n patterns of active features, each with the points of a scrambled Sobol sequence."""
    active = np.array([*product((0, 1), repeat=n)])
    probability = np.prod(np.where(active, density, 1 - density), axis=1)
    u = qmc.Sobol(n, seed=seed).random(POINTS * len(active)).astype(np.float32)
    values = np.asarray(distribution.active_value(np.clip(u, 1e-7, 1 - 1e-7), density), float)
    x = values.reshape(len(active), POINTS, n) * active[:, None]
    return Samples(x.reshape(-1, n), np.repeat(probability / POINTS, POINTS))


def covariance(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weighted covariances of a [..., B] and b [..., B]."""
    a, b = (each - (each @ weight)[..., None] for each in (a, b))
    return (a * b) @ weight


def behaviour(model: ToyModel, W: np.ndarray, b: np.ndarray, importance: np.ndarray, drawn: Samples) -> Behaviour:
    """Return what networks W [V, D, N] with biases b [V] or [V, N] and importances [V, N] do with samples."""
    x, weight = drawn.x.T, drawn.weight  # [N, B]
    activation = find_activation(model.activation)

    def f(z: np.ndarray) -> np.ndarray:
        return np.asarray(activation(jnp.asarray(z)), np.float64)

    if isinstance(model, polyjax.Redwood):
        target = f(x)
        error = f(W @ x).sum(-2) - importance @ target  # [V, B]
        variance = covariance(target, target, weight)
        # Of the error, since the target's covariances are known: those of an important feature would drown the others'.
        gain = 1 + covariance(error[:, None], target, weight) / (importance * variance)
        return Behaviour(np.full(gain.shape, np.nan), gain, importance**2 @ variance)
    out = f(np.swapaxes(W, -1, -2) @ (W @ x) + b[..., None])  # [V, N, B]
    variance, common = covariance(x, x, weight), covariance(out, x, weight)
    spread = covariance(out, out, weight) * variance
    recovery = common**2 / np.where(spread > 0, spread, 1)
    return Behaviour(recovery, common / variance, importance @ variance)


class Measured(NamedTuple):
    """The measures of a diagram, each [definition, P], of eq. 3 and of appendix G: a number for every density, NaN
    where the definitions part in too few of its cells, or the model has no such measure."""

    error: np.ndarray  # root mean square of C - recovery, over networks and features
    recovery: np.ndarray  # the share of its variance that a rising function of C explains, likewise
    gain: np.ndarray  # the same of the gain, over cells and features
    loss: np.ndarray  # rank correlation of the loss and the importance that has no capacity, over cells
    restarts: np.ndarray  # the same over the restarts of a cell, in the mean over cells
    blocks: np.ndarray  # root mean square of what a block's capacities miss of its rank, over blocks


def measure(results: Results) -> Measured:
    """Measure the refined diagram of a panel, and all restarts for recoveries, since Anthropic models part in few
    others."""
    found, restarts = (capacities(W) for W in (refined_of(results).embedding, results.W))
    rows = range(len(results.density))
    parted = [found.parted[row].sum() >= FEWEST for row in rows]
    others = [_row(results, found, row) if parted[row] else np.full((4, 2), np.nan) for row in rows]
    recovery = [_recovery(results, restarts, row) for row in rows]
    return Measured(*np.moveaxis(np.concatenate([recovery, others], axis=1), 0, -1))


def model_of(results: Results) -> ToyModel:
    """Return the model of a panel."""
    model = polyjax.Sweep.from_config(results.config).model
    assert isinstance(model, ToyModel)
    return model


def refined_of(results: Results) -> Refined:
    """Return the refined diagram of a panel. Raises ValueError where there is none."""
    if results.refined is None:
        raise ValueError("results must be refined, but are not")
    return results.refined


def capacities(W: np.ndarray) -> Capacities:
    """Return both definitions for embeddings [..., D, N]."""
    return Capacities(*(np.asarray(f(W), float) for f in (polyjax.capacities, polyjax.isotropic_capacities)))


def observed(results: Results, row: int, parted: np.ndarray) -> Behaviour:
    """Return what the refined networks of some cells [V] of one density do."""
    model, refined = model_of(results), refined_of(results)
    drawn = samples(model.n_features, results.density[row], model.distribution)
    return behaviour(model, refined.W[row][parted], refined.b[row][parted], _importances(results, parted), drawn)


def _importances(results: Results, parted: np.ndarray) -> np.ndarray:
    """Return v [V, N] of the features in some cells [V] of a density."""
    v = np.ones((parted.sum(), results.capacity.shape[-1]))
    v[:, 0] = results.importance[parted]
    return v


def _recovery(results: Results, found: Capacities, row: int) -> np.ndarray:
    """Return the two measures of recovery, [measure, definition], over the features whose capacities differ in networks
    of one density; NaN where these are of too few networks, or no autoencoders."""
    model, parted = model_of(results), found.parted[row]
    if parted.sum() < FEWEST or isinstance(model, polyjax.Redwood):
        return np.full((2, 2), np.nan)
    drawn, one = samples(model.n_features, results.density[row], model.distribution), np.ones(model.n_features)
    did = behaviour(model, results.W[row][parted], results.b[row][parted], one, drawn)
    eq3, isotropic = (C[row][parted] for C in found)
    differ = abs(eq3 - isotropic) > PARTED
    recovery, both = did.recovery[differ], (eq3[differ], isotropic[differ])
    error = [np.sqrt(np.mean((C - recovery) ** 2)) for C in both]
    return np.array([error, [monotone_fit(C, recovery) for C in both]])


def _row(results: Results, found: Capacities, row: int) -> np.ndarray:
    """Return the measures of one density, [measure, definition], over the cells where the definitions part."""
    parted, refined = found.parted[row], refined_of(results)
    did, loss = observed(results, row, parted), refined.loss[row][parted]
    power = 2 if results.config["model"]["name"] == "Redwood" else 1
    weight = _importances(results, parted) ** power  # of the features' variances in the loss
    blocks = embedding.blocks(refined.W[row][parted], tolerance_of(results, "refined"))
    restarts, of_restarts = capacities(results.W[row][parted]), results.rank_loss[row][parted]
    each = [
        (
            monotone_fit(C.ravel(), did.gain.ravel()),
            spearmanr(missing(C, weight), loss / did.unexplained).statistic,
            over_restarts(missing(all_C, weight[:, None]), of_restarts),
            np.sqrt(np.mean(shortfall(C, blocks) ** 2)),
        )
        for C, all_C in zip((C[row][parted] for C in found), restarts, strict=True)
    ]
    return np.array(each).T


def monotone_fit(C: np.ndarray, value: np.ndarray) -> float:
    """Return the share of a value's variance [B] that the best rising function of C [B] explains. Unlike ranks it does
    not depend on the order of values that are the same but for sampling, as those of all full features are."""
    order = np.lexsort((value, C))
    fit = isotonic_regression(value[order]).x
    return float(1 - ((value[order] - fit) ** 2).sum() / ((value - value.mean()) ** 2).sum())


def missing(C: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the share of the weight [..., N] that has no capacity [..., N]."""
    return 1 - (weight * C).sum(-1) / weight.sum(-1)


def over_restarts(value: np.ndarray, loss: np.ndarray) -> float:
    """Return the mean rank correlation of a value [V, R] with the loss [V, R] over restarts, of the cells in which the
    losses differ; NaN where there are none. A value that is the same in all restarts tells nothing: 0."""
    differ = np.ptp(loss, axis=1) > SPREAD * loss.min(1)
    ranks = rankdata(value[differ], axis=1), rankdata(loss[differ], axis=1)
    a, b = (each - each.mean(1, keepdims=True) for each in ranks)
    norm = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    tells = np.ptp(value[differ], axis=1) > ROUNDING
    found = np.where(tells, (a * b).sum(1) / np.where(norm > 0, norm, 1), 0)
    return float(found.mean()) if differ.any() else np.nan


def shortfall(C: np.ndarray, found: embedding.Blocks) -> np.ndarray:
    """Return what the capacities [V, N] of each block miss of its rank, of all blocks of all embeddings in a row."""
    member = found.labels[..., None] == np.arange(C.shape[-1])  # [V, feature, block]
    total = (C[..., None] * member).sum(-2)
    return (found.dimensions - total)[found.sizes > 0]


class Compared(NamedTuple):
    """A measure over a diagram: its mean over densities, and the 95 % interval of a bootstrap over densities, of eq. 3,
    of appendix G, and of the latter less the former; [3] each."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    densities: int


def compare(measured: np.ndarray, seed: int = 0) -> Compared | None:
    """Compare the definitions by one measure [definition, P]; None where fewer than two densities have it."""
    known = measured[:, np.isfinite(measured).all(0)]
    count = known.shape[1]
    if count < 2:
        return None
    values = np.stack([*known, known[1] - known[0]])
    chosen = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    low, high = np.quantile(values[:, chosen].mean(-1), [0.025, 0.975], axis=1)
    return Compared(values.mean(1), low, high, count)
