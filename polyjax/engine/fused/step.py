"""One training step of one model in scalars, for a kernel that keeps the model's weights in registers.

Both halves of a step, the gradient and the optimiser's update, come in two stages (`unroll.split`): what the data or
the step's number decide alone, such as the target or the learning rate, is computed once, outside the kernel; the rest
for every lane. Parameters, gradients and the optimiser's state are lists of the entries of every leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from polyjax.engine import cells
from polyjax.engine.cells import NUMBER, Coordinates, at, names_of, over_rows
from polyjax.engine.fused.vectors import on_vectors
from polyjax.engine.lanes import entries, exact_terms, gradient_terms
from polyjax.engine.optimizers import depends_on_lane
from polyjax.engine.unroll import Staged, scalars_of, split, unroll
from polyjax.toy.model import Parameters, has_scale

if TYPE_CHECKING:
    from polyjax.engine.training import Training

Entries = list[list[Any]]  # of every leaf


class Program:
    """One step of a model. `of_lane` says of every leaf of the optimiser's state whether each lane has its own;
    the others, such as a step count, all models share.

    Raises NotImplementedError for a model or an optimiser that is no arithmetic of scalars.
    """

    def __init__(self, training: Training) -> None:
        self.training, self.one = training, training.one
        self.lane, self.example = training.lane_shapes, cells.example(training.optimizer)
        self.state = jax.eval_shape(self.example.init, self.one)
        self.of_lane = jax.tree.leaves(depends_on_lane(training.optimizer, self.one))
        self.gradient = _gradient_stages(training, self.one)
        self.update = self._update_stages()

    def lane_leaves(self, leaves: Sequence[Any]) -> list[Any]:
        return [leaf for leaf, of_lane in zip(leaves, self.of_lane, strict=True) if of_lane]

    def shared_leaves(self, leaves: Sequence[Any]) -> list[Any]:
        return [leaf for leaf, of_lane in zip(leaves, self.of_lane, strict=True) if not of_lane]

    def merge(self, of_lane: Sequence[Any], shared: Sequence[Any]) -> list[Any]:
        """Return the leaves in their order, the inverse of `lane_leaves` and `shared_leaves`."""
        rest = {True: iter(of_lane), False: iter(shared)}
        return [next(rest[each]) for each in self.of_lane]

    def samples(self, key: Array, numbers: Array, row: Coordinates, rows: int) -> Array:
        """Return what lanes need of the data of some steps, at the coordinates [P] of so many rows: [P, K, B, Q], Q
        numbers of each of B samples. For the expected objective B is 1."""

        def of_step(number: Array, row: Coordinates) -> Array:
            data = self.training.draw(key, number, row)
            if self.training.objective == "expected":
                return self.gradient.before(entries(data))[None]
            return jax.vmap(lambda x, weight: self.gradient.before(([*x], weight)))(data.x, data.weight)

        return over_rows(lambda row: jax.vmap(of_step, (0, None))(numbers, row), row, rows)

    def next_shared(self, shared: list[Array]) -> tuple[list[Array], Array]:
        """Return the shared leaves after a step, and the numbers that this step needs of them."""
        zeros = lambda tree: jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), tree)  # noqa: E731
        leaves = self.merge(zeros(self.lane_leaves(jax.tree.leaves(self.state))), shared)
        state = jax.tree.unflatten(jax.tree.structure(self.state), leaves)
        new = self.example.update(zeros(self.one), state, zeros(self.one))[1]
        return self.shared_leaves(jax.tree.leaves(new)), self.update.before([[*leaf.ravel()] for leaf in shared])

    def _update_stages(self) -> Staged:
        """Return the optimiser's update: from the shared leaves and from (the gradient, the model's own leaves, the
        parameters, the lane's coordinates), to (the parameters, the model's own leaves)."""
        if any(leaf.dtype != np.float32 for leaf in self.lane_leaves(jax.tree.leaves(self.state))):
            raise NotImplementedError("the optimiser keeps flags or counts for every model")

        names = names_of(self.training.optimizer)

        def update(gradient: Parameters, state: Any, params: Parameters, lane: Coordinates) -> Any:
            updates, state = at(self.training.optimizer, lane).update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        lane = {name: self.lane[name] for name in names}
        unrolled, n = unroll(update, self.one, self.state, self.one, lane), len(self.one)

        def scalars(shared: Entries, model: tuple[Entries, Entries, Entries, Coordinates]) -> tuple[Entries, Entries]:
            gradient, of_lane, params, lane = model
            new = unrolled(*gradient, *self.merge(of_lane, shared), *params, *entries({n: lane[n] for n in names}))
            return new[:n], self.lane_leaves(new[n:])

        one, state = scalars_of(self.one), scalars_of(self.state)
        shared, model = self.shared_leaves(state), (one, self.lane_leaves(state), one, self.lane)
        return _for_kernel(split(scalars, shared, model), shared, model)


def _gradient_stages(training: Training, one: Parameters) -> Staged:
    """Return the gradient with respect to the weights, from the data of one sample, ([x_1, ..., x_N], weight), and from
    (the parameters, the lane's coordinates). For the expected objective the data are `entries` of the exact ones."""
    lane, n = training.lane_shapes, training.one_model.n_features
    model = scalars_of(one), lane
    if training.objective == "expected":
        data = jax.eval_shape(training.exact_data, training.row_shapes)
        return _for_kernel(exact_terms(training.loss, one, lane, data), scalars_of(data), model)
    return _for_kernel(gradient_terms(training.sample_loss, one, lane, n), ([NUMBER] * n, NUMBER), model)


def scale_entries(training: Training, lane: Coordinates) -> list[Any]:
    """Return the model's scale of every feature at coordinates of any shape: an array of that shape, or one number
    where it does not depend on them; nothing for a model that has none."""
    if not has_scale(training.one_model):
        return []
    shapes = training.lane_shapes
    unrolled = unroll(training.scale, shapes)
    return on_vectors(lambda lane: unrolled(*entries(lane))[0], shapes)(lane)


def _for_kernel(staged: Staged, shared: Any, own: Any) -> Staged:
    """Return the same stages where numbers are passed on in one array of single precision, at least one."""
    first, second = staged
    values = jax.eval_shape(first, shared)
    evaluate = on_vectors(second, values, own)

    def before(shared: Any) -> Array:
        return jnp.stack([jnp.asarray(value, np.float32) for value in first(shared)] or [jnp.zeros(())])

    def after(numbers: Sequence[Any], own: Any) -> Any:
        return evaluate([_typed(x, value.dtype) for x, value in zip(numbers, values, strict=False)], own)

    return Staged(before, after)


def _typed(x: Any, dtype: Any) -> Any:
    """Return a value that was passed on in single precision, which is exact for flags and for counts below 2^24."""
    if dtype == np.bool_:
        return x != 0
    return x if dtype == np.float32 else lax.convert_element_type(x, dtype)
