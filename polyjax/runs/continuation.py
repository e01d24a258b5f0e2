"""Continuing cells from solutions, on the devices, in chunks of jobs (see `jobs`).

Axis letters: J jobs, G rows of a chunk, L jobs in each, N features.
"""

from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from polyjax.engine import evaluation
from polyjax.engine.devices import Program
from polyjax.engine.training import Training, argument_shapes
from polyjax.runs.grid import Chunk, like, packed
from polyjax.runs.jobs import Jobs, Solutions
from polyjax.runs.stages import Run, Size
from polyjax.runs.store import Arrays, outcomes
from polyjax.toy.models import Params

FEW, NARROW = 1024, (8, 4)  # so few jobs are packed in chunks [G, L] in which few lanes are idle


def packing(jobs: Jobs, many: tuple[int, int]) -> tuple[int, int]:
    """Return the shape [G, L] of the chunks that jobs are packed in: `many`, unless they are few."""
    return many if jobs.row.size > FEW else NARROW


def evaluation_shape(run: Run, jobs: Jobs) -> tuple[int, int]:
    """Return the shape [G, L] of the chunks in which jobs are evaluated."""
    return packing(jobs, like(jobs.row, run.shape))


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

    def ratio(there: jax.Array, here: jax.Array) -> jax.Array:
        a, b = fixed.scale(there), fixed.scale(here)
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
