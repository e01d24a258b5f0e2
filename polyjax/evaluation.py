"""What a trained model is worth: its loss on one large common batch, with the standard error.

Restarts of a cell are ranked by this loss, so it must be far more certain than that of a training batch. The batch is
made of quasi-random values under independent random shifts, whose spread gives the standard error. It is the same for
every importance and restart at a density, so that differences between restarts are more certain still. Compiled without
the training's fast-math.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from polyjax import lanes
from polyjax.models import Params
from polyjax.sampling import Batch, Sampler, default_sampler, kronecker
from polyjax.training import Training

SHIFTS = 8
SAMPLES = 2048  # a shift


def evaluation_sampler(sampler: Sampler) -> Sampler:
    """The sampler of least variance for the features that `sampler` draws."""
    name = default_sampler(sampler.n_features, SAMPLES)
    return Sampler(name, sampler.distribution, sampler.n_features, SAMPLES)


def shifted_batch(sampler: Sampler, key: Array, density: Array) -> Batch:
    """Quasi-random samples: the points of one Kronecker sequence under a random shift."""
    shift = jax.random.bits(key, sampler.shape[1:])
    return sampler(kronecker(shift[None], jnp.arange(sampler.batch)[:, None]), density)


def evaluate(training: Training, params: Params, importance: Array, density: Array, key: Array) -> tuple[Array, Array]:
    """The loss and its standard error, both [P, L], of params [P, L, ...] at the importance [L] of feature 0 and the
    density [P]. The expected objective is known without error."""
    if training.objective == "expected":
        kurtosis = training.sampler.distribution.kurtosis(density)
        loss = _each_lane(training)(params, importance, kurtosis)
        return loss, jnp.zeros_like(loss)
    sampler = evaluation_sampler(training.sampler)
    total = _lanes_loss(training) if training.engine == "lanes" else _each_lane(training)
    batches = jax.vmap(shifted_batch, (None, None, 0))
    losses = lax.map(lambda k: total(params, importance, batches(sampler, k, density)), jax.random.split(key, SHIFTS))
    return losses.mean(0), losses.std(0, ddof=1) / SHIFTS**0.5


def _each_lane(training: Training) -> Callable[[Params, Array, Any], Array]:
    def one(params: Params, importance: Array, data: Any) -> Array:
        return training.loss(params, training.importances(importance), data)

    return jax.vmap(jax.vmap(one, (0, 0, None)), (0, None, 0))


def _lanes_loss(training: Training) -> Callable[[Params, Array, Batch], Array]:
    model = training.model
    total = lanes.sampled_loss(model.loss, jax.eval_shape(model.init, jax.random.key(0)), model.n_features)
    return lambda params, importance, batch: total(lanes.last(params), importance, lanes.samples_minor(batch))


@lru_cache(maxsize=32)
def compiled(training: Training) -> Callable[..., tuple[Array, Array]]:
    """The jitted `evaluate`; the same object for the same configuration, so compiled once."""

    def evaluated(params: Params, importance: Array, density: Array, key: Array) -> tuple[Array, Array]:
        with jax.default_matmul_precision("float32"):
            return evaluate(training, params, importance, density, key)

    return jax.jit(evaluated)
