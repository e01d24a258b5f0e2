"""Results files that are not what they seem, as the commands that read one meet them; whole numbers beyond 32 bits and
other hostile arguments."""

import os

import hostile_calls
import numpy as np
import pytest
import shapes
from harness import OUT, end, two_at_a_time
from hostile import AWKWARD
from test_hostile import check

import polyjax
from polyjax import theory


def of_random_weights(arrays):
    """A refined diagram that nobody trained, whose capacities are those of its weights."""
    W = np.random.default_rng(0).normal(size=arrays["refined_W"].shape).astype(np.float32)
    return {"refined_W": W, "refined_capacity": np.asarray(polyjax.capacities(W))}


FORGED = {
    "a refined diagram of random weights": of_random_weights,
    "an axis reversed": lambda arrays: {"axis_density": arrays["axis_density"][::-1]},
    "an axis times 3": lambda arrays: {"axis_importance": 3 * arrays["axis_importance"]},
    "settled inverted": lambda arrays: {"settled": ~arrays["settled"]},
    "no standard errors": lambda arrays: {"loss_se": 0 * arrays["loss_se"]},
}


@pytest.fixture(scope="module")
def finished(new_place, trained):
    """A run with its results file."""
    place = new_place().copied(trained)
    assert place.sweep().code == 0
    return place


@pytest.mark.slow
def test_a_forged_file_is_found_out(judged, new_place, finished):
    judge = judged("a results file that was forged, verified")

    def forge(name):
        place = new_place().copied(finished)
        with np.load(place.file) as file:
            arrays = {each: file[each] for each in file.files}
        np.savez(place.file, **arrays | FORGED[name](arrays))
        ended = end(place.start("verify", OUT, module="polyjax"))
        assert ended.code in (1, 2), ended.text  # cells differ, or the file is refused
        assert "Traceback" not in ended.text
        judge.count("found out")

    two_at_a_time(forge, FORGED)


def test_a_file_as_it_was_made_is_not(judged, finished):
    assert end(finished.start("verify", OUT, module="polyjax")).code == 0
    judged("a results file as it was made, verified").count("correct")


@pytest.mark.parametrize("word", ["info", "verify", "plot"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(judged, new_place, word):
    place, judge = new_place(), judged("a pipe in place of a results file")
    os.mkfifo(place.file)
    judge.one_line(end(place.start(word, OUT, module="polyjax")), "it is no file")
    judge.count("one line")


def test_whole_numbers_beyond_32_bits_are_numbers(judged):
    judge, large = judged("whole numbers beyond 32 bits"), np.array([2**32, 3, 1])
    W = np.array([[2**20, 1, 0], [0, 3, 2**20]])
    for found, expected in (
        (theory.optimal_capacity(large, 9.0, 1), theory.optimal_capacity(large.astype(float), 9.0, 1)),
        (theory.optimal_loss(large, 9.0, 1), theory.optimal_loss(large.astype(float), 9.0, 1)),
        (polyjax.capacities(W), polyjax.capacities(W.astype(float))),
    ):
        np.testing.assert_array_equal(found, expected)
        judge.count("as the same numbers in floating point")
    assert theory.optimal_capacity(large, 9.0, 1)[0] == 1


@pytest.mark.slow
def test_hostile_arguments_end_in_a_right_value_or_in_words(judged, monkeypatch, tmp_path):
    monkeypatch.setitem(shapes.SWITCH, "on", False)
    monkeypatch.chdir(tmp_path)
    judge = judged("hostile arguments of functions")
    for call in hostile_calls.FUNCTIONS:
        for name in call.kinds:
            for value in AWKWARD[::12]:
                check(call, name, value)
                judge.count("a right value, or a line that names the argument")
