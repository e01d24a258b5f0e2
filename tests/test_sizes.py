"""Axes that decide shapes: which they are, and that their sweep is one sweep for every value."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import polyjax
from polyjax import Anthropic, Features, Redwood, Sweep
from polyjax.runs import to_file
from polyjax.runs.sizes import parts

SHORT = {"steps": 30, "restarts": 2, "retries": 0}
NEURONS = Sweep(lambda n_neurons: Anthropic(4, n_neurons), axes={"density": [0.1, 0.5], "n_neurons": [1, 3]}, **SHORT)


def of_neurons(n):
    return Sweep(Anthropic(4, n), axes={"density": [0.1, 0.5]}, **SHORT)


@pytest.fixture(scope="module")
def results():
    return polyjax.run(NEURONS, progress=False)


def power(q):
    return Redwood(3, 2, lambda z: jnp.abs(z) ** q)


def branching(q):
    return Redwood(3, 2, lambda z: z * z if q > 1 else jnp.abs(z))


def geometric(n_features):
    return Features(0.1, 0.9 ** jnp.arange(n_features))


def one(number):
    return number


@pytest.mark.parametrize(
    ("axes", "fields", "sizes"),
    [
        ({"n_neurons": [1, 2], "density": [0.5]}, {"model": lambda n_neurons: Redwood(3, n_neurons)}, ["n_neurons"]),
        ({"n_neurons": [2], "density": [0.5]}, {"model": lambda n_neurons: Redwood(3, n_neurons)}, ["n_neurons"]),
        ({"q": [1, 2], "density": [0.5]}, {"model": power}, []),  # whole, but no shape depends on them
        ({"q": [1, 2], "density": [0.5]}, {"model": branching}, ["q"]),
        ({"rate": [1, 2]}, {"model": Redwood(3, 2), "features": Features(0.1), "optimizer": optax.adam}, []),
        ({"number": [4, 8], "density": [0.5]}, {"model": Redwood(2, 1), "batch": one}, ["number"]),
        ({"number": [4, 8], "density": [0.5]}, {"model": Redwood(2, 1), "steps": one}, ["number"]),
        (
            {"n_features": [2, 3], "density": [0.5], "n_neurons": [1, 2]},
            {
                "model": lambda n_features, n_neurons: Redwood(n_features, n_neurons),
                "features": lambda n_features, density: Features(density, 0.9 ** jnp.arange(n_features)),
            },
            ["n_features", "n_neurons"],
        ),
    ],
)
def test_axes_that_decide_shapes_are_found_by_tracing(axes, fields, sizes):
    if fields.get("optimizer") is optax.adam:
        fields = fields | {"optimizer": lambda rate: optax.adam(rate)}
    assert list(Sweep(axes=axes, **fields).sizes) == sizes


def test_every_size_has_the_bits_of_its_sweep_alone_and_is_filled_up_with_nan(results):
    assert list(results.axes) == ["density", "n_neurons"]
    assert results.W.shape == (2, 2, 2, 3, 4)
    for j, n in enumerate([1, 3]):
        alone = polyjax.run(of_neurons(n), progress=False)
        np.testing.assert_array_equal(results.W[:, j, :, :n], alone.W)
        assert np.isnan(results.W[:, j, :, n:]).all()
        for name in ("capacity", "rank_loss", "loss", "loss_se", "settled", "attempt", "b"):
            np.testing.assert_array_equal(getattr(results, name)[:, j], getattr(alone, name))
    assert "filled up with NaN" in repr(results)


@pytest.mark.slow
def test_cells_with_fewer_features_are_selected_like_others():
    sweep = Sweep(lambda n_features: Redwood(n_features, 2), axes={"n_features": [2, 4], "density": [0.3]}, **SHORT)
    found = polyjax.run(sweep, progress=False)
    best = found.select("best")
    assert np.isfinite(best.loss).all()
    assert np.isfinite(best.capacity).sum(-1).tolist() == [[2], [4]]
    np.testing.assert_array_equal(best.loss, found.loss[np.arange(2), 0, found.rank_loss.argmin(-1)[:, 0]][:, None])


def test_a_file_of_sizes_is_the_run_in_memory_and_leaves_nothing_else(results, tmp_path):
    path = tmp_path / "sizes.npz"
    polyjax.run_to_file(NEURONS, path, progress=False)
    found = polyjax.load(path)
    for name, a in results.arrays().items():
        np.testing.assert_array_equal(found.arrays()[name], a)
    assert found.config == results.config
    assert [file.name for file in tmp_path.iterdir()] == ["sizes.npz"]


def test_sizes_that_are_trained_already_are_not_trained_again(results, tmp_path, monkeypatch):
    path, trained, begin = tmp_path / "sizes.npz", [], to_file.begin
    monkeypatch.setattr(to_file, "begin", lambda sweep, *rest: trained.append(sweep.model) or begin(sweep, *rest))
    polyjax.run_to_file(NEURONS.by_size[0][1], to_file.sizes_folder(path) / "n_neurons=1.npz", progress=False)
    polyjax.run_to_file(NEURONS, path, progress=False)
    assert trained == [Anthropic(4, 1), Anthropic(4, 3)]
    np.testing.assert_array_equal(polyjax.load(path).W, results.W)
    polyjax.run_to_file(NEURONS, path, progress=False)
    assert len(trained) == 2
    polyjax.run_to_file(NEURONS, path, progress=False, restart=True)
    assert len(trained) == 4


def test_a_file_of_other_sizes_is_refused(tmp_path):
    path = tmp_path / "sizes.npz"
    polyjax.run_to_file(NEURONS, path, progress=False)
    other = Sweep(lambda n_neurons: Anthropic(4, n_neurons), axes={"density": [0.1, 0.5], "n_neurons": [1, 2]}, **SHORT)
    with pytest.raises(ValueError, match="axes"):
        polyjax.run_to_file(other, path, progress=False)


def test_parts_are_the_results_of_every_size(results):
    for (sizes, part), n in zip(parts(results), [1, 3], strict=True):
        assert sizes == {"n_neurons": n}
        alone = polyjax.run(of_neurons(n), progress=False)
        for name, a in alone.arrays().items():
            np.testing.assert_array_equal(part.arrays()[name], a)
        assert part.config == alone.config
    [(sizes, same)] = parts(alone)
    assert (sizes, same) == ({}, alone)


@pytest.mark.slow
def test_features_and_neurons_as_axes_share_their_dimensions_as_theory_says():
    # Of equally important features with a kurtosis above 3, each has the capacity D / N (section 3.5).
    sweep = Sweep(
        lambda n_features, n_neurons: Redwood(n_features, n_neurons),
        axes={"n_features": [3, 4], "n_neurons": [1, 2]},
        features=Features(0.2),
        objective="expected",
        steps=600,
        restarts=2,
    )
    capacity = polyjax.run(sweep, progress=False).select("best").capacity
    for i, j in np.ndindex(2, 2):
        N, D = (3, 4)[i], (1, 2)[j]
        np.testing.assert_allclose(capacity[i, j, :N], D / N, atol=2e-3)
        assert np.isnan(capacity[i, j, N:]).all()


@pytest.mark.slow
def test_refined_and_polished_diagrams_of_sizes_are_put_together(tmp_path):
    sweep = Sweep(
        lambda n_neurons: Redwood(2, n_neurons),
        axes={"n_neurons": [1, 2], "density": [0.3, 0.9]},
        objective="expected",
        polish=True,
        refine=1,
        **SHORT,
    )
    found = polyjax.run(sweep, progress=False)
    assert found.refined.spectrum.shape == (2, 2, 5)
    assert np.isnan(found.refined.spectrum[0, :, 3:]).all()
    found.save(tmp_path / "sizes.npz")
    again = polyjax.load(tmp_path / "sizes.npz")
    for (_, a), (_, b) in zip(parts(found), parts(again), strict=True):
        for name, values in a.refined.arrays().items():
            np.testing.assert_array_equal(values, b.refined.arrays()[name])


@pytest.mark.slow
def test_sizes_are_verified_one_by_one_and_a_cell_has_the_features_of_its_size(tmp_path):
    sweep = Sweep(lambda n_features: Redwood(n_features, 2), axes={"n_features": [2, 4], "density": [0.3]}, **SHORT)
    polyjax.run_to_file(sweep, tmp_path / "sizes.npz", progress=False)
    for given in (sweep, None):  # every part's model is polyjax's own
        compared = polyjax.verify(tmp_path / "sizes.npz", cells=2, sweep=given)
        assert [cell.coordinates for cell in compared] == [{"n_features": n, "density": 0.3} for n in (2, 4)]
        assert all(cell.agrees and cell.same_bits for cell in compared)
    found = polyjax.load(tmp_path / "sizes.npz")
    for n in (2, 4):
        cell = found.sel(n_features=n, density=0.3)
        for given in (sweep, None):
            assert found.features(cell, given).importances(n).shape == (n,)


@pytest.mark.parametrize(
    ("axes", "fields", "words"),
    [
        ({"n": [0, 1], "density": [0.5]}, {"model": lambda n: Redwood(3, n)}, "n_neurons must be a whole number"),
        ({"n": [1.5, 2], "density": [0.5]}, {"model": lambda n: Redwood(3, n)}, "n_neurons must be a whole number"),
        ({"number": [0, 2], "density": [0.5]}, {"model": Redwood(2, 1), "steps": one}, "steps must be a whole number"),
        ({"number": [1.5], "density": [0.5]}, {"model": Redwood(2, 1), "steps": one}, "steps must be a whole number"),
    ],
)
def test_sizes_that_make_no_sweep_are_refused(axes, fields, words):
    with pytest.raises(ValueError, match=words):
        Sweep(axes=axes, **fields)


def test_a_sweep_whose_axes_are_all_sizes_goes_into_a_file(tmp_path):
    sweep = polyjax.Sweep(
        lambda n, d: polyjax.Anthropic(n, d),
        axes={"n": [3], "d": [1, 2]},
        features=polyjax.Features(0.3),
        restarts=2,
        steps=4,
        retries=0,
    )
    polyjax.run_to_file(sweep, tmp_path / "a.npz", progress=False)
    found = polyjax.load(tmp_path / "a.npz")
    same = polyjax.run(sweep, progress=False)
    np.testing.assert_array_equal(found.loss, same.loss)
    np.testing.assert_array_equal(found.capacity, same.capacity)
