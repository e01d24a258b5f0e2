"""Several processes on one run, of which some die: what the others did stands, and the file is that of one process."""

import signal

import pytest
from harness import OUT, end, wait_until
from ports import free_port


def starter(place, processes):
    """Starts process i of a cluster, always by the same command."""
    shared = "--out", OUT, "--coordinator", f"localhost:{free_port()}", "--num-processes", processes
    return lambda i: place.start(*shared, "--process-id", i)


def at_work(place, processes, i):
    """Whether process i has saved a chunk and has some to train."""
    return sum(int(path.stem.rpartition("-")[2]) % processes == i for path in place.chunks("train")) >= 1


@pytest.mark.parametrize(("processes", "victim"), [(2, 1), (2, 0), (4, 3)])
def test_a_process_that_is_killed_is_started_again_alone(new_place, judged, processes, victim):
    here = judged(f"1 of {processes} processes killed, restarted alone")
    place = new_place()
    start = starter(place, processes)
    running = [start(i) for i in range(processes)]
    wait_until(lambda: at_work(place, processes, victim), running[victim])
    running[victim].kill()
    assert end(running[victim]).code == -signal.SIGKILL
    assert not place.file.exists()
    running[victim] = start(victim)
    for i, ended in enumerate([end(process) for process in running]):
        here.correct(place, ended, times=i == victim)


def test_all_are_stopped_and_all_are_started_again(new_place, judged):
    here = judged("all of 2 processes sent SIGTERM, restarted")
    place = new_place()
    start = starter(place, 2)
    running = [start(i) for i in range(2)]
    wait_until(lambda: at_work(place, 2, 0) and at_work(place, 2, 1), running[0])
    for process in running:
        process.send_signal(signal.SIGTERM)
    for i, ended in enumerate([end(process) for process in running]):
        here.one_line(ended, "chunks are saved", f"--process-id {i}", code=143)
    again = [start(i) for i in range(2)]
    for i, ended in enumerate([end(process) for process in again]):
        here.correct(place, ended, times=i == 0)


def test_one_process_continues_what_two_began(new_place, judged):
    here = judged("2 processes killed, continued by 1")
    place = new_place()
    start = starter(place, 2)
    running = [start(i) for i in range(2)]
    wait_until(lambda: at_work(place, 2, 1), running[1])
    for process in running:
        process.kill()
        end(process)
    here.correct(place, place.sweep())
