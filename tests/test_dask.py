"""Runs on a Dask cluster of four processes here: the same bits however many of them work, one of which is killed."""

import os
import signal
from dataclasses import replace

import jax
import numpy as np
import pytest
from diverging import DIVERGING

import polyjax
from polyjax.cli import dask
from polyjax.runs.executors import Cluster
from polyjax.runs.folder.directory import Directory
from polyjax.runs.folder.interruption import Interrupted
from polyjax.runs.to_file import run_to_file

pytest.importorskip("distributed")

TINY = replace(DIVERGING, retries=1, refine=1)
LAMBDAS = polyjax.Sweep(
    polyjax.Anthropic(3, 2, lambda x: x * jax.nn.sigmoid(x)),
    axes={"density": [0.2, 0.7], "decay": [0.5, 1.0]},
    features=lambda density, decay: polyjax.Features(density, decay ** np.arange(3)),
    restarts=2,
    steps=20,
    chunk=2,
    retries=0,
    refine=1,
)


@pytest.fixture(scope="module")
def executor():
    with dask.executor("local:4") as executor:
        yield executor


@pytest.fixture
def some(executor, request):
    """As many of the workers."""
    client = executor._client
    return client.get_executor(pure=False, workers=[*client.nthreads()][: request.param])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "r.npz"
    run_to_file(TINY, path, progress=False)
    return path.read_bytes()


@pytest.mark.parametrize(
    "some", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(4, marks=pytest.mark.slow)], indirect=True
)
def test_workers_give_the_file_of_a_run_without_them(some, whole, tmp_path):
    run_to_file(TINY, tmp_path / "r.npz", progress=False, executor=some)
    assert (tmp_path / "r.npz").read_bytes() == whole
    assert os.listdir(tmp_path) == ["r.npz"]


@pytest.mark.slow
def test_functions_of_a_program_s_own_are_run_by_workers(executor):
    found, expected = (polyjax.run(LAMBDAS, progress=False, executor=each) for each in (executor, None))
    for a, b in ((found.arrays(), expected.arrays()), (found.refined.arrays(), expected.refined.arrays())):
        assert all(a[name].tobytes() == b[name].tobytes() for name in b)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing_and_is_told_in_the_progress_bar(
    executor, whole, tmp_path, capfd, monkeypatch
):
    keep, killed = Directory.keep, []

    def then(self, name, arrays, made):
        keep(self, name, arrays, made)
        if name == "train-000000":
            pids = executor._client.run(os.getpid)
            killed.append(min(pids.values()))
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(Directory, "keep", then)
    run_to_file(TINY, tmp_path / "r.npz", executor=executor)
    assert killed
    assert (tmp_path / "r.npz").read_bytes() == whole
    assert "workers, " in capfd.readouterr().err


def test_a_signal_takes_back_what_is_in_hand_and_the_run_goes_on_here(executor, whole, tmp_path, monkeypatch):
    path, keep, sent = tmp_path / "r.npz", Directory.keep, []

    def then(self, name, arrays, made):
        keep(self, name, arrays, made)
        if name.startswith("retry1") and not sent:
            sent.append(name)
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "keep", then)
        with pytest.raises(Interrupted, match=r"^stopped\. retrying, attempt 1: [1-4] of 4 chunks are saved; "):
            run_to_file(TINY, path, progress=False, executor=executor)
    run_to_file(TINY, path, progress=False)
    assert path.read_bytes() == whole


def test_the_workers_of_a_cluster_are_counted(executor):
    cluster = Cluster(executor)
    assert cluster.size == 4
    cluster.close()


def test_the_dashboard_s_address_is_told(executor, capfd):
    address = executor._client.scheduler.address
    with dask.executor(address) as again:
        assert again.submit(sum, [1, 2]).result() == 3
    assert capfd.readouterr().err.startswith("dashboard of the workers: http://")


def test_an_address_where_nobody_is_is_an_error():
    from dask import config

    with config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(OSError, match="127"):
        dask.executor("tcp://127.0.0.1:1").__enter__()
