"""The features of all cells: as they are in each of them, and no larger than what they depend on."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from polyjax import Features, Redwood, Sweep
from polyjax.engine.cells import at
from polyjax.runs.features import features_of_cells

P, V = [0.1, 0.2, 0.4], [0.5, 2.0]


@pytest.mark.parametrize(
    ("features", "importance"),
    [
        (lambda p, v: Features(p, jnp.ones(4).at[0].set(v)), (1, 2)),
        (lambda p, v: Features(p * jnp.array([1, 1, 0.5, 1]), jnp.stack([v, v * p, v, v])), (3, 2)),
        (lambda p, v: Features(p + 0 * v, jnp.array([2.0, 1, 1, 1])), (1, 1)),
        (lambda p: Features(p, p), (3, 1)),
    ],
    ids=["the paper's", "all", "none", "density alone"],
)
def test_every_cell_has_its_own_features(features, importance):
    optimizer = None if "v" in features.__code__.co_varnames else lambda v: optax.sgd(v)
    sweep = Sweep(Redwood(4, 2), axes={"p": P, "v": V}, features=features, optimizer=optimizer, steps=4)
    fixed, axes = sweep.training, sweep.layout
    found = features_of_cells(axes, fixed)
    for row, column in np.ndindex(axes.n_rows, axes.n_columns):
        cell = axes.coordinates(row, column)
        expected = fixed.features_at(cell)
        arrays = (found.importance, expected.importances(4)), (found.density, expected.densities(4))
        scale = at(fixed.model, cell).scale(expected.importances(4))
        for a, b in (*arrays, (found.scale, scale)):
            whole = np.broadcast_to(a, (axes.n_rows, axes.n_columns, 4))
            np.testing.assert_allclose(whole[row, column], b, rtol=1e-6)  # compiled otherwise
    if optimizer is None:
        assert found.importance.shape[:2] == importance
    assert found.density.shape[1] == 1


def test_features_that_are_alike_in_every_cell_are_of_one_kind():
    sweep = Sweep(
        Redwood(4, 2),
        axes={"p": P, "v": V},
        features=lambda p, v: Features(p * jnp.array([1, 1, 0.5, 1]), jnp.stack([v, v * 2, v, v])),
        steps=4,
    )
    assert features_of_cells(sweep.layout, sweep.training).kinds.tolist() == [0, 1, 2, 0]
