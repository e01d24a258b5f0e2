"""Polishing a diagram: every cell's solution is minimised to the end, certified, and compared with its neighbours'.

Each attempt (`polish`) minimises on samples of its own. A solution is settled once another attempt, on other samples,
finds its loss to fall by no more than a small fraction. What is not goes on from there on more samples, after which
the fraction may be `SETTLED`, since the attempt that finds it has removed the most of it. Then cells
are polished from those neighbours' solutions, rescaled, that come near their own loss, until nothing improves any
more. This is ours, not the paper's.

Axis letters: P densities, V importances, G strips of STRIP jobs each, n parameters.
"""

from collections.abc import Iterator
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from polyjax import certificate, evaluation, polish
from polyjax.capacity import capacities
from polyjax.certificate import SETTLED, Certificate
from polyjax.execution import Outcome, Program, block_of
from polyjax.jobs import Jobs, accept, differ, neighbours, run_jobs, start, themselves, transplanted
from polyjax.models import Params, has_closed_form
from polyjax.phases import Run, Strips
from polyjax.store import Arrays
from polyjax.sweep import Sweep
from polyjax.training import Training

ROUNDS = 3  # most times that neighbours are looked at
MANY = 2048  # jobs, below which narrow strips fill better
CERTAIN = 2e-4  # a solution whose loss falls by no more, relatively, on other samples is not polished further
NEAR = 0.005  # a neighbour's solution whose loss is above the cell's by more than this fraction is not tried
IMPROVED = {"expected": 1e-6, "sampled": 1e-4}  # a loss that fell by less, relatively, is not better: rounding, noise
BLOCK, FEW = (16, 32), (16, 8)  # [G, STRIP] jobs at once; the second where few of every density are left


def polish_diagram(run: Run, now: Outcome) -> tuple[Outcome, Certificate]:
    """Return the polished diagram, [P, V, ...], and its certificate."""
    cells, stages = now.loss.shape, Stages(run, polished_training(run.sweep))
    found = Certificate(
        np.full(cells, np.inf, np.float32), np.full((*cells, polish.n_parameters(run.sweep.model)), np.nan, np.float32)
    )
    now = stages.settle(now, found, np.isfinite(now.loss))
    news = np.isfinite(now.loss)
    for _ in range(ROUNDS):
        jobs = neighbours(news)
        jobs = stages.near(now, jobs) if jobs.row.size else jobs
        if not jobs.row.size:
            break
        then, news = accept(now, jobs, stages.polished(now, jobs), stages.improved)
        found.excess[then.rank_loss < now.rank_loss] = np.inf
        now = stages.settle(then, found, np.isinf(found.excess) & np.isfinite(then.loss), first=1)
    return now._replace(converged=found.excess <= SETTLED), found


def polished_training(sweep: Sweep) -> Training:
    """Return how the cells of a sweep are polished and evaluated: on the closed form where there is one."""
    return polish.polished_as(sweep.training, sweep.polish != "sampled" and has_closed_form(sweep.model))


def polished_restarts(sweep: Sweep) -> Training | None:
    """Return how every restart is polished, if the sweep asks for that."""
    return polished_training(sweep) if sweep.polish == "restarts" else None


class Stages:
    """The stages of polishing, numbered as they come."""

    def __init__(self, run: Run, fixed: Training) -> None:
        self.run, self.fixed, self.number = run, fixed, 0
        self.improved = IMPROVED[fixed.objective]

    def _name(self, what: str) -> str:
        self.number += 1
        return f"{what}{self.number}"

    def settle(self, now: Outcome, found: Certificate, cells: np.ndarray, first: int = 0) -> Outcome:
        """Polish the marked cells [P, V] until they are settled, and evaluate them. Fills in their certificate."""
        if not cells.any():
            return now
        now, left = Outcome(*(a.copy() for a in now)), cells.copy()
        for attempt in range(first, len(polish.TILES)):
            if not left.any():
                break
            jobs = themselves(left)
            for block, tried in self._attempt(now, jobs, attempt):
                cell = jobs.row[block.job], jobs.column[block.job]
                excess = certificate.fall(tried["before"], tried["after"])
                if attempt > 0:
                    found.excess[cell], found.spectrum[cell] = excess, tried["spectrum"]
                settled = (excess <= (CERTAIN if attempt < 2 else SETTLED)) & (attempt > 0)
                finite = np.isfinite(tried["W"]).all((-2, -1))
                where = tuple(index[finite] for index in cell)
                now.W[where], now.b[where] = tried["W"][finite], tried["b"][finite]
                left[cell] = ~settled
        jobs = themselves(cells)
        for block, outcome in self._judged(jobs, now.W[cells], now.b[cells]):
            for everywhere, values in zip(now, outcome, strict=True):
                everywhere[jobs.row[block.job], jobs.column[block.job]] = values
        return now

    def _attempt(self, now: Outcome, jobs: Jobs, attempt: int) -> Iterator[tuple[Strips, Arrays]]:
        fixed, run = self.fixed, self.run

        def do(block: Strips) -> Arrays:
            params, v, p = start(run, fixed, now, jobs, block)
            polished = polish.polish(fixed, params, v, p, run.keys.polish, attempt)
            arrays = {"before": polished.before, "after": polished.after, **polished.end._asdict()}
            return arrays | {"spectrum": _spectra(fixed, params, v, polished)}

        name, title = self._name("polish"), f"polishing, attempt {attempt + 1}"
        fields = ["before", "after", "W", "b", "spectrum"]
        shape = BLOCK if jobs.row.size > MANY else FEW
        return run_jobs(run, name, title, jobs, do, 1, self._programs, fields, shape)

    def _programs(self, shape: tuple[int, int]) -> list[Program]:
        params, *place = block_of(self.fixed, shape)
        n = polish.n_parameters(self.fixed.model)
        matrix, vector = (jax.ShapeDtypeStruct((*shape, *more), jnp.float32) for more in ((n, n), (n,)))
        number = jax.ShapeDtypeStruct((), jnp.int32)
        return [
            (polish.compiled(polish.measure, self.fixed), (params, *place, number)),
            (polish.compiled(polish.descend, self.fixed), ((params, matrix, vector), *place, number)),
        ]

    def near(self, now: Outcome, jobs: Jobs) -> Jobs:
        """The jobs whose solutions, as they are, come near the cell's loss or below it."""
        loss = transplanted(self.run, self.fixed, self._name("look"), "looking at neighbours", now, jobs)
        here = now.rank_loss[jobs.row, jobs.column]
        there = now.capacity[jobs.from_row, jobs.from_column]
        other = differ(now.capacity[jobs.row, jobs.column], there)
        return jobs.take((loss < here * (1 - self.improved)) | (other & (loss < here * (1 + NEAR))))

    def polished(self, now: Outcome, jobs: Jobs) -> Iterator[tuple[Strips, Outcome]]:
        """Blocks and their outcome [G, STRIP, ...] after a first attempt from the neighbours' solutions; without a loss
        where it is not clearly better than the cell's own."""
        W, b = (np.empty((jobs.row.size, *a.shape[2:]), np.float32) for a in (now.W, now.b))
        for block, found in self._attempt(now, jobs, 0):
            W[block.job], b[block.job] = found["W"], found["b"]
        for block, outcome in self._judged(jobs, W, b):
            here = now.rank_loss[jobs.row[block.job], jobs.column[block.job]]
            better = outcome.rank_loss < here * (1 - self.improved)
            yield block, outcome._replace(rank_loss=np.where(better, outcome.rank_loss, np.nan))

    def _judged(self, jobs: Jobs, W: np.ndarray, b: np.ndarray) -> Iterator[tuple[Strips, Outcome]]:
        """Blocks and their outcome [G, STRIP, ...], of parameters [J, ...] in the cells of jobs."""
        density, importance = self.run.sweep.axes()
        evaluate, key = evaluation.compiled(self.fixed), self.run.keys.evaluate

        def do(block: Strips) -> Arrays:
            params = Params(jnp.asarray(W[block.job]), jnp.asarray(b[block.job]))
            found = evaluate(params, importance[jobs.column[block.job]], density[block.row], key)
            finite = jnp.isfinite(found.loss) & jnp.isfinite(found.rank_loss)
            return Outcome(*jax.device_get((capacities(params.W), *found, finite, *params)))._asdict()

        programs = lambda shape: [(evaluate, block_of(self.fixed, shape))]  # noqa: E731
        stage = self._name("judge"), "evaluating"
        for block, outcome in run_jobs(self.run, *stage, jobs, do, 1, programs, Outcome._fields):
            yield block, Outcome(**outcome)


def _spectra(fixed: Training, params: Params, v: np.ndarray, polished: polish.Polished) -> np.ndarray:
    """The spectra [G, STRIP, n] of a block of solutions."""
    shape = v.shape
    W = np.asarray(params.W, np.float64).reshape(prod(shape), *params.W.shape[2:])
    scale = np.asarray(jax.vmap(lambda v: fixed.model.scale(fixed.importances(v)))(jnp.asarray(v.ravel())))
    hessian = np.asarray(polished.hessian).reshape(prod(shape), *polished.hessian.shape[2:])
    values = certificate.spectrum(fixed.model, W, scale, np.asarray(polished.before).ravel(), hessian)
    return values.reshape(*shape, -1).astype(np.float32)
