"""Attempts at training the lanes of the grid. Those that ended in infinities, or had not settled, are trained again,
from fresh weights and with smaller steps.

A retry takes the lane's place where it did better: settled before finite, finite before infinite. This is ours, not the
paper's. Axis letters: J lanes to be trained again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import jax
import numpy as np

from polyjax.engine import execution, optimizers, polish
from polyjax.engine.evaluation import FIRST
from polyjax.runs.grid import Chunk, scattered
from polyjax.runs.lanes import Lanes, Replaced, stage
from polyjax.runs.progress import Size
from polyjax.runs.store import Arrays, Store, outcomes
from polyjax.runs.work import Setting, Shape, Work

if TYPE_CHECKING:
    from polyjax.engine.devices import Program
    from polyjax.engine.keys import Keys
    from polyjax.engine.training import Training
    from polyjax.runs.stages import Run

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
    return execution.train(fixed, keys, start, lane, axes.of_row(chunk.row), polished, FIRST).arrays()


def programs(setting: Setting, fixed: Training, shape: Shape) -> list[Program]:
    """Return what `train` runs on [G, L] lanes."""
    return execution.fresh_programs(fixed, [*setting.sweep.coordinates], shape)


TRAIN = Work(training_of, train, programs)


def first(run: Run, lanes: Lanes) -> None:
    """Have all lanes of the grid trained."""
    size = Size(run.grid.rows * run.grid.columns, "cell", run.training.steps)
    run.complete(stage(0), "training", lanes.chunks, TRAIN, lambda chunk: chunk, size)


def retry(run: Run, lanes: Lanes) -> None:
    """Make at most `retries` attempts at what has not settled."""
    for attempt in range(1, run.sweep.retries + 1):
        row, lane, worth = unsettled(lanes)
        if not row.size:
            return
        chunks = scattered(row, run.shape, run.is_large)
        _train_again(run, attempt, row * lanes.grid.a_row + lane, chunks)
        now, place = _gathered(run.store, attempt, chunks, row.size)
        better = now > worth
        lanes.replaced.append(Replaced(attempt, row[better], lane[better], place[better]))


def _train_again(run: Run, attempt: int, lane: np.ndarray, chunks: list[Chunk]) -> None:
    """Have lanes [J] of the grid trained by the attempt of this number."""
    of_grid = lambda chunk: chunk._replace(lane=lane[chunk.lane])  # noqa: E731
    size = Size(lane.size, "model", run.training.steps)
    work = TRAIN._replace(attempt=attempt)
    run.complete(stage(attempt), f"retrying, attempt {attempt}", chunks, work, of_grid, size)


def unsettled(lanes: Lanes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the density and the lane in its row [J] of what has not settled, in order of density, and its worth."""
    parts = []
    for rows in lanes.bands():
        worth = _worth(lanes.band("settled", rows), lanes.band("loss", rows))
        row, lane = np.nonzero(worth < 2)
        parts.append((row + rows.start, lane, worth[row, lane]))
    row, lane, worth = map(np.concatenate, zip(*parts, strict=True))
    return row, lane, worth


def _worth(settled: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Return 0 for lanes that are not finite, 1 for those that are and have not settled, 2 for the others."""
    return np.isfinite(loss).astype(np.int8) + settled


def _gathered(store: Store, attempt: int, chunks: list[Chunk], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the worth of lanes [n] after an attempt, and their places [n, 3] in its chunks."""
    worth, place = np.empty(n, np.int8), np.empty((n, 3), np.int32)
    of_chunks = outcomes(store, stage(attempt), len(chunks), ["settled", "loss"])
    for i, (chunk, outcome) in enumerate(zip(chunks, of_chunks, strict=True)):
        worth[chunk.lane] = _worth(outcome["settled"], outcome["loss"])
        row, inside = np.indices(chunk.shape)
        place[chunk.lane] = np.stack([np.full_like(row, i), row, inside], axis=-1)
    return worth, place
