"""Running a sweep: the workers, the chunks, and the stages one after the other; `run` has it all in memory. Only a few
chunks of lanes are on the device at a time, so that its memory does not bound the grid.

Axis letters: P rows and V columns of the grid, R restarts.
"""

from __future__ import annotations

import sys
from concurrent.futures import Executor
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import jax
import numpy as np

from polyjax.engine.outcome import Outcome
from polyjax.results import Results
from polyjax.runs import attempts, ranking
from polyjax.runs.beforehand import check
from polyjax.runs.features import check_features
from polyjax.runs.folder.interruption import Interrupted, Requests
from polyjax.runs.grid import Grid, windows
from polyjax.runs.lanes import Lanes, bands, best, lanes_of, names_in_results, warn
from polyjax.runs.polishing import polish_diagram
from polyjax.runs.progress import say
from polyjax.runs.refinement import refine
from polyjax.runs.sizes import by_size
from polyjax.runs.stages import Run
from polyjax.runs.store import Memory, Store
from polyjax.runs.timing import where_time_went
from polyjax.runs.whole import config, fill
from polyjax.runs.workers import Workers, workers_of
from polyjax.selection import Refined, Selection

if TYPE_CHECKING:
    from polyjax.sweep import Sweep


def run(sweep: Sweep, progress: bool = True, executor: Executor | None = None, timing: bool = False) -> Results:
    """Train every lane of the sweep, evaluate it, train again what has not settled, and refine and polish the diagram
    if the sweep says so. The same sweep gives the same bits on machines of the same kind, on however many cores.

    The work is done by threads of this process, or by the workers of any `concurrent.futures.Executor`, which need no
    shared file system. With `timing`, where the time went is printed in the end. Raises ValueError for an executor that
    forks, or a sweep that cannot be pickled for it; WorkersLost, an OSError, where the executor works no more.
    In a notebook or at a prompt Ctrl-C ends the run, and what was trained is returned.
    """
    check(sweep, executor, progress=progress, timing=timing)
    if sweep.sizes:
        return by_size(sweep, lambda _, part: run(part, progress, executor, timing))
    requests = Requests("networks that were not trained are NaN in the results")
    heard = requests if hasattr(sys, "ps1") else nullcontext()  # elsewhere an interruption is Python's
    with heard, workers_of(executor, requests) as workers:
        trained = begin(sweep, Memory(), workers, requests, progress)
        lanes = lanes_of(trained)
        refined, told = None, {}
        try:
            refined = train(trained, lanes)
        except Interrupted as stopped:
            told = fill(trained, lanes, stopped)
    arrays = {name: np.concatenate([*bands(lanes, name)]) for name in names_in_results(sweep)}
    if timing:
        say(where_time_went(trained))
    return Results.of_run(sweep.layout, arrays, config(trained) | told, refined)


def begin(sweep: Sweep, store: Store, workers: Workers, requests: Requests, progress: bool) -> Run:
    """Decide on the engine and the chunks, as suits a worker, or take over the chunks of the run that is continued."""
    suited = workers.suited(sweep)
    if store.shape is None:
        grid = Grid(*sweep.shape)
        rows, lanes = windows((grid.rows, grid.a_row), sweep.chunk or suited.chunk, suited.shares)[0]
        store.remember(shape=(rows.stop, lanes.stop))
    assert store.shape is not None
    begun = Run(sweep, suited.engine, store, store.shape, workers, requests, progress)
    if sweep.features is not None:
        check_features(sweep.layout, begun.training, begun.features)
    return begun


def train(run: Run, lanes: Lanes) -> Refined | None:
    """Have all stages done, on the lanes of the grid. Return the refined diagram where the sweep asks for one."""
    sweep = run.sweep
    attempts.first(run, lanes)
    attempts.retry(run, lanes)
    ranking.rank(run, lanes)
    refined = _finished(run, best(sweep, lanes), lanes) if sweep.refine or sweep.polish else None
    warn(lanes, refined)
    return refined


def _finished(run: Run, best: Selection, lanes: Lanes) -> Refined:
    """Refine and polish the diagram of the best restarts, as the sweep says."""
    now = refine(run, jax.tree.map(np.array, Outcome(**best._asdict())))
    certificate = None
    if run.sweep.polish:
        now, certificate = polish_diagram(run, now, partial(bands, lanes))
    gain = np.where(np.isnan(best.rank_loss), 0, best.rank_loss - now.rank_loss)
    return Refined(*now, gain, *(certificate or ()))
