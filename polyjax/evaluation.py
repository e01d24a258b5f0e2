"""What a trained model is worth: its loss on one large common batch, with the standard error.

Restarts of a cell are ranked by this loss, so it must be far more certain than that of a training batch. The batch is
made of quasi-random values under independent random shifts, whose spread gives the standard error. It is the same for
every importance and restart at a density, so that differences between restarts are more certain still. Compiled without
the training's fast-math.

Axis letters: S shifts, C parts of a batch, B samples a part, P densities, L lanes a density, N features.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from polyjax import devices, lanes
from polyjax.models import Params
from polyjax.sampling import LARGEST_ENUMERATED, Batch, Sampler, allocate, kronecker, mask_probability, masks
from polyjax.training import Training, one_model

SHIFTS = 4
# A Korobov lattice. Its multiplier was found by a search over all, as that of the least largest error of E[min(x, y)^2]
# over the pairs of nine features: the interference of two features, which is all of the loss where few are active.
POINTS, MULTIPLIER = 251, 54
STRATIFIED = 16384  # samples a shift where there are too many masks to enumerate
_ANY = optax.identity()  # in place of the optimizer, which evaluation does not use
LOSSES = 2**21  # in memory at a time, or on arrays as many activations: what a core's cache holds


def common_batch(sampler: Sampler, key: Array, density: Array) -> Batch:
    """Samples of the features that `sampler` draws at one density, in S parts that are unbiased each: x [S, B, N].

    Shifted lattices for every activity mask, or for many features stratified samples.
    """
    return jax.vmap(_lattice if 2**sampler.n_features <= LARGEST_ENUMERATED else _sequence, (None, 0, None))(
        sampler, jax.random.split(key, SHIFTS), density
    )


def _lattice(sampler: Sampler, key: Array, density: Array) -> Batch:
    """Every mask with one shifted copy of the lattice, and half as many copies again where more is active: to mask m
    in proportion to |m| P(m). Where all features are active, all of the loss is in one mask."""
    n = sampler.n_features
    probability, active = mask_probability(density, n), masks(n).sum(1)
    more = allocate(probability * active, (len(active) + 1) // 2)
    mask = jnp.concatenate([jnp.arange(len(active)), more])
    copies = jnp.ones(len(active)).at[more].add(1)
    generator = np.array([pow(MULTIPLIER, i, POINTS) for i in range(n)])
    lattice = np.arange(POINTS)[None, :, None] * generator % POINTS / POINTS
    u = lattice + jax.random.uniform(key, (len(mask), 1, n))
    # Folded at 1/2, so that it is continuous across the ends of the interval; kept inside it for every quantile.
    u = jnp.clip(1 - jnp.abs(2 * (u % 1) - 1), 2.0**-24, 1 - 2.0**-24)
    x = sampler.distribution.active_value(u, density) * jnp.asarray(masks(n))[mask][:, None]
    weight = jnp.repeat((probability / copies)[mask] / POINTS, POINTS)
    return Batch(x.reshape(-1, n), weight)


def _sequence(sampler: Sampler, key: Array, density: Array) -> Batch:
    stratified = Sampler("stratified", sampler.distribution, sampler.n_features, STRATIFIED)
    shift = jax.random.bits(key, stratified.shape[1:])
    return stratified(kronecker(shift[None], jnp.arange(STRATIFIED)[:, None]), density)


def _parts(batch: Batch, most: int) -> Batch:
    """x [P, S, B, N] and weight [P, S, B] as [S, C, P, B, N] and [S, C, P, B] with at most `most` samples each; the
    last part is filled up with samples of weight 0."""
    samples = batch.weight.shape[-1]
    count = -(-samples // most)
    size = -(-samples // count)

    def split(a: Array) -> Array:
        a = jnp.pad(a, [(0, 0), (0, 0), (0, count * size - samples)] + [(0, 0)] * (a.ndim - 3))
        return jnp.moveaxis(a.reshape(*a.shape[:2], count, size, *a.shape[3:]), 0, 2)

    return Batch(split(batch.x), split(batch.weight))


def evaluate(training: Training, params: Params, importance: Array, density: Array, key: Array) -> tuple[Array, Array]:
    """The loss and its standard error, both [P, L], of params [P, L, ...] at the importance [P, L] of feature 0 and
    the density [P]. The expected objective is known without error."""
    if training.objective == "expected":
        loss = _each_lane(training)(params, importance, training.sampler.distribution.kurtosis(density))
        return loss, jnp.zeros_like(loss)
    numbers = training.model.n_features + training.model.n_neurons if training.engine == "arrays" else 1
    most = max(64, LOSSES // (importance.size * numbers))
    batch = _parts(jax.vmap(common_batch, (None, None, 0))(training.sampler, key, density), most)
    prepare, total = (_arrays_loss if training.engine == "arrays" else _lanes_loss)(training)
    batch = jax.vmap(jax.vmap(prepare))(batch)  # before the loop, so that its kernels find the samples side by side
    of_shift = lambda shift: lax.map(lambda part: total(params, importance, part), shift).sum(0)  # noqa: E731
    losses = lax.map(of_shift, batch)
    return losses.mean(0), losses.std(0, ddof=1) / SHIFTS**0.5


def _each_lane(training: Training) -> Callable[[Params, Array, Any], Array]:
    def one(params: Params, importance: Array, data: Any) -> Array:
        return training.loss(params, training.importances(importance), data)

    return jax.vmap(jax.vmap(one, (0, 0, None)))


def _arrays_loss(training: Training) -> tuple[Callable[[Batch], Any], Callable[[Params, Array, Any], Array]]:
    return lambda batch: batch, _each_lane(training)


def _lanes_loss(training: Training) -> tuple[Callable[[Batch], Any], Callable[[Params, Array, Any], Array]]:
    model = training.model
    prepare, total = lanes.sampled_loss(model.loss, one_model(model), model.n_features)
    return prepare, lambda params, importance, samples: total(lanes.last(params), importance, samples)


def compiled(training: Training) -> Callable[..., tuple[Array, Array]]:
    """The jitted `evaluate`; the same object for the same configuration, however it was trained, so compiled once."""
    return _compiled(replace(training, optimizer=_ANY, steps=0))


@lru_cache(maxsize=32)
def _compiled(training: Training) -> Callable[..., tuple[Array, Array]]:
    def evaluated(params: Params, importance: Array, density: Array, key: Array) -> tuple[Array, Array]:
        with jax.default_matmul_precision("float32"):
            return evaluate(training, params, importance, density, key)

    return jax.jit(devices.spread(evaluated), compiler_options=_compiler_options())


@lru_cache(maxsize=1)
def _compiler_options() -> dict[str, bool | int] | None:
    """On a CPU, vectors of full width, which change no result; and jax 0.10 vectorises these kernels only without its
    new fusion emitters, a factor of 5, where later versions do it always and do not know the option."""
    wide = devices.on_cpu({"xla_cpu_prefer_vector_width": 512, "xla_backend_optimization_level": 2})
    if wide is None:
        return None
    with_option = wide | {"xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda x: x, compiler_options=with_option).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return wide
    return with_option
