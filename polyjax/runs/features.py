"""The features of all cells of a grid, and which of them are interchangeable.

Axis letters: P rows and V columns of the grid, N features.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from polyjax.axes import Axes
from polyjax.engine.training import Training


class FeaturesOfCells(NamedTuple):
    importance: np.ndarray  # [P, V, N]
    density: np.ndarray  # [P, V, N]
    scale: np.ndarray  # [P, V, N], of the model
    values: np.ndarray  # [N]; features of one number have one distribution
    kinds: np.ndarray  # [N]; features of one number are interchangeable in every cell


def features_of_cells(axes: Axes, fixed: Training) -> FeaturesOfCells:
    """Return the features of all cells of the axes, as a training has them."""
    n, P, V = fixed.one_model.n_features, axes.n_rows, axes.n_columns
    cells = axes.of_cells(*(a.ravel() for a in np.indices((P, V))))

    def one(cell: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
        features = fixed.features_at(cell)
        return features.importances(n), features.densities(n), fixed.scale(cell)

    found = jax.vmap(one)({name: jnp.asarray(a) for name, a in cells.items()})
    importance, density, scale = (np.asarray(a).reshape(P, V, n) for a in found)
    example = fixed.features_at({})
    several = example.distributions if len(example.distributions) == n else example.distributions * n
    values = np.array([several.index(distribution) for distribution in several])
    alike = zip(*(np.moveaxis(a, -1, 0) for a in (importance, density)), values, example.activity.kinds(n), strict=True)
    keys = [(v.tobytes(), p.tobytes(), int(value), kind) for v, p, value, kind in alike]
    return FeaturesOfCells(importance, density, scale, values, np.array([keys.index(key) for key in keys]))
