"""Running a sweep: `run` in memory, `run_to_file` with a folder beside the file that holds what was trained until it is
whole. Only a few blocks of lanes are on the device at a time, so that its memory does not bound the grid.

Axis letters: P rows and V columns of the grid, R restarts.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from os import PathLike
from pathlib import Path
from shutil import rmtree
from typing import Any

import jax
import numpy as np

from polyjax import files, results
from polyjax.checks import a_path, require
from polyjax.engine import devices
from polyjax.engine.outcome import Outcome, parameter_names
from polyjax.results import OF_LANES, Parts, Refined, Results, Selection
from polyjax.runs import attempts, executors, provenance
from polyjax.runs.executors import WorkersLost
from polyjax.runs.features import check_features
from polyjax.runs.folder import directory
from polyjax.runs.folder.directory import Directory, folder, refuse_other
from polyjax.runs.folder.interruption import Requests
from polyjax.runs.grid import Grid, rectangles, windows
from polyjax.runs.lanes import Lanes
from polyjax.runs.polishing import polish_diagram
from polyjax.runs.progress import say
from polyjax.runs.refinement import refine
from polyjax.runs.sizes import by_size
from polyjax.runs.stages import Run
from polyjax.runs.store import Memory, Store
from polyjax.runs.workers import Elsewhere, Threads
from polyjax.sweep import Sweep


def run(sweep: Sweep, progress: bool = True, executor: Executor | None = None, timing: bool = False) -> Results:
    """Train every lane of the sweep, evaluate it, train again what has not settled, and refine and polish the diagram
    if the sweep says so. The same sweep on the same machine gives the same bits.

    The work is done by threads of this process, or by the workers of any `concurrent.futures.Executor`, which need no
    shared file system. With `timing`, where the time went is printed in the end. Raises ValueError for an executor that
    forks, or a sweep that cannot be pickled for it; WorkersLost, an OSError, where the executor works no more.
    """
    _check(sweep, executor)
    if sweep.sizes:
        return by_size(sweep, lambda _, part: run(part, progress, executor, timing))
    nothing = Requests()  # is heard: an interruption is Python's
    with _workers(executor, nothing) as workers:
        trained = _begin(sweep, Memory(), workers, nothing, progress)
        lanes, refined = _train(trained)
    arrays = {name: np.concatenate([*_bands(lanes, name)]) for name in _of_lanes(sweep)}
    if timing:
        say(trained.timing.table())
    return Results.of_run(sweep.layout, arrays, _config(trained), refined)


def run_to_file(
    sweep: Sweep,
    path: str | PathLike[str],
    progress: bool = True,
    restart: bool = False,
    executor: Executor | None = None,
    timing: bool = False,
) -> None:
    """Train a sweep into a results file (see `results.load`). Nothing trained is lost: until the file is whole, what
    was trained is in the folder of the same name that ends in `.run`, and the same call goes on from there. The
    file is then bit for bit that of an undisturbed run.

    Ctrl-C and SIGTERM finish the chunks in hand, or take them back from an executor that can, and raise `Interrupted`.
    With `restart` a file or a run that is there is discarded. With an `executor` its workers do the work (see `run`),
    and this process alone writes. With `timing`, where the time went is printed in the end. Raises ValueError where a
    run or a file of another configuration is there, or another process is at work on it; OSError where the folder
    cannot be written or the workers are lost.
    """
    _check(sweep, executor)
    path = a_path(path)
    require(not path.is_dir(), "path", "name a file, not a folder", str(path))
    require(path.suffix == ".npz", "path", "end in .npz", str(path))
    if restart:
        discard(path)
    if path.exists():
        _accept(path, sweep)
        _clear_up(path)
        return
    if sweep.sizes:
        _sizes_to_file(sweep, path, executor, progress, timing)
        return
    with Directory(folder(path), sweep.describe()) as store:
        if path.exists():  # another process has finished it since
            _accept(path, sweep)
            store.remove()
        else:
            store.begin()
            _train_to_file(sweep, path, store, executor, progress, timing)


def _sizes_to_file(sweep: Sweep, path: Path, executor: Executor | None, progress: bool, timing: bool) -> None:
    """Train the sweeps of every size into files of their own beside the results file, which is put together from
    them. These are all in memory in the end."""
    beside = sizes_folder(path)
    files.make_folder(beside)

    def train(values: Mapping[str, float], part: Sweep) -> Results:
        name = ",".join(f"{name}={value}" for name, value in values.items())
        file = beside / f"{name}.npz"
        if progress:
            say(f"{path}: {name}")
        run_to_file(part, file, progress, executor=executor, timing=timing)
        return results.load(file)

    by_size(sweep, train).save(path)
    rmtree(beside)


def sizes_folder(path: Path) -> Path:
    """Return the folder of the files of every size, from which the results file `path` is put together."""
    return path.with_suffix(".sizes")


def _check(sweep: Sweep, executor: Executor | None) -> None:
    require(isinstance(sweep, Sweep), "sweep", "be a Sweep", sweep)
    if executor is not None:
        executors.check(executor)


def discard(path: Path) -> None:
    """Remove a results file, and the unfinished run that makes it. Raises ValueError where a process is at work."""
    for part in [*sizes_folder(path).glob("*.npz")]:
        discard(part)
    directory.discard(folder(path))
    path.unlink(missing_ok=True)


def _accept(path: Path, sweep: Sweep) -> None:
    """Say that the results file is there. Raises ValueError where it is of another configuration."""
    here = sweep.describe()
    try:
        there = results.configuration(path)
    except ValueError as error:
        raise ValueError(f"{error}; restart=True replaces it") from error
    refuse_other({key: value for key, value in there.items() if key in here}, here, str(path))
    say(f"{path} is there already, of the same configuration")


def _clear_up(path: Path) -> None:
    """Remove what is left of a run that was killed when its file was whole, unless another process does so."""
    rmtree(sizes_folder(path), ignore_errors=True)
    with suppress(ValueError, OSError):
        directory.discard(folder(path))


@contextmanager
def _workers(executor: Executor | None, requests: Requests) -> Iterator[Threads | Elsewhere]:
    if executor is None:
        with ThreadPoolExecutor(devices.workers()) as threads:
            yield Threads(threads)
    elif isinstance(executor, ThreadPoolExecutor):
        yield Threads(executor)
    else:
        workers = Elsewhere(executor, requests)
        try:
            yield workers
        finally:
            workers.close()


def _train_to_file(
    sweep: Sweep, path: Path, store: Directory, executor: Executor | None, progress: bool, timing: bool
) -> None:
    how_to_continue = provenance.how_to_continue()
    try:
        with Requests(how_to_continue) as requests, _workers(executor, requests) as workers:
            trained = _begin(sweep, store, workers, requests, progress)
            lanes, refined = _train(trained)
            store.finish(lambda beside: _write(path, trained, lanes, refined, beside))
            if timing:
                say(trained.timing.table())
    except WorkersLost as error:
        raise WorkersLost(f"{error}. What was saved is safe; {how_to_continue}") from error


def _write(path: Path, trained: Run, lanes: Lanes, refined: Refined | None, beside: Path) -> None:
    axes = trained.sweep.layout
    lengths = axes.size(axes.stored)
    arrays = {name: Parts(_bands(lanes, name), lengths, 2) for name in _of_lanes(trained.sweep)}
    refined = refined and refined.each(lambda a: a.reshape(*lengths, *a.shape[2:]))
    results.write(path, _config(trained), axes.values, axes.stored, arrays, refined, beside=beside)


def _begin(sweep: Sweep, store: Store, workers: Threads | Elsewhere, requests: Requests, progress: bool) -> Run:
    """Decide on the engine and the chunks, as suits a worker, or take over the chunks of the run that is continued."""
    suited = workers.suited(sweep)
    if store.shape is None:
        grid = Grid(*sweep.shape)
        rows, lanes = windows((grid.rows, grid.a_row), sweep.chunk or suited.chunk, suited.at_once)[0]
        store.remember(shape=(rows.stop, lanes.stop))
    assert store.shape is not None
    begun = Run(sweep, suited.engine, store, store.shape, workers, requests, progress)
    if sweep.features is not None:
        check_features(sweep.layout, begun.training, begun.features)
    return begun


def _train(run: Run) -> tuple[Lanes, Refined | None]:
    sweep, lanes = run.sweep, Lanes(run.store, run.grid, rectangles(run.grid, run.shape))
    attempts.first(run, lanes)
    attempts.retry(run, lanes)
    refined = _finished(run, _best(sweep, lanes), lanes) if sweep.refine or sweep.polish else None
    _warn(lanes, refined)
    return lanes, refined


def _finished(run: Run, best: Selection, lanes: Lanes) -> Refined:
    """Refine and polish the diagram of the best restarts, as the sweep says."""
    now = refine(run, jax.tree.map(np.array, Outcome(**best._asdict())))
    certificate = None
    if run.sweep.polish:
        now, certificate = polish_diagram(run, now, partial(_bands, lanes))
    gain = np.where(np.isnan(best.rank_loss), 0, best.rank_loss - now.rank_loss)
    return Refined(*now, gain, *(certificate or ()))


def _of_lanes(sweep: Sweep) -> tuple[str, ...]:
    """Return the names of the arrays of all networks in the results."""
    return *OF_LANES, *parameter_names(sweep.training.one_model)


def _warn(lanes: Lanes, refined: Refined | None) -> None:
    """Say in one line if no model has settled, neither of the grid nor of the refined diagram."""

    def bands(name: str) -> Iterator[np.ndarray]:
        return chain(_bands(lanes, name), [] if refined is None else [getattr(refined, name)])

    if any(settled.any() for settled in bands("settled")):
        return
    if any(np.isfinite(loss).any() for loss in bands("loss")):
        say("warning: no model has settled, so that the diagram shows unfinished training; more steps may help")
    else:
        say("warning: every model ended in infinities or NaN, so that the diagram is empty; smaller steps may help")


def _bands(lanes: Lanes, name: str) -> Iterator[np.ndarray]:
    """Yield an array of the results, [rows, V, R, ...] at a time."""
    for rows in lanes.bands():
        a = lanes.band(name, rows)
        yield a.reshape(len(a), *lanes.grid[1:], *a.shape[2:])


def _best(sweep: Sweep, lanes: Lanes) -> Selection:
    """Return the diagram by the rule `best`, band by band, so that not all restarts are in memory."""
    columns, found, names = np.arange(sweep.layout.n_columns), [], _of_lanes(sweep)
    for parts in zip(*(_bands(lanes, name) for name in names), strict=True):
        axes = {"row": np.arange(len(parts[0])), "column": columns}
        found.append(Results.of(axes, dict(zip(names, parts, strict=True)), {}, None).select("best"))
    return jax.tree.map(lambda *bands: np.concatenate(bands), *found)


def _config(run: Run) -> dict[str, Any]:
    made, *others = run.store.provenances()
    texts = run.sweep.sources
    return {
        **run.sweep.describe(),
        **({"source": texts} if texts else {}),
        "engine": run.engine,
        "shape": [*run.shape],
        "room": run.store.room,
        "provenance": made | ({"other_sessions": others} if others else {}),
    }
