"""The work of a stage: handed out a little ahead, stopped when it is told to, and again where a worker is lost or must
be told; and scattered lanes in chunks."""

import threading
import time
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from itertools import count

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from polyjax.runs.executors import WorkersLost
from polyjax.runs.grid import WIDTH, scattered
from polyjax.runs.handing import TRIES, answers
from polyjax.runs.work import Done, Task

FEW = hypothesis.settings(deadline=None, max_examples=100, derandomize=True)
LONG = 10  # seconds after which something hangs


class Pool:
    """Threads that do tasks by their numbers, as `workers` has them."""

    def __init__(self, n):
        self.executor, self.ahead = ThreadPoolExecutor(n), 2 * n

    def submit(self, task):
        return self.executor.submit(lambda: Done({}, {}, None, str(task.lanes(task.number)), {}))


@pytest.fixture(params=[1, 3])
def workers(request):
    return request.param


def in_hand(n, do, numbers, stopping=lambda: False):
    """Yields the number of every task that `do` has done, in the order in which they end."""
    pool = Pool(n)
    with pool.executor:
        for number, done in answers(pool, (Task(i, None, do, None) for i in numbers), stopping, lambda _: None):
            assert done.without_room == str(number)
            yield number


# --- tasks


def test_what_every_task_gave_comes_back_with_its_number(workers):
    def slow_at_first(i):
        time.sleep(0.02 if i % 4 == 0 else 0)
        return i

    assert sorted(in_hand(workers, slow_at_first, range(25))) == [*range(25)]
    assert [*in_hand(workers, slow_at_first, [])] == []


def test_a_task_that_takes_long_holds_up_no_other():
    release = threading.Event()
    found = in_hand(2, lambda i: i if i else release.wait(LONG) * 0, range(100))
    assert sorted(next(found) for _ in range(99)) == [*range(1, 100)]
    release.set()
    assert [*found] == [0]


def test_as_many_tasks_run_at_a_time_as_there_are_workers(workers):
    lock, running, most = threading.Lock(), set(), []
    together = threading.Barrier(workers)  # breaks unless so many run at once

    def do(i):
        with lock:
            running.add(i)
            most.append(len(running))
        if i < workers:
            together.wait(LONG)
        time.sleep(0.001)
        with lock:
            running.remove(i)
        return i

    list(in_hand(workers, do, range(30)))
    assert max(most) == workers


def test_tasks_are_made_a_little_ahead_and_not_all_at_once(workers):
    taken = []

    def numbers():
        for i in range(100):
            taken.append(i)
            yield i

    results = in_hand(workers, lambda i: i, numbers())
    for i in range(10):
        next(results)
        assert len(taken) <= i + 2 * workers
    results.close()


def test_no_new_task_is_begun_after_being_told_to_stop(workers):
    stop, begun = threading.Event(), []

    def do(i):
        begun.append(i)
        if i == 7:
            while not {*range(7)} <= {*begun}:  # a worker may have taken a task and not begun it
                time.sleep(0.001)
            stop.set()
        if i > 7:
            assert stop.wait(LONG)  # else any number could overtake the one that tells
        return i

    found = [*in_hand(workers, do, range(1000), stop.is_set)]
    assert {*range(8)} <= {*found}
    # What had been handed to the workers by then may have been begun, and all that was begun is finished and told. A
    # worker may have taken a task just before, and have it taken back while the next one has begun another.
    assert sorted(begun) == sorted(found)
    assert len(found) <= 8 + 2 * workers


def test_tasks_that_were_handed_out_but_not_begun_are_taken_back_when_told_to_stop(workers):
    handed_out, stop, release, begun = threading.Event(), threading.Event(), threading.Event(), []

    def numbers():
        for i in range(1000):
            if i == 2 * workers - 1:
                handed_out.set()
            yield i

    def do(i):
        begun.append(i)
        if i == 0:
            handed_out.wait(LONG)
            stop.set()
        else:
            release.wait(LONG)
        return i

    results = in_hand(workers, do, numbers(), stop.is_set)
    assert next(results) == 0
    timer = threading.Timer(0.5, release.set)  # the others finish when the rest is long taken back
    timer.start()
    assert sorted([0, *results]) == sorted(begun)
    timer.join()
    assert len(begun) <= workers + 1  # in hand, and the one that followed the first


def test_nothing_is_begun_where_one_is_told_to_stop_at_once(workers):
    assert [*in_hand(workers, lambda i: pytest.fail("begun"), range(10), lambda: True)] == []


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt("no"), MemoryError("no")], ids=repr)
def test_an_error_is_passed_on_and_ends_the_work(workers, error):
    begun, finished, all_five = [], [], threading.Event()

    def do(i):
        begun.append(i)
        if i >= 5:  # not before a thread that took an earlier task has begun it, as such a task is taken back
            all_five.wait(LONG)
            raise error
        finished.append(i)
        if len(finished) == 5:
            all_five.set()
        return i

    with pytest.raises(type(error), match="no"):
        list(in_hand(workers, do, range(1000)))
    assert sorted(finished) == [*range(5)]
    assert len(begun) <= 6 + 2 * workers
    before = len(begun)
    time.sleep(0.02)
    assert len(begun) == before  # nobody works on


def test_when_nobody_asks_for_results_any_more_the_work_ends(workers):
    begun = []
    results = in_hand(workers, lambda i: begun.append(i) or i, range(1000))
    next(results)
    results.close()
    assert len(begun) <= 1 + 2 * workers


# --- workers that are lost, or must be told


class KilledWorker(Exception):
    """As Dask has it."""


class Scripted:
    """An executor whose tasks end as they are said to, one time after the other."""

    ahead = 3

    def __init__(self, ends):
        self.ends, self.tasks, self._numbers = ends, [], count()

    def submit(self, task):
        self.tasks.append(task)
        end, future = self.ends[next(self._numbers)], Future()
        if end == "cancelled":
            future.cancel()
        elif isinstance(end, Exception):
            future.set_exception(end)
        else:
            future.set_result(end)
        return future


DONE = Done({}, {}, None, "", {})


def handed(pool, n=1, stopping=lambda: False):
    return [*answers(pool, (Task(i, None, None, None) for i in range(n)), stopping, lambda _: None)]


def test_a_worker_that_knows_nothing_of_the_run_is_told_with_the_same_task():
    pool = Scripted([None, DONE])
    assert handed(pool) == [(0, DONE)]
    assert [task.told for task in pool.tasks] == [False, True]


def test_a_task_that_died_with_its_workers_is_handed_out_again_and_not_for_ever():
    pool = Scripted([KilledWorker(), DONE, DONE])
    assert sorted(handed(pool, 2)) == [(0, DONE), (1, DONE)]
    pool = Scripted([KilledWorker("compute-1")] * TRIES)
    with pytest.raises(WorkersLost, match="whatever worker has this chunk dies: compute-1"):
        handed(pool)
    assert len(pool.tasks) == TRIES


@pytest.mark.parametrize(
    ("end", "told"), [(BrokenExecutor("a process died"), "a process died"), ("cancelled", "the connection to their")]
)
def test_an_executor_that_is_lost_is_told_in_one_line(end, told):
    with pytest.raises(WorkersLost, match=f"^the workers are lost: {told}"):
        handed(Scripted([DONE, end, DONE]), 3)


@pytest.mark.parametrize("end", [None, KilledWorker(), BrokenExecutor(), "cancelled"])
def test_nothing_is_handed_out_again_after_being_told_to_stop(end):
    stop = []
    pool = Scripted([DONE, end])
    pool.submit, submit = lambda task: stop.append(task) or submit(task), pool.submit
    found = handed(pool, 3, lambda: len(stop) == 2)
    assert found == [(0, DONE)]
    assert len(pool.tasks) == 2


# --- scattered lanes


def covered(row, shape):
    found = scattered(row, shape)
    assert len({part.lane.shape for part in found}) == 1  # one program
    for part in found:
        assert part.lane.shape == (len(part.row), WIDTH)
        np.testing.assert_array_equal(row[part.lane], np.broadcast_to(part.row[:, None], part.lane.shape))
    assert set(np.concatenate([part.lane.ravel() for part in found]).tolist()) == set(range(row.size))
    return found


@pytest.mark.parametrize("most", [1, 3, 50])
def test_chunks_hold_every_lane_once_or_more_at_its_density(most):
    row = np.random.default_rng(0).integers(0, 5, 137)
    found = covered(row, (most, WIDTH))
    assert {chunk.lane.shape for chunk in found} == {(most, WIDTH)}


@FEW
@hypothesis.given(
    st.integers(1, 3000), st.integers(1, 40), st.integers(1, 40), st.integers(1, 4000), st.integers(0, 2**32 - 1)
)
def test_chunks_hold_all_lanes_and_are_as_large_as_one_of_the_grid_at_most(n, n_rows, P, L, seed):
    row = np.random.default_rng(seed).integers(0, n_rows, n)
    found = covered(row, (P, L))
    lanes = found[0].lane.size
    assert lanes <= max(WIDTH, P * L)
    # No more is trained twice than fills a row of every density, and the last chunk.
    needed = sum(-(-count // WIDTH) for count in np.unique(row, return_counts=True)[1])
    assert sum(len(part.row) for part in found) < needed + len(found[0].row)


def test_few_lanes_are_no_program_of_their_own():
    large = (1000, 1000)
    shapes = {scattered(np.zeros(n, int), large)[0].lane.shape for n in (1, 100, 1000, 2000)}
    assert shapes == {(64, WIDTH)}  # of the few shapes there are
    assert scattered(np.zeros(3000, int), large)[0].lane.shape == (128, WIDTH)


@FEW
@hypothesis.given(
    st.integers(1, 300), st.integers(1, 40), st.integers(1, 40), st.integers(1, 400), st.integers(0, 2**32 - 1)
)
def test_hardly_any_large_model_is_trained_to_fill_a_chunk_up(n, n_rows, P, L, seed):
    row = np.random.default_rng(seed).integers(0, n_rows, n)
    found = scattered(row, (P, L), large=True)
    assert len({part.lane.shape for part in found}) == 1  # one program
    for part in found:
        np.testing.assert_array_equal(row[part.lane], np.broadcast_to(part.row[:, None], part.lane.shape))
    assert set(np.concatenate([part.lane.ravel() for part in found]).tolist()) == set(range(n))
    rows, width = found[0].lane.shape
    assert rows * width <= P * L
    # A row of each density may be filled up, and the last chunk by fewer rows than there are in one.
    assert sum(part.lane.size for part in found) < n + len(set(row)) * width + rows * width


def test_large_models_are_enough_chunks_for_several_workers():
    assert [chunk.lane.shape for chunk in scattered(np.arange(16), (4, 20), large=True)] == [(2, 1)] * 8
    assert [chunk.lane.shape for chunk in scattered(np.zeros(3, int), (4, 20), large=True)] == [(1, 3)]


def test_a_part_of_a_chunk_is_those_lanes():
    [chunk] = scattered(np.repeat([3, 5], 40), (4, WIDTH))
    part = chunk.part(slice(1, 3), slice(4, 6))
    np.testing.assert_array_equal(part.row, chunk.row[1:3])
    np.testing.assert_array_equal(part.lane, chunk.lane[1:3, 4:6])
