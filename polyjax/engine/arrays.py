"""Training on plain matrix code, vmapped: the reference, and the way for large models.

Axis letters: P rows, L lanes a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
from jax import Array

from polyjax.engine import devices
from polyjax.engine.cells import Coordinates, at, n_rows
from polyjax.engine.drawing import of_steps
from polyjax.engine.training import Trained, Training, descend, fit, in_units, in_weights
from polyjax.toy.model import numbers_of

if TYPE_CHECKING:
    from polyjax.toy.model import Parameters


def train_arrays(
    training: Training, start: Parameters, lane: Coordinates, row: Coordinates, draw_key: Array
) -> Trained:
    """Train lanes from parameters [P, L, ...] at the coordinates [P, L] of lanes and [P] of rows; leaves
    [P, L, ...]."""

    def draw(numbers: Array) -> Any:
        return of_steps(training, draw_key, numbers, row, n_rows(start))

    def of_lane(carry: Any, lane: Coordinates, data: Any) -> Any:
        scale = training.scale(lane)
        gradient = jax.grad(lambda units, data: training.loss(in_weights(units, scale), lane, data))
        return descend(gradient, at(training.optimizer, lane), carry, data)

    def begin(params: Parameters, lane: Coordinates) -> tuple[Parameters, Any]:
        units = in_units(params, training.scale(lane))
        return units, at(training.optimizer, lane).init(units)

    def weights(units: Parameters, lane: Coordinates) -> Parameters:
        return in_weights(units, training.scale(lane))

    of_lanes = devices.over_lanes(of_lane, numbers_of(training.one_model, training.sampler.batch))
    several_steps = lambda carry, data: of_lanes(carry, lane, data)  # noqa: E731
    each = lambda f: jax.vmap(jax.vmap(f))  # noqa: E731
    trained = fit(several_steps, draw, training.steps, each(begin)(start, lane), training.snapshots)
    return trained.each(lambda units: each(weights)(units, lane))
