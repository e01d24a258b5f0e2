"""Evaluation of trained models: their loss on two large common batches, one to choose by and one to report.

Restarts of a cell are ranked by the first loss, so it must be far more certain than that of a training batch: its batch
is one large lattice (`lattice`), which has the least error. The least of several noisy losses is too low on average,
hence the second, on independent samples under many random shifts, whose spread gives the standard error. Both are the
same for every importance and restart at a density, so that differences between restarts are more certain still, and
independent between densities. Compiled without the training's fast-math.

Axis letters: S shifts or tiles, C parts of a batch, B samples a part, P densities, L lanes a density, N features.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from polyjax.engine import devices, lanes
from polyjax.engine.lattice import tile
from polyjax.engine.training import Training
from polyjax.engine.unroll import Staged
from polyjax.toy.models import Params, one_model
from polyjax.toy.sampling import LARGEST_ENUMERATED, Batch, Sampler, allocate, kronecker, mask_probability, masks


class Quadrature(NamedTuple):
    """A batch to report: so many shifts of a Korobov lattice for every activity mask.

    The multipliers were found by a search over all, as those of the least largest error of E[min(x, y)^2] over the
    pairs of nine features: the interference of two features, which is all of the loss where few are active.
    """

    shifts: int
    points: int
    multiplier: int
    stratified: int  # samples a shift where there are too many masks to enumerate


class Batches(NamedTuple):
    """The two common batches: to rank by, so many tiles of a lattice; to report, sixteen shifts, so that the standard
    error has 15 degrees of freedom and can be believed."""

    tiles: int
    report: Quadrature


FINE = Batches(16, Quadrature(16, 67, 9, 4096))
COARSE = Batches(8, Quadrature(16, 37, 28, 2048))  # for what is polished afterwards
_ANY = optax.identity()  # in place of the optimizer, which evaluation does not use
LOSSES = 2**21  # in memory at a time, or on arrays as many activations: what a core's cache holds


class Evaluated(NamedTuple):
    """Losses of every lane, each [P, L]."""

    rank_loss: Array  # by which restarts and solutions of a cell are chosen
    loss: Array  # on independent samples
    loss_se: Array  # the standard error of `loss`


def ranking_batch(sampler: Sampler, key: Array, density: Array, tiles: int) -> Batch:
    """Return samples of the features that `sampler` draws at one density, a lattice in S tiles: x [S, B, N]."""
    key = _of_density(key, density)
    return jax.vmap(lambda number: tile(sampler, key, density, number, jnp.int32(tiles)))(jnp.arange(tiles))


def report_batch(sampler: Sampler, key: Array, density: Array, quadrature: Quadrature) -> Batch:
    """Return samples of the features that `sampler` draws at one density, in S parts that are unbiased each: x [S, B,
    N].

    Shifted lattices for every activity mask, or for many features stratified samples.
    """
    keys = jax.random.split(_of_density(key, density), quadrature.shifts)
    form = _lattice if 2**sampler.n_features <= LARGEST_ENUMERATED else _sequence
    return jax.vmap(form, (None, 0, None, None))(sampler, keys, density, quadrature)


def _of_density(key: Array, density: Array) -> Array:
    """Densities have samples of their own, so that the errors of a diagram are not one draw."""
    return jax.random.fold_in(key, lax.bitcast_convert_type(jnp.asarray(density, jnp.float32), jnp.uint32))


def _lattice(sampler: Sampler, key: Array, density: Array, quadrature: Quadrature) -> Batch:
    """Return every mask with one shifted copy of the lattice, and half as many copies again where more is active: to
    mask m in proportion to |m| P(m). Where all features are active, all of the loss is in one mask."""
    n = sampler.n_features
    probability, active = mask_probability(density, n), masks(n).sum(1)
    more = allocate(probability * active, (len(active) + 1) // 2)
    mask = jnp.concatenate([jnp.arange(len(active)), more])
    copies = jnp.ones(len(active)).at[more].add(1)
    points = quadrature.points
    generator = np.array([pow(quadrature.multiplier, i, points) for i in range(n)])
    lattice = np.arange(points)[None, :, None] * generator % points / points
    u = lattice + jax.random.uniform(key, (len(mask), 1, n))
    # Folded at 1/2, so that it is continuous across the ends of the interval; kept inside it for every quantile.
    u = jnp.clip(1 - jnp.abs(2 * (u % 1) - 1), 2.0**-24, 1 - 2.0**-24)
    x = sampler.distribution.active_value(u, density) * jnp.asarray(masks(n))[mask][:, None]
    weight = jnp.repeat((probability / copies)[mask] / points, points)
    return Batch(x.reshape(-1, n), weight)


def _sequence(sampler: Sampler, key: Array, density: Array, quadrature: Quadrature) -> Batch:
    samples = quadrature.stratified
    stratified = Sampler("stratified", sampler.distribution, sampler.n_features, samples)
    shift = jax.random.bits(key, stratified.shape[1:])
    return stratified(kronecker(shift[None], jnp.arange(samples)[:, None]), density)


def _parts(batch: Batch, most: int) -> Batch:
    """Return x [P, S, B, N] and weight [P, S, B] as [S, C, P, B, N] and [S, C, P, B] with at most `most` samples each;
    the last part is filled up with samples of weight 0."""
    samples = batch.weight.shape[-1]
    count = -(-samples // most)
    size = -(-samples // count)

    def split(a: Array) -> Array:
        a = jnp.pad(a, [(0, 0), (0, 0), (0, count * size - samples)] + [(0, 0)] * (a.ndim - 3))
        return jnp.moveaxis(a.reshape(*a.shape[:2], count, size, *a.shape[3:]), 0, 2)

    return Batch(split(batch.x), split(batch.weight))


def evaluate(training: Training, params: Params, importance: Array, density: Array, key: Array) -> Evaluated:
    """Evaluate params [P, L, ...] at the importance [P, L] of feature 0 and the density [P]. The expected objective is
    known without error."""
    if training.objective == "expected":
        loss = rank(training, params, importance, density, key)
        return Evaluated(loss, loss, jnp.zeros_like(loss))
    report = _batches(training).report
    batch = jax.vmap(partial(report_batch, training.sampler, jax.random.fold_in(key, 1), quadrature=report))(density)
    losses = _losses(training, params, importance, batch)
    loss_se = losses.std(0, ddof=1) / report.shifts**0.5
    return Evaluated(rank(training, params, importance, density, key), losses.mean(0), loss_se)


def rank(training: Training, params: Params, importance: Array, density: Array, key: Array) -> Array:
    """Return the `rank_loss` of `evaluate` alone."""
    if training.objective == "expected":
        return _each_lane(training)(params, importance, training.sampler.distribution.sparse_moments(density))
    batch = jax.vmap(partial(ranking_batch, training.sampler, key, tiles=_batches(training).tiles))(density)
    return _losses(training, params, importance, batch).mean(0)


def _batches(training: Training) -> Batches:
    return COARSE if training.polished else FINE


def _losses(training: Training, params: Params, importance: Array, batch: Batch) -> Array:
    """Return the loss by every part of a batch of x [P, S, B, N]: [S, P, L]."""
    numbers = training.model.n_features + training.model.n_neurons if training.engine == "arrays" else 1
    most = max(64, LOSSES // (importance.size * numbers))
    batch = _parts(batch, most)
    prepare, total = (_arrays_loss if training.engine == "arrays" else _lanes_loss)(training)
    batch = jax.vmap(jax.vmap(prepare))(batch)  # before the loop, so that its kernels find the samples side by side
    of_shift = lambda shift: lax.map(lambda part: total(params, importance, part), shift).sum(0)  # noqa: E731
    return lax.map(of_shift, batch)


def _each_lane(training: Training) -> Callable[[Params, Array, Any], Array]:
    def one(params: Params, importance: Array, data: Any) -> Array:
        return training.loss(params, training.importances(importance), data)

    return jax.vmap(jax.vmap(one, (0, 0, None)))


def _arrays_loss(training: Training) -> Staged:
    return Staged(lambda batch: batch, _each_lane(training))


def _lanes_loss(training: Training) -> Staged:
    model = training.model
    prepare, total = lanes.sampled_loss(model.loss, one_model(model), model.n_features)
    return Staged(prepare, lambda params, importance, samples: total(lanes.last(params), importance, samples))


def compiled(training: Training) -> Callable[..., Evaluated]:
    """Return the jitted `evaluate`; the same object for the same configuration, however it was trained, so compiled
    once."""
    return _compiled(evaluate, replace(training, optimizer=_ANY, steps=0))


def compiled_rank(training: Training) -> Callable[..., Array]:
    """Return the jitted `rank`, likewise."""
    return _compiled(rank, replace(training, optimizer=_ANY, steps=0))


@lru_cache(maxsize=32)
def _compiled(f: Callable[..., Any], training: Training) -> Callable[..., Any]:
    def evaluated(params: Params, importance: Array, density: Array, key: Array) -> Any:
        with jax.default_matmul_precision("float32"):
            return f(training, params, importance, density, key)

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
