"""Results as labelled arrays."""

import json
import sys

import numpy as np
import pytest

import polyjax
from polyjax import Features, Redwood, Sweep


@pytest.fixture(scope="module")
def results():
    sweep = Sweep(
        Redwood(3, 2),
        axes={"decay": [0.5, 0.8, 1.0], "density": [0.1, 0.4]},
        features=lambda density, decay: Features(density, importance=[1, decay, decay**2]),
        restarts=2,
        steps=4,
        polish=True,
    )
    return polyjax.run(sweep, progress=False)


def test_every_array_has_the_names_of_its_axes(results):
    found = results.to_xarray()
    assert found["W"].dims == ("decay", "density", "restart", "neuron", "feature")
    assert found["b"].dims == found["loss"].dims == ("decay", "density", "restart")
    assert found["refined_capacity"].dims == ("decay", "density", "feature")
    assert found["refined_spectrum"].dims == ("decay", "density", "parameter")
    assert found["decay"].values.tolist() == [0.5, 0.8, 1.0]
    assert json.loads(found.attrs["config"])["seed"] == 0
    best = found.isel(restart=found["rank_loss"].argmin("restart"))["capacity"]
    np.testing.assert_array_equal(best, results.select("best").capacity)
    np.testing.assert_array_equal(found["W"].sel(decay=0.79, density=1, method="nearest"), results.W[1, 1])


def test_without_xarray_the_error_says_what_to_install(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r"^to_xarray needs xarray: pip install 'polyjax\[xarray\]'$"):
        results.to_xarray()
