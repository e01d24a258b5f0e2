"""One cell of results, and its features."""

import re
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import polyjax
from polyjax import Anthropic, Features, Redwood, Sweep, activity, distributions

FEW = {"restarts": 2, "steps": 4, "batch": 16, "retries": 0}
PAPER = Sweep(Anthropic(3, 2), [0.1, 0.4, 1.0], [0.5, 2.0], refine=1, **FEW)


def power_law(density, decay):
    law = activity.Together([(0, 1)])
    return Features(density, decay ** jnp.arange(3), distributions.NORMAL, law)


DECAY = Sweep(Redwood(3, 2), axes={"decay": [0.5, 0.8, 1.0], "density": [0.1, 0.4]}, features=power_law, **FEW)


def loaded(sweep, path):
    polyjax.run(sweep, progress=False).save(path)
    return polyjax.load(path)


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    return loaded(PAPER, tmp_path_factory.mktemp("paper") / "r.npz")


@pytest.fixture(scope="module")
def decay(tmp_path_factory):
    return loaded(DECAY, tmp_path_factory.mktemp("decay") / "r.npz")


def test_the_nearest_cell_holds_all_that_is_known_of_it(paper):
    cell = paper.sel(importance=1.9, density=0.5)
    assert cell.coordinates == {"density": 0.4, "importance": 2.0}
    assert cell.index == (1, 1)
    for name in ("capacity", "rank_loss", "loss", "loss_se", "settled", "attempt"):
        np.testing.assert_array_equal(getattr(cell, name), getattr(paper, name)[1, 1])
    np.testing.assert_array_equal(cell.params["W"], paper.W[1, 1])
    np.testing.assert_array_equal(cell.embedding, paper.W[1, 1])
    np.testing.assert_array_equal(cell.params["b"], paper.b[1, 1])
    assert cell.params["b"].shape == (2, 3)
    for name in ("W", "loss", "gain"):
        np.testing.assert_array_equal(getattr(cell.refined, name), getattr(paper.refined, name)[1, 1])
    assert cell.refined.excess is None  # was not polished


def test_a_cell_says_which_it_is_in_one_line(paper, decay):
    cell = paper.sel(importance=1.9, density=0.5)
    best = np.argmin(cell.rank_loss)
    said = "Cell at density=0.4, importance=2; 2 of 2 restarts settled; loss of the best "
    assert repr(cell).startswith(f"{said}{cell.loss[best]:.4g}, its capacities {cell.capacity[best, 0]:.3g} ")
    assert repr(cell).endswith("; refined")
    assert decay.sel(density=0, decay=0).refined is None
    assert repr(decay.sel(density=0, decay=0)).startswith("Cell at decay=0.5, density=0.1; ")


def test_a_cell_without_a_finite_restart_is_shown_as_well(paper):
    cell = replace(paper.sel(density=1, importance=1), rank_loss=np.full(2, np.nan), loss=np.full(2, np.nan))
    assert "loss of the best nan" in repr(cell)


@pytest.mark.parametrize(
    ("coordinates", "error", "message"),
    [
        ({"density": 0.1}, ValueError, "importance must be given, as every axis, but is None"),
        ({"density": 0.1, "importance": "1"}, ValueError, "importance must be a finite number, but is '1'"),
        ({"density": np.nan, "importance": 1}, ValueError, "density must be a finite number, but is nan"),
        ({"density": [0.1], "importance": 1}, ValueError, "density must be a finite number, but is [0.1]"),
        ({"densty": 0.1, "importance": 1}, TypeError, "results has no densty; did you mean density?"),
    ],
)
def test_coordinates_that_name_no_cell_are_refused(paper, coordinates, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        paper.sel(**coordinates)


def test_the_features_of_the_papers_grid_follow_from_the_file(paper):
    features = paper.features(paper.sel(density=0.4, importance=2))
    assert np.asarray(features.importances(3)).tolist() == [2, 1, 1]
    np.testing.assert_array_equal(features.densities(3), np.full(3, 0.4, np.float32))
    assert features.distribution == distributions.UNIFORM_POSITIVE
    assert features.activity == activity.INDEPENDENT


def test_the_file_has_the_distribution_and_may_lack_an_axis(tmp_path):
    sweep = Sweep(Redwood(3, 2), [0.1, 0.4], distribution=distributions.RADEMACHER, **FEW)
    results = loaded(sweep, tmp_path / "r.npz")
    features = results.features(results.sel(density=0.1))
    assert np.asarray(features.importances(3)).tolist() == [1, 1, 1]
    assert features.distribution == distributions.RADEMACHER


def test_the_users_features_follow_from_the_sweep(decay):
    cell = decay.sel(decay=0.8, density=0.4)
    features = decay.features(cell, DECAY)
    np.testing.assert_allclose(features.importances(3), [1, 0.8, 0.64], rtol=1e-6)
    assert (features.density, features.distribution) == (0.4, distributions.NORMAL)
    assert features.activity == activity.Together([(0, 1)])
    with pytest.raises(ValueError, match=r"^sweep must be given, since the features of these results are the user's"):
        decay.features(cell)
    with pytest.raises(ValueError, match=r"^sweep must be the one .* differs: seed \(0 there, 1 here\)$"):
        decay.features(cell, replace(DECAY, seed=1))
