"""The examples of docs/questions.md and docs/models.md, each on a grid of two cells a side."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import polyjax

DOCS = Path(__file__).parents[1] / "docs"


def examples(name):
    """The code of a page: what all examples begin with, and each of them, the first two in every run of the tests."""
    beginning, *others = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)
    ids = [re.sub(r"\W+", " ", text)[:60].strip() for text in others]
    return [
        pytest.param(beginning, text, id=ids[i], marks=[pytest.mark.slow] * (i > 1)) for i, text in enumerate(others)
    ]


def sweep_of(beginning, example):
    names = {}
    exec(beginning.replace("n = 40", "n = 2") + example, names)  # our own documentation
    return names["sweep"]


@pytest.mark.parametrize(("beginning", "example"), [*examples("questions.md"), *examples("models.md")])
def test_the_example_trains(beginning, example):
    sweep = sweep_of(beginning, example)
    found = polyjax.run(replace(sweep, steps=6, restarts=1, retries=0), progress=False)
    assert found.loss.shape == (2, 2, 1)
    assert list(found.axes) == list(sweep.coordinates)
    assert np.isfinite(found.loss).all()
    assert np.isfinite(found.capacity).all()
