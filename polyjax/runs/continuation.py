"""Continuing cells from solutions, on the devices, in chunks of jobs (see `jobs`).

Axis letters: J jobs, G rows of a chunk, L jobs in each, N features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from polyjax.runs.grid import Chunk, like, packed
from polyjax.runs.jobs import Cells, Jobs, Solutions, of_jobs
from polyjax.runs.progress import Size
from polyjax.runs.store import Arrays, outcomes

if TYPE_CHECKING:
    from polyjax.runs.stages import Run
    from polyjax.runs.work import Shape, Work

SHAPE = (8, 32)  # [G, L] of the chunks in which jobs are evaluated and polished
FEW, NARROW = 48, (2, 2)  # so few jobs are polished in narrower chunks, in which few lanes are idle


def packing(run: Run, shape: Shape = SHAPE) -> Shape:
    """Return the shape [G, L] of the chunks that jobs are evaluated and polished in, no larger than those of the
    run."""
    (G, L), most = shape, prod(run.shape)
    return min(G, max(1, most // L)), min(L, most)


def run_jobs(
    run: Run,
    stage: str,
    title: str,
    jobs: Jobs,
    work: Work,
    cells: Callable[[Chunk], Cells],
    fields: Sequence[str],
    steps: int = 0,
    shape: Shape | None = None,
) -> Iterator[tuple[Chunk, Arrays]]:
    """Have every chunk of jobs done, of [G, L] jobs as `shape` says or else about as large as those of the run, and
    return each with some arrays of its outcome."""
    chunks = packed(jobs.row, *(shape or like(jobs.row, run.shape, run.is_large)))
    run.complete(stage, title, chunks, work, cells, Size(jobs.row.size, "start", steps))
    return zip(chunks, outcomes(run.store, stage, len(chunks), fields), strict=True)


def transplanted(run: Run, rank: Work, stage: str, title: str, given: Solutions, jobs: Jobs) -> np.ndarray:
    """Return the ranking loss [J] of the solutions that jobs start from, as they are, in the cells."""
    cells, shape = partial(of_jobs, given, jobs), packing(run)
    found = run_jobs(run, stage, title, jobs, rank, cells, ["rank_loss"], shape=shape)
    return gathered(found, jobs.row.size)["rank_loss"]


def gathered(found: Iterable[tuple[Chunk, Arrays]], n: int) -> dict[str, np.ndarray]:
    """Return the arrays of chunks as those of n jobs, [J, ...] each."""
    arrays: dict[str, np.ndarray] = {}
    for chunk, outcome in found:
        for name, a in outcome.items():
            if name not in arrays:
                arrays[name] = np.empty((n, *a.shape[2:]), a.dtype)
            arrays[name][chunk.lane] = a
    return arrays
