"""Refining a diagram: cells that sit in a worse local minimum than their neighbours are continued from the neighbours.

With few restarts some cells end in a worse minimum and show as speckles, although the solution next door would serve
them. In every round, a cell is trained for a short while from the best solution of each of its neighbours, where
that could improve it: where the two differ in capacity, or where the neighbour's solution, rescaled, has the lower loss
in this cell. The lowest evaluated loss wins, so that no cell ever gets worse. This is ours, not the paper's.

Axis letters: P rows and V columns of the grid, G rows of a chunk, L jobs in each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from polyjax.engine import execution, optimizers
from polyjax.engine.evaluation import RANKED, WHOLE, Way
from polyjax.engine.outcome import Outcome, array_names
from polyjax.runs.cell_tasks import rank, rank_programs, start
from polyjax.runs.continuation import run_jobs, transplanted
from polyjax.runs.jobs import Cells, Jobs, Solutions, accept, differ, neighbours, of_jobs, solutions
from polyjax.runs.work import Setting, Shape, Work

if TYPE_CHECKING:
    from polyjax.engine.devices import Program
    from polyjax.engine.training import Training
    from polyjax.runs.grid import Chunk
    from polyjax.runs.stages import Run
    from polyjax.runs.store import Arrays

IMPROVED = 1e-3  # a loss that fell by less, relatively, is not news to the neighbours


def refine(run: Run, now: Outcome) -> Outcome:
    """Refine a diagram in at most `refine` rounds, until nothing improves any more."""
    news = np.ones(now.loss.shape, bool)  # cells whose solution their neighbours have not seen
    for round in range(1, run.sweep.refine + 1):
        given = solutions(now)
        jobs = _promising(run, round, now, given, news)
        if not jobs.row.size:
            break
        now, news = accept(now, jobs, _trained(run, round, given, jobs), IMPROVED)
    return now


def continued(setting: Setting, _: int = 0) -> Training:
    """Return how cells are continued: for half as many steps at a quarter of the learning rate; an optimiser of the
    caller's is used as it is."""
    sweep, fixed = setting.sweep, replace(setting.training, snapshots=0)
    if sweep.optimizer is not None:
        return fixed
    rate, steps = sweep.rate / 4, max(1, fixed.steps // 2)
    return replace(fixed, steps=steps, optimizer=optimizers.adam(rate, steps))


def _promising(run: Run, round: int, now: Outcome, given: Solutions, news: np.ndarray) -> Jobs:
    """Return the jobs that could improve a cell: where polishing follows, those alone that start from a solution of
    another kind."""
    jobs = neighbours(run.sweep.layout, news)
    promising = differ(now.capacity[jobs.row, jobs.column], given.capacity[jobs.origin], run.features.kinds)
    if run.sweep.polish:
        return jobs.take(promising)
    alike = jobs.take(~promising)
    if alike.row.size:
        loss = transplanted(run, LOOK, f"look{round}", f"looking at neighbours, round {round}", given, alike)
        promising[~promising] = loss < now.rank_loss[alike.row, alike.column] * (1 - IMPROVED)
    return jobs.take(promising)


def _trained(run: Run, round: int, given: Solutions, jobs: Jobs) -> Iterator[tuple[Chunk, Outcome]]:
    """Yield chunks and the outcome [G, L, ...] of continuing the neighbours' solutions in the cells."""
    named, cells = (f"refine{round}", f"refining, round {round}"), partial(of_jobs, given, jobs)
    fixed = continued(run)
    for chunk, found in run_jobs(run, *named, jobs, CONTINUE, cells, array_names(fixed.one_model), fixed.steps):
        yield chunk, Outcome.of(found)


def train(setting: Setting, fixed: Training, cells: Cells, _: int) -> Arrays:
    """Continue cells from the solutions that they start from. What is polished afterwards is evaluated there."""
    return execution.train(fixed, setting.keys, *start(setting, fixed, cells), way=_way(setting)).arrays()


def _way(setting: Setting) -> Way:
    return RANKED if setting.sweep.polish else WHOLE


def programs(setting: Setting, fixed: Training, shape: Shape) -> list[Program]:
    """Return what `train` runs on [G, L] lanes."""
    return execution.training_programs(fixed, shape, _way(setting))


CONTINUE, LOOK = Work(continued, train, programs), Work(continued, rank, rank_programs)
