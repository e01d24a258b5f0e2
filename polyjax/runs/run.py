"""Running a sweep: `run` in memory, `run_to_file` with a folder beside the file that holds what was trained until it is
whole. Only a few blocks of lanes are on the device at a time, so that its memory does not bound the grid.

Axis letters: P rows and V columns of the grid, R restarts.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain
from math import prod
from os import PathLike
from pathlib import Path
from shutil import rmtree
from time import sleep
from typing import Any

import jax
import numpy as np

from polyjax import results
from polyjax.checks import require
from polyjax.engine import choice, devices
from polyjax.engine.keys import keys
from polyjax.engine.outcome import Outcome, parameter_names
from polyjax.results import OF_LANES, Parts, Refined, Results, Selection
from polyjax.runs import attempts, provenance
from polyjax.runs.features import check_features
from polyjax.runs.folder import directory
from polyjax.runs.folder.directory import LOCK, WAIT_S, Directory, folder, refuse_other
from polyjax.runs.grid import Grid, rectangles, windows
from polyjax.runs.hosts import Share
from polyjax.runs.lanes import Lanes
from polyjax.runs.polishing import polish_diagram
from polyjax.runs.progress import say
from polyjax.runs.refinement import refine
from polyjax.runs.sizes import by_size
from polyjax.runs.stages import Run
from polyjax.runs.store import Memory, Store
from polyjax.sweep import Sweep


def run(sweep: Sweep, progress: bool = True) -> Results:
    """Train every lane of the sweep, evaluate it, train again what has not settled, and refine and polish the diagram
    if the sweep says so. The same sweep on the same machine gives the same bits."""
    _check(sweep)
    if sweep.sizes:
        return by_size(sweep, lambda _, part: run(part, progress))
    trained = _begin(sweep, Memory(), progress)
    lanes, refined = _train(trained)
    arrays = {name: np.concatenate([*_bands(lanes, name)]) for name in _of_lanes(sweep)}
    config = _config(trained, provenance.provenance(trained.training.engine))
    return Results.of_run(sweep.layout, arrays, config, refined)


def run_to_file(
    sweep: Sweep,
    path: str | PathLike[str],
    progress: bool = True,
    restart: bool = False,
    share: Share = Share(),  # noqa: B008
) -> None:
    """Train a sweep into a results file (see `results.load`). Nothing trained is lost: until the file is whole, what
    was trained is in the folder of the same name that ends in `.run`, and the same call goes on from there. The
    file is then bit for bit that of an undisturbed run.

    Ctrl-C and SIGTERM finish the chunks in hand and raise `Interrupted`. With `restart` a file or a run that is there
    is discarded. `share` is this process's part where several work on one file (see `hosts`). Raises ValueError where
    a run or a file of another configuration is there, or another process is at work on it; OSError where the folder
    cannot be written.
    """
    _check(sweep)
    path = Path(path)
    require(path.suffix == ".npz", "path", "end in .npz", str(path))
    require(
        not (restart and share.processes > 1), "restart", "be left out where several processes share a run", restart
    )
    if restart:
        discard(path)
    if _is_done(path, sweep):
        _clear_up(path, sweep)
        return
    if sweep.sizes:
        _sizes_to_file(sweep, path, progress)
        return
    try:
        with Directory(folder(path), sweep.describe(), *share) as store:
            if share.processes == 1 and _is_done(path, sweep):  # by another process, since we looked
                store.remove()
                return
            _train_to_file(sweep, path, store, progress and share.process == 0)
    except FileNotFoundError:  # of the folder, which another process clears up when the file is whole
        if not (_is_there if share.processes > 1 else _is_done)(path, sweep):
            raise


def _sizes_to_file(sweep: Sweep, path: Path, progress: bool) -> None:
    """Train the sweeps of every size into files of their own beside the results file, which is put together from
    them. These are all in memory in the end."""
    beside = sizes_folder(path)
    beside.mkdir(parents=True, exist_ok=True)

    def train(values: Mapping[str, float], part: Sweep) -> Results:
        name = ",".join(f"{name}={value}" for name, value in values.items())
        file = beside / f"{name}.npz"
        if progress:
            say(f"{path}: {name}")
        run_to_file(part, file, progress)
        return results.load(file)

    by_size(sweep, train).save(path)
    rmtree(beside)


def sizes_folder(path: Path) -> Path:
    """Return the folder of the files of every size, from which the results file `path` is put together."""
    return path.with_suffix(".sizes")


def _check(sweep: Sweep) -> None:
    require(isinstance(sweep, Sweep), "sweep", "be a Sweep", sweep)


def discard(path: Path) -> None:
    """Remove a results file, and the unfinished run that makes it. Raises ValueError where a process is at work."""
    for part in [*sizes_folder(path).glob("*.npz")]:
        discard(part)
    directory.discard(folder(path))
    path.unlink(missing_ok=True)


def lock(path: Path) -> Path:
    """Return the file that processes hold which are at work on the results file `path`."""
    return folder(path) / LOCK


def _is_done(path: Path, sweep: Sweep) -> bool:
    """Say whether the results file is there, also to the user."""
    if there := _is_there(path, sweep):
        say(f"{path} is there already, of the same configuration")
    return there


def _is_there(path: Path, sweep: Sweep) -> bool:
    """Say whether the results file is there. Raises ValueError where it is of another configuration."""
    if not path.exists():
        return False
    here = sweep.describe()
    try:
        there = results.configuration(path)
    except ValueError as error:
        raise ValueError(f"{error}; restart=True replaces it") from error
    refuse_other({key: value for key, value in there.items() if key in here}, here, str(path))
    return True


def _clear_up(path: Path, sweep: Sweep) -> None:
    """Remove what is left of a run that was killed when its file was whole, unless other processes still need it."""
    rmtree(sizes_folder(path), ignore_errors=True)
    if folder(path).exists():
        with suppress(ValueError, OSError), Directory(folder(path), sweep.describe()) as store:
            store.remove()


def _train_to_file(sweep: Sweep, path: Path, store: Directory, progress: bool) -> None:
    trained = _begin(sweep, store, progress)
    lanes, refined = _train(trained)
    if store.index > 0:
        while not path.exists():
            if store.stopping():
                raise store.stopped("everything is trained")
            sleep(WAIT_S)
        return
    made = store.provenances()
    config = _config(trained, made[0] | ({"other_sessions": made[1:]} if made[1:] else {}))
    axes = sweep.layout
    lengths = axes.size(axes.stored)
    arrays = {name: Parts(_bands(lanes, name), lengths, 2) for name in _of_lanes(sweep)}
    refined = refined and refined.each(lambda a: a.reshape(*lengths, *a.shape[2:]))
    store.writing(lambda: results.write(path, config, axes.values, axes.stored, arrays, refined, beside=store.folder))
    store.remove()


def _begin(sweep: Sweep, store: Store, progress: bool) -> Run:
    """Decide on the chunks, or take over those of the run that is continued."""
    devices.keep_programs()
    grid = Grid(*sweep.shape)
    if store.shape is None:
        most = sweep.chunk or devices.default_chunk(prod(grid))
        rows, lanes = windows((grid.rows, grid.a_row), most, devices.workers())[0]
        store.remember(shape=(rows.stop, lanes.stop))
    assert store.shape is not None
    fixed = choice.with_engine(sweep.training)
    if sweep.features is not None:
        check_features(sweep.layout, fixed)
    store.engine = fixed.engine
    return Run(sweep, fixed, keys(sweep.seed), store, store.shape, progress)


def _train(run: Run) -> tuple[Lanes, Refined | None]:
    sweep, lanes = run.sweep, Lanes(run.store, run.grid, rectangles(run.grid, run.shape))
    attempts.first(run, lanes)
    attempts.retry(run, lanes)
    refined = _finished(run, _best(sweep, lanes), lanes) if sweep.refine or sweep.polish else None
    if run.store.index == 0:
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


def _config(run: Run, made: Mapping[str, Any]) -> dict[str, Any]:
    texts = run.sweep.sources
    return {
        **run.sweep.describe(),
        **({"source": texts} if texts else {}),
        "engine": run.training.engine,
        "shape": [*run.shape],
        "room": run.store.room,
        "provenance": {**made},
    }
