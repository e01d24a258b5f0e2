"""Who a process is among those that share a sweep; two that meet, as a user starts them and as SLURM does. How they
survive each other's death is in `tests/faults`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ports import free_port

import polyjax
from polyjax.results import OF_LANES
from polyjax.runs.folder.lock import Held
from polyjax.runs.hosts import Cluster, Share, join

ROOT = Path(__file__).parents[1]
AT = "localhost:1"  # nobody connects there


def start(out, *options, **environment):
    command = [sys.executable, "-m", "sweeps.figure4", "--preset", "quick", "--out", str(out), *map(str, options)]
    env = os.environ | environment
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(*processes):
    """What they wrote on stderr; all must have succeeded."""
    said = [process.communicate(timeout=180)[1] for process in processes]
    for process, text in zip(processes, said, strict=True):
        assert process.returncode == 0, text
    return said


def assert_same(a, b):
    a, b = polyjax.load(a), polyjax.load(b)
    for name in (*OF_LANES, "W", "b"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    path = tmp_path_factory.mktemp("alone") / "r.npz"
    ended(start(path))
    return path


def test_two_processes_give_the_bits_of_one_and_the_same_command(alone, tmp_path):
    options = "--coordinator", f"localhost:{free_port()}", "--num-processes", 2, "--process-id"
    said = ended(*(start(tmp_path / "r.npz", *options, i) for i in range(2)))
    assert "process 1 of 2: waiting for all" in said[1]
    assert "cell" in said[0]  # the progress bar is that of process 0 alone
    assert "cell" not in said[1]
    assert_same(tmp_path / "r.npz", alone)
    assert os.listdir(tmp_path) == ["r.npz"]
    command = polyjax.load(tmp_path / "r.npz").config["provenance"]["command"]
    assert command == f"python -m sweeps.figure4 --preset quick --out {tmp_path / 'r.npz'}"


def test_slurm_needs_no_options(alone, tmp_path):
    # What `srun` sets, and what JAX makes of it: process 0 is on the first host, at a port that the job's number gives.
    step = {"SLURM_JOB_ID": str(free_port() % 4096 + 4096), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    step |= {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1"}
    tasks = ({"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(2))
    ended(*(start(tmp_path / "r.npz", **step, **task) for task in tasks))
    assert_same(tmp_path / "r.npz", alone)


@pytest.mark.parametrize("i", [0, 1])
def test_the_meeting_does_not_last_for_ever(tmp_path, i):
    options = ["--coordinator", f"localhost:{free_port()}", "--num-processes", "2", "--process-id", str(i)]
    code = "from polyjax.runs import hosts; from sweeps import figure4; hosts.MEETING_S = 1; figure4.main({})"
    command = [sys.executable, "-c", code.format(["--out", str(tmp_path / "r.npz"), *options])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[1] == (
        "python -m sweeps.figure4: not all processes were there within 1 s; start them all again"
    )
    assert "Traceback" not in done.stderr  # JAX may say more


def test_ctrl_c_ends_the_wait_for_the_others(tmp_path):
    options = "--coordinator", f"localhost:{free_port()}", "--num-processes", 2, "--process-id", 1
    with start(tmp_path / "r.npz", *options) as process:
        assert "waiting for all" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[1] == "\npython -m sweeps.figure4: interrupted\n"
    assert process.returncode == 130


def test_sigterm_ends_a_process_after_the_meeting_as_before():
    code = """
import os, signal, sys, time
from polyjax.runs.hosts import Cluster, join
join(Cluster(sys.argv[1], 2, int(sys.argv[2])), [])
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(5)
"""
    at = f"localhost:{free_port()}"
    both = [subprocess.Popen([sys.executable, "-c", code, at, str(i)], stderr=subprocess.DEVNULL) for i in range(2)]
    assert [process.wait(timeout=60) for process in both] == [-signal.SIGTERM] * 2


def test_a_cluster_where_there_is_none_is_refused_in_the_users_words(tmp_path):
    with start(tmp_path / "r.npz", "--cluster") as process:
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert said.startswith("python -m sweeps.figure4: --cluster must be left out where JAX finds no other processes: ")
    assert len(said.splitlines()) == 1


def test_a_process_that_comes_when_all_is_done_needs_nobody(alone, tmp_path):
    before = alone.read_bytes()
    options = "--coordinator", AT, "--num-processes", 2, "--process-id", 1
    (said,) = ended(start(alone, *options))
    assert "is there already" in said
    assert alone.read_bytes() == before


def test_one_that_is_started_again_while_others_are_at_work_does_not_wait_for_a_meeting(tmp_path, capsys):
    lock = Held(tmp_path / "lock", shared=True)
    assert join(Cluster(AT, 4, 2), [tmp_path / "lock"]) == Share(2, 4)
    assert capsys.readouterr().err == "process 2 of 4: joining those that are at work\n"
    lock.release()


def test_by_default_a_process_is_alone(monkeypatch):
    assert join(Cluster(), []) == Share(0, 1)
    assert join(Cluster(AT, 1, 0), []) == Share(0, 1)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert join(Cluster(), []) == Share(0, 1)


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        (Cluster(AT), "--num-processes must be given where the others are, but is None"),
        (Cluster(AT, 2), "--process-id must be given where the others are, but is None"),
        (Cluster(None, 2, 0), "--coordinator must be given where the others are, but is None"),
        (Cluster(AT, 0, 0), "--num-processes must be at least 1, but is 0"),
        (Cluster(AT, 2, 2), "--process-id must be from 0 to 1, but is 2"),
        (Cluster(AT, 2, -1), "--process-id must be from 0 to 1, but is -1"),
        (Cluster("localhost", 2, 0), "--coordinator must be the address:port of process 0, but is 'localhost'"),
        (Cluster("localhost:x", 2, 0), "--coordinator must be the address:port of process 0, but is 'localhost:x'"),
    ],
)
def test_what_cannot_be_is_refused_in_the_users_words(cluster, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        join(cluster, [])
    assert str(error.value) == message


def test_several_processes_do_not_restart(tmp_path):
    sweep = polyjax.Sweep(polyjax.Redwood(2, 1), [0.5], [1.0], restarts=1, steps=2)
    with pytest.raises(ValueError, match="restart must be left out where several processes share a run, but is True"):
        polyjax.run_to_file(sweep, tmp_path / "r.npz", restart=True, share=Share(1, 2))
    assert np.size(os.listdir(tmp_path)) == 0
