"""The work of a stage: done by a few threads, in order, stopped when it is told to; and scattered lanes in chunks."""

import threading
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from polyjax.runs import stages
from polyjax.runs.grid import WIDTH, scattered
from polyjax.runs.stages import in_parallel

FEW = hypothesis.settings(deadline=None, max_examples=100, derandomize=True)
LONG = 10  # seconds after which something hangs


@pytest.fixture(params=[1, 3])
def workers(request, monkeypatch):
    monkeypatch.setattr(stages.devices, "workers", lambda: request.param)
    return request.param


# --- pieces of work


def test_results_come_in_order_whoever_is_first(workers):
    def slow_at_first(i):
        time.sleep(0.02 if i % 4 == 0 else 0)
        return i * i

    assert [*in_parallel(slow_at_first, range(25))] == [i * i for i in range(25)]
    assert [*in_parallel(slow_at_first, [])] == []


def test_as_many_pieces_run_at_a_time_as_there_are_workers(workers):
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

    list(in_parallel(do, range(30)))
    assert max(most) == workers


def test_work_is_taken_up_a_little_ahead_and_not_all_at_once(workers):
    taken = []

    def work():
        for i in range(100):
            taken.append(i)
            yield i

    results = in_parallel(lambda i: i, work())
    for i in range(10):
        assert next(results) == i
        assert len(taken) <= i + 2 * workers
    results.close()


def test_no_new_work_is_begun_after_being_told_to_stop(workers):
    stop, begun = threading.Event(), []

    def do(i):
        begun.append(i)
        if i == 7:
            stop.set()
        return i

    found = [*in_parallel(do, range(1000), stop.is_set)]
    assert found[:8] == [*range(8)]
    # What had been handed to the workers by then may have been begun, and all that was begun is finished and told. A
    # worker may have taken a piece just before, and have it taken back while the next one has begun another.
    assert sorted(begun) == found
    assert len(found) <= 8 + 2 * workers


def test_work_that_was_handed_out_but_not_begun_is_taken_back_when_told_to_stop(workers):
    handed_out, stop, release, begun = threading.Event(), threading.Event(), threading.Event(), []

    def work():
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

    results = in_parallel(do, work(), stop.is_set)
    assert next(results) == 0
    timer = threading.Timer(0.5, release.set)  # the others finish when the rest is long taken back
    timer.start()
    assert [0, *results] == sorted(begun)
    timer.join()
    assert len(begun) <= workers + 1  # in hand, and the one that followed the first


def test_nothing_is_begun_where_one_is_told_to_stop_at_once(workers):
    assert [*in_parallel(lambda i: pytest.fail("begun"), range(10), lambda: True)] == []


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt("no"), MemoryError("no")], ids=repr)
def test_the_first_error_is_passed_on_and_ends_the_work(workers, error):
    begun, finished = [], []

    def do(i):
        begun.append(i)
        if i >= 5:
            raise error if i == 5 else AssertionError("a later error hid the first")
        finished.append(i)
        return i

    found = []
    with pytest.raises(type(error), match="no"):
        found.extend(in_parallel(do, range(1000)))
    assert sorted(finished) == [*range(5)]
    assert len(begun) <= 6 + 2 * workers
    before = len(begun)
    time.sleep(0.02)
    assert len(begun) == before  # nobody works on


def test_when_nobody_asks_for_results_any_more_the_work_ends(workers):
    begun = []
    results = in_parallel(begun.append, range(1000))
    next(results)
    results.close()
    assert len(begun) <= 1 + 2 * workers


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


def test_a_part_of_a_chunk_is_those_lanes():
    [chunk] = scattered(np.repeat([3, 5], 40), (4, WIDTH))
    part = chunk.part(slice(1, 3), slice(4, 6))
    np.testing.assert_array_equal(part.row, chunk.row[1:3])
    np.testing.assert_array_equal(part.lane, chunk.lane[1:3, 4:6])
