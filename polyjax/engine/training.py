"""ONE training run as a pure function, then the vmaps that make it a grid: `train_arrays` on plain matrix code, and
`train_lanes` unrolled, every weight an array over models.

Axis letters: P densities, L lanes a density (importance and restart), B samples, K steps, D neurons, N features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from polyjax.engine import lanes
from polyjax.engine.unroll import Staged
from polyjax.toy.models import Model, Params, one_model
from polyjax.toy.sampling import Sampler

ENGINE_NAMES = ("arrays", "lanes", "fused")  # see `execution`
SETTLED = 0.1  # the largest change of a capacity, and of the weights' length, in the second half of training
DRAWN_AT_ONCE = 50  # steps whose batches are drawn together, outside the step


@dataclass(frozen=True)
class Training:
    """Configuration that is the same in every run of a grid."""

    model: Model
    sampler: Sampler
    objective: str  # "sampled" or "expected"
    optimizer: optax.GradientTransformation
    steps: int
    engine: str  # "arrays", "lanes" or "fused"
    polished: bool = False  # whether cells are polished afterwards, so that evaluation need not be as fine

    def loss(self, params: Params, importance: Array, data: Any) -> Array:
        """Return the objective of one run: the weighted batch mean, or the population loss at the moments `data`."""
        if self.objective == "expected":
            return self.model.expected_loss(params, importance, data)  # type: ignore[attr-defined]
        return data.weight @ jax.vmap(self.model.loss, (None, 0, None))(params, data.x, importance)

    def importances(self, importance: Array) -> Array:
        """Return v [N] from the importance of feature 0; the other features have 1."""
        return jnp.ones(self.model.n_features).at[0].set(importance)

    def scale(self, importance: Array) -> Array:
        """Return the model's scale [N] at the importance of feature 0."""
        return self.model.scale(self.importances(importance))

    def draw(self, key: Array, step: Array, density: Array) -> Any:
        """Return the data of one step at one density: a `Batch`, or for the expected objective the `Moments`."""
        if self.objective == "expected":
            return self.sampler.distribution.sparse_moments(density)
        return self.sampler(self.sampler.uniforms(key, step), density)


def in_weights(units: Params, scale: Array) -> Params:
    """Return the parameters whose columns of W are given in units of the model's scale [N] (and more axes, as W
    has)."""
    return units._replace(W=units.W * scale[None])


def in_units(params: Params, scale: Array) -> Params:
    """Return the inverse of `in_weights`. A scale of 0, for a feature of importance 0, leaves its column as it is."""
    return params._replace(W=params.W / jnp.where(scale > 0, scale, 1)[None])


class Trained(NamedTuple):
    """Parameters at the end and, to see whether they had settled, about half way."""

    end: Params
    half_way: Params


def fit(
    gradient: Callable[[Params, Any], Params],
    optimizer: optax.GradientTransformation,
    draw: Callable[[Array], Any],
    steps: int,
    params: Params,
) -> Trained:
    """Run the training loop: `gradient(params, data)` at the data that `draw(step)` gives, through the optimiser."""

    def step(carry: Any, data: Any) -> Any:
        params, state = carry
        updates, state = optimizer.update(gradient(params, data), state, params)
        return (optax.apply_updates(params, updates), state), None

    def several_steps(carry: Any, numbers: Array) -> Any:
        # Without the barrier XLA draws every batch again in every kernel that reads it.
        return lax.scan(step, carry, lax.optimization_barrier(jax.vmap(draw)(numbers)))[0]

    (end, _), half_way = in_blocks(several_steps, (params, optimizer.init(params)), steps)
    return Trained(end, half_way)


def in_blocks(several_steps: Callable[[Any, Array], Any], start: Any, steps: int) -> tuple[Any, Any]:
    """Take all steps in blocks whose data are drawn together, by `several_steps(carry, numbers)`: the last carry, and
    the first part of the carry where the last block of the first half begins."""

    def block(carry: Any, numbers: Array) -> Any:
        carry, half_way = carry
        half_way = jax.tree.map(partial(jnp.where, numbers[0] <= steps // 2), carry[0], half_way)
        return (several_steps(carry, numbers), half_way), None

    at_once = max(1, min(DRAWN_AT_ONCE, steps // 2))
    numbers = jnp.arange(steps)
    whole = steps - steps % at_once
    (carry, half_way), _ = lax.scan(block, (start, start[0]), numbers[:whole].reshape(-1, at_once))
    if whole < steps:
        carry = several_steps(carry, numbers[whole:])
    return carry, half_way


def train_arrays(training: Training, start: Params, importance: Array, density: Array, draw_key: Array) -> Trained:
    """Train lanes from parameters [P, L, ...] at the importance [P, L] of feature 0 and density [P]; leaves
    [P, L, ...]."""

    def run(start: Params, importance: Array, density: Array) -> Trained:
        v = training.importances(importance)
        scale = training.model.scale(v)
        gradient = jax.grad(lambda units, data: training.loss(in_weights(units, scale), v, data))
        draw = lambda step: training.draw(draw_key, step, density)  # noqa: E731
        trained = fit(gradient, training.optimizer, draw, training.steps, in_units(start, scale))
        return Trained(*(in_weights(units, scale) for units in trained))

    return jax.vmap(jax.vmap(run, (0, 0, None)))(start, importance, density)


def train_lanes(training: Training, start: Params, importance: Array, density: Array, draw_key: Array) -> Trained:
    """Do the same as `train_arrays`, up to rounding."""
    one = one_model(training.model)
    prepare, lane_gradient = lane_objective(training)
    scale = lanes.last(jax.vmap(jax.vmap(training.scale))(importance))

    def draw(step: Array) -> Any:
        return prepare(jax.vmap(training.draw, (None, None, 0))(draw_key, step, density))

    def gradient(units: Params, data: Any) -> Params:
        weights, pull_back = jax.vjp(lambda units: in_weights(units, scale), units)
        return pull_back(lane_gradient(weights, importance, data))[0]

    units = in_units(lanes.last(start), scale)
    trained = fit(gradient, lanes.per_lane(training.optimizer, one), draw, training.steps, units)
    return Trained(*(lanes.first(in_weights(units, scale)) for units in trained))


def lane_objective(training: Training) -> Staged:
    """Return the gradient of all lanes, in two stages: what they need of the data of a step, and the gradient from
    that."""
    model, one = training.model, one_model(training.model)
    if training.objective == "expected":
        return lanes.exact_gradient(training.loss, one, model.n_features)
    return lanes.sampled_gradient(model.loss, one, model.n_features)


@lru_cache(maxsize=32)
def adam(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Return Adam whose learning rate decays to 0 along a cosine. Cached, so that equal configurations are one
    program."""
    return optax.adam(optax.cosine_decay_schedule(learning_rate, steps))


@lru_cache(maxsize=32)
def smaller_steps(optimizer: optax.GradientTransformation, factor: float) -> optax.GradientTransformation:
    """Return the optimiser with all its steps times `factor`. Cached, so that equal configurations are one program."""
    return optax.chain(optimizer, optax.scale(factor))


def argument_shapes(fixed: Training, shape: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Return the shapes of params, importance, density and key of [P, L] lanes."""
    number = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    key, density, importance = jax.eval_shape(partial(jax.random.key, 0)), number(shape[:1]), number(shape)
    start = jax.tree.map(lambda a: number((*shape, *a.shape)), one_model(fixed.model))
    return start, importance, density, key
