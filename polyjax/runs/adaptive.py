"""Grids of which only the cells near boundaries are trained: coarsely at first, then between neighbours that differ.

Squares of cells whose corners are in different phases are divided into four, down to neighbouring cells. A cell is that
of the whole sweep, to rounding, which the shape of a chunk changes. This is ours, not the paper's. Axis letters: P
rows, V columns, R restarts, J lanes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from polyjax.checks import place, require, whole
from polyjax.embedding.capacity import phases
from polyjax.results import Results
from polyjax.runs.attempts import TRAIN
from polyjax.runs.folder.interruption import Requests
from polyjax.runs.grid import scattered
from polyjax.runs.lanes import names_in_results
from polyjax.runs.progress import Size
from polyjax.runs.run import begin, check
from polyjax.runs.store import Memory, outcomes
from polyjax.runs.whole import config
from polyjax.runs.workers import workers_of
from polyjax.selection import best_restart

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from polyjax.runs.grid import Chunk
    from polyjax.runs.stages import Run
    from polyjax.sweep import Sweep

BESIDE = (1, 2, 4, 8, 16, 32)  # cells from a boundary

Arrays = dict[str, np.ndarray]  # [P, V, 1, ...], NaN where no network was trained


def run_adaptively(
    sweep: Sweep, coarse: int = 16, feature: int = 0, progress: bool = True, executor: Executor | None = None
) -> Results:
    """Train the cells of a sweep that are near the boundaries of a feature's phases, and return results in which all
    other cells are NaN and not settled. Of every cell they have the restart of lowest loss alone, so that grids of a
    million cells fit in memory. `polyjax.phases.boundaries_from` reads these.

    Args:
        sweep: of two axes, one of them that of rows; without retries, refining, polishing and sizes.
        coarse: every so many cells are trained at first. What is smaller may be missed.
        feature: whose phases, from 0.
        progress: whether bars are shown.
        executor: whose workers train (see `run`).

    Raises ValueError for what it is not made for.
    """
    check(sweep, executor)
    coarse = whole("coarse", coarse, 1)
    must = "be of two axes, the samples of which depend on one"
    axes = sweep.layout if not sweep.sizes else None
    require(axes and len(axes.of_rows) == len(axes.of_columns) == 1, "sweep", must, [*sweep.coordinates])
    feature = place("feature", feature, sweep.training.one_model.n_features, "features")
    for name in ("retries", "refine", "polish"):
        require(not getattr(sweep, name), name, "be 0 where cells are trained adaptively", getattr(sweep, name))
    nothing = Requests()
    with workers_of(executor, nothing) as workers:
        trained = begin(sweep, Memory(), workers, nothing, progress)
        arrays = _trained(trained, coarse, feature)
    told = config(trained) | {"adaptive": {"coarse": coarse, "feature": feature, "best_of": sweep.restarts}}
    return Results.of_run(sweep.layout, arrays, told, None)


def _trained(run: Run, coarse: int, feature: int) -> Arrays:
    """Return the arrays of all cells that are worth it."""
    shape = run.grid[:2]
    known, arrays = np.zeros(shape, bool), dict[str, np.ndarray]()
    rows, columns = (np.union1d(np.arange(0, n, coarse), [n - 1]) for n in shape)
    new = np.zeros(shape, bool)
    new[np.ix_(rows, columns)] = True
    level = 0
    while max(np.diff(rows).max(), np.diff(columns).max()) > 1:
        if new.any():
            _train(run, level, new, arrays)
            known, level = known | new, level + 1
        new = divided(_phase(arrays, known, feature), known, rows, columns) & ~known
        if not new.any():  # else the new cells may divide squares beside them, too
            rows, columns = halved(rows), halved(columns)
    beside = shared_beside(_phase(arrays, known, feature)) & ~known
    if beside.any():
        _train(run, level, beside, arrays)
    return arrays


def shared_beside(phase: np.ndarray) -> np.ndarray:
    """Return cells [P, V] of the shared phase along the rows, at growing distances from a boundary: by the curve
    through these is told where a feature's capacity leaves 0 or reaches 1."""
    found = np.zeros(phase.shape, bool)
    shared, other = phase == 1, (phase == 0) | (phase == 2)
    for step in (1, -1):
        row, column = np.nonzero(other & np.roll(shared, -step, 1))
        for distance in BESIDE:
            place = column + step * (1 + distance)
            inside = (place >= 0) & (place < phase.shape[1])
            found[row[inside], place[inside]] = True
    return found


def halved(lines: np.ndarray) -> np.ndarray:
    """Return the places of lines, ascending, and those half-way between them."""
    return np.union1d(lines, (lines[:-1] + lines[1:]) // 2)


def divided(phase: np.ndarray, known: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the cells [P, V] that halve every square between neighbouring rows and columns in which two known cells
    are in different phases: the middles of its sides, and its own."""
    found = np.zeros(phase.shape, bool)
    for a, b in pairwise(rows):
        for c, d in pairwise(columns):
            square = np.s_[a : b + 1, c : d + 1]
            inside = phase[square][known[square]]
            if known[[a, a, b, b], [c, d, c, d]].all() and (inside != inside[0]).any():
                found[np.ix_([a, (a + b) // 2, b], [c, (c + d) // 2, d])] = True
    return found


def _phase(arrays: Arrays, known: np.ndarray, feature: int) -> np.ndarray:
    """Return the phase [P, V] of every known cell."""
    return np.where(known, phases(arrays["capacity"][..., 0, feature]), np.int8(-1))


def _train(run: Run, level: int, cells: np.ndarray, arrays: Arrays) -> None:
    """Train all restarts of some cells [P, V], and put the best of each into the arrays."""
    row, column = np.nonzero(cells)
    R = run.grid.restarts
    lane = ((row * run.grid.columns + column)[:, None] * R + np.arange(R)).ravel()
    chunks = scattered(np.repeat(row, R), run.shape, run.is_large)
    of_grid = lambda chunk: chunk._replace(lane=lane[chunk.lane])  # noqa: E731
    stage, size = f"level{level}", Size(row.size, "cell", run.training.steps)
    run.complete(stage, f"training, level {level}", chunks, TRAIN, of_grid, size)
    found = {name: a.reshape(row.size, R, *a.shape[1:]) for name, a in _gathered(run, stage, chunks, lane.size).items()}
    restart, _ = best_restart(found)
    for name, a in found.items():
        if name not in arrays:
            blank = np.nan if a.dtype.kind == "f" else 0
            arrays[name] = np.full((*cells.shape, 1, *a.shape[2:]), blank, a.dtype)
        arrays[name][row, column, 0] = a[np.arange(row.size), restart]


def _gathered(run: Run, stage: str, chunks: list[Chunk], n: int) -> Arrays:
    """Return the arrays [J, ...] of a stage's lanes."""
    found = {"attempt": np.zeros(n, np.uint8)}
    names = [name for name in names_in_results(run.sweep) if name != "attempt"]
    for chunk, outcome in zip(chunks, outcomes(run.store, stage, len(chunks), names), strict=True):
        for name in names:
            a = outcome[name]
            found.setdefault(name, np.empty((n, *a.shape[2:]), a.dtype))[chunk.lane] = a
    return found
