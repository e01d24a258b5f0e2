"""Blocks of lanes on the device: plan them, train them, evaluate them, as many at a time as there are cores.

Axis letters: P densities, L lanes a density, N features, D neurons.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from polyjax import evaluation, training
from polyjax.capacity import capacities
from polyjax.models import Params
from polyjax.training import Trained, Training

CHUNK = {"cpu": 1600}  # lanes, see `benchmarks.throughput`
CHUNK_ELSEWHERE = 2**18
SETTLED = 0.1  # the largest change of a capacity, and of the weights' length, in the second half of training

Work = TypeVar("Work")
Result = TypeVar("Result")


class Outcome(NamedTuple):
    """What is known of every lane after training, [P, L, ...]."""

    capacity: np.ndarray  # [P, L, N]
    loss: np.ndarray  # [P, L]
    loss_se: np.ndarray  # [P, L]
    converged: np.ndarray  # [P, L], bool: finite and settled
    W: np.ndarray  # [P, L, D, N]
    b: np.ndarray  # [P, L] or [P, L, N]


class Keys(NamedTuple):
    """One key for each use of random numbers in a sweep."""

    start: Array
    draw: Array
    evaluate: Array


def keys(seed: int) -> Keys:
    return Keys(*jax.random.split(jax.random.key(seed), 3))


def train_block(fixed: Training, keys: Keys, start: Params, importance: np.ndarray, density: np.ndarray) -> Outcome:
    """Trains and evaluates lanes from parameters [P, L, ...] at the importance [P, L] and the density [P]."""
    v, p = jnp.asarray(importance, jnp.float32), jnp.asarray(density, jnp.float32)
    trained = training.compiled(fixed)(start, v, p, keys.draw)
    loss, loss_se = evaluation.compiled(fixed)(trained.end, v, p, keys.evaluate)
    capacity, settled = measure(trained)
    return Outcome(*jax.device_get((capacity, loss, loss_se, settled & jnp.isfinite(loss), *trained.end)))


@jax.jit
def measure(trained: Trained) -> tuple[Array, Array]:
    """Capacities [..., N], and whether a lane is finite and has settled: in the second half of training no capacity
    moved by more than SETTLED, and the length of all weights together by no more than that, relatively."""
    end, half_way = capacities(trained.end.W), capacities(trained.half_way.W)
    length, before = (jnp.sqrt((params.W**2).sum((-2, -1))) for params in trained)
    finite = jnp.isfinite(end).all(-1) & jnp.isfinite(trained.end.b).reshape(*end.shape[:2], -1).all(-1)
    moved = jnp.maximum(jnp.abs(end - half_way).max(-1), jnp.abs(length - before) / jnp.maximum(length, before))
    return end, finite & (moved <= SETTLED)


class Block(NamedTuple):
    """A rectangle of lanes that is trained at once."""

    rows: slice
    lanes: slice


def blocks(n_rows: int, n_lanes: int, chunk: int) -> list[Block]:
    """Blocks of equal shape, at most `chunk` lanes in each, that cover a grid of lanes. The last ones of a row or a
    column are moved back so as to fit, and so train some lanes again, to the same result."""

    def windows(total: int, size: int) -> list[slice]:
        size = ceil(total / ceil(total / size))
        return [slice(min(i, total - size), min(i, total - size) + size) for i in range(0, total, size)]

    lanes = windows(n_lanes, min(chunk, n_lanes))
    rows = windows(n_rows, max(1, chunk // (lanes[0].stop - lanes[0].start)))
    return [Block(r, c) for r in rows for c in lanes]


def workers() -> int:
    """Blocks at a time: one a core, since a kernel by itself uses one core well; on an accelerator one."""
    if jax.default_backend() != "cpu":
        return 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_chunk(n_lanes: int) -> int:
    """Lanes trained at once: as many as suit the device, and few enough that every core has some."""
    return min(CHUNK.get(jax.default_backend(), CHUNK_ELSEWHERE), ceil(n_lanes / workers()))


def in_parallel(do: Callable[[Work], Result], work: Sequence[Work]) -> Iterator[tuple[Work, Result]]:
    """Each piece of work with its result, in order. The first runs alone, since it compiles what the others use."""
    yield work[0], do(work[0])
    executor = ThreadPoolExecutor(workers())
    try:
        yield from zip(work[1:], executor.map(do, work[1:]), strict=True)
    finally:
        executor.shutdown(cancel_futures=True)
