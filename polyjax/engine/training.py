"""ONE training run as a pure function, then what makes it a grid: `train_lanes`, unrolled, every weight an array over
models; see `arrays` for plain matrix code.

What is the same in all lanes is in `Training`; what differs is in the coordinates of rows, on which the samples depend,
and of lanes. Axis letters: P rows, L lanes a row, B samples, K steps, D neurons, N features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from polyjax.engine import cells, dependencies, keys, lanes, optimizers
from polyjax.engine.blocks import block_of, snapshot_steps
from polyjax.engine.cells import NUMBER, Coordinates, OfAxes, at, n_rows, over_rows
from polyjax.toy.activity import Independent
from polyjax.toy.distributions import Moments
from polyjax.toy.model import Model, Parameters, has_scale, one_model
from polyjax.toy.sampling import Sampler, masks

if TYPE_CHECKING:
    from polyjax.engine.unroll import Staged
    from polyjax.toy.features import Features

ENGINE_NAMES = ("arrays", "lanes", "fused")  # see `execution`
LARGEST_LANES = 200  # weights; above, the lanes form is slower than arrays and takes long to compile
LARGEST_UNROLLED = 1000  # weights; 1600 take 9 GB and more than 400 s to compile
SETTLED = 0.1  # the largest change of a capacity, and of the weights' length, in the second half of training


@dataclass(frozen=True)
class Training:
    """Configuration of every network of a grid: parts, each the same in all cells or a function of axes."""

    model: Model | OfAxes
    features: Features | OfAxes
    sampler: Sampler
    objective: str  # "sampled" or "expected"
    optimizer: optax.GradientTransformation | OfAxes
    steps: int
    engine: str  # "arrays", "lanes" or "fused"
    polished: bool = False  # whether cells are polished afterwards, so that evaluation need not be as fine
    snapshots: int = 0  # most looks at networks on their way, see `snapshot_steps`
    snapshot_weights: bool = False  # whether their embeddings are kept, too

    @property
    def one_model(self) -> Model:
        """The model of one cell, whose sizes are those of all."""
        return cells.example(self.model)

    @property
    def one(self) -> Parameters:
        """The shapes of one network's parameters."""
        return one_model(self.one_model)

    @property
    def row_axes(self) -> tuple[str, ...]:
        """The axes on which the samples depend."""
        return dependencies.row_axes(self.features, self.one_model)

    @property
    def lane_axes(self) -> tuple[str, ...]:
        """The axes on which anything else depends; some may be those of rows."""
        return dependencies.lane_axes(self.features, self.model, self.optimizer)

    @property
    def is_independent(self) -> bool:
        """Whether all features are active on their own."""
        return isinstance(self.features_at({}).activity, Independent)

    @property
    def has_closed_form(self) -> bool:
        """Whether the population loss is known in closed form, from the moments or from those of every mask."""
        model = self.one_model
        known = self.is_independent or self.features_at({}).have_few_masks(model.n_features)
        return known and model.has_closed_form

    @property
    def lane_shapes(self) -> dict[str, Any]:
        """The shapes of one lane's coordinates."""
        return dict.fromkeys(self.lane_axes, NUMBER)

    @property
    def row_shapes(self) -> dict[str, Any]:
        """The shapes of one row's coordinates."""
        return dict.fromkeys(self.row_axes, NUMBER)

    def that_matter(self, lane: Coordinates) -> Coordinates:
        """Return the coordinates of lanes on which the loss or the optimiser depends."""
        return {name: lane[name] for name in self.lane_axes}

    def features_at(self, coordinates: Coordinates) -> Features:
        """Return the features of a cell."""
        model = self.one_model
        return at(self.features, coordinates).of(model.n_features, model.distribution)

    def importances(self, lane: Coordinates) -> Array:
        """Return v [N] of a cell."""
        return self.features_at(lane).importances(self.one_model.n_features)

    def scale(self, lane: Coordinates) -> Array | None:
        """Return the model's scale [N] in a cell; None for a model that has none."""
        return at(self.model, lane).scale(self.importances(lane)) if has_scale(self.one_model) else None

    def sample_loss(self, params: Parameters, x: Array, lane: Coordinates) -> Array:
        """Return the loss of one network on one sample x [N]."""
        return at(self.model, lane).loss(params, x, self.importances(lane))

    def loss(self, params: Parameters, lane: Coordinates, data: Any) -> Array:
        """Return the objective of one network: the weighted batch mean, or the population loss from `exact_data`."""
        if self.objective == "expected":
            return self._expected_loss(params, lane, data)
        return data.weight @ jax.vmap(self.sample_loss, (None, 0, None))(params, data.x, lane)

    def _expected_loss(self, params: Parameters, lane: Coordinates, data: Any) -> Array:
        model, v = at(self.model, lane), self.importances(lane)
        if isinstance(data, Moments):
            return model.expected_loss(params, v, data)
        probability, moments = data
        of_mask = jax.vmap(lambda moments: model.expected_loss(params, v, moments))
        return probability @ of_mask(moments)

    def exact_data(self, row: Coordinates) -> Any:
        """Return what the population loss depends on: the moments of independent features; where features are not
        independent, the probability [M] of every mask and the moments [M, N] under it."""
        features, n = self.features_at(row), self.one_model.n_features
        if isinstance(features.activity, Independent):
            return features.moments()
        active = masks(n).astype(np.float32)
        moments = (jnp.broadcast_to(a, active.shape) for a in features.active_moments())
        return features.mask_probability(masks(n)), Moments(*(a * active for a in moments))

    def draw(self, key: Array, step: Array, row: Coordinates) -> Any:
        """Return the data of one step in one row: a `Batch`, or for the expected objective the `exact_data`."""
        if self.objective == "expected":
            return self.exact_data(row)
        return self.sampler(self.sampler.uniforms(key, step), self.features_at(row))


def in_weights(units: Parameters, scale: Array | None) -> Parameters:
    """Return the parameters whose columns of W are given in units of the model's scale [N] (and more axes, as W has),
    if it has one."""
    return units if scale is None else units._replace(W=units.W * scale[None])


def in_units(params: Parameters, scale: Array | None) -> Parameters:
    """Return the inverse of `in_weights`. A scale of 0, for a feature of importance 0, leaves its column as it is."""
    return params if scale is None else params._replace(W=params.W / jnp.where(scale > 0, scale, 1)[None])


class Trained(NamedTuple):
    """Parameters at the end and, to see whether they had settled, about half way; and snapshots, if there are any."""

    end: Parameters
    half_way: Parameters
    snapshots: Parameters | None = None  # [K, ...] as the loop returns them, [P, L, K, ...] as an engine does

    def each(self, f: Callable[[Parameters], Parameters]) -> Trained:
        """Return the same with `f`, which returns [P, L, ...], of all parameters."""
        snapshots = None if self.snapshots is None else jax.vmap(f, out_axes=2)(self.snapshots)
        return Trained(f(self.end), f(self.half_way), snapshots)


def descend(
    gradient: Callable[[Parameters, Any], Parameters], optimizer: optax.GradientTransformation, carry: Any, data: Any
) -> Any:
    """Take a step for each of the data [K, ...]: `gradient(params, data)`, through the optimiser. The carry is the
    parameters and the optimiser's state."""

    def step(carry: Any, data: Any) -> Any:
        params, state = carry
        updates, state = optimizer.update(gradient(params, data), state, params)
        return (optax.apply_updates(params, updates), state), None

    return lax.scan(step, carry, data)[0]


def fit(
    several_steps: Callable[[Any, Any], Any],
    draw: Callable[[Array], Any],
    steps: int,
    start: tuple[Parameters, Any],
    snapshots: int = 0,
) -> Trained:
    """Run the training loop: `several_steps((params, state), data)` on what `draw(numbers)` gives of some steps, from
    parameters and the optimiser's state."""

    def drawn(carry: Any, numbers: Array) -> Any:
        # Without the barrier XLA draws every batch again in every kernel that reads it.
        return several_steps(carry, lax.optimization_barrier(draw(numbers)))

    return in_blocks(drawn, start, steps, snapshots)


def in_blocks(several_steps: Callable[[Any, Array], Any], start: Any, steps: int, snapshots: int = 0) -> Trained:
    """Take all steps in blocks whose data are drawn together, by `several_steps(carry, numbers)`. Return the first part
    of the carry: the last one, that where the last block of the first half begins, and the snapshots."""
    at_once, kept = block_of(steps, snapshots), snapshot_steps(steps, snapshots)
    longest = block_of(steps)
    middle = steps // 2 // longest * longest  # the same with snapshots, whose blocks are shorter

    def block(carry: Any, numbers: Array) -> Any:
        carry, half_way, looks = carry
        half_way = jax.tree.map(partial(jnp.where, numbers[0] <= middle), carry[0], half_way)
        if kept:  # in the place of the next snapshot, until its step has come
            place = jnp.searchsorted(jnp.array(kept), numbers[0])
            looks = jax.tree.map(lambda every, now: every.at[place].set(now), looks, carry[0])
        return (several_steps(carry, numbers), half_way, looks), None

    numbers = jnp.arange(steps)
    whole = steps - steps % at_once
    room = jax.tree.map(lambda a: jnp.zeros((len(kept), *a.shape), a.dtype), start[0]) if kept else None
    (carry, half_way, looks), _ = lax.scan(block, (start, start[0], room), numbers[:whole].reshape(-1, at_once))
    if whole < steps:
        carry = several_steps(carry, numbers[whole:])
    if kept:
        looks = jax.tree.map(lambda every, now: every.at[-1].set(now), looks, carry[0])
    return Trained(carry[0], half_way, looks)


def train_lanes(training: Training, start: Parameters, lane: Coordinates, row: Coordinates, draw_key: Array) -> Trained:
    """Train lanes from parameters [P, L, ...] at the coordinates [P, L] of lanes and [P] of rows; the result has leaves
    [P, L, ...]."""
    prepare, lane_gradient = lane_objective(training)
    scale = lanes.last(scales(training, start, lane))

    def draw(step: Array) -> Any:
        return prepare(over_rows(partial(training.draw, draw_key, step), row, n_rows(start)))

    def gradient(units: Parameters, data: Any) -> Parameters:
        weights, pull_back = jax.vjp(lambda units: in_weights(units, scale), units)
        return pull_back(lane_gradient(weights, lane, data))[0]

    units = in_units(lanes.last(start), scale)
    optimizer = optimizers.per_lane(training.optimizer, training.one, lane)
    several_steps = partial(descend, gradient, optimizer)
    begin = units, optimizer.init(units)
    trained = fit(several_steps, jax.vmap(draw), training.steps, begin, training.snapshots)
    return trained.each(lambda units: lanes.first(in_weights(units, scale)))


def scales(training: Training, params: Parameters, lane: Coordinates) -> Array | None:
    """Return the model's scale [P, L, N] in the lanes of params [P, L, ...]; None for a model that has none."""
    if not has_scale(training.one_model):
        return None
    if not lane:
        return jnp.broadcast_to(
            at(training.model, {}).scale(training.importances({})), (*params.W.shape[:2], training.one_model.n_features)
        )
    return jax.vmap(jax.vmap(training.scale))(lane)


def lane_objective(training: Training) -> Staged:
    """Return the gradient of all lanes, in two stages: what they need of the data of a step, and the gradient from
    that."""
    one, lane = training.one, training.lane_shapes
    if training.objective == "expected":
        return lanes.exact_gradient(training.loss, one, lane, jax.eval_shape(training.exact_data, training.row_shapes))
    return lanes.sampled_gradient(training.sample_loss, one, lane, training.one_model.n_features)


def argument_shapes(fixed: Training, shape: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Return the shapes of params, of the coordinates of lanes and rows, and of the key, of [P, L] lanes."""
    number = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    start = jax.tree.map(lambda a: number((*shape, *a.shape)), fixed.one)
    lane = dict.fromkeys(fixed.lane_axes, number(shape))
    row = dict.fromkeys(fixed.row_axes, number(shape[:1]))
    return start, lane, row, jax.eval_shape(lambda: keys.keys(0).draw)
