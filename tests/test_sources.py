"""The source text of what is the user's: kept with the results, and of no consequence for anything else."""

import functools
import importlib
import json
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import polyjax
from polyjax import Anthropic, Features, Redwood, Sweep, activity
from polyjax.cli.info import describe
from polyjax.engine import execution
from polyjax.sources import sources

SWEEP = Sweep(Redwood(2, 1), [0.5], [0.5, 2.0], restarts=1, steps=4, batch=8, retries=0)


def cubed(z):
    return z**3  # a comment


@dataclass(frozen=True)
class Penalised(Anthropic):
    factor: float = 0.0

    def loss(self, params, x, importance):
        return super().loss(params, x, importance) + self.factor * jnp.abs(params.W).sum()


CUBED = "def cubed(z):\n    return z**3  # a comment"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, {}),
        ({"model": Redwood(2, 1, "relu"), "optimizer": optax.sgd(0.1)}, {}),
        ({"model": Redwood(2, 1, jnp.tanh)}, {}),  # of a library
        ({"model": Redwood(2, 1, cubed)}, {"model": CUBED}),
        ({"model": Redwood(2, 1, functools.partial(cubed))}, {"model": CUBED}),
        ({"model": Redwood(2, 1, jax.jit(cubed))}, {"model": CUBED}),
    ],
)
def test_what_is_the_users_is_told_and_nothing_else(changes, found):
    assert replace(SWEEP, **changes).sources == found


def test_a_model_of_the_users_is_told_with_its_class_and_the_function_that_makes_it():
    sweep = replace(SWEEP, importance=None, axes={"factor": [0.1]}, model=lambda factor: Penalised(2, 1, factor=factor))
    lines = sweep.sources["model"].splitlines()
    assert "model=lambda factor: Penalised(2, 1, factor=factor)" in lines[0]
    assert lines[1:4] == ["@dataclass(frozen=True)", "class Penalised(Anthropic):", "    factor: float = 0.0"]
    assert "Anthropic" not in "".join(lines[4:])  # whose class is polyjax's


def test_functions_in_features_are_told():
    def law(density):
        return jnp.full(4, 0.25)

    features = Features(0.5, activity=activity.ByMask(law))
    sweep = Sweep(
        Redwood(2, 1), axes={"r": [0.1]}, features=features, optimizer=lambda r: optax.sgd(r), restarts=1, steps=4
    )
    assert sweep.sources["features"] == "def law(density):\n    return jnp.full(4, 0.25)"
    assert sweep.sources["optimizer"].startswith("Redwood(2, 1), axes=")  # the lines on which the lambda stands


def test_a_function_without_a_source_is_told_by_nothing():
    names = {}
    exec("def f(z):\n    return z**3", names)
    assert sources({"model": [names["f"]], "features": [None], "optimizer": [1, "a", np.ones(2)]}) == {}


@pytest.mark.slow
def test_results_keep_the_text_and_info_shows_it(tmp_path):
    path = tmp_path / "r.npz"
    polyjax.run_to_file(replace(SWEEP, model=Redwood(2, 1, cubed)), path, progress=False)
    results = polyjax.load(path)
    assert results.config["source"] == {"model": CUBED}
    assert describe(str(path), results).endswith(
        "\n\n  source of model\n    def cubed(z):\n        return z**3  # a comment"
    )
    assert "source" not in polyjax.run(SWEEP, progress=False).config


def test_another_text_of_the_same_function_continues_the_run_to_the_same_arrays(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def sweep(text):
        (tmp_path / "mine_to_edit.py").write_text(text)
        importlib.invalidate_caches()
        module = importlib.reload(importlib.import_module("mine_to_edit"))
        return replace(SWEEP, model=Redwood(2, 1, module.f), chunk=1)

    before = sweep("def f(z):\n    return z**3\n")
    undisturbed = polyjax.run(before, progress=False)
    trained, train = [], execution.train

    def once(*arguments):
        trained.append(1)
        if len(trained) > 1:
            raise KeyboardInterrupt
        return train(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(execution, "train", once)
        with pytest.raises(KeyboardInterrupt):
            polyjax.run_to_file(before, tmp_path / "r.npz", progress=False)
    after = sweep("def f(z):\n    # a remark that was added in the meantime\n    return z**3\n")
    assert "return z**3" in before.sources["model"]
    assert "remark" not in before.sources["model"]
    polyjax.run_to_file(after, tmp_path / "r.npz", progress=False)
    polyjax.run_to_file(before, tmp_path / "r.npz", progress=False)  # is there, and is the same
    found = polyjax.load(tmp_path / "r.npz")
    assert found.W.tobytes() == undisturbed.W.tobytes()
    assert "remark" in found.config["source"]["model"]
    assert json.loads(json.dumps(before.describe())) == json.loads(json.dumps(after.describe()))
