"""The batches of several steps in every row, and how long training takes to draw them: programs that train draw them
inside, so that it is measured apart."""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from polyjax.engine import devices
from polyjax.engine.blocks import DRAWN_AT_ONCE
from polyjax.engine.cells import Coordinates, over_rows

if TYPE_CHECKING:
    from polyjax.engine.training import Training

BLOCKS, TIMES = 4, 3  # of steps that are drawn together; how often


def of_steps(training: Training, key: Array, steps: Array, row: Coordinates, rows: int) -> Any:
    """Return the data of steps [K] in P rows at coordinates [P]: leaves [P, K, ...]."""
    return over_rows(lambda row: jax.vmap(lambda step: training.draw(key, step, row))(steps), row, rows)


def seconds_a_step(training: Training, row: Coordinates, rows: int) -> float:
    """Return in how many seconds the samples of one step are drawn in G rows at coordinates [G]: the least of several
    times, as others may use the device."""
    options = devices.on_cpu(devices.ONE_THREAD)
    draw = jax.jit(partial(_drawn, training), static_argnums=2, compiler_options=options)
    key = jax.random.key(0)
    jax.block_until_ready(draw(key, row, rows))
    times = []
    for _ in range(TIMES):
        begin = perf_counter()
        jax.block_until_ready(draw(key, row, rows))
        times.append(perf_counter() - begin)
    return min(times) / (BLOCKS * DRAWN_AT_ONCE)


def _drawn(training: Training, key: Array, row: Coordinates, rows: int) -> Array:
    """Return a number that depends on all samples of some steps, drawn in blocks as training draws them."""

    def block(number: Array, total: Array) -> Array:
        steps = number * DRAWN_AT_ONCE + jnp.arange(DRAWN_AT_ONCE)
        data = lax.optimization_barrier(of_steps(training, key, steps, row, rows))
        return total + sum(leaf.sum() for leaf in jax.tree.leaves(data))

    return lax.fori_loop(0, BLOCKS, block, jnp.zeros(()))
