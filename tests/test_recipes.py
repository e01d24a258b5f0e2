"""Recipes: sweeps that TOML describes, against the same ones in Python; what is refused, and in which words."""

import json
import pickle
import tomllib
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import polyjax
from polyjax import Anthropic, Features, Redwood, Sweep, activity
from polyjax.expressions import Words, names_in, parsed, value
from polyjax.recipes import sweep_of, toml_of
from polyjax.theory import grid
from polyjax.toy.laws import geometric, grouped, one_important

PLAIN = """
model = "Redwood(3, 2)"
steps = 4
restarts = 1
[axes]
density = "geomspace(0.1, 1, 3)"
"""
EXAMPLES = {
    "the paper's": (
        PLAIN + "importance = [0.5, 2]",
        lambda: Sweep(Redwood(3, 2), np.geomspace(0.1, 1, 3), [0.5, 2], steps=4, restarts=1),
    ),
    "another distribution": (
        PLAIN + '[features]\ndistribution = "normal"',
        lambda: Sweep(
            Redwood(3, 2), np.geomspace(0.1, 1, 3), steps=4, restarts=1, distribution=polyjax.distributions.NORMAL
        ),
    ),
    "named laws, and what is active together": (
        PLAIN + 'r = "linspace(0.5, 1, 2)"\n[features]\nimportance = "geometric(r)"\nactivity = "exclusive([0, 1])"\n'
        'density = "density / 2"',
        lambda: Sweep(
            Redwood(3, 2),
            axes={"density": np.geomspace(0.1, 1, 3), "r": [0.5, 1]},
            features=lambda density, r: Features(
                density / 2, geometric(3, r), activity=activity.Exclusive([(0, 1)])
            ),
            steps=4,
            restarts=1,
        ),
    ),
    "a list with an axis, and an optimiser": (
        'optimizer = "adamw(cosine(rate), weight_decay=1e-3)"\n'
        + PLAIN
        + 'rate = [0.01, 0.02]\n[features]\nimportance = ["density", 1, 0.5]',
        lambda: Sweep(
            Redwood(3, 2),
            axes={"density": np.geomspace(0.1, 1, 3), "rate": [0.01, 0.02]},
            features=lambda density: Features(density, jnp.stack([density, jnp.asarray(1.0), jnp.asarray(0.5)])),
            optimizer=lambda rate: optax.adamw(optax.cosine_decay_schedule(rate, 4), weight_decay=1e-3),
            steps=4,
            restarts=1,
        ),
    ),
    "sizes": (
        'model = "Anthropic(n, 2, square)"\nsteps = "2 * steps"\nrestarts = 1\n[axes]\nn = [3, 4]\nsteps = [2]\n'
        '[features]\ndensity = 0.3\nimportance = "grouped([1, n - 1], [2, 1])"',
        lambda: Sweep(
            lambda n: Anthropic(n, 2, "square"),
            axes={"n": [3, 4], "steps": [2]},
            features=lambda n: Features(0.3, grouped(n, [1, n - 1], [2, 1])),
            steps=lambda steps: 2 * steps,
            restarts=1,
        ),
    ),
}  # fmt: skip
TEXTS = pytest.mark.parametrize("name", EXAMPLES)


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("named laws, and what is active together", "sizes")
        else pytest.param(name, marks=pytest.mark.slow)
        for name in EXAMPLES
    ],
)
def test_a_recipe_trains_what_the_same_sweep_in_python_does(name):
    text, make = EXAMPLES[name]
    found, same = (polyjax.run(each, progress=False) for each in (sweep_of(tomllib.loads(text)), make()))
    np.testing.assert_array_equal(found.loss, same.loss)
    np.testing.assert_array_equal(found.embedding, same.embedding)


@TEXTS
def test_a_configuration_gives_the_recipe_again(name):
    sweep = sweep_of(tomllib.loads(EXAMPLES[name][0]))
    config = json.loads(json.dumps(sweep.describe()))
    assert not config["given"]
    assert sweep_of(tomllib.loads(toml_of(config))).describe() == sweep.describe()
    assert Sweep.from_config(config).describe() == sweep.describe()


def test_results_of_a_recipe_know_the_features_of_their_cells():
    sweep = sweep_of(tomllib.loads(EXAMPLES["named laws, and what is active together"][0]))
    found = polyjax.run(sweep, progress=False)
    features = found.features(found.sel(density=1, r=0.5))
    np.testing.assert_allclose(features.importance, [1, 0.5, 0.25])
    assert features.density == 0.5
    assert features.activity == activity.Exclusive([(0, 1)])
    assert not grid.has_closed_form(found.config)  # which is of the paper's features


def test_equal_recipes_are_one_program_and_go_to_other_processes():
    one, other = (sweep_of(tomllib.loads(EXAMPLES["a list with an axis, and an optimiser"][0])) for _ in range(2))
    assert hash(one.training.features) == hash(other.training.features)
    assert one.training == pickle.loads(pickle.dumps(other)).training


def test_a_file_is_read(tmp_path):
    (tmp_path / "a.toml").write_text(PLAIN)
    assert polyjax.read_sweep(tmp_path / "a.toml").coordinates == {"density": tuple(np.geomspace(0.1, 1, 3).tolist())}


def test_what_takes_the_users_own_code_has_no_recipe():
    sweep = Sweep(Redwood(3, 2), axes={"q": [0.1]}, features=lambda q: Features(q))
    with pytest.raises(ValueError, match="needs the user's own features"):
        toml_of(sweep.describe())


def test_every_setting_is_in_the_recipe_of_a_configuration():
    sweep = sweep_of(tomllib.loads(EXAMPLES["the paper's"][0]))
    others = {
        "restarts": 3,
        "learning_rate": 0.1,
        "retries": 1,
        "refine": 2,
        "polish": "sampled",
        "seed": 5,
        "batch": 32,
    }
    others |= {"sampler": "iid", "snapshots": 2, "snapshot_weights": True}
    changed = replace(sweep, **others)
    again = sweep_of(tomllib.loads(toml_of(changed.describe())))
    assert again.describe() == changed.describe()
    assert {name: getattr(again, name) for name in others} == others


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "model must be given, but is None"),
        ('model = "Redwood(3, 2)"', "axes must be given, but is None"),
        ("restrats = 3\n" + PLAIN, "the recipe has no restrats; did you mean restarts?"),
        ("lr = 3\n" + PLAIN, "the recipe has no lr; did you mean learning_rate?"),
        (PLAIN + "[features]\nimportances = 3", "features has no importances; did you mean importance?"),
        (PLAIN.replace("Redwood", "Redwod"), "model has no function Redwod; did you mean Redwood?"),
        (PLAIN.replace("3, 2", "3, 2, rleu"), "model has no name rleu; did you mean relu?"),
        (PLAIN.replace("3, 2", "3"), "model cannot be Redwood(3): "),
        (PLAIN.replace("Redwood(3, 2)", "3"), "model must be such as \"Redwood(6, 3, relu)\", but is '3'"),
        (PLAIN.replace("geomspace", "logspace"), "axes.density has no function logspace; did you mean linspace?"),
        (PLAIN.replace("0.1, 1, 3", "0.1, 2, 3"), "density must be above 0 and at most 1, but is 2.0 at index 2"),
        (PLAIN + '[features]\nimportance = "geometrc(2)"', "features.importance has no function geometrc; did you"),
        (PLAIN + '[features]\nimportance = "a.b"', "features.importance must be made of numbers, lists, names"),
        (PLAIN + '[features]\nimportance = "1 +"', "features.importance must be an expression, but is '1 +'"),
        (PLAIN + '[features]\nimportance = "grouped([1, 1], [2, 3])"', "grouped must have sizes that add up to the 3"),
        (PLAIN + '[features]\ndistribution = "nromal"', "the name of a distribution must be one of uniform_signed"),
        (PLAIN + "other = [1]", "axes must hold names that features, model, optimizer, batch or steps have"),
        ("axes = 3\nmodel = 'Redwood(3, 2)'", "axes must be a table, but is 3"),
        ("restarts = {a = 1}\n" + PLAIN.replace("restarts = 1", ""), "restarts must be a value, not a table"),
        ("optimizer = 'adam'\n" + PLAIN, "optimizer has no name adam"),
    ],
)
def test_what_is_wrong_is_said_in_words_that_name_the_key(text, said):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        sweep_of(tomllib.loads(text))
    assert str(error.value).startswith(said)


def test_what_is_no_toml_is_refused(tmp_path):
    (tmp_path / "a.toml").write_text("model = ")
    with pytest.raises(ValueError, match=r"a\.toml must be a file of TOML, but is not: "):
        polyjax.read_sweep(tmp_path / "a.toml")


# --- expressions

NUMBERS = st.floats(-100, 100, allow_nan=False).map(lambda x: round(x, 3))
TREES = st.recursive(
    NUMBERS.map(repr) | st.sampled_from("ab"),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=8,
)


@given(TREES, NUMBERS, NUMBERS)
@settings(max_examples=100, deadline=None)
def test_arithmetic_is_that_of_python(text, a, b):
    assert value("x", parsed("x", text), Words({"a": a, "b": b}, {})) == eval(text, {}, {"a": a, "b": b})


@given(st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_value_or_an_error_that_names_the_field(text):
    try:
        value("field", parsed("field", text), Words({"a": 1.0}, {"f": lambda x: x}))
    except ValueError as error:
        said = str(error)
    else:
        return
    assert said.startswith("field ")


def test_names_are_those_of_values_and_not_of_functions():
    assert names_in(parsed("x", "f(a, g(b, c=[d, 1]))")) == {"a", "b", "d"}


@pytest.mark.parametrize(
    "text", ["__import__('os')", "a.__class__", "(lambda: 1)()", "[x for x in y]", "'a' * 9", "f(*a)"]
)
def test_nothing_but_arithmetic_and_known_functions_is_evaluated(text):
    with pytest.raises(ValueError, match=r"^field (must be|has no function)"):
        value("field", parsed("field", text), Words({"a": 1.0}, {}))


# --- laws


def test_laws_are_what_their_names_say():
    np.testing.assert_allclose(one_important(4, 3.0), [3, 1, 1, 1])
    np.testing.assert_allclose(geometric(4, 0.5), [1, 0.5, 0.25, 0.125])
    np.testing.assert_allclose(grouped(5, [2, 3], [7, 0.5]), [7, 7, 0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="grouped must have 2 values, one a size, but is 1"):
        grouped(5, [2, 3], [7])
