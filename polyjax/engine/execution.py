"""Lanes on the device: start them, train them by an engine, evaluate them.

The engines are ways to run one definition of a model, and agree to rounding:

- `arrays`: plain `vmap` over matrix code. The reference, and the way for large models.
- `lanes`: unrolled, every weight an array over models (`lanes`). Several times faster for small models.
- `fused`: unrolled, many steps in one kernel for GPUs and TPUs (`fused`). For the smallest models.

Axis letters: P rows, L lanes a row, N features, D neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from polyjax.embedding.capacity import capacities
from polyjax.engine import devices, evaluation, lanes, polish, timing, training
from polyjax.engine.arrays import train_arrays
from polyjax.engine.cells import Coordinates, at
from polyjax.engine.evaluation import FIRST, WHOLE, Way
from polyjax.engine.fused import training as fused
from polyjax.engine.keys import Keys, of_coordinates
from polyjax.engine.outcome import Outcome, embeddings, measure, outcome_of, snapshot_names
from polyjax.engine.training import Trained, Training, argument_shapes, train_lanes

if TYPE_CHECKING:
    from polyjax.engine.devices import Program
    from polyjax.toy.model import Parameters

ENGINES: dict[str, Callable[..., Trained]] = {"arrays": train_arrays, "lanes": train_lanes, "fused": fused.train}


@lru_cache(maxsize=32)
def compiled(fixed: Training) -> Callable[[Parameters, Coordinates, Coordinates, Array], Trained]:
    """Return the jitted training of lanes; the same object for the same configuration, so compiled once."""

    def training(start: Parameters, lane: Coordinates, row: Coordinates, draw_key: Array) -> Trained:
        with jax.default_matmul_precision("float32"):  # accelerators would otherwise round the inputs of products
            return ENGINES[fixed.engine](fixed, start, lane, row, draw_key)

    options = lanes.CPU_COMPILER_OPTIONS if fixed.engine == "lanes" else devices.ONE_THREAD
    return jax.jit(devices.spread(training), compiler_options=devices.on_cpu(options))


@lru_cache(maxsize=32)
def compiled_initial(fixed: Training) -> Callable[[Array, Coordinates, ArrayLike], Parameters]:
    """Return the jitted `initial`, compiled in a hurry since there is little to do."""
    return jax.jit(partial(initial, fixed), compiler_options=devices.on_cpu({"xla_backend_optimization_level": 1}))


def initial(fixed: Training, key: Array, cell: Coordinates, restart: Array) -> Parameters:
    """Return parameters [P, L, ...] at the start of restarts [P, L], from all coordinates [P, L] of their cells. The
    keys are made from values, so that a cell does not depend on the grid around it."""

    def one(cell: Coordinates, restart: Array) -> Parameters:
        params = at(fixed.model, cell).init(jax.random.fold_in(of_coordinates(key, cell), restart))
        return training.in_weights(params, fixed.scale(cell))

    return jax.vmap(jax.vmap(one))(cell, restart)


def train(
    fixed: Training,
    keys: Keys,
    start: Parameters,
    lane: Coordinates,
    row: Coordinates,
    polished: Training | None = None,
    way: Way = WHOLE,
) -> Outcome:
    """Train and evaluate lanes from parameters [P, L, ...] at the coordinates [P, L] of lanes and [P] of rows; with
    `polished`, lanes are polished so before they are evaluated, in the way given."""
    with timing.part("training"):
        trained = jax.block_until_ready(compiled(fixed)(start, lane, row, keys.draw))
    capacity, settled = measure(fixed.model, trained._replace(snapshots=None), lane)
    end = trained.end
    if polished is not None:
        end, settled = polish.settled(polished, end, lane, row, keys.polish)
        capacity = capacities(embeddings(fixed.model, end, lane))
    evaluated = way.evaluated(polished or fixed, end, lane, row, keys.evaluate)
    settled &= polished is not None or fixed.steps > 1  # one step tells nothing of what others would do
    snapshots = None if trained.snapshots is None else _seen(fixed, trained.snapshots, lane, row, keys.evaluate)
    return outcome_of(fixed, end, lane, evaluated, settled, capacity, snapshots)


@timing.part("evaluation")
def _seen(fixed: Training, snapshots: Parameters, lane: Coordinates, row: Coordinates, key: Array) -> dict[str, Array]:
    """Return what is kept of snapshots [P, L, K, ...], by name: capacity, loss, and perhaps the embedding."""
    P, L, K = jax.tree.leaves(snapshots)[0].shape[:3]
    params = jax.tree.map(lambda a: a.reshape(P, L * K, *a.shape[3:]), snapshots)
    each = {name: jnp.repeat(jnp.asarray(a), K, axis=1) for name, a in lane.items()}
    W = embeddings(fixed.model, params, each)
    loss = evaluation.compiled_glance(fixed)(params, each, row, key)
    found = dict(zip(snapshot_names(fixed.snapshot_weights), (capacities(W), loss, W), strict=False))
    return {name: a.reshape(P, L, K, *a.shape[2:]) for name, a in found.items()}


def training_programs(fixed: Training, shape: tuple[int, int], way: Way = WHOLE) -> list[Program]:
    """Return what `train` runs on [P, L] lanes."""
    start, lane, _, _ = arguments = argument_shapes(fixed, shape)
    return [
        (compiled(fixed), arguments),
        way.program(fixed, shape),
        (measure, (fixed.model, Trained(start, start), lane)),
    ]


def fresh_programs(fixed: Training, axes: Sequence[str], shape: tuple[int, int]) -> list[Program]:
    """Return the same, of which the first evaluation is one, and what starts the lanes of cells with these axes."""
    key, number = argument_shapes(fixed, shape)[-1], jax.ShapeDtypeStruct(shape, jnp.float32)
    restart = jax.ShapeDtypeStruct(shape, jnp.int32)
    return [
        *training_programs(fixed, shape, FIRST),
        (compiled_initial(fixed), (key, dict.fromkeys(axes, number), restart)),
    ]
