"""Attempts at training the lanes of the grid: the first, and those with smaller steps of `retries`."""

from dataclasses import replace

import jax

from polyjax.engine import execution, optimizers, polish
from polyjax.engine.devices import Program
from polyjax.engine.keys import Keys
from polyjax.engine.training import Training
from polyjax.runs.grid import Chunk
from polyjax.runs.lanes import Lanes, stage
from polyjax.runs.stages import Run, Size
from polyjax.runs.store import Arrays
from polyjax.runs.work import Setting, Shape, Work

SMALLER = 0.5  # times the steps of the attempt before


def training_of(setting: Setting, attempt: int) -> Training:
    """Return how the lanes of an attempt are trained, 0 being the first: with smaller steps each time."""
    fixed = setting.training
    if attempt == 0:
        return fixed
    return replace(fixed, optimizer=optimizers.smaller_steps(fixed.optimizer, SMALLER**attempt))


def keys_of(setting: Setting, attempt: int) -> Keys:
    """Return the keys of an attempt, which begins from weights of its own."""
    if attempt == 0:
        return setting.keys
    return setting.keys._replace(start=jax.random.fold_in(setting.keys.start, attempt))


def train(setting: Setting, fixed: Training, chunk: Chunk, attempt: int) -> Arrays:
    """Train a chunk of lanes of the grid by the attempt of this number."""
    axes, keys = setting.sweep.layout, keys_of(setting, attempt)
    row, column, restart = setting.grid.place(chunk.lane)
    start = execution.compiled_initial(fixed)(keys.start, axes.of_cells(row, column), restart)
    lane, polished = axes.of_cells(row, column, fixed.lane_axes), polish.of_restarts(fixed, setting.sweep.polish)
    return execution.train(fixed, keys, start, lane, axes.of_row(chunk.row), polished).arrays()


def programs(setting: Setting, fixed: Training, shape: Shape) -> list[Program]:
    """Return what `train` runs on [G, L] lanes."""
    return execution.fresh_programs(fixed, [*setting.sweep.coordinates], shape)


TRAIN = Work(training_of, train, programs)


def first(run: Run, lanes: Lanes) -> None:
    """Have all lanes of the grid trained."""
    size = Size(run.grid.rows * run.grid.columns, "cell", run.training.steps)
    run.complete(stage(0), "training", lanes.chunks, TRAIN, lambda chunk: chunk, size)
