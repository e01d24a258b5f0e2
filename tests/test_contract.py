"""Models of the user's own: the three of docs/models.md against what is known of them, and the contract."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from documentation import sweeps_of

import polyjax
from polyjax import Anthropic, Redwood, Sweep
from polyjax.engine.outcome import array_names

AUTOENCODER, ABSOLUTE, POWER = (sweep for made in sweeps_of("models.md").values() for sweep in made)
SMALL = {"density": [0.3], "importance": [1.0], "restarts": 64, "retries": 0}


@pytest.fixture(scope="module")
def untied():
    """An untied autoencoder with every stage, on a small grid."""
    sweep = Sweep(
        type(AUTOENCODER.model)(3, 2), [0.1, 0.6], [0.5, 2.0], restarts=2, steps=400, retries=0, refine=1, polish=True
    )
    return sweep, polyjax.run(sweep, progress=False)


def test_arrays_are_named_as_the_parameters_and_the_embedding_is_where_the_model_says(untied):
    sweep, results = untied
    assert list(results.params) == ["encoder", "decoder", "bias", "embedding"]
    assert results.params["decoder"].shape == (2, 2, 2, 3, 2)
    np.testing.assert_array_equal(results.embedding, results.params["encoder"])
    np.testing.assert_array_equal(results.refined.embedding, results.refined.params["encoder"])
    np.testing.assert_allclose(results.capacity, polyjax.capacities(results.params["encoder"]), atol=1e-6)
    with pytest.raises(AttributeError, match="have no parameter W, but encoder, decoder, bias"):
        _ = results.W
    assert set(array_names(sweep.model)) >= set(results.params)


@pytest.mark.slow
def test_untied_weights_do_no_worse_than_tied_ones(untied):
    # The tied networks are among the untied ones, so that the minimum is no higher.
    sweep, results = untied
    tied = polyjax.run(replace(sweep, model=Anthropic(3, 2), polish=False), progress=False).select("refined")
    assert results.refined.settled.all()
    error = 4 * np.hypot(results.refined.loss_se, tied.loss_se)
    assert (results.refined.loss <= tied.loss + error).all()


def test_a_file_keeps_parameters_of_any_name(untied, tmp_path):
    _, results = untied
    results.save(tmp_path / "untied.npz")
    found = polyjax.load(tmp_path / "untied.npz")
    for a, b in ((found.params, results.params), (found.refined.params, results.refined.params)):
        assert list(a) == list(b)
        assert all(np.array_equal(a[name], b[name]) for name in b)
    with pytest.raises(ValueError, match="needs the user's own model"):
        Sweep.from_config(found.config)


def test_a_run_to_a_file_is_the_run_in_memory_for_such_a_model(untied, tmp_path):
    sweep, results = untied
    polyjax.run_to_file(sweep, tmp_path / "untied.npz", progress=False)
    found = polyjax.load(tmp_path / "untied.npz")
    for name, a in found.arrays().items():
        np.testing.assert_array_equal(a, results.arrays()[name])
    for name, a in found.refined.arrays().items():
        np.testing.assert_array_equal(a, results.refined.arrays()[name])


@pytest.mark.slow
def test_all_engines_agree_on_such_a_model():
    ends = {}
    for engine in ("arrays", "lanes"):
        sweep = Sweep(
            type(ABSOLUTE.model)(2, 2), [0.2, 0.7], [0.5, 2.0], restarts=2, steps=40, retries=0, engine=engine
        )
        ends[engine] = polyjax.run(sweep, progress=False).params
    for name, a in ends["arrays"].items():
        np.testing.assert_allclose(a, ends["lanes"][name], atol=2e-5)  # rounding over 40 steps


@pytest.mark.slow
def test_two_neurons_a_feature_compute_the_absolute_value_and_one_does_not():
    sweeps = (Sweep(type(ABSOLUTE.model)(2, D), **SMALL, steps=2000) for D in (2, 4))
    few, enough = (polyjax.run(sweep, progress=False).select("best").loss[0, 0] for sweep in sweeps)
    variance = 2  # the loss of an output of 0: E[x^2] of two features
    assert enough < 1e-4 * variance
    assert few > 0.01 * variance


@pytest.mark.slow
def test_a_loss_of_power_2_is_the_papers():
    # With the same initial weights and samples: the two losses are the same function.
    square = Sweep(type(POWER.model(2.0))(2, 1), [0.2, 0.9], [0.5, 2.0], restarts=2, steps=50, retries=0)
    paper = replace(square, model=Anthropic(2, 1))
    a, b = (polyjax.run(sweep, progress=False) for sweep in (square, paper))
    np.testing.assert_allclose(a.W, b.W, atol=1e-5)
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-4)


# --- the contract


class Pair(NamedTuple):
    W: jax.Array
    extra: jax.Array


class Taken(NamedTuple):
    W: jax.Array
    loss: jax.Array


@dataclass(frozen=True)
class Good(polyjax.Model):
    n_features: int = 3

    def init(self, key):
        return Pair(jax.random.normal(key, (2, self.n_features)), jnp.ones(()))

    def loss(self, params, x, importance):
        return importance @ (params.extra * params.W.T @ (params.W @ x) - x) ** 2


def broken(**methods):
    return type("Broken", (Good,), methods)()


def branching(self, params, x, importance):
    return x @ x if x[0] > 0 else 0 * x[0]


def test_a_model_that_keeps_the_contract_needs_no_more():
    results = polyjax.run(Sweep(Good(), [0.5], [1.0], restarts=1, steps=5, retries=0), progress=False)
    assert results.W.shape == (1, 1, 1, 2, 3)


@dataclass(frozen=True)
class Linear(Good):
    """sum_i v_i ((W^T W - 1) x)_i^2, whose mean follows from those of the features and their variances."""

    has_closed_form = True

    def expected_loss(self, params, importance, moments):
        A = params.extra * params.W.T @ params.W - jnp.eye(self.n_features)
        mean, variance = (jnp.broadcast_to(m, (self.n_features,)) for m in moments[:2])
        return importance @ ((A @ mean) ** 2 + A**2 @ variance)


@pytest.mark.slow
def test_a_model_of_ones_own_is_trained_on_its_closed_form():
    sampled = Sweep(Linear(), [0.2, 0.7], [0.5, 2.0], distribution=Anthropic.distribution, restarts=2, steps=300)
    expected = polyjax.run(replace(sampled, objective="expected"), progress=False)
    assert expected.settled.all()
    assert not expected.loss_se.any()
    # The same networks on samples, which know nothing of the closed form.
    at_most = polyjax.run(replace(sampled, retries=0, polish="sampled"), progress=False).refined
    errors = 4 * at_most.loss_se + 1e-3 * at_most.loss
    assert (abs(expected.select("best").loss - at_most.loss) <= errors).all()


def test_another_closed_form_is_another_configuration():
    class Other(Linear):
        def expected_loss(self, params, importance, moments):
            return 2 * super().expected_loss(params, importance, moments)

    found = [Sweep(model, [0.5], [1.0]).describe()["given"]["model"] for model in (Linear(), Other())]
    assert found[0].pop("expected_loss") != found[1].pop("expected_loss")
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ({"has_closed_form": True}, r"Broken\.expected_loss must be made of .*, but raises NotImplementedError"),
        (
            {"has_closed_form": True, "expected_loss": lambda *_: 1},
            r"Broken\.expected_loss must return one real number",
        ),
        ({"distribution": "uniform"}, r"Broken\.distribution must be a Distribution, but is 'uniform'"),
        ({"init": lambda self, key: (jnp.zeros((2, 3)),)}, r"Broken\.init must return a NamedTuple of arrays"),
        ({"init": lambda self, key: jnp.zeros((2, 3))}, r"Broken\.init must return a NamedTuple of arrays"),
        ({"init": lambda self, key: Pair(jnp.zeros((2, 3)), (jnp.ones(2),))}, "must return an array as extra"),
        ({"init": lambda self, key: Pair(jnp.zeros((2, 3), int), jnp.ones(()))}, "must return W in float32"),
        ({"init": lambda self, key: Taken(jnp.zeros((2, 3)), jnp.ones(()))}, "name no parameter as other arrays"),
        ({"loss": lambda self, params, x, importance: x}, r"Broken\.loss must return one real number, but .*\[3\]"),
        ({"loss": lambda self, params, x, importance: jnp.int32(3)}, r"Broken\.loss must return one real number"),
        ({"loss": branching}, r"Broken\.loss must .*, but branches on a value, where jnp\.where would do"),
        ({"loss": lambda self, params, x, importance: np.sum(np.asarray(x))}, "but needs NumPy arrays"),
        ({"loss": lambda self, params, x, importance: params.V @ x}, "but raises AttributeError: 'Pair' object has"),
        ({"embedding": lambda self, params: params.W.T}, r"Broken\.embedding must return W \[D, 3\]"),
        ({"scale": lambda self, importance: 1.0}, r"Broken\.scale must return \[3\], one a feature"),
        ({"scale": lambda self, importance: importance[:2]}, r"Broken\.scale must return \[3\]"),
    ],
)
def test_what_breaks_the_contract_is_refused_when_the_sweep_is_made(methods, words):
    with pytest.raises(ValueError, match=words):
        Sweep(broken(**methods), [0.5], [1.0])


def test_a_number_of_features_that_is_not_whole_is_refused():
    with pytest.raises(ValueError, match=r"Good\.n_features must be a whole number of at least 1, but is 2\.5"):
        Sweep(Good(2.5), [0.5], [1.0])


def test_a_scale_without_the_parameter_W_is_refused():
    model = replace(AUTOENCODER.model)
    scaled = type("Scaled", (type(model),), {"scale": lambda self, importance: importance})(4, 2)
    with pytest.raises(ValueError, match=r"Scaled\.scale must be left out where no parameter is W"):
        Sweep(scaled, [0.5], [1.0])


def test_a_parameter_with_the_name_of_an_axis_is_refused():
    with pytest.raises(ValueError, match="axes must have other names than the model's parameters, but is 'extra'"):
        Sweep(lambda extra: Good(), axes={"extra": [1.0, 2.0], "density": [0.5]})


@pytest.mark.parametrize("model", ["Redwood", Redwood, 3, None, object()], ids=lambda model: type(model).__name__)
def test_what_is_no_model_is_refused(model):
    with pytest.raises(
        ValueError, match=r"model must be a model, such as Redwood\(6, 3\) or your own subclass of Model"
    ):
        Sweep(model, [0.5], [1.0])
