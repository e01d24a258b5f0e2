"""Dask workers, their scheduler and the process that writes are killed: what was saved stands, and the file is that of
one undisturbed process."""

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import contextmanager
from time import monotonic, sleep

import pytest
from harness import LIMIT_S, THEN_CORRECT, Expected, Judge, digest, end, wait_until

pytest.importorskip("distributed")

LONG = "--steps", 50_000  # so that a chunk takes some tenths of a second


@pytest.fixture(scope="module")
def long(new_place):
    place = new_place()
    assert place.sweep(*LONG).code == 0
    return Expected(digest(place.file), 0)


@pytest.fixture
def judge(long):
    return lambda fault: Judge(fault, long)


def children(pid):
    """The worker processes of a process."""
    found = []
    for line in subprocess.run(["ps", "-ewwo", "pid=,ppid=,args="], capture_output=True, text=True).stdout.splitlines():
        child, parent, command = line.split(None, 2)
        if int(parent) == pid and "spawn_main" in command:
            found.append(int(child))
    return found


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def more_chunks(place, process):
    """Waits until one more is saved."""
    before = len(place.chunks())
    wait_until(lambda: len(place.chunks()) > before, process)


@pytest.mark.slow
def test_a_random_worker_is_killed_ten_times(judge, new_place):
    place, rng, here = new_place(), random.Random(0), judge("kill -9 of a random worker of 2")
    process, kills = place.start_sweep(*LONG, "--dask", "local:2"), 0
    while kills < 10 and process.poll() is None:
        more_chunks(place, process)
        sleep(rng.uniform(0, 0.3))
        if workers := children(process.pid):
            kill([rng.choice(workers)])
            kills += 1
    ended = end(process)
    assert kills == 10, ended.text
    here.correct(place, ended, times=kills)


@pytest.mark.slow
def test_all_workers_are_killed_at_once(judge, new_place):
    place, here = new_place(), judge("kill -9 of all workers at once")
    process = place.start_sweep(*LONG, "--dask", "local:2")
    for _ in range(2):
        more_chunks(place, process)
        workers = children(process.pid)
        assert workers
        kill(workers)
    here.correct(place, end(process), times=2)


def test_the_process_that_writes_is_killed_and_takes_its_workers_with_it(judge, new_place):
    place, here = new_place(), judge("kill -9 of the process that writes, continued with another number of workers")
    process = place.start_sweep(*LONG, "--dask", "local:2")
    more_chunks(place, process)
    workers = children(process.pid)
    assert len(workers) == 2
    process.kill()
    assert end(process).code == -signal.SIGKILL
    limit = monotonic() + 30
    while any(os.path.exists(f"/proc/{pid}") for pid in workers) and monotonic() < limit:
        sleep(0.05)
    assert not [pid for pid in workers if os.path.exists(f"/proc/{pid}")]
    here.correct(place, place.sweep(*LONG, "--dask", "local:1"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_processes_saves_what_has_come_back(judge, new_place, number, code):
    # As a terminal's Ctrl-C and a queue's SIGTERM reach them all.
    place, here = new_place(), judge(f"{number.name} to the process that writes and its workers")
    process = place.start_sweep(*LONG, "--dask", "local:2", start_new_session=True)
    more_chunks(place, process)
    os.killpg(process.pid, number)
    here.one_line(end(process), "chunks are saved; continue with: ", "--dask local:2", code=code)
    here.correct(place, place.sweep(*LONG), THEN_CORRECT)


@contextmanager
def cluster(place):
    """A scheduler and two workers of its own; gives the scheduler's process and address."""
    file = place.folder / "scheduler.json"
    env = os.environ | {"PYTHONPATH": str(place.code), "JAX_PLATFORMS": "cpu"}
    options = {"env": env, "cwd": place.folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def start(kind, *words):
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(file), *words]
        return subprocess.Popen([*command, "--no-dashboard"], **options)

    scheduler = start("scheduler", "--port", "0")
    wait_until(file.exists, scheduler)
    workers = start("worker", "--nthreads", "1", "--nworkers", "2")
    try:
        yield scheduler, json.loads(file.read_text())["address"]
    finally:
        kill(children(workers.pid))
        for process in (workers, scheduler):
            process.kill()
            process.wait(LIMIT_S)


def test_the_scheduler_is_killed(judge, new_place):
    place, here = new_place(), judge("kill -9 of the scheduler")
    with cluster(place) as (scheduler, address):
        process = place.start_sweep(*LONG, "--dask", address)
        more_chunks(place, process)
        scheduler.kill()
        here.one_line(end(process), "the workers are lost: ", "What was saved is safe; continue with: ", address)
    saved = len(place.chunks())
    assert saved >= 1
    here.correct(place, place.sweep(*LONG), THEN_CORRECT)
