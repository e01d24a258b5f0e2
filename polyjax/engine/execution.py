"""Blocks of lanes on the device: plan them, train them, evaluate them.

Axis letters: P densities, L lanes a density, N features, D neurons.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from math import ceil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from polyjax.embedding.capacity import capacities
from polyjax.engine import certificate, devices, engines, evaluation, polish, training
from polyjax.engine.training import Trained, Training
from polyjax.toy.models import Params

SETTLED = 0.1  # the largest change of a capacity, and of the weights' length, in the second half of training


class Outcome(NamedTuple):
    """What is known of every lane after training, [P, L, ...]."""

    capacity: np.ndarray  # [P, L, N]
    rank_loss: np.ndarray  # [P, L], by which restarts and solutions of a cell are chosen
    loss: np.ndarray  # [P, L], on independent samples
    loss_se: np.ndarray  # [P, L]
    converged: np.ndarray  # [P, L], bool: finite and settled
    W: np.ndarray  # [P, L, D, N]
    b: np.ndarray  # [P, L] or [P, L, N]


class Keys(NamedTuple):
    """One key for each use of random numbers in a sweep."""

    start: Array
    draw: Array
    evaluate: Array
    polish: Array


def keys(seed: int) -> Keys:
    key = jax.random.key(seed)
    start, draw, evaluate = jax.random.split(key, 3)
    return Keys(start, draw, evaluate, jax.random.fold_in(key, 3))


@lru_cache(maxsize=32)
def compiled_initial(fixed: Training) -> Callable[[Array, ArrayLike, ArrayLike, ArrayLike], Params]:
    """The jitted `initial`, compiled in a hurry since there is little to do."""
    return jax.jit(partial(initial, fixed), compiler_options=devices.on_cpu({"xla_backend_optimization_level": 1}))


def initial(fixed: Training, key: Array, density: Array, importance: Array, restart: Array) -> Params:
    """Parameters [P, L, ...] at the start of restarts [P, L]. The keys are made from values, so that a cell does not
    depend on the grid around it."""

    def one(density: Array, importance: Array, restart: Array) -> Params:
        bits = lax.bitcast_convert_type(jnp.stack([density, importance]), jnp.uint32)
        cell = jax.random.fold_in(jax.random.fold_in(key, bits[0]), bits[1])
        params = fixed.model.init(jax.random.fold_in(cell, restart))
        return training.in_weights(params, fixed.model.scale(fixed.importances(importance)))

    return jax.vmap(jax.vmap(one, (None, 0, 0)))(density, importance, restart)


def train_block(
    fixed: Training,
    keys: Keys,
    start: Params,
    importance: np.ndarray,
    density: np.ndarray,
    polished: Training | None = None,
) -> Outcome:
    """Trains and evaluates lanes from parameters [P, L, ...] at the importance [P, L] and the density [P]; with
    `polished`, lanes are polished so before they are evaluated."""
    v, p = jnp.asarray(importance, jnp.float32), jnp.asarray(density, jnp.float32)
    trained = engines.compiled(fixed)(start, v, p, keys.draw)
    capacity, settled = measure(trained)
    end = trained.end
    if polished is not None:
        end, settled = _polished(polished, end, v, p, keys.polish)
        capacity = capacities(end.W)
    evaluated = evaluation.compiled(polished or fixed)(end, v, p, keys.evaluate)
    finite = jnp.isfinite(evaluated.loss) & jnp.isfinite(evaluated.rank_loss)
    return Outcome(*jax.device_get((capacity, *evaluated, settled & finite, *end)))


def _polished(fixed: Training, start: Params, v: Array, p: Array, key: Array) -> tuple[Params, Array]:
    """Polish lanes in two attempts, the second of which tells whether the first ended in a minimum."""
    once = polish.polish(fixed, start, v, p, key, 0)
    again = polish.polish(fixed, once.end, v, p, key, 1)
    fall = certificate.fall(np.asarray(again.before), np.asarray(again.after))
    return again.end, jnp.asarray(fall <= certificate.SETTLED)


Program = tuple[Any, tuple]  # a jitted function, and the shapes of its arguments


def compile_ahead(programs: Sequence[Program]) -> None:
    """Compiles programs, all at the same time and before several threads ask for them."""
    with ThreadPoolExecutor(len(programs)) as executor:
        list(executor.map(lambda program: program[0].lower(*program[1]).compile(), programs))


def training_programs(fixed: Training, shape: tuple[int, int]) -> list[Program]:
    """What `train_block` runs on blocks of [P, L] lanes."""
    block = block_of(fixed, shape)
    return [(engines.compiled(fixed), block), (evaluation.compiled(fixed), block)]


def fresh_programs(fixed: Training, shape: tuple[int, int]) -> list[Program]:
    """The same, and what starts the lanes."""
    _, importance, density, key = block_of(fixed, shape)
    restart = jax.ShapeDtypeStruct(shape, jnp.int32)
    return [*training_programs(fixed, shape), (compiled_initial(fixed), (key, density, importance, restart))]


def block_of(fixed: Training, shape: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """The shapes of params, importance, density and key of a block of [P, L] lanes."""
    number = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    key, density, importance = jax.eval_shape(partial(jax.random.key, 0)), number(shape[:1]), number(shape)
    start = jax.tree.map(lambda a: number((*shape, *a.shape)), training.one_model(fixed.model))
    return start, importance, density, key


@jax.jit
def measure(trained: Trained) -> tuple[Array, Array]:
    """Capacities [..., N], and whether a lane is finite and has settled: in the second half of training no capacity
    moved by more than SETTLED, and the length of all weights together by no more than that, relatively."""
    end, half_way = capacities(trained.end.W), capacities(trained.half_way.W)
    length, before = (jnp.sqrt((params.W**2).sum((-2, -1))) for params in trained)
    finite = jnp.isfinite(end).all(-1) & jnp.isfinite(trained.end.b).reshape(*end.shape[:2], -1).all(-1)
    longest = jnp.maximum(length, before)
    stretched = jnp.where(longest > 0, jnp.abs(length - before) / longest, 0)  # a model may do best with no weights
    moved = jnp.maximum(jnp.abs(end - half_way).max(-1), stretched)
    return end, finite & (moved <= SETTLED)


class Block(NamedTuple):
    """A rectangle of lanes that is trained at once."""

    rows: slice
    lanes: slice

    @property
    def shape(self) -> tuple[int, int]:
        """[P, L]"""
        return self.rows.stop - self.rows.start, self.lanes.stop - self.lanes.start

    def part(self, rows: slice, lanes: slice) -> "Block":
        """Some rows and lanes of the block, counted from its own first ones."""
        row, lane = self.rows.start, self.lanes.start
        return Block(slice(row + rows.start, row + rows.stop), slice(lane + lanes.start, lane + lanes.stop))


def blocks(n_rows: int, n_lanes: int, chunk: int, at_once: int = 1) -> list[Block]:
    """Blocks of equal shape, at most `chunk` lanes in each, that cover a grid of lanes: a multiple of `at_once` of them
    where the rows allow it, so that nobody waits in the end."""

    def size(total: int, most: int, multiple: int = 1) -> int:
        return ceil(total / min(ceil(ceil(total / most) / multiple) * multiple, total))

    lanes = size(n_lanes, min(chunk, n_lanes))
    return tiles(n_rows, n_lanes, size(n_rows, max(1, chunk // lanes), at_once), lanes)


def tiles(n_rows: int, n_lanes: int, rows: int, lanes: int) -> list[Block]:
    """Blocks of [rows, lanes] that cover a grid of lanes. The last ones of a row or a column are moved back so as to
    fit, and so train some lanes again, to the same result."""

    def windows(total: int, size: int) -> list[slice]:
        return [slice(min(i, total - size), min(i, total - size) + size) for i in range(0, total, size)]

    return [Block(r, c) for r in windows(n_rows, rows) for c in windows(n_lanes, lanes)]
