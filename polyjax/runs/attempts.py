"""Training of lanes, at first and again.

Lanes that ended in infinities, or had not settled, are trained again: from fresh weights, with smaller steps. The retry
takes the lane's place where it did better: settled before finite, finite before infinite. This is ours, not the
paper's.

Axis letters: P rows and V columns of the grid, R restarts, J lanes to be trained again.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import numpy as np

from polyjax.engine import execution, polish, training
from polyjax.engine.keys import Keys
from polyjax.engine.training import Training
from polyjax.runs.grid import Chunk, Grid, scattered
from polyjax.runs.lanes import Lanes, Replaced, stage
from polyjax.runs.stages import Run, Size
from polyjax.runs.store import Arrays, Store, outcomes
from polyjax.sweep import Sweep

SMALLER = 0.5  # times the steps of the attempt before


def as_attempted(fixed: Training, keys: Keys, attempt: int) -> tuple[Training, Keys]:
    """Return how the lanes of an attempt are trained: from fresh weights, with smaller steps. 0 is the first one."""
    if attempt == 0:
        return fixed, keys
    smaller = replace(fixed, optimizer=training.smaller_steps(fixed.optimizer, SMALLER**attempt))
    return smaller, keys._replace(start=jax.random.fold_in(keys.start, attempt))


def trainer(
    sweep: Sweep, fixed: Training, keys: Keys, attempt: int = 0, lanes: np.ndarray | None = None
) -> Callable[[Chunk], Arrays]:
    """Return what trains a chunk of lanes by the attempt of this number. A chunk's lanes are those of the grid, or
    counted in the list `lanes` of their numbers."""
    axes = sweep.layout
    initial, polished = execution.compiled_initial(fixed), polish.of_restarts(fixed, sweep.polish)
    now, of_attempt = as_attempted(fixed, keys, attempt)

    def train(chunk: Chunk) -> Arrays:
        row, column, restart = Grid(*sweep.shape).place(chunk.lane if lanes is None else lanes[chunk.lane])
        start = initial(of_attempt.start, axes.of_cells(row, column), restart)
        lane = axes.of_cells(row, column, fixed.lane_axes)
        return execution.train(now, of_attempt, start, lane, axes.of_row(chunk.row), polished).arrays()

    return train


def first(run: Run, lanes: Lanes) -> None:
    """Have all lanes of the grid trained."""
    grid, fixed = run.grid, run.training
    programs = partial(execution.fresh_programs, fixed, [*run.sweep.coordinates])
    size = Size(grid.rows * grid.columns, "cell", fixed.steps)
    run.complete(stage(0), "training", lanes.chunks, trainer(run.sweep, fixed, run.keys), size, programs)


def retry(run: Run, lanes: Lanes) -> None:
    """Make at most `retries` attempts at what has not settled."""
    for attempt in range(1, run.sweep.retries + 1):
        row, lane, worth = unsettled(lanes)
        if not row.size:
            return
        chunks = scattered(row, run.shape)
        _train(run, attempt, row * lanes.grid.a_row + lane, chunks)
        now, place = _gathered(run.store, attempt, chunks, row.size)
        better = now > worth
        lanes.replaced.append(Replaced(attempt, row[better], lane[better], place[better]))


def _train(run: Run, attempt: int, lane: np.ndarray, chunks: list[Chunk]) -> None:
    """Have lanes [J] of the grid trained by the attempt of this number."""
    fixed, _ = as_attempted(run.training, run.keys, attempt)
    do = trainer(run.sweep, run.training, run.keys, attempt, lane)
    programs = partial(execution.fresh_programs, fixed, [*run.sweep.coordinates])
    size = Size(lane.size, "model", fixed.steps)
    run.complete(stage(attempt), f"retrying, attempt {attempt}", chunks, do, size, programs)


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
