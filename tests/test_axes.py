"""Sweeps of any axes: a function of them is trained as if it were constant, and theory is met where it exists."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import polyjax
from polyjax import Anthropic, Features, Redwood, Sweep, activity, theory
from polyjax.engine import choice, execution
from polyjax.toy.distributions import UNIFORM_SIGNED

LANES = ("capacity", "loss", "rank_loss", "loss_se", "W", "b", "settled", "attempt")
FEW = {"restarts": 2, "steps": 40, "batch": 64, "retries": 0}


def silent(sweep):
    return polyjax.run(sweep, progress=False)


def power_law(density, decay):
    return Features(density, importance=decay ** jnp.arange(4))


DECAY = Sweep(Redwood(4, 2), axes={"decay": [0.5, 0.8, 1.0], "density": [0.1, 0.4]}, features=power_law, **FEW)


# --- against theory


@pytest.mark.slow
def test_a_power_law_of_importances_has_the_capacities_of_the_theory():
    density, decay = np.geomspace(0.01, 0.5, 24), np.linspace(0.4, 0.98, 24)
    sweep = Sweep(
        Redwood(6, 3),
        axes={"density": density, "decay": decay},
        features=lambda density, decay: Features(density, importance=decay ** jnp.arange(6)),
        steps=400,
        polish=True,
    )
    found = silent(sweep).select("refined").capacity
    v, k = decay[:, None] ** np.arange(6), np.asarray(UNIFORM_SIGNED.kurtosis(density))
    with np.errstate(all="ignore"):
        expected = np.asarray(theory.optimal_capacity(np.broadcast_to(v, (24, 24, 6)), k[:, None], 3))
    assert np.nanmean(abs(found - expected)) <= 0.005
    assert np.isfinite(expected).mean() > 0.9


@pytest.mark.slow
def test_importances_of_two_features_are_axes():
    a, b = np.geomspace(0.3, 3, 5), np.geomspace(0.3, 3, 4)
    sweep = Sweep(
        Redwood(4, 2),
        axes={"first": a, "second": b},
        features=lambda first, second: Features(0.1, importance=jnp.stack([first, second, jnp.ones(()), jnp.ones(())])),
        steps=300,
        polish=True,
    )
    assert sweep.layout.of_rows == ()  # samples are the same in all cells
    found = silent(sweep).select("refined").capacity
    v = np.stack([*np.broadcast_arrays(a[:, None], b), np.ones((5, 4)), np.ones((5, 4))], -1)
    expected = np.asarray(theory.optimal_capacity(v, float(UNIFORM_SIGNED.kurtosis(0.1)), 2))
    np.testing.assert_allclose(found, expected, atol=2e-3)


# --- the same as with constants


@pytest.mark.slow
def test_hyperparameters_of_the_optimiser_are_axes():
    rates, decays = [0.01, 0.03], [0.0, 0.01, 0.1]
    sweep = Sweep(
        Redwood(3, 2),
        axes={"rate": rates, "weight_decay": decays},
        features=Features(0.2),
        optimizer=lambda rate, weight_decay: optax.adamw(rate, weight_decay=weight_decay),
        **FEW,
    )
    fixed = sweep.training
    assert (fixed.row_axes, fixed.lane_axes) == ((), ("rate", "weight_decay"))
    for engine in ("lanes", "arrays"):
        found = silent(replace(sweep, engine=engine))
        for i, rate in enumerate(rates):
            for j, weight_decay in enumerate(decays):
                alone = replace(fixed, optimizer=optax.adamw(rate, weight_decay=weight_decay), engine=engine)
                cell = sweep.layout.of_cells(np.zeros((1, 2), int), np.full((1, 2), 3 * i + j))
                start = execution.initial(fixed, polyjax.engine.keys.keys(0).start, cell, np.arange(2)[None])
                end = execution.compiled(alone)(start, {}, {}, polyjax.engine.keys.keys(0).draw).end
                # Rounding over 40 steps of Adam. Measured: 3e-7.
                np.testing.assert_allclose(found.W[i, j], end.W[0], atol=5e-6)


def test_a_hyperparameter_of_the_model_is_an_axis():
    def model(exponent):
        return Redwood(3, 2, lambda z: jnp.abs(z) ** exponent)

    sweep = Sweep(model, axes={"exponent": [1.5, 2.0, 3.0], "density": [0.1, 0.5]}, **FEW)
    found = silent(sweep)
    assert found.capacity.shape == (3, 2, 2, 3)
    assert list(found.axes) == ["exponent", "density"]
    start = sweep.layout.of_cells(*np.indices((2, 3)))
    assert sorted(start) == ["density", "exponent"]
    # Exponent 2 is the square model, but for the units in which it is trained; the same loss of the same weights.
    W, b = found.W[1, 0, 0], found.b[1, 0, 0]
    x = jnp.float32([0.3, -1.2, 2.0])
    params = polyjax.Params(W, b)
    expected = Redwood(3, 2).loss(params, x, jnp.ones(3))
    np.testing.assert_allclose(model(2.0).loss(params, x, jnp.ones(3)), expected, rtol=1e-5)


@pytest.mark.slow
def test_the_engines_agree_on_any_axes():
    lanes, arrays = (silent(replace(DECAY, engine=engine)) for engine in ("lanes", "arrays"))
    assert lanes.W.shape == (3, 2, 2, 2, 4)
    np.testing.assert_allclose(lanes.W, arrays.W, atol=5e-6)  # rounding over 40 steps
    np.testing.assert_allclose(lanes.loss, arrays.loss, rtol=1e-5)


# --- cells


def test_a_cell_depends_on_its_own_coordinates_alone():
    whole = silent(DECAY)
    for axes in (
        {"decay": [0.8], "density": [0.4]},
        {"density": [0.9, 0.4], "decay": [0.8, 0.1]},
        {"density": [0.4], "decay": [0.3, 0.8, 0.9, 1.0]},
    ):
        other = silent(replace(DECAY, axes=axes, chunk=1))
        place = other.nearest(decay=0.8, density=0.4)
        for name in LANES:
            a, b = getattr(other, name)[place], getattr(whole, name)[1, 1]
            # A lane alone is vectorised otherwise: rounding over 40 steps.
            np.testing.assert_allclose(a, b, rtol=1e-4 if name == "loss_se" else 2e-5, atol=5e-6)


def test_the_order_of_the_axes_changes_nothing_but_that_of_the_arrays():
    found = silent(DECAY)
    other = silent(replace(DECAY, axes={name: DECAY.axes[name] for name in ("density", "decay")}))
    for name in LANES:
        assert np.moveaxis(getattr(other, name), 0, 1).tobytes() == np.ascontiguousarray(getattr(found, name)).tobytes()


@pytest.mark.slow
def test_any_axes_survive_the_file_and_a_run_with_one(tmp_path):
    sweep = replace(DECAY, polish=True, refine=1)
    in_memory = silent(sweep)
    in_memory.save(tmp_path / "memory.npz")
    polyjax.run_to_file(sweep, tmp_path / "run.npz", progress=False)
    for name in ("memory", "run"):
        found = polyjax.load(tmp_path / f"{name}.npz")
        assert list(found.axes) == ["decay", "density"]
        assert found.axes["decay"].tolist() == [0.5, 0.8, 1.0]
        for each in LANES:
            a, b = getattr(found, each), getattr(in_memory, each)
            assert a.shape == b.shape
            np.testing.assert_array_equal(a, b)
        for each, a in found.refined.arrays().items():
            np.testing.assert_array_equal(a, in_memory.refined.arrays()[each])


@pytest.mark.slow
def test_three_axes_are_refined_and_polished():
    sweep = Sweep(
        Redwood(3, 2),
        density=[0.1, 0.3],
        axes={"first": [0.5, 2.0], "second": [0.7, 1.0, 1.4]},
        features=lambda density, first, second: Features(density, jnp.stack([first, second, jnp.ones(())])),
        steps=100,
        refine=1,
        polish=True,
    )
    found = silent(sweep)
    assert found.select("refined").capacity.shape == (2, 2, 3, 3)
    assert found.refined.settled.all()
    v = np.stack(np.broadcast_arrays(*np.meshgrid([0.5, 2.0], [0.7, 1.0, 1.4], indexing="ij"), 1.0), -1)
    k = np.asarray(UNIFORM_SIGNED.kurtosis(np.array([0.1, 0.3])))[:, None, None]
    expected = np.asarray(theory.optimal_loss(np.broadcast_to(v, (2, 2, 3, 3)), k, 2))
    np.testing.assert_allclose(found.select("refined").loss, expected, rtol=1e-4)


# --- what features do together


def gram(results):
    W = results.select("best").W
    return np.swapaxes(W, -1, -2) @ W


@pytest.mark.slow
def test_correlated_pairs_are_side_by_side_and_anticorrelated_ones_antipodal():
    """As Elhage et al. 2022 found them."""
    pairs = [(0, 1), (2, 3)]
    common = {"axes": {"density": [0.05]}, "restarts": 8, "steps": 1500, "retries": 0, "batch": 64}
    of = {
        name: silent(
            Sweep(Anthropic(4, 2), features=lambda density, law=law: Features(density, activity=law), **common)
        )
        for name, law in (("together", activity.Together(pairs)), ("exclusive", activity.Exclusive(pairs)))
    }
    for name, found in of.items():
        G = gram(found)[0]
        inside = np.array([G[0, 1], G[2, 3]])
        across = G[np.ix_([0, 1], [2, 3])]
        if name == "exclusive":  # the two of a pair are opposite, and orthogonal to the other pair
            assert (inside < -0.8).all()
            assert np.abs(across).max() < 0.1
        else:  # what is active together never shares a line
            assert np.abs(inside).max() < 0.1
            assert across.min() < -0.8
            assert across.max() < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "law", [activity.Together([(0, 1)]), activity.Exclusive([(0, 1)]), activity.Hierarchy([None, 0, 1])], ids=str
)
def test_the_expected_objective_of_a_law_is_what_samples_find(law):
    density = jnp.float32([0.3, 0.3, 0.2]) if isinstance(law, activity.Hierarchy) else 0.3
    sweep = Sweep(
        Redwood(3, 2),
        axes={"v": [0.5, 1.0, 2.0]},
        features=lambda v: Features(density, jnp.stack([v, jnp.ones(()), jnp.ones(())]), activity=law),
        objective="expected",
        **FEW,
    )
    exact = silent(sweep)
    fixed = replace(choice.with_engine(sweep.training), objective="sampled")
    params = polyjax.Params(*(jnp.asarray(a).reshape(1, 6, *a.shape[2:]) for a in (exact.W, exact.b)))
    lane = {"v": np.repeat(np.float32([0.5, 1.0, 2.0]), 2)[None]}
    sampled = polyjax.engine.evaluation.compiled(fixed)(params, lane, {}, polyjax.engine.keys.keys(0).evaluate)
    error = np.asarray(sampled.loss).ravel() - exact.loss.ravel()
    # Six losses of a t distribution of 15 degrees of freedom, at 5 standard errors: one false alarm in 1000.
    assert np.all(abs(error) < 5 * np.asarray(sampled.loss_se).ravel() + 1e-6)


# --- errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"features": lambda p: Features(p)},
            r"features must be a function of axes \(decay, density\), but has the parameter p",
        ),
        (
            {"axes": {"decay": [1.0], "density": [0.5], "rate": [0.1]}},
            "axes must hold names that features, model, optimizer, batch or steps have as a parameter, but is 'rate'",
        ),
        (
            {"axes": {name: [0.5] for name in "abcde"}, "features": lambda a, b, c, d, e: Features(a)},
            "axes must be at most 4, but is 5",
        ),
        ({"axes": {"decay": [], "density": [0.5]}}, r"decay must be one-dimensional and hold at least one value"),
        ({"axes": {"decay": ["x"], "density": [0.5]}}, r"decay must hold numbers, but is \['x'\]"),
        ({"axes": [0.5]}, "axes must be values by name"),
        ({"density": [0.5]}, "axes must leave out what is given by itself, but is 'density'"),
        ({"features": 0.5}, "features must be Features, or a function that returns them, but is 0.5"),
        ({"features": lambda density, decay: density}, "features must be Features, or a function that returns them"),
        ({"features": None, "axes": {"decay": [0.5]}}, "features must be given where no axis is the density"),
        ({"model": lambda decay: decay}, "model must be a model, such as"),
        ({"optimizer": lambda decay: decay}, "optimizer must be an optax transformation, or a function of axes"),
        ({"distribution": UNIFORM_SIGNED}, "distribution must be left out where features are given"),
        (
            {"features": lambda density, decay: Features(jnp.full(4, density), decay), "sampler": "stratified"},
            "sampler must be enumerated or iid where features are not alike and independent, but is 'stratified'",
        ),
        (
            {"features": lambda density, decay: Features(jnp.full(3, density), decay)},
            r"density must be a number, or hold 4, one a feature, but is \(3,\)",
        ),
    ],
)
def test_sweeps_that_make_no_sense_are_refused_in_the_users_words(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(DECAY, **changes)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            lambda density, decay: Features(density / decay),
            "features must have densities above 0 and at most 1, but have 1.8 at decay=0.5, density=0.9",
        ),
        (
            lambda density, decay: Features(density, decay - 0.6),
            "features must have importances of at least 0 and below 1e12, but have -0.1 at decay=0.5, density=0.1",
        ),
        (
            lambda density, decay: Features(density, activity=activity.Exclusive([(0, 1)])),
            "features must have densities that the law of activity can have, and does have, but have 0.9 at ",
        ),
        (
            lambda density, decay: Features([density, 0.5, 0.5, 0.5], activity=activity.Together([(0, 1)])),
            "features must have densities that the law of activity can have, and does have, but have ",
        ),
        (
            lambda density, decay: Features([density, 0.5, 0.05, 0.5], activity=activity.Hierarchy([None, 0, 1, 1])),
            "features must have densities that the law of activity can have, and does have, but have ",
        ),
    ],
)
def test_features_that_are_out_of_range_in_some_cell_are_refused_before_any_work(features, message):
    sweep = replace(DECAY, axes={"decay": [1.0, 0.5], "density": [0.1, 0.9]}, features=features)
    with pytest.raises(ValueError, match=message):
        silent(sweep)


@pytest.mark.slow
def test_laws_of_unknown_probability_are_sampled_even_by_polishing():
    features = lambda p: Features(p, activity=activity.Drawn(lambda u, p: u < p))  # noqa: E731
    sweep = Sweep(Redwood(3, 2), axes={"p": [0.2, 0.5]}, features=features, polish=True, **FEW)
    assert sweep.training.sampler.name == "iid"
    found = silent(sweep)
    assert np.isfinite(found.refined.loss).all()
    assert (found.refined.loss_se > 0).all()
    with pytest.raises(
        ValueError, match="objective must be sampled for masks of unknown probability, but is 'expected'"
    ):
        replace(sweep, objective="expected", polish=False)


def test_results_name_their_axes():
    found = silent(replace(DECAY, steps=2))
    assert found.nearest(decay=0.79, density=1) == (1, 1)
    with pytest.raises(TypeError, match="results has no densty; did you mean density"):
        found.nearest(densty=1, decay=1)
    with pytest.raises(ValueError, match="decay must be given, as every axis"):
        found.nearest(density=1)
    with pytest.raises(AttributeError, match="these results have no axis importance, but decay, density"):
        found.importance  # noqa: B018
