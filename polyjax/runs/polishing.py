"""Polishing a diagram: every cell's solution is minimised to the end, certified, and compared with its neighbours'.

Each attempt (`polish`) minimises on samples of its own. A solution is settled once another attempt, on other samples,
finds its loss to fall by no more than a small fraction, the most of which that attempt removes; what is not settled
goes on from there on more samples. Cells are also polished from other solutions that come near their own loss: those
of their neighbours, rescaled, and those of their other restarts, until nothing improves any more. This is ours, not the
paper's.

Axis letters: P rows and V columns of the grid, G rows of a chunk, L jobs in each, n parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from polyjax.engine import certificate, polish
from polyjax.engine.certificate import SETTLED, Certificate
from polyjax.engine.outcome import Outcome, array_names
from polyjax.runs.candidates import Bands, contenders, exchanged, jobs_of, reversed_embeddings, rivals, unlike
from polyjax.runs.cell_tasks import JUDGE, LOOK, POLISH, RANK, TILES, polished
from polyjax.runs.continuation import FEW, NARROW, SHAPE, gathered, packing, run_jobs, transplanted
from polyjax.runs.grid import Chunk
from polyjax.runs.jobs import (
    Cells,
    Jobs,
    Solutions,
    accept,
    differ,
    extended,
    neighbours,
    of_jobs,
    put,
    solutions,
    themselves,
)
from polyjax.toy.model import embeds_by_parameter, n_parameters
from polyjax.toy.models import Params

if TYPE_CHECKING:
    from polyjax.runs.stages import Run
    from polyjax.runs.work import Shape, Work

DISTANCES = (16, 8, 4, 2, 1, 1, 1, 1, 1)  # of the neighbours that are looked at, round by round: news travel fast
NEAR = {"expected": 0.1, "sampled": 0.003}  # other solutions whose loss is above the cell's by more are not tried
FAR, NEAR_FAR = 4, 5e-4  # likewise, of solutions from further away
NEW = 0.005  # solutions whose capacities differ by less are not looked at; up to `jobs.DIFFERENT`, none that is worse
IMPROVED = {"expected": 1e-6, "sampled": 1e-4}  # a loss that fell by less, relatively, is not better: rounding, noise
NEWS = {"expected": 1e-6, "sampled": 1e-3}  # one that fell by less is not shown to the neighbours
CLOSE = 0.002  # solutions whose losses differ by less, relatively, are polished further before one is chosen
CERTAIN = 5e-4  # a solution whose loss falls by more, relatively, on other samples is polished further

Evaluate = Callable[[Jobs, dict[str, np.ndarray]], Iterator[tuple[Chunk, Outcome]]]  # of parameters [J, ...] by name


def polish_diagram(run: Run, trained: Outcome, restarts: Bands) -> tuple[Outcome, Certificate]:
    """Return the polished diagram, [P, V, ...], and its certificate."""
    cells, stages = np.isfinite(trained.loss), Stages(run)
    n, axes, kinds = n_parameters(run.training.one_model), run.sweep.layout, run.features.kinds
    nothing = np.full(cells.shape, np.inf, np.float32), np.full((*cells.shape, n), np.nan, np.float32)
    found, news = Certificate(*nothing), cells
    stages.compile(int(cells.sum()))
    now, _ = stages.settle(trained, found, cells, range(1))
    now = stages.judged(now, cells, stages.ranked)
    if stages.has_columns:
        now, _ = stages.improved_by(now, *reversed_embeddings(now))
    for round, distance in enumerate(DISTANCES):
        given, seen = solutions(now), distance in DISTANCES[:round]
        jobs = neighbours(axes, news if seen else np.isfinite(now.loss), distance)
        jobs = jobs.take(differ(now.capacity[jobs.row, jobs.column], given.capacity[jobs.origin], kinds, NEW))
        near_by = min(stages.near_by, NEAR_FAR) if distance > FAR else stages.near_by
        jobs = stages.near(now, given, jobs, near_by, -stages.improved)
        if round == 0:
            given, jobs = extended(given, jobs, *rivals(trained, now, kinds, restarts, stages.near_by))
        now, news = stages.improved_by(now, given, jobs)
    if stages.has_columns:
        now = stages.exchanged(now)
    now, left = stages.settle(now, found, cells, range(1, 2))
    now, left = stages.reconsidered(now, found, left)
    now, _ = stages.settle(now, found, left, range(2, len(polish.ATTEMPTS)))
    now = stages.judged(now, cells, stages.evaluated)
    return now._replace(settled=found.excess <= SETTLED), found


class Attempted(NamedTuple):
    """What an attempt at polishing made of J jobs."""

    excess: np.ndarray  # [J], by which fraction the loss fell
    spectrum: np.ndarray | None  # [J, n], of the Hessian; none from the first attempt
    params: dict[str, np.ndarray]  # by name, each [J, ...]


class Stages:
    """Stages of polishing, numbered as they come."""

    def __init__(self, run: Run) -> None:
        self.run, self.number = run, 0
        self.fixed = fixed = polished(run)
        self.improved, self.near_by = IMPROVED[fixed.objective], NEAR[fixed.objective]
        self.tried: list[tuple[Solutions, np.ndarray]] = []  # in vain, or replaced, and their ranking losses
        # Whether a feature's parameters are known: a column of W, and an entry of b if that has one for each.
        self.has_columns = isinstance(fixed.one, Params) and embeds_by_parameter(fixed.one_model)

    def _name(self, what: str) -> str:
        self.number += 1
        return f"{what}{self.number}"

    def compile(self, cells: int) -> None:
        """Compile what polishing so many cells runs, all at the same time."""
        wide, narrow = self._packing(cells), self._packing(FEW)
        of_all = [(work, packing(self.run)) for work in (LOOK, JUDGE)]
        self.run.compile("polishing", [*((POLISH, shape) for shape in dict.fromkeys((wide, narrow))), *of_all])

    def _packing(self, jobs: int) -> Shape:
        """Return the shape [G, L] of the chunks in which so many jobs are polished."""
        return packing(self.run, SHAPE if jobs > FEW else NARROW)

    def settle(
        self, now: Outcome, found: Certificate, cells: np.ndarray, attempts: range
    ) -> tuple[Outcome, np.ndarray]:
        """Polish cells by attempts of these numbers, until they are settled. Return the diagram, with the losses that
        it had, and which cells are left; fill in their certificate."""
        now, left = jax.tree.map(np.copy, now), cells.copy()
        for attempt in attempts:
            if not left.any():
                break
            jobs = themselves(left)
            _put(now, found, left, jobs, self._attempt(solutions(now), jobs, attempt))
        return now, left

    def judged(self, now: Outcome, cells: np.ndarray, evaluate: Evaluate) -> Outcome:
        """Return the diagram with the outcome of the parameters in some cells."""
        if not cells.any():
            return now
        now, jobs = jax.tree.map(np.copy, now), themselves(cells)
        for chunk, outcome in evaluate(jobs, {name: a[cells] for name, a in now.params.items()}):
            put(now, (jobs.row[chunk.lane], jobs.column[chunk.lane]), outcome)
        return now

    def _attempt(self, given: Solutions, jobs: Jobs, attempt: int) -> Attempted:
        named = self._name("polish"), f"polishing, attempt {attempt + 1}"
        fields = ["before", "after", *self.fixed.one._fields, *(["spectrum"] if attempt > 0 else [])]
        work, cells = POLISH._replace(attempt=attempt), partial(of_jobs, given, jobs)
        chunks = run_jobs(self.run, *named, jobs, work, cells, fields, shape=self._packing(jobs.row.size))
        arrays = gathered(chunks, jobs.row.size)
        fall = certificate.fall(arrays.pop("before"), arrays.pop("after"))
        return Attempted(fall, arrays.pop("spectrum", None), arrays)

    def near(self, now: Outcome, given: Solutions, jobs: Jobs, near_by: float, alike: float) -> Jobs:
        """Return the jobs whose loss, as the solutions are, is above that of the cell by less than the fraction
        `near_by`, or `alike` for solutions whose capacities hardly differ from the cell's."""
        if not jobs.row.size:
            return jobs
        loss = transplanted(self.run, LOOK, self._name("look"), "looking at neighbours", given, jobs)
        cell, kinds = (jobs.row, jobs.column), self.run.features.kinds
        other = differ(now.capacity[cell], given.capacity[jobs.origin], kinds)
        near = loss < now.rank_loss[cell] * (1 + np.where(other, near_by, alike))
        return unlike(jobs.take(near), loss[near], given, kinds)

    def improved_by(self, now: Outcome, given: Solutions, jobs: Jobs) -> tuple[Outcome, np.ndarray]:
        """Return the diagram after a first attempt from other solutions, and which cells have news."""
        if not jobs.row.size:
            return now, np.zeros(now.loss.shape, bool)
        then, news = accept(now, jobs, self._polished(now, given, jobs), NEWS[self.fixed.objective])
        replaced = np.nonzero(then.rank_loss < now.rank_loss)
        self._keep(now, replaced, *replaced)
        return then, news

    def _keep(self, outcome: Outcome, which: np.ndarray | tuple[np.ndarray, ...], *cells: np.ndarray) -> None:
        """Keep solutions that were tried in some cells [S] and are not theirs, unless their losses have no error."""
        if self.fixed.objective == "sampled":
            arrays = outcome.params, outcome.capacity, outcome.rank_loss
            params, capacity, loss = jax.tree.map(lambda a: a[which], arrays)
            self.tried.append((Solutions(params, capacity, *cells), loss))

    def reconsidered(self, now: Outcome, found: Certificate, left: np.ndarray) -> tuple[Outcome, np.ndarray]:
        """Return the diagram in which a cell has the best of the solutions that were tried there and come near its own,
        and which cells are left: they are polished as far as the cells are and ranked on more samples."""
        if not self.tried:
            return now, left
        given, jobs = contenders(now, self.tried, CLOSE, self.run.features.kinds)
        if not jobs.row.size:
            return now, left
        now, left, cells = jax.tree.map(np.copy, now), left.copy(), np.zeros(left.shape, bool)
        cells[jobs.row, jobs.column] = True
        tried = self._attempt(given, jobs, 1)
        others = Solutions(tried.params, given.capacity[jobs.origin], jobs.row, jobs.column)
        loss, least = self._sharper(others, jobs_of(others)), np.full(left.shape, np.nan, np.float32)
        least[cells] = self._sharper(solutions(now), themselves(cells))
        better = np.flatnonzero(loss < least[jobs.row, jobs.column])
        better = better[np.argsort(-loss[better], kind="stable")]  # of several of a cell, the best comes last
        _put(now, found, left, jobs.take(better), jax.tree.map(lambda a: a[better], tried))
        return now, left

    def _sharper(self, given: Solutions, jobs: Jobs) -> np.ndarray:
        """Return the ranking loss [J] of solutions on more samples."""
        again = LOOK._replace(attempt=len(TILES) - 1)
        return transplanted(self.run, again, self._name("look"), "ranking again", given, jobs)

    def exchanged(self, now: Outcome) -> Outcome:
        """Return the diagram after a first attempt from the cells' solutions with two features exchanged. Their
        capacities hardly differ from the cells', yet they need not have the lower loss before they are polished."""
        given, jobs = exchanged(now, self.run.features)
        return self.improved_by(now, given, self.near(now, given, jobs, self.near_by, self.near_by))[0]

    def _polished(self, now: Outcome, given: Solutions, jobs: Jobs) -> Iterator[tuple[Chunk, Outcome]]:
        """Yield chunks and their outcome [G, L, ...] after a first attempt from other solutions; without a loss where
        it is not clearly better than the cell's own."""
        params = self._attempt(given, jobs, 0).params
        for chunk, outcome in self.ranked(jobs, params):
            row, column = jobs.row[chunk.lane], jobs.column[chunk.lane]
            here = now.rank_loss[row, column]
            better = outcome.rank_loss < here * (1 - self.improved)
            near = ~better & (outcome.rank_loss < here * (1 + CLOSE))
            self._keep(outcome, near, row[near], column[near])
            yield chunk, outcome._replace(rank_loss=np.where(better, outcome.rank_loss, np.nan))

    def ranked(self, jobs: Jobs, params: dict[str, np.ndarray]) -> Iterator[tuple[Chunk, Outcome]]:
        """Yield chunks and their outcome [G, L, ...], of parameters [J, ...] in the cells of jobs. What is polished
        further has only a ranking loss, which stands for the other as well."""
        return self._outcomes("rank", RANK, jobs, params)

    def evaluated(self, jobs: Jobs, params: dict[str, np.ndarray]) -> Iterator[tuple[Chunk, Outcome]]:
        """Yield the same with the loss that is reported."""
        return self._outcomes("judge", JUDGE, jobs, params)

    def _outcomes(
        self, stage: str, work: Work, jobs: Jobs, params: dict[str, np.ndarray]
    ) -> Iterator[tuple[Chunk, Outcome]]:
        def cells(chunk: Chunk) -> Cells:
            return Cells(chunk.row, jobs.column[chunk.lane], {name: a[chunk.lane] for name, a in params.items()})

        named, fields = (self._name(stage), "evaluating"), array_names(self.fixed.one_model)
        for chunk, found in run_jobs(self.run, *named, jobs, work, cells, fields, shape=packing(self.run)):
            yield chunk, Outcome.of(found)


def _put(now: Outcome, found: Certificate, left: np.ndarray, jobs: Jobs, tried: Attempted) -> None:
    """Put solutions where jobs say, as far as they are finite, with their certificate and whether they are left."""
    cell = jobs.row, jobs.column
    finite = np.stack([np.isfinite(a).all(tuple(range(1, a.ndim))) for a in tried.params.values()]).all(0)
    for name, a in tried.params.items():
        now.params[name][tuple(index[finite] for index in cell)] = a[finite]
    if tried.spectrum is not None:
        found.excess[cell], found.spectrum[cell] = tried.excess, tried.spectrum
        left[cell] = ~(tried.excess <= CERTAIN)
