"""Continuing cells from solutions, on the devices, in chunks of jobs (see `jobs`).

Axis letters: J jobs, G rows of a chunk, L jobs in each, N features.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from polyjax.engine import evaluation, timing
from polyjax.engine.cells import Coordinates
from polyjax.engine.devices import Program
from polyjax.engine.outcome import of_names
from polyjax.engine.training import Training, scales
from polyjax.runs.grid import Chunk, like, packed
from polyjax.runs.jobs import Jobs, Solutions
from polyjax.runs.stages import Run, Size
from polyjax.runs.store import Arrays, outcomes
from polyjax.runs.work import Setting, Shape, Work
from polyjax.toy.model import Parameters

SHAPE = (8, 32)  # [G, L] of the chunks in which jobs are evaluated and polished
TILES = (evaluation.FINE.tiles, 64)  # on which solutions are ranked at first, and again where that leaves it open
FEW, NARROW = 48, (2, 2)  # so few jobs are polished in narrower chunks, in which few lanes are idle


def packing(run: Run, shape: Shape = SHAPE) -> Shape:
    """Return the shape [G, L] of the chunks that jobs are evaluated and polished in, no larger than those of the
    run."""
    (G, L), most = shape, prod(run.shape)
    return min(G, max(1, most // L)), min(L, most)


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

    def part(self, rows: slice, lanes: slice) -> "Cells":
        """Return some rows of the chunk, and some lanes of each."""
        return Cells(self.row[rows], *jax.tree.map(lambda a: a[rows, lanes], self[1:]))


def of_jobs(given: Solutions, jobs: Jobs, chunk: Chunk) -> Cells:
    """Return a chunk of jobs, which start from solutions."""
    origin = jobs.origin[chunk.lane]
    of_cells = given.row[origin], given.column[origin]
    params = {name: a[origin] for name, a in given.params.items()}
    return Cells(chunk.row, jobs.column[chunk.lane], params, of_cells)


def start(
    setting: Setting, fixed: Training, cells: Cells
) -> tuple[Parameters, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the parameters [G, L, ...] from which cells start, and the coordinates [G, L] of their lanes and [G] of
    their rows.

    A neighbour's embeddings are rescaled to the lengths that they would have here: what is optimal for one importance
    can be hundreds of times worse than the optimum for the next where a feature is important.
    """
    params = of_names(jax.tree.map(jnp.asarray, cells.params), fixed.one)
    here = coordinates(setting, fixed, cells)
    if cells.origin is None:
        return params, *here
    there = setting.sweep.layout.of_cells(*cells.origin, fixed.lane_axes)
    return _rescaled(fixed, params, there, here[0]), *here


@partial(jax.jit, static_argnums=0)
def _rescaled(fixed: Training, params: Parameters, there: Coordinates, here: Coordinates) -> Parameters:
    """Return parameters [G, L, ...] of lanes `there` as they would be `here`."""
    a, scale = scales(fixed, params, there), scales(fixed, params, here)
    if a is None or scale is None:
        return params
    ratio = jnp.where((a > 0) & (scale > 0), scale / jnp.where(a > 0, a, 1), 1)
    return params._replace(W=params.W * ratio[..., None, :])


def coordinates(setting: Setting, fixed: Training, cells: Cells) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the coordinates of lanes [G, L] and those of their rows [G]."""
    axes, row = setting.sweep.layout, np.broadcast_to(cells.row[:, None], cells.shape)
    return axes.of_cells(row, cells.column, fixed.lane_axes), axes.of_row(cells.row)


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


def rank(setting: Setting, fixed: Training, cells: Cells, attempt: int) -> Arrays:
    """Return the ranking loss [G, L] of the solutions that cells start from, in the attempt at it of this number."""
    key, tiles = setting.keys.evaluate, np.int32(TILES[attempt])
    with timing.part("evaluation"):
        return {"rank_loss": np.asarray(evaluation.compiled_rank(fixed)(*start(setting, fixed, cells), key, tiles))}


def rank_programs(_: Setting, fixed: Training, shape: Shape) -> list[Program]:
    """Return what `rank` runs on [G, L] lanes."""
    return [evaluation.rank_program(fixed, shape)]
