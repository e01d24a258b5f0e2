"""The features of all cells of a grid: whether they make sense, and which of them are interchangeable.

Axis letters: P rows and V columns of the grid, N features.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from polyjax.axes import Axes
from polyjax.engine.cells import at, over_rows
from polyjax.engine.training import Training
from polyjax.toy.features import LARGEST_IMPORTANCE
from polyjax.toy.sampling import can_enumerate, masks

ROUNDING = 1e-5  # of probabilities in float32


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
        return features.importances(n), features.densities(n), at(fixed.model, cell).scale(features.importances(n))

    found = jax.vmap(one, axis_size=P * V)({name: jnp.asarray(a) for name, a in cells.items()})
    importance, density, scale = (np.asarray(a).reshape(P, V, n) for a in found)
    example = fixed.features_at({})
    several = example.distributions if len(example.distributions) == n else example.distributions * n
    values = np.array([several.index(distribution) for distribution in several])
    alike = zip(*(np.moveaxis(a, -1, 0) for a in (importance, density)), values, example.activity.kinds(n), strict=True)
    keys = [(v.tobytes(), p.tobytes(), int(value), kind) for v, p, value, kind in alike]
    return FeaturesOfCells(importance, density, scale, values, np.array([keys.index(key) for key in keys]))


def check_features(axes: Axes, fixed: Training) -> None:
    """Raise ValueError, naming the cell, where the user's features are out of range or their law of activity does not
    have their densities."""
    found = features_of_cells(axes, fixed)
    p, v = found.density, found.importance
    _require(axes, (p > 0) & (p <= 1), "densities above 0 and at most 1", p)
    _require(axes, (v >= 0) & (v < LARGEST_IMPORTANCE), "importances of at least 0 and below 1e12", v)
    n = fixed.one_model.n_features
    if not fixed.is_independent and can_enumerate(fixed.features_at({}), n):
        probability = over_rows(lambda row: fixed.features_at(row).mask_probability(masks(n)), _rows(axes), axes.n_rows)
        of_law = np.asarray(probability, float) @ masks(n)  # [P, N]
        agree = abs(of_law - p[:, 0]) <= ROUNDING
        must = "densities that the law of activity can have, and does have"
        _require(axes, np.broadcast_to(agree[:, None], p.shape), must, p)


def _rows(axes: Axes) -> dict[str, jax.Array]:
    return {name: jnp.asarray(a) for name, a in axes.rows.items()}


def _require(axes: Axes, ok: np.ndarray, must: str, values: np.ndarray) -> None:
    if not ok.all():
        row, column, feature = (int(i) for i in np.argwhere(~ok)[0])
        cell = ", ".join(f"{name}={value:.6g}" for name, value in axes.coordinates(row, column).items())
        raise ValueError(f"features must have {must}, but have {values[row, column, feature]:.6g} at {cell}")
