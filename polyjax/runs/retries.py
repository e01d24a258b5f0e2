"""Lanes that ended in infinities, or had not settled, are trained again: from fresh weights, with smaller steps.

The retry takes the lane's place where it did better: settled before finite, finite before infinite. This is ours, not
the paper's.

Axis letters: J lanes to be trained again.
"""

import numpy as np

from polyjax.runs.attempts import TRAIN
from polyjax.runs.grid import Chunk, scattered
from polyjax.runs.lanes import Lanes, Replaced, stage
from polyjax.runs.stages import Run, Size
from polyjax.runs.store import Store, outcomes


def retry(run: Run, lanes: Lanes) -> None:
    """Make at most `retries` attempts at what has not settled."""
    for attempt in range(1, run.sweep.retries + 1):
        row, lane, worth = unsettled(lanes)
        if not row.size:
            return
        chunks = scattered(row, run.shape, run.is_large)
        _train(run, attempt, row * lanes.grid.a_row + lane, chunks)
        now, place = _gathered(run.store, attempt, chunks, row.size)
        better = now > worth
        lanes.replaced.append(Replaced(attempt, row[better], lane[better], place[better]))


def _train(run: Run, attempt: int, lane: np.ndarray, chunks: list[Chunk]) -> None:
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
