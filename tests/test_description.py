"""A configuration tells apart what computes other things, whatever its name, and names alike what is the same."""

import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import polyjax
from polyjax import Anthropic, Redwood, Sweep
from polyjax.description import of_model, plain
from polyjax.fingerprints import fingerprint
from polyjax.runs import to_file
from polyjax.toy import distributions
from polyjax.toy.activations import activation_name
from polyjax.toy.distributions import NORMAL, UNIFORM_SIGNED
from polyjax.toy.models import Params

SWEEP = Sweep(Redwood(2, 1), [0.5], [0.5, 2.0], restarts=1, steps=6, batch=8, retries=0)
VECTOR = jnp.zeros(3)


def given(model):
    """The fingerprints of what is the user's of a model."""
    return replace(SWEEP, model=model).describe()["given"]


def subclass(**members):
    """A model of the user's own, under the name of polyjax's."""
    return type("Redwood", (Redwood,), members)(2, 1)


def absolute(self, params, x, importance):
    return jnp.abs(Redwood.loss(self, params, x, importance))


def halved(self, params, x, importance):
    return Redwood.loss(self, params, x, importance) / 2


def differ(there, here):
    """The fields in which two sweeps differ, in words."""
    with pytest.raises(ValueError, match="of another configuration") as error:
        to_file.refuse_other(json.loads(json.dumps(there.describe())), here.describe(), "it")
    return [field.split(" ")[0] for field in str(error.value).split(": ")[1].split("; ")]


# --- what is polyjax's own


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (Redwood(2, 1), {"name": "Redwood", "n_features": 2, "n_neurons": 1, "activation": "square"}),
        (Anthropic(2, 1, "gelu"), {"name": "Anthropic", "n_features": 2, "n_neurons": 1, "activation": "gelu"}),
    ],
)
def test_what_is_polyjaxs_own_is_told_by_name_alone_so_that_files_of_other_versions_of_jax_are_the_same(
    model, told, monkeypatch
):
    monkeypatch.setattr(polyjax.description, "fingerprint", None)  # which depends on the version
    described = replace(SWEEP, model=model).describe()
    assert json.dumps(described["model"]) == json.dumps(told)
    assert described["given"] == {}
    assert given(model) == {}


# --- models


def test_models_of_one_name_are_refused_where_the_results_of_the_other_are(tmp_path):
    path = tmp_path / "r.npz"
    to_file.run_to_file(replace(SWEEP, model=subclass(loss=absolute)), path, progress=False)
    before = path.read_bytes()
    for other in (subclass(loss=halved), Redwood(2, 1)):
        with pytest.raises(ValueError, match=r"r.npz is of another configuration: given\.model"):
            to_file.run_to_file(replace(SWEEP, model=other), path, progress=False)
    to_file.run_to_file(replace(SWEEP, model=subclass(loss=absolute)), path, progress=False)  # made anew
    assert path.read_bytes() == before


def test_models_of_one_name_are_refused_in_the_unfinished_run_of_the_other(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    path = tmp_path / "r.npz"
    with monkeypatch.context() as patch:
        patch.setattr(to_file.archive, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            to_file.run_to_file(replace(SWEEP, model=subclass(loss=absolute)), path, progress=False)
    with pytest.raises(ValueError, match=r"r.run is of another configuration: given\.model\.loss \("):
        to_file.run_to_file(replace(SWEEP, model=subclass(loss=halved)), path, progress=False)
    to_file.run_to_file(replace(SWEEP, model=subclass(loss=absolute)), path, progress=False)
    assert path.exists()


def test_whatever_a_model_computes_tells_it_apart():
    own = replace(SWEEP, model=subclass())
    others = {
        "loss": halved,
        "init": lambda self, key: Params(2 * Redwood.init(self, key).W, jnp.zeros(())),
        "scale": lambda self, importance: 2 * importance,
    }
    for name, method in others.items():
        assert differ(own, replace(SWEEP, model=subclass(**{name: method}))) == [f"given.model.{name}"]
    features = replace(SWEEP, model=subclass(distribution=property(lambda self: NORMAL)))
    assert differ(own, features) == ["distribution"]
    features = replace(
        SWEEP, model=subclass(distribution=property(lambda self: replace(NORMAL, name="uniform_signed")))
    )
    assert "given.distribution" in differ(own, features)
    given = replace(features, distribution=UNIFORM_SIGNED)  # the model's own features are not used
    assert given.describe() == own.describe()


@dataclass(frozen=True)
class Fields(Redwood):
    """A model with fields of every kind, of which some decide what it computes."""

    width: Any = 1.0
    penalty: Any = jnp.abs

    def init(self, key):
        params = super().init(key)
        return params._replace(W=params.W * np.float32(self.width).mean())

    def loss(self, params, x, importance):
        return super().loss(params, x, importance) + self.penalty(params.W).sum()


def test_every_field_of_a_users_model_is_recorded():
    sweep = replace(SWEEP, model=Fields(2, 1))
    assert sweep.describe()["model"]["fields"] == {"width": 1.0, "penalty": "abs"}
    # What the field decides, and the field.
    assert differ(sweep, replace(SWEEP, model=Fields(2, 1, width=2.0))) == ["given.model.init", "model.fields.width"]
    scaled = [Fields(2, 1, penalty=lambda z, c=c: c * z) for c in (1, 2)]
    assert differ(*(replace(SWEEP, model=model) for model in scaled)) == ["given.model.loss"]


class Plain(polyjax.Model):
    """Neither a dataclass, nor has it an activation."""

    n_features, n_neurons = 2, 1

    def __init__(self, rate):
        self.rate = rate

    init = Redwood.init

    def loss(self, params, x, importance):
        return self.rate * ((params.W @ x) ** 2).sum() + params.b**2


def test_a_model_need_not_be_a_dataclass():
    assert of_model(Plain(2.0))["fields"] == {"rate": 2.0}
    assert given(Plain(2.0)) != given(Plain(3.0))


def named():
    return 0


@pytest.mark.parametrize(
    ("value", "told"),
    [
        *((value, value) for value in (1, 0.1, "a", True, None, [1, [2]], {"a": 1})),
        ((1, (2, "b")), [1, [2, "b"]]),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (jnp.float32(0.5), 0.5),
        (float("nan"), "nan"),
        (np.float64("inf"), "inf"),
        (named, "named"),
        (functools.partial(named), "named"),
        (jnp.float32, "float32"),
        (frozenset({"b", "a"}), ["'a'", "'b'"]),
        (1j, "1j"),
        ((named, 1j), "(<function named>, 1j)"),
        (object(), "<object object>"),
        ({"f": named}, "{'f': <function named>}"),
    ],
)
def test_a_field_is_told_by_its_value_without_addresses(value, told):
    found = plain(value)
    assert (found, type(found)) == (told, type(told))
    assert json.loads(json.dumps(found)) == found


def test_arrays_in_fields_are_told_apart_by_their_numbers():
    large = np.arange(5000, dtype=np.float32)
    changed = np.where(large == 2500, 0, large)
    assert plain(large).startswith("float32[5000] ")
    assert plain(large) == plain(jnp.asarray(large)) != plain(changed)
    assert plain(jax.random.key(1)) != plain(jax.random.key(2))


# --- functions


class Power:
    def __init__(self, power):
        self.power = power

    def __call__(self, z):
        return z**self.power


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        (functools.partial(jax.nn.gelu, approximate=True), "gelu"),
        (functools.partial(functools.partial(jax.nn.leaky_relu), negative_slope=0.1), "leaky_relu"),
        (functools.partial(Power(2)), "Power"),
        (Power(2), "Power"),
        (Power(2).__call__, "__call__"),
        (jax.jit(functools.partial(jax.nn.gelu, approximate=True)), "gelu"),
        (lambda z: z, "<lambda>"),
    ],
)
def test_functions_have_a_name_without_an_address_and_a_fingerprint(activation, name):
    assert activation_name(Redwood(2, 1, activation)) == name
    assert set(given(Redwood(2, 1, activation))) == {"activation"}


def straight_through(slope):
    """Values that are the same for every slope."""
    f = jax.custom_jvp(lambda z: jnp.round(z))
    f.defjvp(lambda z, t: (jnp.round(z[0]), slope * t[0]))
    return f


@pytest.mark.parametrize(
    "made",
    [
        lambda c: functools.partial(jax.nn.leaky_relu, negative_slope=c),
        Power,
        lambda c: lambda z: c * z,
        lambda c: lambda z: np.float32(c) * z,
        lambda c: lambda z: np.float32([1, c]) * z,
        lambda c: lambda z: jnp.float32([1, c]) * z,
        lambda c: jax.jit(lambda z: np.float32([1, c]) * z),
        lambda c: lambda z: jax.jit(lambda z: jax.jit(lambda z: jnp.array([1, c]) * z)(z))(z),
        lambda c: lambda z: jax.lax.cond(z[0] > 0, lambda: z, lambda: jnp.float32([1, c]) * z),
        straight_through,
    ],
)
def test_what_a_function_closes_over_tells_it_apart(made):
    # A chance of 2^-32 that the numbers are the same.
    found = [given(Anthropic(2, 1, made(c)))["activation"] for c in (2.0, 3.0, 2.0)]
    assert found[0] != found[1]
    assert found[0] == found[2]


def test_keys_that_a_function_holds_have_fingerprints():
    noisy = lambda key: lambda x: x + jax.random.normal(key, (3,))  # noqa: E731
    one, two = (fingerprint(noisy(jax.random.key(i)), VECTOR) for i in (1, 2))
    assert one != two


def test_an_activation_may_take_vectors():
    assert given(Anthropic(2, 1, jax.nn.softmax)).keys() == {"activation"}


OTHER_PROCESS = """
import json, test_description as here
print(json.dumps(here.everything()))
"""


def everything():
    models = (Fields(2, 1, width=2.0), subclass(loss=absolute), Plain(2.0), Anthropic(2, 1, Power(3)))
    odd = replace(NORMAL, quantile=lambda u: u)
    sweeps = (replace(SWEEP, model=model, distribution=odd) for model in models)
    described = [[of_model(sweep.model), sweep.describe()["given"]] for sweep in sweeps]
    return json.loads(json.dumps(described))


@pytest.mark.slow
def test_descriptions_are_the_same_in_every_process_and_whatever_was_traced_before():
    first = everything()
    polyjax.run(replace(SWEEP, model=Anthropic(2, 1, Power(3))), progress=False)
    assert everything() == first
    jax.clear_caches()
    assert everything() == first
    where = Path(__file__).parent
    environment = os.environ | {"PYTHONHASHSEED": "5", "PYTHONPATH": f"{where.parent}{os.pathsep}{where}"}
    done = subprocess.run([sys.executable, "-c", OTHER_PROCESS], env=environment, capture_output=True, text=True)
    assert json.loads(done.stdout) == first, done.stderr


# --- distributions


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"quantile": lambda u: 2 * u}, ["active_value"]),
        ({"moments": (0, 1, 0, 4)}, ["kurtosis", "moments"]),
        ({"unit_variance": False}, ["active_value", "unit_variance"]),
    ],
)
def test_distributions_of_one_name_are_told_apart_by_all_they_compute(changes, fields):
    own = replace(NORMAL, quantile=lambda u: u)
    there, here = (replace(SWEEP, distribution=d) for d in (own, replace(own, **changes)))
    assert differ(there, here) == [f"given.distribution.{field}" for field in fields]
    assert differ(replace(SWEEP, distribution=NORMAL), there) == ["given.distribution"]
    again = replace(SWEEP, distribution=replace(NORMAL, quantile=lambda u: u))
    assert again.describe() == there.describe()


def test_a_distribution_like_polyjaxs_is_polyjaxs():
    assert replace(SWEEP, distribution=replace(NORMAL)).describe()["given"] == {}
    assert "distribution" in replace(SWEEP, distribution=replace(NORMAL, unit_variance=False)).describe()["given"]


# --- sweeps from descriptions


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": subclass(loss=halved)}, "the user's own model"),
        ({"model": subclass()}, "the user's own model"),
        ({"model": Redwood(2, 1, lambda z: z)}, "the user's own activation"),
        ({"model": Fields(2, 1, jnp.sin)}, "the user's own activation and model"),
        ({"distribution": replace(NORMAL, unit_variance=False)}, "the user's own distribution"),
    ],
)
def test_a_sweep_that_needs_the_users_code_is_not_made_from_its_description(changes, told):
    with pytest.raises(ValueError, match="config must describe a sweep that needs no code but polyjax's") as error:
        Sweep.from_config(json.loads(json.dumps(replace(SWEEP, **changes).describe())))
    assert told in str(error.value)


def test_a_subclass_with_its_own_loss_is_not_trained_on_the_quadratic_models():
    expected = {"objective": "expected", "distribution": distributions.UNIFORM_SIGNED}
    assert replace(SWEEP, **expected).objective == "expected"
    for changed in ({"loss": halved}, {"scale": Anthropic.scale}):  # of a class of the user's nothing is known
        with pytest.raises(ValueError, match="objective must be sampled for a model without a closed form"):
            replace(SWEEP, model=subclass(**changed), **expected)
