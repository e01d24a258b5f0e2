"""Jobs: cells that are continued from their neighbours' solutions, or from their own, in chunks of scattered ones.

Refining and polishing are made of them. Axis letters: P densities, V importances, S solutions, J jobs (a cell and the
solution that it starts from), G rows of a chunk, L jobs in each, N features, D neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from polyjax.engine import evaluation
from polyjax.engine.devices import Program
from polyjax.engine.outcome import Outcome
from polyjax.engine.training import Training, argument_shapes
from polyjax.runs.grid import Chunk, like, packed
from polyjax.runs.stages import Run, Size
from polyjax.runs.store import Arrays, outcomes
from polyjax.toy.models import Params

NEIGHBOURS = ((-1, 0), (1, 0), (0, -1), (0, 1))  # of a cell [P, V]
FEW, NARROW = 1024, (32, 4)  # so few jobs are packed in chunks [G, L] in which few lanes are idle
DIFFERENT = 0.05  # capacities that differ by more belong to solutions that may differ in kind


class Solutions(NamedTuple):
    """What jobs start from."""

    W: np.ndarray  # [S, D, N]
    b: np.ndarray  # [S, ...]
    capacity: np.ndarray  # [S, N]
    importance: np.ndarray  # [S], of feature 0, for which W is a solution


def solutions(now: Outcome, importance: np.ndarray) -> Solutions:
    """Return those of a diagram [P, V, ...], row by row."""
    W, b, capacity = (a.reshape(-1, *a.shape[2:]) for a in (now.W, now.b, now.capacity))
    return Solutions(W, b, capacity, np.tile(np.asarray(importance), len(now.loss)))


class Jobs(NamedTuple):
    """Cells to be continued, by their indices [J] of density and importance, and the solutions [J] that they start
    from."""

    row: np.ndarray
    column: np.ndarray
    origin: np.ndarray

    def take(self, which: np.ndarray | slice) -> Jobs:
        return Jobs(*(a[which] for a in self))


Several = TypeVar("Several", Jobs, Solutions)


def joined(*parts: Several) -> Several:
    """Return several `Jobs`, or several `Solutions`, as one, in their order."""
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def neighbours(news: np.ndarray, distance: int = 1) -> Jobs:
    """Every cell with the solution of each of its up to four neighbours at a distance that has news [P, V]."""
    cells = np.indices(news.shape).reshape(2, -1)
    jobs = []
    for step in NEIGHBOURS:
        other = cells + distance * np.array(step)[:, None]
        inside = ((other >= 0) & (other < np.array(news.shape)[:, None])).all(0)
        row, column = cells[:, inside]
        jobs.append(Jobs(row, column, np.ravel_multi_index(tuple(other[:, inside]), news.shape)))
    together = joined(*jobs)
    return together.take(news.ravel()[together.origin])


def themselves(cells: np.ndarray) -> Jobs:
    """Return the marked cells [P, V], each with its own solution."""
    row, column = np.nonzero(cells)
    return Jobs(row, column, np.flatnonzero(cells))


def differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether capacities [..., N] differ by more than DIFFERENT. The features of importance 1 are alike, and so
    compared in order of capacity."""
    swept = abs(a[..., 0] - b[..., 0])
    others = abs(np.sort(a[..., 1:], -1) - np.sort(b[..., 1:], -1)).max(-1, initial=0)
    return ~(np.maximum(swept, others) <= DIFFERENT)  # true for NaN


def evaluation_shape(run: Run, jobs: Jobs) -> tuple[int, int]:
    """Return the shape [G, L] of the chunks in which jobs are evaluated."""
    return NARROW if jobs.row.size <= FEW else like(jobs.row, run.shape)


def start(
    run: Run, fixed: Training, given: Solutions, jobs: Jobs, chunk: Chunk
) -> tuple[Params, np.ndarray, np.ndarray]:
    """Return the parameters [G, L, ...] from which a chunk of jobs starts, its importance [G, L] and density [G].

    A neighbour's embeddings are rescaled to the lengths that they would have here: what is optimal for one importance
    can be hundreds of times worse than the optimum for the next where feature 0 is important.
    """
    origin = jobs.origin[chunk.lane]
    density, importance = run.sweep.axes()
    v = importance[jobs.column[chunk.lane]]
    W = jnp.asarray(given.W[origin]) * _stretch(fixed)(given.importance[origin], v)[..., None, :]
    return Params(W, jnp.asarray(given.b[origin])), v, density[chunk.row]


def _stretch(fixed: Training) -> Callable[..., jax.Array]:
    """Return what maps two importances of feature 0, [G, L] both, to the ratio of the lengths of embeddings,
    [G, L, N]; 1 where one of them is 0."""
    scale = lambda v: fixed.model.scale(fixed.importances(v))  # noqa: E731

    def ratio(there: jax.Array, here: jax.Array) -> jax.Array:
        a, b = scale(there), scale(here)
        return jnp.where((a > 0) & (b > 0), b / jnp.where(a > 0, a, 1), 1)

    return jax.vmap(jax.vmap(ratio))


def run_jobs(
    run: Run,
    stage: str,
    title: str,
    jobs: Jobs,
    do: Callable[[Chunk], Arrays],
    steps: int,
    programs: Callable[[tuple[int, int]], Sequence[Program]],
    fields: Sequence[str],
    shape: tuple[int, int] | None = None,
) -> Iterator[tuple[Chunk, Arrays]]:
    """Have every chunk of jobs done, of [G, L] jobs as `shape` says or else about as large as those of the run, and
    return each with some arrays of its outcome."""
    chunks = packed(jobs.row, *(shape or like(jobs.row, run.shape)))
    run.complete(stage, title, chunks, do, Size(jobs.row.size, "start", steps), programs)
    return zip(chunks, outcomes(run.store, stage, len(chunks), fields), strict=True)


def transplanted(run: Run, fixed: Training, stage: str, title: str, given: Solutions, jobs: Jobs) -> np.ndarray:
    """Return the ranking loss [J] of the solutions that jobs start from, as they are, in the cells."""
    rank = evaluation.compiled_rank(fixed)

    def loss(chunk: Chunk) -> Arrays:
        params, v, p = start(run, fixed, given, jobs, chunk)
        return {"rank_loss": np.asarray(rank(params, v, p, run.keys.evaluate))}

    programs = lambda shape: [(rank, argument_shapes(fixed, shape))]  # noqa: E731
    whole = np.empty(jobs.row.size, np.float32)
    shape = evaluation_shape(run, jobs)
    for chunk, found in run_jobs(run, stage, title, jobs, loss, 0, programs, ["rank_loss"], shape):
        whole[chunk.lane] = found["rank_loss"]
    return whole


def accept(
    now: Outcome, jobs: Jobs, found: Iterator[tuple[Chunk, Outcome]], improved: float
) -> tuple[Outcome, np.ndarray]:
    """Return the diagram with what has a lower ranking loss, and which cells [P, V] have news for their neighbours:
    those whose loss fell by more than the fraction `improved`."""
    then = Outcome(*(np.array(a) for a in now))
    loss = np.where(np.isnan(now.rank_loss), np.inf, now.rank_loss)
    before = loss.copy()
    for chunk, outcome in found:
        job, lanes = chunk.lane.ravel(), Outcome(*(a.reshape(-1, *a.shape[2:]) for a in outcome))
        cell = jobs.row[job], jobs.column[job]
        better = np.flatnonzero(lanes.rank_loss < loss[cell])
        # Of several jobs of a cell, the best comes last.
        order = better[np.argsort(-lanes.rank_loss[better], kind="stable")]
        of_cell = jobs.row[job[order]], jobs.column[job[order]]
        loss[of_cell] = lanes.rank_loss[order]
        for everywhere, values in zip(then, lanes, strict=True):
            everywhere[of_cell] = values[order]
    return then, loss < before * (1 - improved)
