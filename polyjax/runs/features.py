"""The features of all cells of a grid: whether they make sense, and which of them are interchangeable.

What does not depend on the rows, or on the columns, has a single one. Axis letters: P rows and V columns of the grid, N
features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from polyjax.engine.cells import at, over_rows
from polyjax.toy.features import LARGEST_IMPORTANCE
from polyjax.toy.sampling import masks

if TYPE_CHECKING:
    from polyjax.axes import Axes
    from polyjax.engine.training import Training

ROUNDING = 1e-5  # of probabilities in float32


class FeaturesOfCells(NamedTuple):
    importance: np.ndarray  # [P or 1, V or 1, N]
    density: np.ndarray  # [P, 1, N]
    scale: np.ndarray  # as the importance, of the model
    values: np.ndarray  # [N]; features of one number have one distribution
    kinds: np.ndarray  # [N]; features of one number are interchangeable in every cell


def features_of_cells(axes: Axes, fixed: Training) -> FeaturesOfCells:
    """Return the features of all cells of the axes, as a training has them."""
    n, needed = fixed.one_model.n_features, {*fixed.lane_axes}
    P = axes.n_rows if needed & {*axes.of_rows} else 1
    V = axes.n_columns if needed & {*axes.of_columns} else 1
    cells = axes.of_cells(*(a.ravel() for a in np.indices((P, V))))

    def one(cell: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        importances = fixed.features_at(cell).importances(n)
        return importances, at(fixed.model, cell).scale(importances)

    found = jax.vmap(one, axis_size=P * V)({name: jnp.asarray(a) for name, a in cells.items()})
    importance, scale = (np.asarray(a).reshape(P, V, n) for a in found)
    density = np.asarray(over_rows(lambda row: fixed.features_at(row).densities(n), _rows(axes), axes.n_rows))[:, None]
    example = fixed.features_at({})
    several = example.distributions if len(example.distributions) == n else example.distributions * n
    values = np.array([several.index(distribution) for distribution in several])
    alike = zip(*(np.moveaxis(a, -1, 0) for a in (importance, density)), values, example.activity.kinds(n), strict=True)
    keys = [(v.tobytes(), p.tobytes(), int(value), kind) for v, p, value, kind in alike]
    return FeaturesOfCells(importance, density, scale, values, np.array([keys.index(key) for key in keys]))


def check_features(axes: Axes, fixed: Training, found: FeaturesOfCells) -> None:
    """Raise ValueError, naming the cell, where the user's features are out of range or their law of activity does not
    have their densities."""
    p, v = found.density, found.importance
    _require(axes, (p > 0) & (p <= 1), "densities above 0 and at most 1", p)
    _require(axes, (v >= 0) & (v < LARGEST_IMPORTANCE), "importances of at least 0 and below 1e12", v)
    n = fixed.one_model.n_features
    if not fixed.is_independent and fixed.features_at({}).have_few_masks(n):
        probability = over_rows(lambda row: fixed.features_at(row).mask_probability(masks(n)), _rows(axes), axes.n_rows)
        of_law = np.asarray(probability, float) @ masks(n)  # [P, N]
        must = "densities that the law of activity can have, and does have"
        _require(axes, abs(of_law[:, None] - p) <= ROUNDING, must, p)


def _rows(axes: Axes) -> dict[str, jax.Array]:
    return {name: jnp.asarray(a) for name, a in axes.rows.items()}


def _require(axes: Axes, ok: np.ndarray, must: str, values: np.ndarray) -> None:
    if not ok.all():
        row, column, feature = (int(i) for i in np.argwhere(~ok)[0])
        cell = ", ".join(f"{name}={value:.6g}" for name, value in axes.coordinates(row, column).items())
        raise ValueError(f"features must have {must}, but have {values[row, column, feature]:.6g} at {cell}")
