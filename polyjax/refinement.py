"""Refining a diagram: cells that sit in a worse local minimum than their neighbours are continued from the neighbours.

With few restarts some cells end in a worse minimum and show as speckles, although the solution next door would serve
them. In every round, a cell is trained for a short while from the best solution of each of its four neighbours, where
that could improve it: where the two differ in capacity, or where the neighbour's solution as it is has the lower loss
in this cell. The lowest evaluated loss wins, so that no cell ever gets worse. This is ours, not the paper's.

Axis letters: P densities, V importances, J jobs (a cell and the neighbour that it starts from), N features, D neurons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np

from polyjax import devices, evaluation, execution, training
from polyjax.execution import Keys, Outcome, train_block
from polyjax.models import Params
from polyjax.progress import Progress
from polyjax.results import Refined, Selection
from polyjax.training import Training

if TYPE_CHECKING:
    from polyjax.sweep import Sweep

DIFFERENT = 0.05  # capacities that differ by more belong to solutions that may differ in kind
IMPROVED = 1e-3  # a loss that fell by less, relatively, is not news to the neighbours
STRIP = 32  # jobs of one density that lie side by side in a block


class Jobs(NamedTuple):
    """Cells to be continued, each from a neighbour: indices [J] of density and importance."""

    row: np.ndarray
    column: np.ndarray
    from_row: np.ndarray
    from_column: np.ndarray

    def take(self, which: np.ndarray) -> Jobs:
        return Jobs(*(a[which] for a in self))


def refine(sweep: Sweep, best: Selection, progress: bool) -> Refined:
    """At most `sweep.refine` rounds, until nothing improves any more, from the diagram of the best restarts."""
    now = Outcome(*(np.array(a) for a in best))
    news = np.ones(best.loss.shape, bool)  # cells whose solution their neighbours have not seen
    engine = Engine(sweep, continued(sweep), execution.keys(sweep.seed))
    for round in range(sweep.refine):
        jobs = _promising(engine, now, news)
        if not jobs.row.size:
            break
        with Progress(f"refining, round {round + 1}", jobs.row.size, engine.fixed.steps, progress, "start") as bar:
            news = _accept(now, jobs, engine.trained(now, jobs, bar))
    return Refined(*now, gain=np.where(np.isnan(best.loss), 0, best.loss - now.loss))


def continued(sweep: Sweep) -> Training:
    """Half as many steps at half the learning rate; an optimiser of the caller's is used as it is."""
    fixed = sweep.training
    if sweep.optimizer is not None:
        return fixed
    rate, steps = sweep.rate / 2, max(1, sweep.steps // 2)
    return replace(fixed, steps=steps, optimizer=training.adam(rate, steps))


def neighbours(news: np.ndarray) -> Jobs:
    """Every cell with each of its up to four neighbours that has news [P, V]."""
    cells = np.indices(news.shape).reshape(2, -1)
    pairs = []
    for step in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        other = cells + np.array(step)[:, None]
        inside = ((other >= 0) & (other < np.array(news.shape)[:, None])).all(0)
        pairs.append(np.concatenate([cells, other])[:, inside])
    jobs = Jobs(*np.concatenate(pairs, axis=1))
    return jobs.take(news[jobs.from_row, jobs.from_column])


def differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether capacities [..., N] differ by more than DIFFERENT. The features of importance 1 are alike, and so
    compared in order of capacity."""
    swept = abs(a[..., 0] - b[..., 0])
    others = abs(np.sort(a[..., 1:], -1) - np.sort(b[..., 1:], -1)).max(-1, initial=0)
    return ~(np.maximum(swept, others) <= DIFFERENT)  # true for NaN


class Strips(NamedTuple):
    """Jobs side by side, as the engine takes them: a density for every strip, and in it any cells of that density."""

    row: np.ndarray  # [G], index of density
    job: np.ndarray  # [G, STRIP]


def strips(jobs: Jobs, most: int) -> list[Strips]:
    """Blocks of `most` strips each that hold all jobs, filled up with jobs that are there already."""
    rows, members = [], []
    for row in np.unique(jobs.row):
        of_row = np.flatnonzero(jobs.row == row)
        several = np.pad(of_row, (0, -of_row.size % STRIP), mode="edge").reshape(-1, STRIP)
        rows += [row] * len(several)
        members += [*several]
    fill = -len(rows) % most
    all_rows = np.pad(np.array(rows), (0, fill), mode="edge").reshape(-1, most)
    all_members = np.pad(np.array(members), ((0, fill), (0, 0)), mode="edge").reshape(-1, most, STRIP)
    return [Strips(row, job) for row, job in zip(all_rows, all_members, strict=True)]


class Engine(NamedTuple):
    """Trains or evaluates jobs, block by block."""

    sweep: Sweep
    fixed: Training
    keys: Keys

    def start(self, now: Outcome, jobs: Jobs, block: Strips) -> tuple[Params, np.ndarray, np.ndarray]:
        """The neighbours' parameters [G, STRIP, ...], importance [G, STRIP] and density [G] of a block."""
        origin = jobs.from_row[block.job], jobs.from_column[block.job]
        importance, density = (np.asarray(a, np.float32) for a in (self.sweep.importance, self.sweep.density))
        params = Params(jnp.asarray(now.W[origin]), jnp.asarray(now.b[origin]))
        return params, importance[jobs.column[block.job]], density[block.row]

    def transplanted(self, now: Outcome, jobs: Jobs) -> np.ndarray:
        """The loss [J] of the neighbours' solutions as they are, in the cells."""
        evaluate = evaluation.compiled(self.fixed)

        def loss(block: Strips) -> tuple[np.ndarray]:
            start, v, p = self.start(now, jobs, block)
            return (np.asarray(evaluate(start, v, p, self.keys.evaluate)[0]),)

        return self._each(jobs, loss, None)[0]

    def trained(self, now: Outcome, jobs: Jobs, progress: Progress) -> Outcome:
        """The outcome [J, ...] of continuing the neighbours' solutions in the cells."""
        train = lambda block: train_block(self.fixed, self.keys, *self.start(now, jobs, block))  # noqa: E731
        return Outcome(*self._each(jobs, train, progress))

    def _each(self, jobs: Jobs, work: Callable[[Strips], tuple], progress: Progress | None) -> list[np.ndarray]:
        P, V, _ = self.sweep.shape
        chunk = self.sweep.chunk or devices.default_chunk(4 * P * V)
        blocks, known = strips(jobs, max(1, chunk // STRIP)), np.zeros(jobs.row.size, bool)
        execution.compile_ahead(self.fixed, blocks[0].job.shape, fresh=False)
        whole: list[np.ndarray] = []
        for block, outcome in execution.in_parallel(work, blocks):
            whole = whole or [np.empty((jobs.row.size, *a.shape[2:]), a.dtype) for a in outcome]
            for everywhere, values in zip(whole, outcome, strict=True):
                everywhere[block.job] = values
            known[block.job] = True
            if progress:
                progress.done(int(known.sum()), int(known.sum()))
        return whole


def _promising(engine: Engine, now: Outcome, news: np.ndarray) -> Jobs:
    """The jobs that could improve a cell."""
    jobs = neighbours(news)
    promising = differ(now.capacity[jobs.row, jobs.column], now.capacity[jobs.from_row, jobs.from_column])
    alike = jobs.take(~promising)
    if alike.row.size:
        loss = engine.transplanted(now, alike)
        promising[~promising] = loss < now.loss[alike.row, alike.column] * (1 - IMPROVED)
    return jobs.take(promising)


def _accept(now: Outcome, jobs: Jobs, found: Outcome) -> np.ndarray:
    """Puts what has a lower loss into `now`, and says which cells [P, V] have news for their neighbours."""
    before = np.where(np.isnan(now.loss), np.inf, now.loss)
    better = np.flatnonzero(found.loss < before[jobs.row, jobs.column])
    order = better[np.argsort(-found.loss[better], kind="stable")]  # of several jobs of a cell, the best comes last
    for everywhere, values in zip(now, found, strict=True):
        everywhere[jobs.row[order], jobs.column[order]] = values[order]
    return now.loss < before * (1 - IMPROVED)
