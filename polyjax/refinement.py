"""Refining a diagram: cells that sit in a worse local minimum than their neighbours are continued from the neighbours.

With few restarts some cells end in a worse minimum and show as speckles, although the solution next door would serve
them. In every round, a cell is trained for a short while from the best solution of each of its four neighbours, where
that could improve it: where the two differ in capacity, or where the neighbour's solution as it is has the lower loss
in this cell. The lowest evaluated loss wins, so that no cell ever gets worse. This is ours, not the paper's.

Axis letters: P densities, V importances, J jobs (a cell and the neighbour that it starts from), N features, D neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from polyjax import evaluation, training
from polyjax.execution import Outcome, train_block
from polyjax.models import Params
from polyjax.phases import Run, Size, Strips, strips
from polyjax.results import Refined, Selection
from polyjax.store import Arrays, outcomes
from polyjax.sweep import Sweep
from polyjax.training import Training

DIFFERENT = 0.05  # capacities that differ by more belong to solutions that may differ in kind
IMPROVED = 1e-3  # a loss that fell by less, relatively, is not news to the neighbours


class Jobs(NamedTuple):
    """Cells to be continued, each from a neighbour: indices [J] of density and importance."""

    row: np.ndarray
    column: np.ndarray
    from_row: np.ndarray
    from_column: np.ndarray

    def take(self, which: np.ndarray) -> Jobs:
        return Jobs(*(a[which] for a in self))


def refine(run: Run, best: Selection) -> Refined:
    """At most `refine` rounds, until nothing improves any more, from the diagram of the best restarts."""
    now = Outcome(*(np.array(a) for a in best))
    news = np.ones(best.loss.shape, bool)  # cells whose solution their neighbours have not seen
    fixed = continued(run.sweep)
    for round in range(1, run.sweep.refine + 1):
        engine = Engine(run, fixed, round)
        jobs = _promising(engine, now, news)
        if not jobs.row.size:
            break
        now, news = _accept(now, jobs, engine.trained(now, jobs))
    return Refined(*now, gain=np.where(np.isnan(best.loss), 0, best.loss - now.loss))


def continued(sweep: Sweep) -> Training:
    """Half as many steps at a quarter of the learning rate; an optimiser of the caller's is used as it is."""
    fixed = sweep.training
    if sweep.optimizer is not None:
        return fixed
    rate, steps = sweep.rate / 4, max(1, sweep.steps // 2)
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


@dataclass(frozen=True)
class Engine:
    """Trains or evaluates jobs of one round, block by block."""

    run: Run
    fixed: Training
    round: int

    def start(self, now: Outcome, jobs: Jobs, block: Strips) -> tuple[Params, np.ndarray, np.ndarray]:
        """The neighbours' parameters [G, STRIP, ...], importance [G, STRIP] and density [G] of a block."""
        origin = jobs.from_row[block.job], jobs.from_column[block.job]
        density, importance = self.run.sweep.axes()
        params = Params(jnp.asarray(now.W[origin]), jnp.asarray(now.b[origin]))
        return params, importance[jobs.column[block.job]], density[block.row]

    def transplanted(self, now: Outcome, jobs: Jobs) -> np.ndarray:
        """The loss [J] of the neighbours' solutions as they are, in the cells."""
        evaluate = evaluation.compiled(self.fixed)

        def loss(block: Strips) -> Arrays:
            start, v, p = self.start(now, jobs, block)
            return {"loss": np.asarray(evaluate(start, v, p, self.run.keys.evaluate)[0])}

        whole = np.empty(jobs.row.size, np.float32)
        for block, found in self._each("look", "looking at neighbours", jobs, loss, 1):
            whole[block.job] = found["loss"]
        return whole

    def trained(self, now: Outcome, jobs: Jobs) -> Iterator[tuple[Strips, Outcome]]:
        """Blocks and the outcome [G, STRIP, ...] of continuing the neighbours' solutions in the cells."""

        def train(block: Strips) -> Arrays:
            return train_block(self.fixed, self.run.keys, *self.start(now, jobs, block))._asdict()

        for block, found in self._each("refine", "refining", jobs, train, self.fixed.steps):
            yield block, Outcome(**found)

    def _each(
        self, phase: str, title: str, jobs: Jobs, do: Callable[[Strips], Arrays], steps: int
    ) -> Iterator[tuple[Strips, Arrays]]:
        """Every block with its outcome."""
        run, blocks, name = self.run, strips(jobs.row, self.run.block), f"{phase}{self.round}"
        size = Size(jobs.row.size, "start", steps)
        run.complete(name, f"{title}, round {self.round}", blocks, do, self.fixed, size, fresh=False)
        fields = Outcome._fields if phase == "refine" else ("loss",)
        return zip(blocks, outcomes(run.store, name, len(blocks), fields), strict=True)


def _promising(engine: Engine, now: Outcome, news: np.ndarray) -> Jobs:
    """The jobs that could improve a cell."""
    jobs = neighbours(news)
    promising = differ(now.capacity[jobs.row, jobs.column], now.capacity[jobs.from_row, jobs.from_column])
    alike = jobs.take(~promising)
    if alike.row.size:
        loss = engine.transplanted(now, alike)
        promising[~promising] = loss < now.loss[alike.row, alike.column] * (1 - IMPROVED)
    return jobs.take(promising)


def _accept(now: Outcome, jobs: Jobs, found: Iterator[tuple[Strips, Outcome]]) -> tuple[Outcome, np.ndarray]:
    """The diagram with what has a lower loss, and which cells [P, V] have news for their neighbours."""
    then = Outcome(*(np.array(a) for a in now))
    loss = np.where(np.isnan(now.loss), np.inf, now.loss)
    before = loss.copy()
    for block, outcome in found:
        job, lanes = block.job.ravel(), Outcome(*(a.reshape(-1, *a.shape[2:]) for a in outcome))
        cell = jobs.row[job], jobs.column[job]
        better = np.flatnonzero(lanes.loss < loss[cell])
        order = better[np.argsort(-lanes.loss[better], kind="stable")]  # of several jobs of a cell, the best comes last
        of_cell = jobs.row[job[order]], jobs.column[job[order]]
        loss[of_cell] = lanes.loss[order]
        for everywhere, values in zip(then, lanes, strict=True):
            everywhere[of_cell] = values[order]
    return then, loss < before * (1 - IMPROVED)
