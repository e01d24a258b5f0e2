"""What the scripts share: errors in one line, exit codes that shells understand, and sweeps that are run in turn."""

import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from polyjax import Redwood, Sweep
from polyjax.cli import sweeping
from polyjax.cli.command import script
from polyjax.cli.sweeping import Options, check_results_path
from polyjax.runs.folder.interruption import Interrupted
from polyjax.runs.provenance import RUN_OPTIONS, without_options
from polyjax.selection import Rule

TINY = Sweep(Redwood(3, 2), [0.5], [1.0], steps=2)


def ended(capsys, work):
    """The exit code of a program that does this, and what it says."""
    with pytest.raises(SystemExit) as end:
        work()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return end.value.code, err.rstrip()


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("density must be\n  above 0"), 2, "density must be above 0"),
        (MemoryError("no memory for a single model"), 2, "no memory for a single model"),
        (OSError("cannot save in a: disk full"), 2, "cannot save in a: disk full"),
        (FileNotFoundError(2, "No such file or directory", "a.npz"), 2, "a.npz: No such file or directory"),
        (Interrupted(signal.SIGINT, "stopped. 3 of 4"), 130, "stopped. 3 of 4"),
        (Interrupted(signal.SIGTERM, "stopped. 3 of 4"), 143, "stopped. 3 of 4"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_goes_wrong_ends_in_one_line_and_the_exit_code_of_its_kind(capsys, error, code, said):
    found = ended(capsys, lambda: script("python -m sweeps.figure4", raising(error), []))
    assert found == (code, f"python -m sweeps.figure4: {said}")


def test_an_error_of_the_program_itself_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        script("p", lambda: 1 / 0, [])


def test_what_goes_well_says_nothing(capsys):
    done = []
    script("p", lambda: done.append(1), [])
    assert done == [1]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cels", "3"], 'p: Unknown option: "--cels". Did you mean "--cells"?'),
        (["--cells", "many"], 'p: Invalid value for "--cells": unable to convert "many" into int.'),
        (["--cells"], "requires an argument"),
        (["--rule", "wurst"], "wurst"),
        (["3"], "Unused"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_bad_argument_ends_in_one_line(capsys, arguments, said):
    def work(*, cells: int = 1, rule: Rule = "best") -> None:
        raise AssertionError

    code, found = ended(capsys, lambda: script("p", work, arguments))
    assert code == 2
    assert said.replace('"', "") in found.replace('"', "")


# --- scripts that run sweeps


@pytest.fixture
def runs(monkeypatch):
    """What is asked of `run_to_file`."""
    asked = []
    monkeypatch.setattr(sweeping.to_file, "run_to_file", lambda *args, **options: asked.append((*args, options)))
    return asked


@pytest.fixture
def clusters(monkeypatch):
    """The addresses of clusters, and whether they are in use; in place of their workers."""
    seen = []

    @contextmanager
    def executor(address):
        seen.append(address)
        yield address
        seen.append("closed")

    monkeypatch.setattr(sweeping, "executor", executor)
    return seen


def run(*arguments, paths):
    def train(options: Options = Options()) -> None:
        options.run({Path(path): lambda: TINY for path in paths})

    script("p", train, arguments)


def test_every_sweep_is_run_into_its_file_and_its_name_printed(runs, tmp_path, capsys):
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    run(paths=paths)
    here = {"executor": None, "timing": False}
    assert runs == [(TINY, paths[0], here), (TINY, paths[1], here)]
    assert capsys.readouterr().out.split() == [*map(str, paths)]
    run(paths=paths[:1])
    assert runs[2] == (TINY, paths[0], here)
    assert capsys.readouterr().out == ""


def test_all_sweeps_are_run_by_the_workers_of_one_cluster(runs, clusters, tmp_path):
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    run("--dask", "tcp://host:8786", paths=paths)
    assert [asked[-1] for asked in runs] == [{"executor": "tcp://host:8786", "timing": False}] * 2
    assert clusters == ["tcp://host:8786", "closed"]


def test_no_cluster_is_needed_where_everything_is_there(runs, clusters, tmp_path):
    (tmp_path / "a.npz").touch()
    run("--dask", "local:2", paths=[tmp_path / "a.npz"])
    assert not clusters
    assert len(runs) == 1  # which compares the configurations
    run("--dask", "local:2", paths=[tmp_path / "a.npz", tmp_path / "b.npz"])
    assert clusters == ["local:2", "closed"]


@pytest.mark.parametrize("address", ["local:", "local:0", "local:x", "local:-1"])
def test_an_address_that_is_none_is_refused(runs, tmp_path, capsys, address):
    pytest.importorskip("distributed")
    code, said = ended(capsys, lambda: run("--dask", address, paths=[tmp_path / "a.npz"]))
    assert (code, said) == (2, f"p: --dask must be an address or local:N, but is {address!r}")
    assert not runs


def test_without_dask_the_command_says_what_to_install(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, said = ended(capsys, lambda: run("--dask", "local:2", paths=[tmp_path / "a.npz"]))
    assert (code, said) == (2, "p: --dask needs Dask: pip install 'polyjax[dask]'")


def test_a_restart_discards_all_results_before_it_makes_the_first(monkeypatch, tmp_path):
    # So that the command that continues, which says no more of restarting, keeps none that are old.
    paths, seen = [tmp_path / "a.npz", tmp_path / "b.npz"], []
    monkeypatch.setattr(sweeping.to_file, "run_to_file", lambda *_, **__: seen.append(os.listdir(tmp_path)))
    for path in paths:
        path.touch()
        path.with_suffix(".run").mkdir()
    run("--restart", paths=paths)
    assert seen == [[], []]


@pytest.mark.parametrize("error", [ValueError("of another configuration"), Interrupted(signal.SIGTERM, "stopped")])
def test_a_sweep_that_ends_early_ends_the_program(monkeypatch, capsys, tmp_path, error):
    monkeypatch.setattr(sweeping.to_file, "run_to_file", lambda *_, **__: raising(error)())
    code, said = ended(capsys, lambda: run(paths=[tmp_path / "a.npz"]))
    assert code == (143 if isinstance(error, Interrupted) else 2)
    assert said == f"p: {error}"


def test_errors_of_the_library_name_options_on_the_command_line(monkeypatch, capsys, tmp_path):
    error = ValueError("it is of another configuration. restart=True discards it")
    monkeypatch.setattr(sweeping.to_file, "run_to_file", lambda *_, **__: raising(error)())
    code, said = ended(capsys, lambda: run(paths=[tmp_path / "a.npz"]))
    assert (code, said) == (2, "p: it is of another configuration. --restart discards it")


def test_options_of_the_run_are_those_that_the_provenance_leaves_out(monkeypatch, tmp_path):
    words, seen = [], []
    for name, has_value in RUN_OPTIONS.items():
        words += [name, "1"] if has_value else [name]
    monkeypatch.setattr(sweeping, "run_sweeps", lambda sweeps, how: seen.append(how))
    run(*words, paths=[tmp_path / "a.npz"])  # they exist, and take a value or none
    assert all(getattr(seen[0], name.strip("-").replace("-", "_")) for name in RUN_OPTIONS)
    assert without_options(words, RUN_OPTIONS) == []


@pytest.mark.parametrize("short", ["--rest", "--das=local:2"])
def test_options_cannot_be_shortened(runs, capsys, short, tmp_path):
    # Or the command that continues a run would not know them, and discard it with `--rest`.
    code, said = ended(capsys, lambda: run(short, paths=[tmp_path / "a.npz"]))
    assert code == 2
    assert said.startswith("p: Unknown option")
    assert not runs


# --- where results go


def test_a_results_path_makes_its_folder_and_leaves_nothing_in_it(tmp_path):
    path = tmp_path / "new" / "folder" / "r.npz"
    check_results_path(path)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("name", ["r.txt", "r", "taken/r.npz", "taken/folder/r.npz"])
def test_a_results_path_that_cannot_be_is_refused_before_anything_is_trained(runs, tmp_path, name, capsys):
    (tmp_path / "taken").write_text("a file")
    code, said = ended(capsys, lambda: run(paths=[tmp_path / name]))
    assert code == 2
    assert said.startswith("p: --out must ")
    assert repr(str(tmp_path / name)) in said
    assert not runs
