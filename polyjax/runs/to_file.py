"""Running a sweep into a results file, with a folder beside it that holds what was trained until the file is whole."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import suppress
from os import PathLike
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from polyjax import archive, files
from polyjax.archive import Parts
from polyjax.checks import a_path, require
from polyjax.results import Results, load
from polyjax.runs import provenance
from polyjax.runs.beforehand import check, check_place
from polyjax.runs.executors import WorkersLost
from polyjax.runs.folder import directory
from polyjax.runs.folder.directory import Directory, folder, refuse_other
from polyjax.runs.folder.interruption import Requests
from polyjax.runs.lanes import Lanes, bands, lanes_of, names_in_results
from polyjax.runs.progress import say
from polyjax.runs.run import begin, train
from polyjax.runs.sizes import by_size
from polyjax.runs.timing import where_time_went
from polyjax.runs.whole import config
from polyjax.runs.workers import workers_of

if TYPE_CHECKING:
    from polyjax.runs.stages import Run
    from polyjax.selection import Refined
    from polyjax.sweep import Sweep


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
    check(sweep, executor, progress=progress, restart=restart, timing=timing)
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
            check_place(path, store.folder)
            _train_to_file(sweep, path, store, executor, progress, timing)


def _sizes_to_file(sweep: Sweep, path: Path, executor: Executor | None, progress: bool, timing: bool) -> None:
    """Train the sweeps of every size into files of their own beside the results file, which is put together from
    them. These are all in memory in the end."""
    beside = sizes_folder(path)
    files.make_folder(beside)
    check_place(path, beside)

    def train(values: Mapping[str, float], part: Sweep) -> Results:
        name = ",".join(f"{name}={value}" for name, value in values.items())
        file = beside / f"{name}.npz"
        if progress:
            say(f"{path}: {name}")
        run_to_file(part, file, progress, executor=executor, timing=timing)
        return load(file)

    by_size(sweep, train).save(path)
    rmtree(beside)


def sizes_folder(path: Path) -> Path:
    """Return the folder of the files of every size, from which the results file `path` is put together."""
    return path.with_suffix(".sizes")


def discard(path: Path) -> None:
    """Remove a results file, and the unfinished run that makes it. Raises ValueError where a process is at work."""
    for part in [*sizes_folder(path).glob("*.npz")]:
        discard(part)
    directory.discard(folder(path))
    path.unlink(missing_ok=True)


def _accept(path: Path, sweep: Sweep) -> None:
    """Say that the results file is there. Raises ValueError where it is of another configuration."""
    none = {"snapshots": None}  # of which a configuration without them says nothing
    here = none | sweep.describe()
    try:
        there = none | archive.configuration(path)
    except ValueError as error:
        raise ValueError(f"{error}; restart=True replaces it") from error
    refuse_other({key: value for key, value in there.items() if key in here}, here, str(path))
    say(f"{path} is there already, of the same configuration")


def _clear_up(path: Path) -> None:
    """Remove what is left of a run that was killed when its file was whole, unless another process does so."""
    rmtree(sizes_folder(path), ignore_errors=True)
    with suppress(ValueError, OSError):
        directory.discard(folder(path))


def _train_to_file(
    sweep: Sweep, path: Path, store: Directory, executor: Executor | None, progress: bool, timing: bool
) -> None:
    how_to_continue = provenance.how_to_continue()
    try:
        with Requests(how_to_continue) as requests, workers_of(executor, requests) as workers:
            trained = begin(sweep, store, workers, requests, progress)
            lanes = lanes_of(trained)
            refined = train(trained, lanes)
            store.finish(lambda beside: _write(path, trained, lanes, refined, beside))
            if timing:
                say(where_time_went(trained))
    except WorkersLost as error:
        raise WorkersLost(f"{error}. What was saved is safe; {how_to_continue}") from error


def _write(path: Path, trained: Run, lanes: Lanes, refined: Refined | None, beside: Path) -> None:
    axes = trained.sweep.layout
    lengths = axes.size(axes.stored)
    arrays = {name: Parts(bands(lanes, name), lengths, 2) for name in names_in_results(trained.sweep)}
    refined = refined and refined.each(lambda a: a.reshape(*lengths, *a.shape[2:]))
    archive.write(path, config(trained), axes.values, axes.stored, arrays, refined, beside=beside)
