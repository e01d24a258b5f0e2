"""Ranking restarts on more samples, where few leave open which of a cell's is the best.

With many features samples are dear, and most restarts need few: they are worse by far more than the error. So every
network is evaluated on few samples first. From level to level, those that come near the best of their cell are ranked
on twice as many, all on the same ones, and the best alone is reported on all samples. Restarts of a cell decide this
among themselves, so that a cell depends on no other. This is ours, not the paper's.

Axis letters: P rows and V columns of the grid, C cells, R restarts, J networks, G rows of a chunk, L networks in each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from polyjax.engine import evaluation
from polyjax.engine.lattice import TILE
from polyjax.runs.cell_tasks import REPORT, SHARPEN, judged_restarts
from polyjax.runs.continuation import gathered, run_jobs
from polyjax.runs.grid import like
from polyjax.runs.jobs import Cells, Jobs
from polyjax.runs.lanes import Lanes, bands
from polyjax.runs.progress import say

if TYPE_CHECKING:
    from polyjax.runs.grid import Chunk
    from polyjax.runs.stages import Run
    from polyjax.runs.work import Shape, Work

NEAR = 2  # standard errors of a loss; those of differences between restarts are smaller


class Losses(NamedTuple):
    """Losses of the restarts of cells, each [..., R]."""

    rank_loss: np.ndarray
    loss: np.ndarray
    loss_se: np.ndarray


Rank = Callable[[np.ndarray, int], np.ndarray]  # of some [..., R], their loss [J] on the tiles of a level, by number
Report = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # of some [..., R], their loss and its error, each [J]


Read = Callable[[int], dict[str, np.ndarray]]  # the parameters [V R, ...] of a row


def sharpened(first: Losses, levels: Sequence[int], rank: Rank, report: Report) -> Losses:
    """Return losses that tell which restart is the best, and what its loss is, from those of the first level.

    A restart that is out of the question keeps the ranking loss that it had then, unless that came to be below the
    best one's.
    """
    finite = np.isfinite(first.rank_loss) & np.isfinite(first.loss)
    if not finite.any():
        return first
    now, near = np.where(finite, first.rank_loss, np.inf), finite.copy()

    def best() -> np.ndarray:
        return np.where(near, now, np.inf).min(-1, keepdims=True, initial=np.inf)

    for number, (since, tiles) in enumerate(pairwise(levels)):
        error = NEAR * first.loss_se * np.sqrt(levels[0] / since)
        near[near] = (now <= best() + error)[near]
        now[near] = (since * now[near] + (tiles - since) * rank(near, number)) / tiles
    least = best()
    now = np.where(finite & ~near, np.maximum(now, np.nextafter(least, np.inf, dtype=now.dtype)), now)
    chosen = near & (np.arange(now.shape[-1]) == now.argmin(-1)[..., None])
    loss, loss_se = first.loss.copy(), first.loss_se.copy()
    loss[chosen], loss_se[chosen] = report(chosen)
    return Losses(np.where(finite, now, first.rank_loss), loss, loss_se)


def rank(run: Run, lanes: Lanes) -> None:
    """Rank the restarts of every cell of the grid level by level, where there are levels."""
    levels = evaluation.levels(judged_restarts(run))
    if len(levels) == 1:
        return
    first = Losses(*(np.concatenate([*bands(lanes, name)]) for name in Losses._fields))
    spent = np.full(first.loss.shape, 2.0 * levels[0] * TILE)
    read = _reader(run, lanes)
    shapes: list[Shape] = []  # of the chunks of the first level, which those of all have: one program

    def ranked(which: np.ndarray, number: int) -> np.ndarray:
        since, tiles = levels[number : number + 2]
        spent[which] += (tiles - since) * TILE
        if not shapes:
            shapes.append(like(np.nonzero(which)[0], run.shape, run.is_large))
        work = SHARPEN._replace(attempt=number)
        return _evaluated(run, read, which, f"level{number + 1}", work, ["rank_loss"], shapes[0])["rank_loss"]

    def reported(which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        spent[which] += levels[-1] * TILE
        found = _evaluated(run, read, which, "report", REPORT, ["loss", "loss_se"])
        return found["loss"], found["loss_se"]

    found = sharpened(first, levels, ranked, reported)
    lanes.sharper = {name: a.reshape(run.grid.rows, -1) for name, a in found._asdict().items()}
    if run.progress:
        say(f"evaluated on {spent.mean():,.0f} samples a network, of {2 * levels[-1] * TILE:,}")


def _evaluated(
    run: Run, read: Read, which: np.ndarray, stage: str, work: Work, fields: Sequence[str], shape: Shape | None = None
) -> dict[str, np.ndarray]:
    """Return arrays [J, ...] of what the work makes of some networks [P, V, R]."""
    row, column, restart = np.nonzero(which)
    jobs = Jobs(row, column, np.arange(row.size))
    cells = partial(_cells, read, jobs, column * run.grid.restarts + restart)
    done = run_jobs(run, stage, f"ranking restarts, {stage}", jobs, work, cells, fields, shape=shape)
    return gathered(done, row.size)


def _cells(read: Read, jobs: Jobs, lane: np.ndarray, chunk: Chunk) -> Cells:
    """Return a chunk of networks, in lanes [J] of their rows, with their parameters."""
    of_rows = [{name: a[lane[job]] for name, a in read(int(row)).items()} for row, job in zip(*chunk, strict=True)]
    params = {name: np.stack([of_row[name] for of_row in of_rows]) for name in of_rows[0]}
    return Cells(chunk.row, jobs.column[chunk.lane], params)


def _reader(run: Run, lanes: Lanes) -> Read:
    """Return what reads the parameters [V R, ...] of a row, of whose band it keeps them for the next."""
    of_bands = lanes.bands()
    stops = np.array([rows.stop for rows in of_bands])

    @lru_cache(maxsize=1)
    def band(number: int) -> dict[str, np.ndarray]:
        return {name: lanes.band(name, of_bands[number]) for name in run.training.one._fields}

    def of_row(row: int) -> dict[str, np.ndarray]:
        number = int(np.searchsorted(stops, row, side="right"))
        return {name: a[row - of_bands[number].start] for name, a in band(number).items()}

    return of_row
