"""Which engine runs, and what the compiler's liberties in one of them may change: nothing but rounding."""

import jax
import numpy as np
import pytest

import polyjax
from polyjax.engine import choice, evaluation, execution, lanes, optimizers
from polyjax.toy.models import Anthropic, Redwood
from tests import paper


def configuration(model, engine):
    return paper.configuration(model, engine, sampler="iid")


def test_small_models_run_in_lanes():
    models = [Redwood(6, 3), Redwood(20, 10), Redwood(201, 1), Redwood(67, 3)]
    engines = [choice.ordinary_engine(configuration(model, "auto")) for model in models]
    assert engines == ["lanes", "lanes", "arrays", "arrays"]


def test_equal_configurations_share_one_program():
    assert optimizers.adam(0.02, 20) is optimizers.adam(0.02, 20)
    one, other = (configuration(Redwood(3, 2, "relu"), "lanes") for _ in range(2))
    assert execution.compiled(one) is execution.compiled(other)
    assert execution.compiled(one) is not execution.compiled(configuration(Redwood(3, 2, "relu"), "arrays"))


@pytest.mark.slow
@pytest.mark.parametrize("model", [Redwood(4, 2), Anthropic(4, 2, "gelu")], ids=str)
def test_fast_math_changes_no_phase_diagram(model, monkeypatch):
    sweep = polyjax.Sweep(model, density=[0.03, 0.2, 1.0], importance=np.geomspace(0.1, 10, 5), steps=500)
    found = polyjax.run(sweep, progress=False)
    monkeypatch.setattr(lanes, "CPU_COMPILER_OPTIONS", {})
    execution.compiled.cache_clear()
    exact = polyjax.run(sweep, progress=False)
    execution.compiled.cache_clear()
    # 500 steps of rounding in another order. Measured: 6e-6 for Redwood, 2e-6 for Anthropic.
    np.testing.assert_allclose(found.capacity, exact.capacity, atol=1e-4)
    np.testing.assert_array_equal(found.settled, exact.settled)


def fast_math(monkeypatch, program):
    """Whether the program is compiled with fast-math, asked of the options that JAX is given."""
    asked = []
    monkeypatch.setattr(jax, "jit", lambda f, **options: asked.append(options.get("compiler_options") or {}))
    program()
    return ["xla_cpu_enable_fast_math" in options for options in asked]


def test_only_the_training_of_lanes_is_compiled_with_fast_math(monkeypatch):
    evaluation._compiler_options()  # asks the compiler for its options, once
    fixed = {name: configuration(Redwood(3, 2), name) for name in ("lanes", "arrays")}
    assert fast_math(monkeypatch, lambda: execution.compiled.__wrapped__(fixed["lanes"])) == [True]
    assert fast_math(monkeypatch, lambda: execution.compiled.__wrapped__(fixed["arrays"])) == [False]
    evaluated = lambda: evaluation._compiled_once.__wrapped__(evaluation.evaluate, fixed["lanes"])  # noqa: E731
    assert fast_math(monkeypatch, evaluated) == [False]
