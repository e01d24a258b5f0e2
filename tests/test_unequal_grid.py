"""The closed form over grids of results whose features differ in density, distribution or importance."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from polyjax import Anthropic, Features, Redwood, Sweep, distributions, plot, run, theory
from polyjax.draw.distances import from_theory
from polyjax.draw.optimum import form_of
from polyjax.theory import grid
from polyjax.toy.activity import Exclusive

P, V = [0.2, 0.7], [0.5, 1.0, 2.0]
DENSITY = np.array([1, 1, 0.5, 0.25])


def features(density, importance):
    return Features(density * jnp.array(DENSITY), jnp.ones(4).at[0].set(importance))


def sweep(features=features, model=None, **options):
    options = {"steps": 600, "objective": "expected", "restarts": 4} | options
    return Sweep(model or Redwood(4, 2), density=P, importance=V, features=features, **options)


@pytest.fixture(scope="module")
def results():
    return run(sweep())


def expected():
    """Importances and kurtoses [P, V, 4], by hand."""
    v = np.ones((2, 3, 4))
    v[..., 0] = V
    return v, np.broadcast_to(9 / (5 * np.array(P)[:, None, None] * DENSITY), v.shape)


@pytest.mark.slow
def test_the_optimum_of_a_grid_is_that_of_every_cell(results):
    form, axes = form_of(results, sweep()), results.axes
    np.testing.assert_allclose(grid.capacity(form, axes), theory.optimal_capacity(*expected(), 2), atol=1e-5)
    np.testing.assert_allclose(grid.loss(form, axes), theory.optimal_loss(*expected(), 2), rtol=1e-5)


def test_training_finds_it(results):
    assert from_theory(results, "best", 0, sweep()).maximum < 1e-3
    loss = results.select("best").loss  # of samples
    assert (abs(loss / theory.optimal_loss(*expected(), 2) - 1) < 0.05).all()


def test_distributions_may_differ_too():
    kinds = [distributions.NORMAL, distributions.RADEMACHER, distributions.UNIFORM_SIGNED, distributions.NORMAL]
    mixed = sweep(lambda density, importance: Features(density, importance, kinds))
    form = grid.of_features(mixed.describe(), mixed.training.features_at)
    v, k = grid.problem(form, {"density": np.array(P), "importance": np.array(V)})
    by_hand = np.broadcast_to(np.array([3, 1, 1.8, 3]) / np.array(P)[:, None, None], (2, 3, 4))
    np.testing.assert_allclose(k, by_hand, rtol=1e-6)  # single precision
    np.testing.assert_allclose(v[0], np.broadcast_to(np.array(V)[:, None], (3, 4)))


def test_features_of_one_density_have_one_kurtosis():
    alike = sweep(lambda density, importance: Features(density, jnp.ones(4).at[0].set(importance)))
    form = grid.of_features(alike.describe(), alike.training.features_at)
    axes = {"density": np.array(P), "importance": np.array(V)}
    of_paper = grid.closed_form(Sweep(Redwood(4, 2), density=P, importance=V).describe())
    assert grid.problem(form, axes).kurtosis.shape == (2, 3)
    np.testing.assert_allclose(grid.capacity(form, axes), grid.capacity(of_paper, axes), atol=1e-6)
    np.testing.assert_array_equal(grid.ties(form, axes), grid.ties(of_paper, axes))


def test_ties_are_where_features_that_are_alike_split_capacity_in_any_way():
    form = grid.closed_form(Sweep(Redwood(6, 3), density=[0.1, 0.6, 0.9], importance=[0.5, 1, 2]).describe())
    axes = {"density": np.array([0.1, 0.6, 0.9]), "importance": np.array([0.5, 1, 2])}
    found = grid.ties(form, axes)
    assert found[..., 0].tolist() == [[False] * 3, [False, True, False], [False, True, False]]  # of feature 0: V = 1
    assert found[..., 1].tolist() == [[False] * 3, [True] * 3, [True] * 3]  # some of the five others
    enough = grid.closed_form(Sweep(Redwood(6, 6), density=[0.9], importance=[1.0]).describe())
    assert not grid.ties(enough, {"density": np.array([0.9]), "importance": np.array([1.0])}).any()


def test_pictures_have_the_theory_of_a_sweep(results):
    given = sweep()
    C = np.asarray(theory.optimal_capacity(*expected(), 2))
    mesh = plot.diagram(results, "optimum", feature=3, sweep=given).collections[0]
    np.testing.assert_allclose(mesh.get_array(), C[..., 3], atol=1e-5)
    assert not plot.diagram(results, sweep=given).lines  # the boundaries are those of equal features
    off = plot.difference(results, sweep=given).collections[0].get_array()
    np.testing.assert_allclose(off, abs(results.select("best").capacity - C)[..., 0], atol=1e-5)
    lines = [
        line for line in plot.cut(results, "importance", density=0.2, sweep=given).lines if len(line.get_xdata()) > 3
    ]
    assert len(lines) == 4
    ends = [np.interp(1.0, line.get_xdata(), line.get_ydata()) for line in lines]
    np.testing.assert_allclose(ends, C[0, 1], atol=0.01)  # between two points of the line
    plt.close("all")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "closed form only for the Redwood model .* features of another kind; give the sweep"),
        (sweep(steps=7), "differs: steps"),
    ],
)
def test_the_sweep_is_needed(results, given, told):
    with pytest.raises(ValueError, match=told):
        plot.difference(results, sweep=given)
    assert not [
        line for line in plot.cut(results, "importance", density=0.2, sweep=given).lines if len(line.get_xdata()) > 3
    ]
    plt.close("all")


@pytest.mark.parametrize(
    "other",
    [
        sweep(model=Anthropic(4, 2, "square")),
        sweep(model=Redwood(4, 2, "relu"), objective="sampled"),
        sweep(lambda density, importance: Features(density, importance, distributions.UNIFORM_POSITIVE)),
        sweep(lambda density, importance: Features(density / 2, importance, activity=Exclusive([(0, 1)]))),
    ],
    ids=["Anthropic", "ReLU", "not of mean 0", "exclusive"],
)
def test_other_models_and_features_have_no_closed_form(other):
    with pytest.raises(ValueError, match="closed form only for the Redwood model with square activation, independent"):
        grid.of_features(other.describe(), other.training.features_at)
