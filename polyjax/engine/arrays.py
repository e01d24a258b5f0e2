"""Training on plain matrix code, vmapped: the reference, and the way for large models.

Axis letters: P rows, L lanes a row.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array, lax

from polyjax.engine.cells import Coordinates, at, over_rows
from polyjax.engine.training import Trained, Training, descend, fit, in_units, in_weights, n_rows
from polyjax.toy.model import Parameters, n_neurons

IN_CACHE = 2**19  # numbers


def train_arrays(
    training: Training, start: Parameters, lane: Coordinates, row: Coordinates, draw_key: Array
) -> Trained:
    """Train lanes from parameters [P, L, ...] at the coordinates [P, L] of lanes and [P] of rows; leaves
    [P, L, ...]."""

    def draw(numbers: Array) -> Any:
        of_row = lambda row: jax.vmap(lambda step: training.draw(draw_key, step, row))(numbers)  # noqa: E731
        return over_rows(of_row, row, n_rows(start))

    def of_lane(carry: Any, lane: Coordinates, data: Any) -> Any:
        scale = training.scale(lane)
        gradient = jax.grad(lambda units, data: training.loss(in_weights(units, scale), lane, data))
        return descend(gradient, at(training.optimizer, lane), carry, data)

    def begin(params: Parameters, lane: Coordinates) -> tuple[Parameters, Any]:
        units = in_units(params, training.scale(lane))
        return units, at(training.optimizer, lane).init(units)

    def weights(units: Parameters, lane: Coordinates) -> Parameters:
        return in_weights(units, training.scale(lane))

    of_lanes = over_lanes(of_lane, lanes_at_once(training, training.sampler.batch))
    several_steps = lambda carry, data: of_lanes(carry, lane, data)  # noqa: E731
    each = lambda f: jax.vmap(jax.vmap(f))  # noqa: E731
    trained = fit(several_steps, draw, training.steps, each(begin)(start, lane))
    return Trained(*(each(weights)(units, lane) for units in trained))


def lanes_at_once(training: Training, samples: int) -> int:
    """Return of how many lanes a core's cache holds what they compute from so many samples."""
    model = training.one_model
    return max(1, IN_CACHE // (samples * (model.n_features + n_neurons(model))))


def over_lanes(f: Callable[[Any, Coordinates, Any], Any], at_once: int) -> Callable[[Any, Coordinates, Any], Any]:
    """Return `f(carry, lane, data)` over the carries [P, L, ...] and coordinates [P, L] of lanes and the data [P, ...]
    of rows. A CPU takes `at_once` lanes at a time through all that `f` does, so that what they compute stays in the
    cache of a core; other devices take all."""
    if jax.default_backend() != "cpu":
        return jax.vmap(jax.vmap(f, (0, 0, None)))

    def of_row(row: Any) -> Any:
        carry, lane, data = row
        return lax.map(lambda each: f(each[0], each[1], data), (carry, lane), batch_size=at_once)

    return lambda *rows: lax.map(of_row, rows)
