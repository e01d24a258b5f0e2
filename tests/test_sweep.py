"""Whole grids: against the theory, and that a cell depends on nothing but itself, however the grid is cut up."""

import json
import re
from dataclasses import replace

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import strategies as st

from polyjax import theory
from polyjax.embedding.capacity import capacities
from polyjax.engine import devices
from polyjax.runs import progress
from polyjax.runs.grid import windows
from polyjax.runs.progress import Progress, Size
from polyjax.runs.run import run
from polyjax.sweep import Sweep
from polyjax.toy import distributions
from polyjax.toy.models import Anthropic, Redwood

EPS = float(np.finfo(np.float32).eps)
PHASES = Sweep(Redwood(6, 3), np.geomspace(0.01, 0.5, 6), np.geomspace(0.1, 10, 6), restarts=4, steps=800)
SMALL = Sweep(Redwood(3, 2), (0.2, 0.5, 1.0), (0.3, 0.6, 1.0, 1.6, 2.5), restarts=2, steps=20, batch=16, retries=0)
LANE = ("capacity", "loss", "loss_se", "W", "b", "settled")


def silent(sweep):
    return run(sweep, progress=False)


@pytest.fixture(scope="module")
def phases():
    return silent(PHASES)


@pytest.fixture(scope="module")
def expected():
    return silent(replace(PHASES, objective="expected"))


@pytest.fixture(scope="module")
def small():
    return silent(SMALL)


def cells(results):
    """Importances v [P, V, R, N] and kurtosis [P, V, R] of every lane, by hand from the coordinates."""
    v = np.ones((*results.loss.shape, results.W.shape[-1]), np.float32)
    v[..., 0] = results.importance[None, :, None]
    return v, np.broadcast_to(9 / 5 / results.density[:, None, None], results.loss.shape).astype(np.float32)


def theory_apart(results):
    """|C - C_theory| of feature 0 in every cell, the best restart against the closed-form optimum."""
    v, k = cells(results)
    optimum = theory.optimal_capacity(v[:, :, 0], k[:, :, 0], results.W.shape[-2])
    return np.abs(results.select("best").capacity[..., 0] - np.asarray(optimum)[..., 0])


def assert_same_lanes(found, reference):
    """Two sweeps of 20 steps agree to the rounding of differently vectorised sums."""
    for name in LANE:
        a, b = getattr(found, name), getattr(reference, name)
        assert a.shape == b.shape
        # Weights of order one move by 1e-7 or so; a loss, and its error, by a few eps of the largest terms in it.
        np.testing.assert_allclose(a, b, rtol=1e-4 if name == "loss_se" else 2e-5, atol=4e-6)


# --- the science


def test_a_trained_diagram_is_that_of_the_theory(phases):
    apart = theory_apart(phases)
    # Training noise: 0.0017 to 0.004 on average over five seeds, and 0.012 to 0.042 at worst, next to a boundary.
    assert apart.mean() < 0.01
    assert apart.max() < 0.1
    assert phases.settled.mean() > 0.9


def test_without_sampling_noise_the_diagram_is_the_theory_to_rounding(expected):
    # Measured over five seeds: 3e-6 at worst.
    assert theory_apart(expected).max() < 1e-4
    v, k = cells(expected)
    optimum = theory.optimal_loss(v[:, :, 0], k[:, :, 0], 3)
    # Measured: 6e-7 of the loss.
    np.testing.assert_allclose(expected.select("best").loss, optimum, rtol=1e-5)
    assert expected.settled.all()


def test_every_number_belongs_to_its_own_cell(expected, phases):
    v, k = cells(expected)
    exact = theory.expected_loss(expected.W, v, k, expected.b)
    np.testing.assert_allclose(expected.loss, exact, rtol=64 * EPS)  # the same sums, compiled otherwise
    assert not expected.loss_se.any()
    for results in (expected, phases):
        np.testing.assert_allclose(results.capacity, capacities(results.W), rtol=64 * EPS)
    v, k = cells(phases)
    error = (phases.loss - np.asarray(theory.expected_loss(phases.W, v, k, phases.b))) / phases.loss_se
    # Students's t with three degrees of freedom has a median of 0.76 and is above 10 once in 500; 144 lanes share the
    # samples of 6 densities. A loss of another cell would be hundreds of standard errors away.
    assert np.median(np.abs(error)) < 3


def test_results_have_the_documented_axes(phases):
    P, V, R, N, D = 6, 6, 4, 6, 3
    assert PHASES.shape == (P, V, R)
    assert phases.capacity.shape == (P, V, R, N)
    assert phases.W.shape == (P, V, R, D, N)
    assert phases.loss.shape == phases.loss_se.shape == phases.b.shape == phases.settled.shape == (P, V, R)
    assert phases.density.tolist() == list(PHASES.density)
    assert phases.importance.tolist() == list(PHASES.importance)
    assert [getattr(phases, name).dtype for name in LANE] == [np.float32] * 5 + [bool]
    assert (phases.attempt.shape, phases.attempt.dtype) == ((P, V, R), np.uint8)
    assert phases.attempt.max() <= PHASES.retries
    assert phases.refined is None


def test_the_autoencoder_has_a_bias_for_every_feature():
    results = silent(replace(SMALL, model=Anthropic(3, 2)))
    assert results.b.shape == (3, 5, 2, 3)
    assert results.config["distribution"] == "uniform_positive"
    # Any model better than none: x~ = 0 loses sum_i v_i E[x_i^2] = (V + 2) p / 3, and 20 steps reach less.
    nothing = (results.importance + 2) * results.density[:, None] / 3
    assert (results.select("best").loss < nothing).all()


# --- a cell depends on its density, importance, restart and seed, and on nothing else


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_diagram(small):
    again, other = silent(SMALL), silent(replace(SMALL, seed=1))
    for name in LANE:
        assert getattr(again, name).tobytes() == getattr(small, name).tobytes()
    assert (other.W != small.W).all()
    assert (other.loss != small.loss).all()


def test_a_seed_too_large_for_the_generator_is_no_other_seed(small):
    # 32 bits without double precision: a larger seed must not quietly repeat a smaller one.
    try:
        large = silent(replace(SMALL, seed=2**32))
    except ValueError as error:
        assert "seed" in str(error)  # noqa: PT017
    else:
        assert (large.W != small.W).any()


def test_restarts_and_cells_start_from_different_weights(small):
    weights = small.W.reshape(-1, 6)
    assert len(np.unique(weights, axis=0)) == len(weights)


# Lanes alone, and three overlapping blocks of 4 in each row of 10 lanes; by default every core has an equal share.
@pytest.mark.parametrize("chunk", [1, 4])
def test_the_size_of_a_block_changes_nothing(chunk, small):
    assert_same_lanes(silent(replace(SMALL, chunk=chunk)), small)


def test_a_cell_does_not_depend_on_the_grid_around_it(small):
    # Other rows and columns, in another order, and one more restart; one lane at a time, a program compiled above.
    changed = replace(SMALL, density=(1.0, 0.7, 0.2), importance=(2.5, 0.3, 9.0, 1.0), restarts=3, chunk=1)
    found = silent(changed)
    rows, columns = [2, 0], [1, 3, 0]  # where the densities 0.2 and 1 and the importances 0.3, 1 and 2.5 are now

    def part(results, rows, columns):
        arrays = {name: a[np.ix_(rows, columns, [0, 1])] for name, a in results.arrays().items()}
        axes = {"density": results.density[rows], "importance": results.importance[columns]}
        return type(results).of(axes, arrays, results.config, None)

    found, reference = part(found, rows, columns), part(small, [0, 2], [0, 2, 4])
    assert found.density.tolist() == reference.density.tolist()
    assert found.importance.tolist() == reference.importance.tolist()
    assert_same_lanes(found, reference)


def test_a_second_sweep_like_the_first_compiles_nothing(caplog, phases):
    compiled = lambda: [r.getMessage() for r in caplog.records if "Compiling" in r.getMessage()]  # noqa: E731
    with jax.log_compiles():
        # All made anew, and other values of everything that is not static. Retries are programs that only lanes which
        # have not settled need, and `test_retry` has their own test.
        grid = {"density": np.linspace(0.1, 1, 6), "importance": np.linspace(0, 2, 6)}
        other = Sweep(Redwood(6, 3), **grid, restarts=4, steps=800, retries=0, seed=5)
        silent(other)
        assert compiled() == []
        jax.jit(lambda x: x + 1)(1.0)  # what a compilation would look like
        assert compiled() != []


@hypothesis.settings(deadline=None, max_examples=200, derandomize=True)
@hypothesis.given(st.integers(1, 30), st.integers(1, 60), st.integers(1, 400), st.integers(1, 4))
def test_blocks_cover_the_grid_in_equal_shapes(n_rows, n_lanes, chunk, at_once):
    plan = windows((n_rows, n_lanes), chunk, at_once)
    seen = np.zeros((n_rows, n_lanes), int)
    for rows, lanes in plan:
        assert 0 <= rows.start < rows.stop <= n_rows
        assert 0 <= lanes.start < lanes.stop <= n_lanes
        seen[rows, lanes] += 1
    shapes = {(rows.stop - rows.start, lanes.stop - lanes.start) for rows, lanes in plan}
    assert len(shapes) == 1
    assert np.prod(shapes.pop()) <= chunk
    assert seen.all()
    assert seen.max() <= 4  # only the last of a row or a column overlaps its predecessor


def test_there_are_as_many_blocks_as_keep_every_worker_busy():
    assert len(windows((40, 200), 1600)) == 5
    assert len(windows((40, 200), 1600, 2)) == 6


# --- edges


def test_extreme_densities_and_importances_stay_finite():
    # The shape of the small sweep, so that it is compiled already.
    results = silent(replace(SMALL, density=(1e-4, 0.5, 1.0), importance=(0.0, 1e-3, 1.0, 1e3, 1e6)))
    for name in LANE:
        assert np.isfinite(getattr(results, name)).all()
    assert (results.capacity >= 0).all()
    assert (results.capacity <= 1).all()


def test_one_feature_and_enough_neurons():
    alone = silent(Sweep(Redwood(1, 1), [0.3, 1.0], [0.5, 2.0], steps=100, batch=4, restarts=2))
    assert (alone.capacity == 1).all()  # eq. 3 with nothing to share
    # Two features in three neurons: every optimum has all capacities 1 (section 2.2); no noise, so to rounding of the
    # cosine of two nearly orthogonal vectors, here after 400 steps.
    ample = silent(Sweep(Redwood(2, 3), [0.1, 1.0], [0.5, 2.0], steps=400, restarts=2, objective="expected"))
    np.testing.assert_allclose(ample.capacity, 1, atol=1e-3)


def test_one_step_of_training_settles_nothing():
    for steps, settled in ((1, False), (2, True)):
        results = silent(Sweep(Redwood(2, 1), [0.5], [1.0], steps=steps, learning_rate=1e-6, retries=0))
        assert results.settled.all() == settled


def test_a_model_that_cannot_be_unrolled_runs_on_arrays():
    # Elementwise, but by a table, which the lanes form does not know.
    model = Redwood(2, 1, lambda z: jnp.interp(z, jnp.array([-1.0, 0.0, 1.0]), jnp.array([0.5, 0.0, 1.0])))
    sweep = Sweep(model, [0.5], [1.0], restarts=1, steps=2, batch=4)
    with pytest.warns(UserWarning, match='^engine="arrays" runs, several times slower: .* cannot be unrolled'):
        results = silent(sweep)
    assert results.config["engine"] == "arrays"
    silent(sweep)  # it says so once
    assert np.isfinite(results.loss).all()


def test_training_that_diverges_is_marked_and_not_selected():
    # In the lanes form, which is compiled with fast-math: that may not hide an infinity.
    results = silent(replace(SMALL, optimizer=optax.sgd(1e6)))
    assert results.config["engine"] == "lanes"
    assert not results.settled.any()
    assert not np.isfinite(results.loss).any()
    for rule in ("best", "mean", "drop_worst"):
        selected = results.select(rule)
        assert np.isnan(selected.loss).all()
        assert np.isnan(selected.capacity).all()
        assert not selected.settled.any()


# --- what is said


def test_nothing_is_printed_without_progress(capfd, small):
    silent(SMALL)
    assert capfd.readouterr() == ("", "")


def test_progress_shows_cells_speed_and_time(capfd, small):
    run(SMALL)
    out, err = capfd.readouterr()
    assert out == ""
    last = err.strip().split("\r")[-1]
    assert "15/15" in last  # cells
    assert re.search(r"\d(\.\d\d M)? model-steps/s", last)
    assert re.search(r"\d\d:\d\d<\d\d:\d\d", last)  # spent and left


@pytest.mark.parametrize(("setting", "value"), [("jax_default_prng_impl", "rbg"), ("jax_random_seed_offset", 1)])
def test_settings_of_jax_change_no_random_number(setting, value, small):
    before = getattr(jax.config, setting)
    jax.config.update(setting, value)
    try:
        found = silent(SMALL)
    finally:
        jax.config.update(setting, before)
    for name in LANE:
        np.testing.assert_array_equal(getattr(found, name), getattr(small, name))


def test_a_setting_that_would_change_them_is_refused():
    jax.config.update("jax_threefry_partitionable", False)
    try:
        with pytest.raises(ValueError, match="JAX_THREEFRY_PARTITIONABLE must be true"):
            silent(SMALL)
    finally:
        jax.config.update("jax_threefry_partitionable", True)


@pytest.mark.parametrize(("steps", "told"), [(2_000_000, "2.00 M"), (100_000, "0.10 M"), (2_000, "2,000")])
def test_slow_models_have_a_speed_too(steps, told, monkeypatch, capfd):
    monkeypatch.setattr(progress, "perf_counter", iter([0.0, 1.0]).__next__)
    with Progress("training", Size(1, "cell", steps), shown=True) as bar:
        bar.done(1, 1)
    assert f" {told} model-steps/s" in capfd.readouterr().err


def test_the_configuration_is_json_with_all_defaults_filled_in(small):
    config = json.loads(json.dumps(small.config))
    assert config == small.config
    provenance = config.pop("provenance")
    rows, lanes = windows((3, 10), devices.default_chunk(30, "lanes"), devices.shares(30, "lanes"))[0]
    assert config.pop("shape") == [rows.stop, lanes.stop]
    assert config.pop("engine") == provenance["engine"] == "lanes"
    assert config.pop("room") is None
    assert config == json.loads(json.dumps(SMALL.describe()))
    assert config["model"] == {"name": "Redwood", "n_features": 3, "n_neurons": 2, "activation": "square"}
    assert config["axes"]["density"] == [0.2, 0.5, 1.0]
    expected = {"distribution": "uniform_signed", "sampler": "enumerated", "objective": "sampled"}
    expected |= {"restarts": 2, "steps": 20, "batch": 16, "seed": 0, "learning_rate": 0.02}
    assert {name: config[name] for name in expected} == expected
    assert config["optimizer"] == "Adam, cosine decay from 0.02"
    assert set(provenance) == {"code", "command", "device", "engine", "revision", "versions"}
    assert {"polyjax", "jax", "numpy", "python"} <= set(provenance["versions"])


def test_the_configuration_names_what_the_caller_gave():
    given = replace(
        SMALL, model=Redwood(30, 10, jnp.tanh), optimizer=optax.sgd(0.1), distribution=distributions.NORMAL
    ).describe()
    assert given["model"]["activation"] == "tanh"
    assert given["optimizer"] == "given by the caller"
    assert given["learning_rate"] is None
    assert (given["sampler"], given["distribution"]) == ("stratified", "normal")
    assert replace(SMALL, learning_rate=0.5).describe()["optimizer"] == "Adam, cosine decay from 0.5"


def test_functions_of_the_callers_are_told_apart_by_what_they_compute():
    def given(**changes):
        return replace(SMALL, **changes).describe()["given"]

    assert given() == given(distribution=distributions.NORMAL) == {}
    optimizers = [optax.sgd(0.1), optax.sgd(0.2), optax.adam(0.1), optax.adam(optax.cosine_decay_schedule(0.1, 9))]
    activations = [jnp.tanh, jnp.sin, lambda z: z, lambda z: z * np.float32([3.0])[0], jax.nn.silu]
    bases = [replace(distributions.NORMAL, quantile=f) for f in (lambda u: 3 * u, lambda u: 2 * u)]
    found = [given(optimizer=optimizer)["optimizer"] for optimizer in optimizers]
    found += [given(model=Redwood(3, 2, activation))["activation"] for activation in activations]
    found += [given(distribution=base)["distribution"]["active_value"] for base in bases]
    assert len(set(found)) == len(found) == 11
    assert given(optimizer=optax.sgd(0.1))["optimizer"] == found[0]  # made anew


@pytest.mark.parametrize(
    "numbers",
    [
        {"restarts": np.int64(2)},
        {"steps": np.int32(20), "batch": np.int64(16)},
        {"seed": np.int64(3)},
        {"refine": np.int64(1)},
        {"retries": np.int64(1), "chunk": np.int64(4)},
        {"retries": np.int64(1)},
        {"learning_rate": np.float32(0.5)},
        {"model": Redwood(int(np.int64(3)), np.int64(2))},
        {"density": range(1, 2), "importance": np.float32([0.5, 1])},
    ],
    ids=lambda numbers: ", ".join(numbers),
)
def test_numbers_of_numpy_are_as_good_as_those_of_python(numbers):
    # A sweep that is accepted must also be saved, after hours of training.
    described = json.loads(json.dumps(replace(SMALL, **numbers).describe()))
    for name in numbers.keys() & {"restarts", "steps", "batch", "seed", "refine", "retries", "learning_rate"}:
        assert described[name] == numbers[name]


def test_a_whole_number_may_be_written_as_a_float():
    assert (replace(SMALL, steps=1e3).steps, replace(SMALL, seed=np.float64(2)).seed) == (1000, 2)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("sparsity", "; did you mean density, which is 1 - sparsity?"),
        ("lr", "; did you mean learning_rate?"),
        ("n_restarts", "; did you mean restarts?"),
        ("importances", "; did you mean importance?"),
        ("qwerty", ""),
    ],
)
def test_an_unknown_keyword_is_refused_with_the_one_that_was_meant(word, meant):
    with pytest.raises(TypeError) as error:
        Sweep(Redwood(3, 2), [0.5], [1.0], **{word: 1})
    assert str(error.value) == f"Sweep has no {word}{meant}"


def test_axes_are_taken_from_any_sequence():
    for values in ([0.25, 1.0], (0.25, 1.0), np.array([0.25, 1.0]), jnp.array([0.25, 1.0])):
        assert replace(SMALL, density=values).density == (0.25, 1.0)


WHOLE = "be a whole number of at least"
RATE = "learning_rate must be a number above 0 and finite (a schedule is part of an optimizer)"
MODEL = "model must be a model, such as Redwood(6, 3) or your own subclass of Model"
REFUSED = [
    ({"density": []}, "density must be one-dimensional and hold at least one value, but is []"),
    ({"density": 0.5}, "density must be one-dimensional and hold at least one value, but is 0.5"),
    ({"density": [[0.5]]}, "density must be one-dimensional and hold at least one value, but is [[0.5]]"),
    ({"density": [0.5, 0.0]}, "density must be above 0 and at most 1, but is 0.0 at index 1"),
    ({"density": [1.5]}, "density must be above 0 and at most 1, but is 1.5 at index 0"),
    ({"density": [0.1, np.nan]}, "density must be above 0 and at most 1, but is nan at index 1"),
    ({"importance": []}, "importance must be one-dimensional and hold at least one value, but is []"),
    ({"importance": [1, -1]}, "importance must be at least 0 and below 1e12, but is -1.0 at index 1"),
    ({"importance": [np.inf]}, "importance must be at least 0 and below 1e12, but is inf at index 0"),
    ({"importance": [np.nan]}, "importance must be at least 0 and below 1e12, but is nan at index 0"),
    *(
        ({name: value}, f"{name} must {WHOLE} 1, but is {value!r}")
        for name in ("restarts", "steps", "batch", "chunk")
        for value in (0, -1, 1.5, True, "many")
    ),
    ({"seed": -1}, f"seed must {WHOLE} 0, but is -1"),
    ({"seed": 0.5}, f"seed must {WHOLE} 0, but is 0.5"),
    ({"refine": -1}, f"refine must {WHOLE} 0, but is -1"),
    ({"retries": -1}, f"retries must {WHOLE} 0, but is -1"),
    ({"retries": 0.5}, f"retries must {WHOLE} 0, but is 0.5"),
    ({"batch": 7, "sampler": "enumerated"}, "batch must be at least 8 for the enumerated sampler, but is 7"),
    ({"batch": 1}, "batch must be at least 2 for the stratified sampler, but is 1"),
    ({"sampler": "sobol"}, "sampler must be one of enumerated, stratified, iid, but is 'sobol'"),
    ({"engine": "gpu"}, "engine must be one of auto, arrays, lanes, fused, but is 'gpu'"),
    ({"objective": "exact"}, "objective must be one of sampled, expected, but is 'exact'"),
    *(({"learning_rate": rate}, f"{RATE}, but is {rate!r}") for rate in (0.0, np.nan, "0.1", True)),
    ({"density": ["0.5"]}, "density must hold numbers, but is ['0.5']"),
    ({"density": [True]}, "density must hold numbers, but is [True]"),
    (
        {"importance": [Redwood(3, 2)]},
        "importance must hold numbers, but is [Redwood(n_features=3, n_neurons=2, activation='square')]",
    ),
    (
        {"model": "Anthropic"},
        "model must be a model, such as Redwood(6, 3) or your own subclass of Model, but is 'Anthropic'",
    ),
    (
        {"model": Anthropic},
        f"{MODEL}, but is <class 'polyjax.toy.models.Anthropic'>",
    ),
    (
        {"model": [0.5], "density": Redwood(3, 2)},
        "model must be a model, such as Redwood(6, 3) or your own subclass of Model, but is [0.5]",
    ),
    (
        {"learning_rate": 0.1, "optimizer": optax.sgd(0.1)},
        "learning_rate must be left out where an optimizer is given, which has its own, but is 0.1",
    ),
    (
        {"objective": "expected", "model": Redwood(3, 2, "relu")},
        "objective must be sampled for a model without a closed form (with square they have one), but is 'expected'",
    ),
    (
        {"objective": "expected", "model": Anthropic(3, 2, jnp.square)},
        "objective must be sampled for a model without a closed form (with square they have one), but is 'expected'",
    ),
    ({"polish": "exact"}, 'polish must be True, False, "sampled" or "restarts", but is \'exact\''),
    (
        {"polish": True, "model": Redwood(20, 20)},  # 20 x 20 weights and a bias
        "polish must be False for a model of 401 parameters, more than 300, but is True",
    ),
    (
        {"polish": "sampled", "model": Anthropic(30, 10)},
        "polish must be False for a model of 330 parameters, more than 300, but is 'sampled'",
    ),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_a_bad_sweep_is_refused_when_it_is_made_in_the_users_words(changes, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        replace(SMALL, **changes)
    assert str(error.value) == message
