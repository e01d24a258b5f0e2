"""Locks between processes: refused while the holder lives, free when it dies, however it dies."""

import os
import signal
import subprocess
import sys

import pytest

from polyjax.runs.folder import lock
from polyjax.runs.folder.lock import Held

# Without the package, which would take a second to start.
HOLDER = """
import sys, time
from runpy import run_path
module = run_path(sys.argv[1])
try:
    taken = module["Held"](sys.argv[2])
except BlockingIOError as error:
    print("refused by", error, flush=True)
else:
    print("held", flush=True)
    time.sleep(600)
"""

pytestmark = pytest.mark.skipif(lock.fcntl is None, reason="there are no such locks on Windows")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


@pytest.fixture
def other(path):
    """Starts another process that takes the lock; gives it, and what it says."""
    started = []

    def start():
        command = [sys.executable, "-c", HOLDER, lock.__file__, str(path)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1], started[-1].stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def end(process, number):
    process.send_signal(number)
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_lock_is_refused_while_its_holder_lives_and_free_when_it_dies(path, other, number):
    process, said = other()
    assert said == "held"
    with pytest.raises(BlockingIOError, match=f"^process {process.pid} on "):
        Held(path)
    end(process, number)
    Held(path).release()


def test_our_lock_is_refused_to_others_until_it_is_released(path, other):
    ours = Held(path)
    assert other()[1].startswith(f"refused by process {os.getpid()} on ")
    ours.release()
    assert other()[1] == "held"


def test_one_process_cannot_take_a_lock_twice(path):
    ours = Held(path)
    with pytest.raises(BlockingIOError, match=f"^process {os.getpid()} on "):
        Held(path)
    ours.release()
    Held(path).release()


def test_the_holder_is_named_anew(path, other):
    for _ in range(2):
        process, _ = other()
        with pytest.raises(BlockingIOError, match=f"^process {process.pid} on [^ ]+$"):
            Held(path)
        end(process, signal.SIGKILL)


def test_a_lock_that_was_removed_by_its_holder_is_not_taken_for_the_new_one(path, monkeypatch):
    """A run that ends removes its folder with the lock, just when another process has opened it."""
    before = lock.fcntl.flock
    ended = []

    def flock(file, operation):
        if not ended:
            ended.append(path.read_bytes())
            path.unlink()
        before(file, operation)

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    ours = Held(path)
    assert ended == [b""]
    monkeypatch.undo()
    assert path.exists()
    with pytest.raises(BlockingIOError):  # everybody else meets this one
        Held(path)
    ours.release()


@pytest.mark.parametrize("number", lock.UNSUPPORTED)
def test_a_file_system_without_locks_is_used_without(path, number, monkeypatch):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    Held(path).release()


def test_a_lock_in_a_folder_that_is_not_there_or_cannot_be_locked_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        Held(tmp_path / "nowhere" / "lock")

    def flock(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"):
        Held(tmp_path / "lock")
