"""The examples of docs/questions.md, each on a grid of two cells a side."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import polyjax

TEXT = (Path(__file__).parents[1] / "docs" / "questions.md").read_text()
BEGINNING, *EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: re.sub(r"\W+", " ", text)[:60])
def test_the_example_trains(example):
    names = {}
    exec(BEGINNING.replace("n = 40", "n = 2") + example, names)  # our own documentation
    sweep = replace(names["sweep"], steps=6, restarts=1, retries=0)
    found = polyjax.run(sweep, progress=False)
    assert found.loss.shape == (2, 2, 1)
    assert list(found.axes) == list(sweep.coordinates)
    assert np.isfinite(found.loss).all()
    assert np.isfinite(found.capacity).all()
