"""Files at the place of the results that are none."""

import io
import pickle

import numpy as np
import pytest
from harness import OUT, THEN_CORRECT, end
from traps import Trap


def disguised(form, place):
    """The bytes of a results file that would run code if it were unpickled."""
    if form == "bare":
        return pickle.dumps(Trap(place))
    data = io.BytesIO()
    np.savez(data, **{form: np.array([Trap(place)], object)})
    return data.getvalue()


@pytest.mark.parametrize("form", ["bare", "config", "W"])
def test_a_pickle_that_looks_like_results_is_refused_and_left_alone(judged, new_place, form):
    place, judge = new_place(), judged("a pickle that looks like a results file")
    data = disguised(form, place)
    place.file.write_bytes(data)
    judge.one_line(place.sweep(), OUT, "--restart")
    judge.one_line(end(place.start("--results", OUT, module="figures.figure4")), OUT)
    assert place.file.read_bytes() == data
    assert not place.trap.exists()
    judge.correct(place, place.sweep("--restart"), THEN_CORRECT)
