"""Runs whose work an executor does: the same bits as without, workers told once, errors in the user's words. What Dask
does is in `test_dask`."""

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import sleep

import jax
import numpy as np
import pytest
from diverging import DIVERGING

import polyjax
from polyjax.engine import execution
from polyjax.runs import executors, handing, worker, workers
from polyjax.runs import run as runs
from polyjax.runs.executors import Cluster, WorkersLost
from polyjax.runs.folder.directory import Directory
from polyjax.runs.folder.interruption import Interrupted
from polyjax.runs.handing import Hand
from polyjax.runs.to_file import run_to_file
from polyjax.runs.work import Setting

TINY = replace(DIVERGING, retries=1, refine=1)
QUICK = replace(DIVERGING, retries=0, optimizer=None, learning_rate=0.1)  # in one stage, without infinities
MESSAGE = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123 bytes."


class Pickling(Executor):
    """Threads that get and give pickles, as processes do; keeps what it was given."""

    def __init__(self, n):
        self._max_workers, self._threads, self.given = n, ThreadPoolExecutor(n), []

    def submit(self, f, *arguments):
        self.given.append((f, arguments))
        sent = pickle.dumps((f, arguments))

        def work():
            f, arguments = pickle.loads(sent)
            return pickle.loads(pickle.dumps(f(*arguments)))

        return self._threads.submit(work)

    def told(self):
        """How many tasks came with the sweep."""
        return sum(f is workers.compute and arguments[1] is not None for f, arguments in self.given)


@pytest.fixture
def remote(monkeypatch):
    """An executor whose workers, which are one, know of no run."""
    monkeypatch.setattr(workers, "_known", {})
    return Pickling(2)


@pytest.fixture(scope="module")
def expected():
    return polyjax.run(TINY, progress=False)


def assert_same(a, b):
    for x, y in ((a.arrays(), b.arrays()), (a.refined.arrays(), b.refined.arrays())):
        assert {name: values.tobytes() for name, values in x.items()} == {name: v.tobytes() for name, v in y.items()}
    assert a.config == b.config


# --- results


def test_an_executor_gives_the_bits_of_a_run_without(expected, remote):
    assert_same(polyjax.run(TINY, progress=False, executor=remote), expected)


def test_threads_of_the_users_give_them_too_and_are_left_to_the_user(expected):
    with ThreadPoolExecutor(3) as threads:
        assert_same(polyjax.run(TINY, progress=False, executor=threads), expected)
        assert threads.submit(lambda: 1).result() == 1


def test_processes_give_them_too(expected):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        assert_same(polyjax.run(TINY, progress=False, executor=processes), expected)


MPI = """
import sys
sys.path[:0] = {path!r}
from mpi4py.futures import MPIPoolExecutor
from test_executors import TINY
import polyjax
if __name__ == "__main__":
    with MPIPoolExecutor() as executor:
        polyjax.run_to_file(TINY, {out!r}, progress=False, executor=executor)
"""


def test_mpi_gives_them_too(expected, tmp_path):
    pytest.importorskip("mpi4py")
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if mpiexec is None:
        pytest.skip("no mpiexec is installed")
    out, script = tmp_path / "r.npz", tmp_path / "script.py"
    script.write_text(MPI.format(path=[str(Path(__file__).parent), str(Path(__file__).parents[1])], out=str(out)))
    command = [mpiexec, "-n", "3", sys.executable, "-m", "mpi4py.futures", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = polyjax.load(out)
    found.config["provenance"]["command"] = expected.config["provenance"]["command"]
    assert_same(found, expected)


@pytest.mark.slow
def test_functions_of_the_users_go_to_workers(remote):
    pytest.importorskip("cloudpickle")
    sweep = polyjax.Sweep(
        polyjax.Anthropic(3, 2, lambda x: x * jax.nn.sigmoid(x)),
        axes={"density": [0.2, 0.7], "decay": [0.5, 1.0]},
        features=lambda density, decay: polyjax.Features(density, decay ** np.arange(3)),
        restarts=2,
        steps=20,
        chunk=2,
        retries=0,
        refine=1,
    )
    assert_same(polyjax.run(sweep, progress=False, executor=remote), polyjax.run(sweep, progress=False))


@pytest.mark.slow
def test_workers_polish(remote):
    sweep = polyjax.Sweep(polyjax.Redwood(2, 1), [0.5, 1.0], [0.5, 1.0], restarts=2, steps=20, polish=True)
    assert_same(polyjax.run(sweep, progress=False, executor=remote), polyjax.run(sweep, progress=False))


def test_a_run_that_workers_began_goes_on_without_them_and_the_other_way_round(tmp_path, remote, monkeypatch):
    run_to_file(TINY, tmp_path / "whole.npz", progress=False)
    keep = Directory.keep
    for begun, continued in ((None, remote), (remote, None)):
        path, kept = tmp_path / "r.npz", []

        def some(self, name, arrays, made, kept=kept):
            if len(kept) == 6:
                raise KeyboardInterrupt
            kept.append(name)
            keep(self, name, arrays, made)

        with monkeypatch.context() as patch:
            patch.setattr(Directory, "keep", some)
            with pytest.raises(KeyboardInterrupt):
                run_to_file(TINY, path, progress=False, executor=begun)
        run_to_file(TINY, path, progress=False, executor=continued)
        assert path.read_bytes() == (tmp_path / "whole.npz").read_bytes()
        path.unlink()


# --- what workers are told, and what they tell


def test_workers_are_told_of_a_sweep_once(remote):
    polyjax.run(TINY, progress=False, executor=remote)
    tasks = sum(f is workers.compute for f, _ in remote.given)
    assert tasks > 12
    assert 1 <= remote.told() <= 4  # as many as were in hand when the first worker said that it knew nothing
    polyjax.run(TINY, progress=False, executor=remote)
    assert remote.told() <= 4


def test_a_process_forgets_old_runs_and_is_told_again(remote):
    for seed in range(workers.MOST_KNOWN + 1):
        polyjax.run(replace(QUICK, seed=seed, steps=2), progress=False, executor=remote)
    assert len(workers._known) == workers.MOST_KNOWN
    before = remote.told()
    polyjax.run(replace(QUICK, seed=0, steps=2), progress=False, executor=remote)
    assert remote.told() > before


def test_a_process_compiles_once_whatever_the_number_of_tasks(remote, monkeypatch):
    compiled, compile_ahead = [], worker.compile_ahead
    monkeypatch.setattr(worker, "compile_ahead", lambda programs: compiled.append(1) or compile_ahead(programs))
    polyjax.run(QUICK, progress=False, executor=remote)
    assert sum(f is workers.compute for f, _ in remote.given) >= 4
    assert len(compiled) == 1


def test_no_more_tasks_are_in_hand_than_workers_and_a_few():
    class Counting(Pickling):
        def __init__(self, n):
            super().__init__(n)
            self.futures, self.most = [], 0

        def submit(self, f, *arguments):
            self.futures.append(super().submit(f, *arguments))
            self.most = max(self.most, sum(not future.done() for future in self.futures))
            return self.futures[-1]

    counting = Counting(8)
    polyjax.run(replace(QUICK, steps=2, restarts=10, chunk=1), progress=False, executor=counting)
    assert len(counting.futures) > 120  # chunks
    assert counting.most <= 8 + 1 + 2


def test_a_worker_without_memory_tells_the_run_which_remembers(tmp_path, remote, capfd, monkeypatch):
    expected, train = polyjax.run(QUICK, progress=False), execution.train

    def limited(fixed, keys, start, *others):
        if start.W.shape[0] * start.W.shape[1] > 3:
            raise jax.errors.JaxRuntimeError(MESSAGE)
        return train(fixed, keys, start, *others)

    monkeypatch.setattr(execution, "train", limited)
    run_to_file(QUICK, tmp_path / "r.npz", progress=False, executor=remote)
    assert capfd.readouterr().err == f"out of memory with 6 models at once ({MESSAGE}): going on with 3\n"
    found = polyjax.load(tmp_path / "r.npz")
    assert found.config["room"] == 3
    np.testing.assert_allclose(found.loss, expected.loss, rtol=2e-5, atol=4e-6)  # rounding of narrower chunks


def test_what_a_worker_is_made_of_is_in_the_results(remote, monkeypatch):
    names = iter(["cpu, asked before all", "cpu, of one", *["cpu, of another"] * 99])
    monkeypatch.setattr(worker.provenance, "made", lambda engine: {"device": next(names), "engine": engine})
    monkeypatch.setattr(worker.Worker, "_made", property(lambda self: worker.provenance.made(self.setting.engine)))
    made = polyjax.run(QUICK, progress=False, executor=remote).config["provenance"]
    assert [made["device"], *(other["device"] for other in made["other_sessions"])] == [
        "cpu, of another",
        "cpu, of one",
    ]


def test_a_warning_of_a_worker_is_the_users_to_see(remote, monkeypatch):
    def suited(sweep):
        workers.warnings.warn("no kernel can run it", stacklevel=2)
        return workers.Suited("arrays", 6, 2)

    monkeypatch.setattr(workers, "suited", suited)
    with pytest.warns(UserWarning, match="^no kernel can run it$"):
        found = polyjax.run(QUICK, progress=False, executor=remote)
    assert found.config["engine"] == "arrays"  # the worker's choice, which all others follow


# --- the user's executor


def test_what_is_no_executor_is_refused():
    with pytest.raises(ValueError, match=r"^executor must be a concurrent\.futures\.Executor, .*but is 4$"):
        polyjax.run(TINY, progress=False, executor=4)


def test_processes_that_are_forked_are_refused():
    forking = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
    with pytest.raises(ValueError, match=r'^executor must start its processes by "spawn" .*, but is \'fork\'$'):
        polyjax.run(TINY, progress=False, executor=forking)


def test_without_cloudpickle_functions_of_the_users_are_refused_in_words_that_help(remote, monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    sweep = replace(QUICK, model=polyjax.Anthropic(3, 2, lambda x: jax.nn.relu(x) * 2))
    with pytest.raises(ValueError, match=r"workers can be told of it .*with cloudpickle installed, .*can.*, but "):
        polyjax.run(sweep, progress=False, executor=remote)


def test_an_error_of_the_work_is_passed_on(remote, monkeypatch):
    monkeypatch.setattr(execution, "train", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        polyjax.run(QUICK, progress=False, executor=remote)


def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_pool_that_breaks_ends_the_run_in_one_line_and_it_goes_on_right(tmp_path):
    path = tmp_path / "r.npz"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        processes.submit(kill)
        with pytest.raises(WorkersLost) as error:
            run_to_file(QUICK, path, progress=False, executor=processes)
    assert str(error.value).startswith("the workers are lost: A process in the process pool was terminated abruptly")
    assert ". What was saved is safe; " in str(error.value)
    assert "\n" not in str(error.value)
    run_to_file(QUICK, path, progress=False)
    assert polyjax.load(path).loss.tobytes() == polyjax.run(QUICK, progress=False).loss.tobytes()


class Absent(Executor):
    """Workers that never come; when they are asked, something happens after a while."""

    def __init__(self, then=lambda: None):
        self._timer = threading.Timer(1.5, then)

    def submit(self, *_):
        self.asked = Future()
        self._timer.start()
        return self.asked


def test_waiting_for_the_first_worker_is_told_and_can_be_ended(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(workers, "TELL_S", 0.1)
    absent = Absent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted, match=r"^stopped\. no worker has begun; ") as stopped:
        run_to_file(QUICK, tmp_path / "r.npz", progress=False, executor=absent)
    assert stopped.value.exit_code == 143
    assert absent.asked.cancelled()
    assert capfd.readouterr().err.splitlines()[0] == "waiting for a worker"


@pytest.mark.parametrize(
    ("attributes", "n"), [({"_max_workers": 3}, 3), ({"num_workers": 7}, 7), ({}, executors.UNKNOWN)]
)
def test_the_size_of_an_executor_is_what_it_says(attributes, n):
    executor = Absent()
    vars(executor).update(attributes)
    assert Cluster(executor).size == n


def test_a_setting_is_built_in_the_worker_as_it_was_here():
    setting = Setting(TINY, "lanes")
    _ = setting.training, setting.keys, setting.sweep.layout
    there = pickle.loads(executors.pickled(Setting(TINY, "lanes")))
    assert json.dumps(there.sweep.describe()) == json.dumps(TINY.describe())
    assert there.training.engine == "lanes"
    assert runs.Grid(*there.sweep.shape) == runs.Grid(*TINY.shape)


def test_a_signal_at_any_moment_does_not_make_the_wait_for_workers_endless(monkeypatch):
    monkeypatch.setattr(handing, "TICK_S", 1e-3)
    hand, heard = Hand(lambda _: Future()), []
    hand.give("never done")
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append(sleep(2e-4)))
    signal.setitimer(signal.ITIMER_REAL, 1e-3, 1.1e-3)
    try:
        assert [hand.take() for _ in range(300)] == [None] * 300
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert heard
