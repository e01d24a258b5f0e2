"""Continuing cells from solutions, on the devices, in chunks of jobs (see `jobs`).

Axis letters: J jobs, G rows of a chunk, L jobs in each, N features.
"""

from collections.abc import Callable, Iterator, Sequence
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from polyjax.engine import evaluation
from polyjax.engine.devices import Program
from polyjax.engine.outcome import of_names
from polyjax.engine.training import Training, argument_shapes, scales
from polyjax.runs.grid import Chunk, like, packed
from polyjax.runs.jobs import Jobs, Solutions
from polyjax.runs.stages import Run, Size
from polyjax.runs.store import Arrays, outcomes
from polyjax.toy.model import Parameters

SHAPE = (8, 32)  # [G, L] of the chunks in which jobs are evaluated and polished
FEW, NARROW = 128, (8, 2)  # so few jobs are packed in narrower chunks, in which few lanes are idle


def packing(run: Run, jobs: Jobs) -> tuple[int, int]:
    """Return the shape [G, L] of the chunks that jobs are evaluated and polished in, no larger than those of the
    run."""
    return shapes(run, jobs.row.size)[0]


def shapes(run: Run, jobs: int) -> list[tuple[int, int]]:
    """Return the shapes of the chunks in which at most so many jobs are, that for the most first."""
    most = prod(run.shape)
    used = (SHAPE, NARROW) if jobs > FEW else (NARROW,)
    return [(min(G, max(1, most // L)), min(L, most)) for G, L in used]


def start(
    run: Run, fixed: Training, given: Solutions, jobs: Jobs, chunk: Chunk
) -> tuple[Parameters, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the parameters [G, L, ...] from which a chunk of jobs starts, and the coordinates [G, L] of its lanes and
    [G] of its rows.

    A neighbour's embeddings are rescaled to the lengths that they would have here: what is optimal for one importance
    can be hundreds of times worse than the optimum for the next where a feature is important.
    """
    origin, axes = jobs.origin[chunk.lane], run.sweep.layout
    params = of_names(jax.tree.map(lambda a: jnp.asarray(a[origin]), given.params), fixed.one)
    here = coordinates(run, fixed, chunk.row, jobs.column[chunk.lane])
    there = axes.of_cells(given.row[origin], given.column[origin], fixed.lane_axes)
    a, scale = scales(fixed, params, there), scales(fixed, params, here[0])
    if a is not None and scale is not None:
        ratio = jnp.where((a > 0) & (scale > 0), scale / jnp.where(a > 0, a, 1), 1)
        params = params._replace(W=params.W * ratio[..., None, :])
    return params, *here


def coordinates(
    run: Run, fixed: Training, row: np.ndarray, column: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the coordinates of lanes [G, L] by their rows [G] and columns [G, L], and those of the rows."""
    axes = run.sweep.layout
    return axes.of_cells(np.broadcast_to(row[:, None], column.shape), column, fixed.lane_axes), axes.of_row(row)


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
        return {"rank_loss": np.asarray(rank(*start(run, fixed, given, jobs, chunk), run.keys.evaluate))}

    programs = lambda shape: [(rank, argument_shapes(fixed, shape))]  # noqa: E731
    whole = np.empty(jobs.row.size, np.float32)
    shape = packing(run, jobs)
    for chunk, found in run_jobs(run, stage, title, jobs, loss, 0, programs, ["rank_loss"], shape):
        whole[chunk.lane] = found["rank_loss"]
    return whole
