"""Configurations against each other, and against the sweep that results were made of."""

import json
from dataclasses import replace

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from polyjax import Features, Redwood, Sweep
from polyjax.differences import check_same, differences

FEW = hypothesis.settings(deadline=None, max_examples=100, derandomize=True)
SWEEP = Sweep(Redwood(6, 3), np.geomspace(0.01, 1, 7), [0.5, 1.0])
CONFIG = json.loads(json.dumps(SWEEP.describe()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.floats(0, 9), max_size=6),
    lambda values: st.dictionaries(st.text(max_size=3), values, max_size=4),
    max_leaves=8,
)
CONFIGS = st.dictionaries(st.text(max_size=3), JSON, max_size=5)


@FEW
@hypothesis.given(CONFIGS)
def test_a_configuration_does_not_differ_from_itself(config):
    assert differences(config, json.loads(json.dumps(config))) == []


@FEW
@hypothesis.given(CONFIGS, CONFIGS)
def test_configurations_differ_in_the_fields_that_are_named_and_in_no_other(there, here):
    # Null is as good as nothing: a field that a version does not know yet.
    def fields(a, b, name=""):
        for key in a.keys() | b.keys():
            x, y = a.get(key), b.get(key)
            if isinstance(x, dict) and isinstance(y, dict):
                yield from fields(x, y, f"{name}{key}.")
            elif x != y:
                yield f"{name}{key}"

    found = differences(there, here)
    expected = sorted(fields(there, here))
    assert len(found) == len(expected)
    assert all(any(words.startswith(f"{name} (") for words in found) for name in expected)


def test_what_differs_is_said_in_a_few_words():
    here = json.loads(json.dumps(Sweep(Redwood(6, 4), np.geomspace(0.01, 1, 9), [0.5, 2.0], seed=3).describe()))
    assert differences(CONFIG, here) == [
        "axes.density (7 values from 0.01 to 1 there, 9 values from 0.01 to 1 here)",
        "axes.importance ([0.5, 1.0] there, [0.5, 2.0] here)",
        "model.n_neurons (3 there, 4 here)",
        "seed (0 there, 3 here)",
    ]
    del here["retries"]
    assert "retries (2 there, null here)" in differences(CONFIG, here)
    words = [*"abcde"]  # no range of values
    assert differences({"a": words}, {"a": 1}) == ['a (["a", "b", "c", "d", "e"] there, 1 here)']


# --- a sweep against results


def test_the_sweep_that_results_were_made_of_is_the_same():
    check_same({**CONFIG, "provenance": {}, "engine": "lanes"}, SWEEP)
    check_same({key: value for key, value in CONFIG.items() if key != "polish"}, SWEEP)  # of an older version
    check_same(CONFIG, replace(SWEEP, chunk=5, engine="arrays"))  # how the work is split says nothing of the results


def test_a_sweep_of_another_configuration_is_refused_with_the_fields_that_differ():
    with pytest.raises(ValueError) as error:  # noqa: PT011
        check_same(CONFIG, replace(SWEEP, seed=3, steps=5))
    said = "sweep must be the one that the results were made of, but differs: "
    assert str(error.value) == f"{said}seed (0 there, 3 here); steps (2000 there, 5 here)"


def test_axes_in_another_order_are_another_configuration():
    axes = {"density": [0.1, 0.4], "importance": [0.5, 1.0]}
    one, other = (Sweep(Redwood(3, 2), axes=dict(given)) for given in (axes.items(), reversed(axes.items())))
    with pytest.raises(
        ValueError, match=r'order \(\["density", "importance"\] there, \["importance", "density"\] here'
    ):
        check_same(json.loads(json.dumps(one.describe(), sort_keys=True)), other)


def test_functions_of_another_program_are_told_apart():
    def of(power):
        return replace(SWEEP, importance=None, features=lambda density: Features(density, power ** jnp.arange(6)))

    config = json.loads(json.dumps(of(0.5).describe()))
    check_same(config, of(0.5))
    with pytest.raises(ValueError, match=r'given.features.program \("\w+" there, "\w+" here\)$'):
        check_same(config, of(0.6))
    other = {"provenance": {"versions": {"jax": "0.0.1"}}}  # whose fingerprints say nothing here
    check_same(config | other, of(0.6))
    with pytest.raises(ValueError, match=r"differs: steps \(2000 there, 7 here\)$"):
        check_same(config | other, replace(of(0.6), steps=7))


def test_what_is_no_sweep_is_refused():
    with pytest.raises(ValueError, match=r"^sweep must be a Sweep, but is 'r.npz'$"):
        check_same(CONFIG, "r.npz")
