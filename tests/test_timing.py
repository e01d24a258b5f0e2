"""Where the time of a run went: sums of seconds by part and stage, the table, and that measuring changes nothing."""

import re
from dataclasses import replace
from time import sleep

import numpy as np
import pytest

import polyjax
from polyjax.engine import devices, execution, timing
from polyjax.engine.drawing import seconds_a_step
from polyjax.runs import run as run_module
from polyjax.runs.timing import PARTS, Timing, add
from polyjax.runs.to_file import run_to_file
from tests.diverging import DIVERGING

SWEEP = polyjax.Sweep(polyjax.Redwood(3, 1), [0.1, 1], [0.5, 2], restarts=2, steps=20, batch=8, retries=0)


@pytest.fixture
def clock(monkeypatch):
    """Let a second pass each time that the clock is read."""
    ticks = iter(range(1000))
    for module in ("polyjax.engine.timing", "polyjax.runs.timing"):
        monkeypatch.setattr(f"{module}.perf_counter", lambda: next(ticks))


def test_parts_are_added_up_where_they_are_measured_and_nowhere_else(clock):
    with timing.part("training"):  # of nothing that is measured
        pass
    with timing.measured() as seconds:
        for _ in range(3):
            with timing.part("training"):
                pass
        with timing.part("evaluation"), timing.measured() as inside, timing.part("training"):
            pass
    assert seconds == {"training": 3, "evaluation": 5, "all": 13}
    assert inside == {"training": 1, "all": 3}


def test_a_part_that_fails_is_measured_too(clock):
    with timing.measured() as seconds, pytest.raises(ZeroDivisionError), timing.part("training"):
        1 / 0  # noqa: B018
    assert seconds["training"] == 1


def test_the_table_has_a_row_for_each_stage_whose_rounds_are_one(clock):
    run = Timing()  # at 0
    for title in ("training", "refining, round 1", "refining, round 2"):  # each takes one tick
        with run.stage(title) as seconds:
            add(seconds, {"training": 2, "evaluation": 0.25, "all": 3, "saving": 0.125})
    rows = [line.split() for line in run.table().splitlines()]
    assert rows[1:] == [
        ["training", "1.00", "-", "2.00", "-", "0.25", "0.75", "0.12"],
        ["refining", "2.00", "-", "4.00", "-", "0.50", "1.50", "0.25"],
        ["between", "stages", "4.00"],
        ["all", "7.00"],
    ]
    assert run.table().splitlines()[0].split() == [
        *["seconds", "from", "begin", "to", "end"],
        *PARTS,
        *["other", "work", "saving"],
    ]
    assert len({len(line) for line in run.table().splitlines()[:3]}) == 1


def test_a_run_tells_where_its_time_went_on_request_and_is_the_same(capfd, tmp_path):
    path = tmp_path / "a.npz"
    sweep = replace(DIVERGING, refine=1)  # which trains some lanes again
    run_to_file(sweep, path, progress=False, timing=True)
    told = capfd.readouterr().err
    for words in (*PARTS, "retrying", "refining", "between stages"):
        assert words in told
    plain = polyjax.run(sweep, progress=False)
    assert "seconds" not in "".join(capfd.readouterr())
    np.testing.assert_array_equal(plain.loss, polyjax.load(path).loss)


def test_the_time_of_samples_is_told_apart_where_there_are_any(capfd):
    polyjax.run(SWEEP, progress=False, timing=True)
    told = capfd.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"of the training, samples took about \d+\.\d\d, measured apart", told)
    polyjax.run(replace(SWEEP, objective="expected"), progress=False, timing=True)
    assert "samples" not in capfd.readouterr().err


def test_more_samples_take_longer():
    # By far, so that no other work on the machine makes it untrue.
    few, many = (replace(SWEEP, batch=batch, model=polyjax.Redwood(12, 2)).training for batch in (16, 4096))
    row = {"density": np.array([0.1], np.float32)}
    assert 0 < 4 * seconds_a_step(few, row, 1) < seconds_a_step(many, row, 1)


def test_samples_are_counted_by_rows_and_steps(monkeypatch):
    runs, begin = [], run_module.begin
    monkeypatch.setattr(run_module, "begin", lambda *given: runs.append(begin(*given)) or runs[-1])
    polyjax.run(replace(SWEEP, chunk=2), progress=False)
    (begun,) = runs
    assert begun.timing.steps_of_rows == SWEEP.steps * 2 * 2  # two rows, each of two chunks


def test_the_time_of_training_is_counted_as_training(capfd, monkeypatch):
    compiled = execution.compiled

    def slow(fixed):
        def train(*arguments):
            sleep(0.3)
            return compiled(fixed)(*arguments)

        train.lower = compiled(fixed).lower
        return train

    monkeypatch.setattr(execution, "compiled", slow)
    polyjax.run(SWEEP, progress=False, timing=True)
    (row,) = (line.split() for line in capfd.readouterr().err.splitlines() if line.startswith("training"))
    _, wall, _, training, _, evaluation, *_ = row
    assert 0.3 <= float(training) <= devices.workers() * float(wall) + 0.01
    assert evaluation == "-" or float(evaluation) < float(training)
