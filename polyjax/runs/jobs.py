"""Jobs: cells that are continued from solutions, their own or others, as refining and polishing do.

Axis letters: P rows and V columns of the grid, S solutions, J jobs (a cell and the solution that it starts from), G
rows of a chunk, L jobs in each, N features, D neurons.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import jax
import numpy as np

if TYPE_CHECKING:
    from polyjax.axes import Axes
    from polyjax.engine.outcome import Outcome
    from polyjax.runs.grid import Chunk
    from polyjax.runs.work import Shape

DIFFERENT = 0.05  # capacities that differ by more belong to solutions that may differ in kind


class Solutions(NamedTuple):
    """Solutions from which jobs start."""

    params: dict[str, np.ndarray]  # by name, each [S, ...] (see `Outcome`)
    capacity: np.ndarray  # [S, N]
    row: np.ndarray  # [S], of the cell of which it is a solution
    column: np.ndarray  # [S]


def solutions(now: Outcome) -> Solutions:
    """Return the solutions of a diagram [P, V, ...], row by row."""
    params, capacity = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (now.params, now.capacity))
    return Solutions(params, capacity, *(a.ravel() for a in np.indices(now.loss.shape)))


class Jobs(NamedTuple):
    """Cells to be continued, by their rows and columns [J], and the solutions [J] that they start from."""

    row: np.ndarray
    column: np.ndarray
    origin: np.ndarray

    def take(self, which: np.ndarray | slice) -> Jobs:
        return Jobs(*(a[which] for a in self))


class Cells(NamedTuple):
    """Cells of a chunk and the parameters that they start from: all that a worker needs of its jobs."""

    row: np.ndarray  # [G]
    column: np.ndarray  # [G, L]
    params: dict[str, np.ndarray]  # by name, each [G, L, ...]
    origin: tuple[np.ndarray, np.ndarray] | None = None  # rows and columns [G, L] of the cells whose solutions they are

    @property
    def shape(self) -> Shape:
        """[G, L]"""
        return self.column.shape

    def part(self, rows: slice, lanes: slice) -> Cells:
        """Return some rows of the chunk, and some lanes of each."""
        return Cells(self.row[rows], *jax.tree.map(lambda a: a[rows, lanes], self[1:]))


def of_jobs(given: Solutions, jobs: Jobs, chunk: Chunk) -> Cells:
    """Return a chunk of jobs, which start from solutions."""
    origin = jobs.origin[chunk.lane]
    of_cells = given.row[origin], given.column[origin]
    params = {name: a[origin] for name, a in given.params.items()}
    return Cells(chunk.row, jobs.column[chunk.lane], params, of_cells)


Several = TypeVar("Several", Jobs, Solutions)


def joined(*parts: Several) -> Several:
    """Return several `Jobs`, or several `Solutions`, as one, in their order."""
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def extended(given: Solutions, jobs: Jobs, others: Solutions, more: Jobs) -> tuple[Solutions, Jobs]:
    """Return solutions and jobs with others after them."""
    return joined(given, others), joined(jobs, more._replace(origin=len(given.row) + more.origin))


def neighbours(axes: Axes, news: np.ndarray, distance: int = 1) -> Jobs:
    """Return every cell with the solution of each of its neighbours, two along every axis, at a distance that has news
    [P, V]."""
    nothing = np.empty(0, int)
    jobs = [Jobs(*np.divmod(cell, news.shape[1]), other) for cell, other in axes.neighbours(distance)]
    together = joined(*jobs) if jobs else Jobs(nothing, nothing, nothing)
    return together.take(news.ravel()[together.origin])


def themselves(cells: np.ndarray) -> Jobs:
    """Return the marked cells [P, V], each with its own solution."""
    row, column = np.nonzero(cells)
    return Jobs(row, column, np.flatnonzero(cells))


def differ(a: np.ndarray, b: np.ndarray, kinds: np.ndarray, by: float = DIFFERENT) -> np.ndarray:
    """Say whether capacities [..., N] differ by more than `by`. Features of one kind [N] are interchangeable, and
    so compared in order of capacity."""

    def apart(kind: int) -> np.ndarray:
        x, y = (np.sort(capacity[..., kinds == kind], -1) for capacity in (a, b))
        return abs(x - y).max(-1)

    return ~(np.stack([*map(apart, np.unique(kinds))]).max(0) <= by)  # true for NaN


def put(
    diagram: Outcome, cells: tuple[np.ndarray, np.ndarray], outcome: Outcome, which: np.ndarray | slice = np.s_[:]
) -> None:
    """Put values of an outcome, or `which` of them, into the cells of a diagram [P, V, ...] at these rows and
    columns."""
    for everywhere, values in zip(*map(jax.tree.leaves, (diagram, outcome)), strict=True):
        everywhere[cells] = values[which]


def accept(
    now: Outcome, jobs: Jobs, found: Iterator[tuple[Chunk, Outcome]], improved: float
) -> tuple[Outcome, np.ndarray]:
    """Return the diagram with the outcomes of lower ranking loss, and which cells [P, V] have news for their
    neighbours: those whose loss fell by more than the fraction `improved`."""
    then = jax.tree.map(np.array, now)
    loss = np.where(np.isnan(now.rank_loss), np.inf, now.rank_loss)
    before = loss.copy()
    for chunk, outcome in found:
        job, lanes = chunk.lane.ravel(), jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), outcome)
        cell = jobs.row[job], jobs.column[job]
        better = np.flatnonzero(lanes.rank_loss < loss[cell])
        # Of several jobs of a cell, the best comes last.
        order = better[np.argsort(-lanes.rank_loss[better], kind="stable")]
        of_cell = jobs.row[job[order]], jobs.column[job[order]]
        loss[of_cell] = lanes.rank_loss[order]
        put(then, of_cell, lanes, order)
    return then, loss < before * (1 - improved)
