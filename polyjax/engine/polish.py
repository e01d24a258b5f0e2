"""Polishing: the parameters of many trained models at once are minimised to the end on a fixed objective.

Training stops short of a minimum, as its gradients are noisy. Here the objective is the closed-form population loss
where the model has one, else the mean over a fixed batch (`lattice`), and the method is BFGS in every lane (`descent`).
So it asks of a model no more than training does, and the batch averages over most kinks of ReLU.

Axis letters: P rows, L lanes a row, S points in parameter space, n parameters of one model, B samples.
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

from polyjax.engine import certificate, descent, devices, lanes, timing
from polyjax.engine.cells import Coordinates, over_rows
from polyjax.engine.lattice import layout, tile
from polyjax.engine.unroll import Staged

if TYPE_CHECKING:
    from polyjax.engine.descent import Objective
    from polyjax.engine.training import Training
    from polyjax.toy.distributions import Batch
    from polyjax.toy.model import Parameters

STEPS = 60  # most of an attempt on the closed form
PARTS = 2  # in which a tile is read
POINTS = 12  # most that a program takes in every lane: they share the samples, which are dearer than a gradient


class Attempt(NamedTuple):
    """How much an attempt at minimising on samples does. The first is a trial, which takes half of the measurements for
    its Hessian and does not look for saddles."""

    tiles: int  # in the whole batch
    few: int  # in the batch on which steps are taken; the Hessian is that on an eighth of it, or on one tile
    rounds: int  # most looks at the whole batch
    steps: int  # most steps before each


# In flat valleys it takes a large batch to tell a minimum from its neighbourhood; few cells need the last attempts.
ATTEMPTS = (
    Attempt(4, 4, 2, 5),
    Attempt(32, 8, 2, 5),
    Attempt(64, 8, 2, 5),
    Attempt(128, 16, 1, 10),
    Attempt(512, 32, 1, 20),
    Attempt(2048, 64, 1, 20),
    Attempt(4096, 64, 1, 20),
)


class Polished(NamedTuple):
    """End of an attempt from solutions [P, L, ...], and their loss and Hessian on its own samples."""

    end: Parameters
    before: np.ndarray  # [P, L], the loss of the solutions
    after: np.ndarray  # [P, L], the loss at the end
    hessian: np.ndarray  # [P, L, n, n], at the solutions


@timing.part("polishing")
def polish(
    training: Training, start: Parameters, lane: Coordinates, row: Coordinates, key: Array, attempt: int
) -> Polished:
    """Minimise the objective from params [P, L, ...] at the coordinates [P, L] of lanes and [P] of rows.

    Attempts are counted from 0, and each has samples of its own, from the second on more than the first. The loss by
    which an attempt still falls says how far the solutions that it was given were from a minimum.
    """
    how, x = ATTEMPTS[attempt], np.asarray(flatten(start))
    data = compiled_data(training, len(x))(row, jax.random.fold_in(key, attempt))
    on = partial(objective, training, lane, row, data)
    hessian = descent.curvature(on(max(1, how.few // 8)), x, both_sides=attempt > 0)
    inverse, direction = descent.positive_inverse(hessian)
    many, few = on(how.tiles), on(how.few)
    with np.errstate(invalid="ignore", over="ignore"):  # models that are not finite
        x, gain = descent.leave_saddle(few, x, direction if attempt > 0 else np.zeros_like(direction))
        now = descent.state(x, *many(x), inverse)
        before = now.loss * gain
        if training.objective == "expected":
            now = descent.descend(many, now, STEPS)
        elif how.tiles == how.few:
            now = descent.descend(many, now, how.rounds * how.steps)
        else:
            now = _in_rounds(many, few, now, how)
    return Polished(unflatten(now.x, training.one), before, now.loss, hessian)


def objective(training: Training, lane: Coordinates, row: Coordinates, data: Any, tiles: int) -> Objective:
    """Return the loss and its gradient as functions of x [P, L, n], or of several such points [S, P, L, n], in double
    precision on the host; `data` [P, ...] is what `compiled_data` returns."""
    of_block = compiled(training)
    at = *jax.device_put((training.that_matter(lane), row)), data, np.int32(tiles)

    def both(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        several = x.reshape(-1, *x.shape[-3:])
        found = [of_points(several[i : i + POINTS]) for i in range(0, len(several), POINTS)]
        loss, gradient = (np.concatenate(parts).astype(float) for parts in zip(*found, strict=True))
        return loss.reshape(x.shape[:-1]), gradient.reshape(x.shape)

    def of_points(x: np.ndarray) -> list[np.ndarray]:
        points = np.zeros((*x.shape[1:3], POINTS, x.shape[3]), np.float32)
        points[:, :, : len(x)] = np.moveaxis(x, 0, 2)
        loss, gradient = of_block(points, np.int32(len(x)), *at)
        return [np.moveaxis(np.asarray(a)[:, :, : len(x)], 2, 0) for a in (loss, gradient)]

    return both


def _in_rounds(many: Objective, few: Objective, now: descent.State, how: Attempt) -> descent.State:
    """Minimise on a whole batch by steps on a smaller one, looking at the whole batch after each round."""
    for _ in range(how.rounds):
        if descent.arrived(now):
            break
        end = descent.descend(descent.steered(few, *now[:3]), now, how.steps)
        loss, gradient = many(end.x)
        better = loss < now.loss
        x, gradient = (np.where(better[..., None], a, b) for a, b in ((end.x, now.x), (gradient, now.gradient)))
        now = descent.state(x, np.where(better, loss, now.loss), gradient, end.inverse)
    return now


def mean_losses(
    training: Training, points: Array, count: Array, lane: Coordinates, row: Coordinates, data: Any, tiles: Array
) -> tuple[Array, Array]:
    """Return the losses [P, L, S] of the first `count` points [P, L, S, n] and their gradients [P, L, S, n], at the
    coordinates [P, L] of lanes and [P] of rows: the population's, or those on so many tiles of a batch."""
    P, L, S, _ = points.shape
    prepare, both = _value_and_gradient(training)
    params = jax.vmap(lambda x: lanes.last(unflatten(x, training.one)), 2)(points)  # [S, ..., P, L]

    def add(data: Any, total: Any) -> Any:
        def of_point(i: Array, total: Any) -> Any:
            found = both(jax.tree.map(lambda a: a[i], params), lane, data)
            return jax.tree.map(lambda a, b: a.at[i].add(b), total, found)

        return lax.fori_loop(0, count, of_point, total)

    def add_tile(number: Array, total: Any) -> Any:
        n = training.one_model.n_features
        of_row = lambda row, data: tile(training.features_at(row), n, data, number, tiles)  # noqa: E731
        return add(prepare(jax.vmap(of_row)(row, data)), total)

    zero = jnp.zeros((S, P, L)), jax.tree.map(jnp.zeros_like, params)
    if training.objective == "expected":
        loss, gradient = add(prepare(data), zero)
    else:
        loss, gradient = jax.tree.map(lambda a: a / tiles, lax.fori_loop(0, tiles, add_tile, zero))
    return jnp.moveaxis(loss, 0, 2), jax.vmap(lambda one: flatten(lanes.first(one)), 0, 2)(gradient)


def _value_and_gradient(training: Training) -> Staged:
    """Return the loss of params [..., P, L] and its gradient in two stages: what they need of data [P, ...], and both
    from that."""
    if training.objective == "sampled" and training.engine == "lanes":
        of_sample = training.sample_loss, training.one, training.lane_shapes, training.one_model.n_features
        before, after = lanes.sampled_value_and_gradient(*of_sample)

        def prepare(batch: Batch) -> list[Array]:
            return [jnp.moveaxis(a.reshape(len(a), PARTS, -1), 1, 0) for a in before(batch)]

        def both(params: Parameters, lane: Coordinates, parts: list[Array]) -> tuple[Array, Parameters]:
            # Read in a loop, the samples are in memory; else XLA draws them again in every kernel, which takes two to
            # three times as long.
            zero = jnp.zeros(jax.tree.leaves(params)[0].shape[-2:]), jax.tree.map(jnp.zeros_like, params)
            add = lambda sums, part: (jax.tree.map(jnp.add, sums, after(params, lane, part)), None)  # noqa: E731
            return lax.scan(add, zero, parts)[0]

        return Staged(prepare, both)

    of_lanes = jax.vmap(jax.value_and_grad(training.loss), (-1, 0, None), (0, -1))
    return Staged(lambda data: data, jax.vmap(of_lanes, (-2, 0, 0), (0, -2)))


def flatten(params: Parameters) -> Array:
    """Return parameters [P, L, ...] as one array [P, L, n]."""
    return jnp.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in params], axis=-1)


def unflatten(x: Array | np.ndarray, one: Parameters) -> Parameters:
    """Return the inverse of `flatten`, in the shapes of `one` model."""
    ends = np.cumsum([leaf.size for leaf in one])
    parts = (x[..., end - leaf.size : end] for leaf, end in zip(one, ends, strict=True))
    arrays = (part.reshape(*x.shape[:2], *leaf.shape) for part, leaf in zip(parts, one, strict=True))
    return jax.tree.unflatten(jax.tree.structure(one), arrays)


def settled(
    fixed: Training, start: Parameters, lane: Coordinates, row: Coordinates, key: Array
) -> tuple[Parameters, Array]:
    """Return lanes polished in two attempts, and whether the second found that the first ended in a minimum."""
    once = polish(fixed, start, lane, row, key, 0)
    again = polish(fixed, once.end, lane, row, key, 1)
    fall = certificate.fall(np.asarray(again.before), np.asarray(again.after))
    return again.end, jnp.asarray(fall <= certificate.SETTLED)


def of_restarts(training: Training, choice: bool | str) -> Training | None:
    """Return how every restart is polished, if a sweep's `polish` asks for that."""
    return of_cells(training, choice) if choice == "restarts" else None


def of_cells(training: Training, choice: bool | str) -> Training:
    """Return how the cells of a sweep are polished and evaluated, as its `polish` says: on the closed form where there
    is one, else on a batch."""
    objective = "expected" if choice != "sampled" and training.has_closed_form else "sampled"
    return replace(
        training,
        objective=objective,
        optimizer=_ANY,
        steps=0,
        snapshots=0,
        polished=False,
        engine="arrays" if training.engine == "arrays" else "lanes",
    )


_ANY = optax.identity()  # in place of the optimiser, which polishing does not use


@lru_cache(maxsize=32)
def compiled(training: Training) -> Callable[..., tuple[Array, Array]]:
    """Return the jitted `mean_losses`; the same object for the same configuration, so compiled once."""

    def of_block(
        points: Array, count: Array, lane: Coordinates, row: Coordinates, data: Any, tiles: Array
    ) -> tuple[Array, Array]:
        def losses(
            points: Array, lane: Coordinates, rows: tuple[Coordinates, Any], tiles: Array
        ) -> tuple[Array, Array]:
            row, data = rows
            return mean_losses(training, points, count, lane, row, data, tiles)

        with jax.default_matmul_precision("float32"):
            return devices.spread(losses)(points, lane, (row, data), tiles)

    return jax.jit(of_block, compiler_options=devices.on_cpu(lanes.CPU_COMPILER_OPTIONS))


@lru_cache(maxsize=32)
def compiled_data(training: Training, rows: int) -> Callable[[Coordinates, Array], Any]:
    """Return the jitted function of coordinates [P] and a key that gives what the losses of P rows are made from, [P,
    ...]: what is known of the population, or how samples are laid out (see `lattice`)."""
    n = training.one_model.n_features

    def of_rows(row: Coordinates, key: Array) -> Any:
        if training.objective == "expected":
            return over_rows(training.exact_data, row, rows)
        return over_rows(lambda row: layout(training.features_at(row), n, key), row, rows)

    return jax.jit(of_rows, compiler_options=devices.on_cpu({"xla_backend_optimization_level": 0}))
