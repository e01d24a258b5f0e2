"""Evaluation of trained models: their loss on two large common batches, one to choose by and one to report.

Restarts of a cell are ranked by the first loss, so it must be far more certain than that of a training batch: its batch
is one large lattice (`lattice`), which has the least error. The least of several noisy losses is too low on average,
hence the second, on independent samples under many random shifts, whose spread gives the standard error. Both are the
same for every lane and restart of a row, so that differences between restarts are more certain still, and independent
between rows. Compiled without the training's fast-math.

Axis letters: S shifts or tiles, C parts of a batch, B samples a part, P rows, L lanes a row, N features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.typing import ArrayLike

from polyjax.engine import devices, lanes, timing
from polyjax.engine.cells import Coordinates, n_rows, over_rows
from polyjax.engine.drawing import of_steps
from polyjax.engine.keys import of_coordinates
from polyjax.engine.lattice import layout, tile
from polyjax.engine.training import Training, argument_shapes
from polyjax.engine.unroll import Staged
from polyjax.toy.distributions import Batch
from polyjax.toy.model import numbers_of
from polyjax.toy.sampling import allocate, masks, sequence

if TYPE_CHECKING:
    from polyjax.engine.devices import Program
    from polyjax.toy.features import Features
    from polyjax.toy.model import Parameters


class Quadrature(NamedTuple):
    """A batch to report: so many shifts of a Korobov lattice for every activity mask.

    The multipliers were found by a search over all, as those of the least largest error of E[min(x, y)^2] over the
    pairs of nine features: the interference of two features, which is all of the loss where few are active.
    """

    shifts: int
    points: int
    multiplier: int
    sequence: int  # samples a shift where masks cannot be enumerated


class Batches(NamedTuple):
    """The two common batches: to rank by, so many tiles of a lattice; to report, sixteen shifts, so that the standard
    error has 15 degrees of freedom and can be believed."""

    tiles: int
    report: Quadrature


FINE = Batches(16, Quadrature(16, 67, 9, 4096))
COARSE = Batches(8, Quadrature(16, 37, 28, 2048))  # for what is polished afterwards
SHORT = Batches(2, Quadrature(16, 0, 0, 512))  # where masks cannot be enumerated, and more follows (see `levels`)
GLANCE = 4  # batches of training
_ANY = optax.identity()  # in place of the optimizer, which evaluation does not use
LOSSES = 2**21  # in memory at a time, of lanes
SAMPLES = 256  # of a lane at a time, on arrays
PARTS = 2  # in which a tile is read: in a loop, so that its samples are in memory and not drawn again


class Evaluated(NamedTuple):
    """Losses of every lane, each [P, L]."""

    rank_loss: Array  # by which restarts and solutions of a cell are chosen
    loss: Array  # on independent samples
    loss_se: Array  # the standard error of `loss`


def report_part(features: Features, n: int, key: Array, number: ArrayLike, quadrature: Quadrature) -> Batch:
    """Return the samples x [B, N] of n features under one shift, which are unbiased.

    A shifted lattice for every activity mask, or a shifted Kronecker sequence where masks cannot be enumerated.
    """
    form = _lattice if features.have_few_masks(n) else _sequence
    return form(features, n, jax.random.split(key, quadrature.shifts)[number], quadrature)


def _lattice(features: Features, n: int, key: Array, quadrature: Quadrature) -> Batch:
    """Return every mask with one shifted copy of the lattice, and half as many copies again where more is active: to
    mask m in proportion to |m| P(m). Where all features are active, all of the loss is in one mask."""
    probability, active = features.mask_probability(masks(n)), masks(n).sum(1)
    more = allocate(probability * active, (len(active) + 1) // 2)
    mask = jnp.concatenate([jnp.arange(len(active)), more])
    copies = jnp.ones(len(active)).at[more].add(1)
    points = quadrature.points
    generator = np.array([pow(quadrature.multiplier, i, points) for i in range(n)])
    lattice = np.arange(points)[None, :, None] * generator % points / points
    u = lattice + jax.random.uniform(key, (len(mask), 1, n))
    # Folded at 1/2, so that it is continuous across the ends of the interval; kept inside it for every quantile.
    u = jnp.clip(1 - jnp.abs(2 * (u % 1) - 1), 2.0**-24, 1 - 2.0**-24)
    x = features.active_value(u) * jnp.asarray(masks(n))[mask][:, None]
    weight = jnp.repeat((probability / copies)[mask] / points, points)
    return Batch(x.reshape(-1, n), weight)


def _sequence(features: Features, n: int, key: Array, quadrature: Quadrature) -> Batch:
    return sequence(features, n, jax.random.bits(key, (2 * n,)), jnp.arange(quadrature.sequence))


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


def evaluate(training: Training, params: Parameters, lane: Coordinates, row: Coordinates, key: Array) -> Evaluated:
    """Evaluate params [P, L, ...] at the coordinates [P, L] of lanes and [P] of rows. The expected objective is known
    without error."""
    if training.objective == "expected":
        loss = rank(training, params, lane, row, key, 1)
        return Evaluated(loss, loss, jnp.zeros_like(loss))
    return _evaluated(training, params, lane, row, key, _batches(training))


def evaluate_first(
    training: Training, params: Parameters, lane: Coordinates, row: Coordinates, key: Array
) -> Evaluated:
    """Evaluate the same on the samples of the first level, where there are `levels`."""
    return _evaluated(training, params, lane, row, key, SHORT)


def _evaluated(
    training: Training, params: Parameters, lane: Coordinates, row: Coordinates, key: Array, batches: Batches
) -> Evaluated:
    loss, loss_se = _report(training, params, lane, row, key, batches.report)
    return Evaluated(rank(training, params, lane, row, key, batches.tiles), loss, loss_se)


def report(
    training: Training, params: Parameters, lane: Coordinates, row: Coordinates, key: Array
) -> tuple[Array, Array]:
    """Return the `loss` and `loss_se` of `evaluate`."""
    return _report(training, params, lane, row, key, _batches(training).report)


def _report(
    training: Training, params: Parameters, lane: Coordinates, row: Coordinates, key: Array, quadrature: Quadrature
) -> tuple[Array, Array]:
    def of_shift(number: Array) -> Array:
        form = partial(report_part, number=number, quadrature=quadrature)
        batch = _of_rows(training, row, n_rows(params), jax.random.fold_in(key, 1), form)
        return _losses(training, params, lane, jax.tree.map(lambda a: a[:, None], batch))[0]

    losses = lax.map(of_shift, jnp.arange(quadrature.shifts))  # one after the other, or samples would fill no cache
    return losses.mean(0), losses.std(0, ddof=1) / quadrature.shifts**0.5


def glance(training: Training, params: Parameters, lane: Coordinates, row: Coordinates, key: Array) -> Array:
    """Return the loss [P, L] of params [P, L, ...] on as few samples as some steps of training take, for snapshots."""
    if training.objective == "expected":
        return rank(training, params, lane, row, key, 1)
    x, weight = of_steps(training, key, jnp.arange(GLANCE), row, n_rows(params))
    batch = Batch(x.reshape(len(x), 1, -1, x.shape[-1]), weight.reshape(len(x), 1, -1) / GLANCE)
    return _losses(training, params, lane, batch)[0]


def levels(training: Training) -> tuple[int, ...]:
    """Return the tiles on which restarts are ranked, level by level (see `runs.ranking`): those of `evaluate` at once
    where masks can be enumerated, whose lattices are other ones for more tiles."""
    n, last = training.one_model.n_features, _batches(training).tiles
    if training.objective == "expected" or training.features_at({}).have_few_masks(n):
        return (last,)
    return tuple(SHORT.tiles << i for i in range((last // SHORT.tiles).bit_length()))


def rank(
    training: Training,
    params: Parameters,
    lane: Coordinates,
    row: Coordinates,
    key: Array,
    tiles: ArrayLike,
    since: ArrayLike = 0,
) -> Array:
    """Return the loss [P, L] of params [P, L, ...] on a lattice of so many tiles, a power of two: with those of FINE or
    COARSE the `rank_loss` of `evaluate`, with more a sharper one. Where masks cannot be enumerated, the tiles from
    number `since` on alone may be asked for."""
    if training.objective == "expected":
        return _each_lane(training)(params, lane, over_rows(training.exact_data, row, n_rows(params)))

    n, rows, of = training.one_model.n_features, n_rows(params), jnp.int32(tiles)
    laid_out = _of_rows(training, row, rows, key, layout)

    def add(number: Array, total: Array) -> Array:
        of_row = lambda row, laid_out: tile(training.features_at(row), n, laid_out, number, of)  # noqa: E731
        batch = jax.vmap(of_row)(row, laid_out)
        batch = Batch(*(a.reshape(rows, PARTS, -1, *a.shape[2:]) for a in batch))
        return total + _losses(training, params, lane, batch).sum(0) / (of - since)

    return lax.fori_loop(since, of, add, jnp.zeros(jax.tree.leaves(params)[0].shape[:2]))


def _batches(training: Training) -> Batches:
    return COARSE if training.polished else FINE


def _of_rows(
    training: Training, row: Coordinates, rows: int, key: Array, form: Callable[[Features, int, Array], Any]
) -> Any:
    """Return what is formed of the features of each row and their number. Rows have samples of their own, so that the
    errors of a diagram are not one draw."""
    n = training.one_model.n_features
    return over_rows(lambda row: form(training.features_at(row), n, of_coordinates(key, row)), row, rows)


def _losses(training: Training, params: Parameters, lane: Coordinates, batch: Batch) -> Array:
    """Return the loss by every part of a batch of x [P, S, B, N]: [S, P, L]."""
    P, L = jax.tree.leaves(params)[0].shape[:2]
    most = SAMPLES if training.engine == "arrays" else max(64, LOSSES // (P * L))
    batch = _parts(batch, most)
    prepare, total = (_arrays_loss if training.engine == "arrays" else _lanes_loss)(training)
    batch = jax.vmap(jax.vmap(prepare))(batch)  # before the loop, so that its kernels find the samples side by side
    of_shift = lambda shift: lax.map(lambda part: total(params, lane, part), shift).sum(0)  # noqa: E731
    return lax.map(of_shift, batch)


def _each_lane(training: Training) -> Callable[[Parameters, Coordinates, Any], Array]:
    return jax.vmap(jax.vmap(training.loss, (0, 0, None)))


def _arrays_loss(training: Training) -> Staged:
    def total(params: Parameters, lane: Coordinates, batch: Batch) -> Array:
        return devices.over_lanes(training.loss, numbers_of(training.one_model, batch.x.shape[1]))(params, lane, batch)

    return Staged(lambda batch: batch, total)


def _lanes_loss(training: Training) -> Staged:
    of_sample = training.sample_loss, training.one, training.lane_shapes, training.one_model.n_features
    prepare, total = lanes.sampled_loss(*of_sample)
    return Staged(prepare, lambda params, lane, samples: total(lanes.last(params), lane, samples))


@timing.part("evaluation")
def evaluated(training: Training, params: Parameters, lane: Coordinates, row: Coordinates, key: Array) -> Evaluated:
    """Return what the compiled `evaluate` does, when it is done."""
    return jax.block_until_ready(compiled(training)(params, lane, row, key))


@timing.part("evaluation")
def evaluated_first(
    training: Training, params: Parameters, lane: Coordinates, row: Coordinates, key: Array
) -> Evaluated:
    """Return what the compiled `evaluate_first` does, when it is done, or `evaluate` where there is one level."""
    return jax.block_until_ready(compiled_first(training)(params, lane, row, key))


@timing.part("evaluation")
def ranked(training: Training, params: Parameters, lane: Coordinates, row: Coordinates, key: Array) -> Evaluated:
    """Return the same for what is evaluated again when it is polished: the ranking loss, which stands for the loss that
    is reported."""
    tiles = _batches(training).tiles
    loss = jax.block_until_ready(compiled_rank(training)(params, lane, row, key, np.int32(tiles)))
    return Evaluated(loss, loss, jnp.zeros_like(loss))


def compiled(training: Training) -> Callable[..., Evaluated]:
    """Return the jitted `evaluate`; the same object for the same configuration, however it was trained, so compiled
    once."""
    return _compiled(evaluate, training)


def compiled_first(training: Training) -> Callable[..., Evaluated]:
    """Return the jitted `evaluate_first`, or `evaluate` where there is one level, likewise."""
    if len(levels(training)) == 1:
        return compiled(training)
    return _compiled(evaluate_first, training)


def compiled_glance(training: Training) -> Callable[..., Array]:
    """Return the jitted `glance`, likewise."""
    return _compiled(glance, training)


def compiled_report(training: Training) -> Callable[..., tuple[Array, Array]]:
    """Return the jitted `report`, likewise."""
    return _compiled(report, training)


def compiled_rank(training: Training) -> Callable[..., Array]:
    """Return the jitted `rank`, likewise."""
    return _compiled(rank, training)


def whole_program(training: Training, shape: tuple[int, int]) -> Program:
    """Return the compiled `evaluate` of [P, L] lanes."""
    return compiled(training), argument_shapes(training, shape)


def first_program(training: Training, shape: tuple[int, int]) -> Program:
    """Return the compiled `evaluate_first` of [P, L] lanes."""
    return compiled_first(training), argument_shapes(training, shape)


def rank_program(training: Training, shape: tuple[int, int]) -> Program:
    """Return the compiled `rank` of [P, L] lanes."""
    return compiled_rank(training), (*argument_shapes(training, shape), jax.ShapeDtypeStruct((), jnp.int32))


class Way(NamedTuple):
    """How lanes are evaluated once they are trained."""

    evaluated: Callable[[Training, Parameters, Coordinates, Coordinates, Array], Evaluated]
    program: Callable[[Training, tuple[int, int]], Program]


WHOLE, RANKED, FIRST = Way(evaluated, whole_program), Way(ranked, rank_program), Way(evaluated_first, first_program)


def _compiled(f: Callable[..., Any], training: Training) -> Callable[..., Any]:
    return _compiled_once(f, replace(training, optimizer=_ANY, steps=0, snapshots=0, snapshot_weights=False))


@lru_cache(maxsize=32)
def _compiled_once(f: Callable[..., Any], training: Training) -> Callable[..., Any]:
    def evaluated(params: Parameters, lane: Coordinates, row: Coordinates, key: Array, *tiles: Array) -> Any:
        def of_block(params: Parameters, lane: Coordinates, row: Coordinates, key: Array) -> Any:
            return f(training, params, training.that_matter(lane), row, key, *tiles)

        with jax.default_matmul_precision("float32"):
            return devices.spread(of_block)(params, lane, row, key)

    return jax.jit(evaluated, compiler_options=_compiler_options())


@lru_cache(maxsize=1)
def _compiler_options() -> dict[str, bool | int] | None:
    """On a CPU, vectors of full width, which change no result; and jax 0.10 vectorises these kernels only without its
    new fusion emitters, a factor of 5, where later versions do it always and do not know the option."""
    options = {"xla_cpu_prefer_vector_width": 512, "xla_backend_optimization_level": 2}
    wide = devices.on_cpu(options | devices.ONE_THREAD)
    if wide is None:
        return None
    with_option = wide | {"xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda x: x, compiler_options=with_option).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return wide
    return with_option
