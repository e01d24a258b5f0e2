"""One training step of one model in scalars, for a kernel that keeps the model's weights in registers.

Both halves of a step, the gradient and the optimiser's update, come in two stages (`unroll.split`): what the data or
the step's number decide alone, such as the target or the learning rate, is computed once, outside the kernel; the rest
for every lane. Parameters, gradients and the optimiser's state are lists of the entries of every leaf.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from polyjax.engine.fused.vectors import on_vectors
from polyjax.engine.lanes import MOMENTS, NUMBER, exact_terms, gradient_terms, importances, lane_scalars, per_lane
from polyjax.engine.training import Training
from polyjax.engine.unroll import Staged, scalars_of, split, unroll
from polyjax.toy.models import Model, Params, one_model

Entries = list[list[Any]]  # of every leaf


class Program:
    """One step of a model. `of_lane` says of every leaf of the optimiser's state whether each lane has its own;
    the others, such as a step count, all models share.

    Raises NotImplementedError for a model or an optimiser that is no arithmetic of scalars.
    """

    def __init__(self, training: Training) -> None:
        self.training, self.optimizer, self.one = training, training.optimizer, one_model(training.model)
        self.state = jax.eval_shape(self.optimizer.init, self.one)
        self.of_lane = _of_lane(self.optimizer, self.one, self.state)
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

    def samples(self, key: Array, numbers: Array, density: Array) -> Array:
        """Return what lanes need of the data of some steps, at densities [P]: [P, K, B, Q], Q numbers of each of B
        samples. For the expected objective B is 1."""

        def at(number: Array, density: Array) -> Array:
            data = self.training.draw(key, number, density)
            if self.training.objective == "expected":
                return self.gradient.before(data)[None]
            return jax.vmap(lambda x, weight: self.gradient.before(([*x], weight)))(data.x, data.weight)

        return jax.vmap(jax.vmap(at, (0, None)), (None, 0))(numbers, density)

    def next_shared(self, shared: list[Array]) -> tuple[list[Array], Array]:
        """Return the shared leaves after a step, and the numbers that this step needs of them."""
        zeros = lambda tree: jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), tree)  # noqa: E731
        leaves = self.merge(zeros(self.lane_leaves(jax.tree.leaves(self.state))), shared)
        state = jax.tree.unflatten(jax.tree.structure(self.state), leaves)
        new = self.optimizer.update(zeros(self.one), state, zeros(self.one))[1]
        return self.shared_leaves(jax.tree.leaves(new)), self.update.before([[*leaf.ravel()] for leaf in shared])

    def _update_stages(self) -> Staged:
        """Return the optimiser's update: from the shared leaves and from (the gradient, the model's own leaves, the
        parameters), to (the parameters, the model's own leaves)."""
        if any(leaf.dtype != np.float32 for leaf in self.lane_leaves(jax.tree.leaves(self.state))):
            raise NotImplementedError("the optimiser keeps flags or counts for every model")

        def update(gradient: Params, state: Any, params: Params) -> Any:
            updates, state = self.optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        unrolled, n = unroll(update, self.one, self.state, self.one), len(self.one)

        def scalars(shared: Entries, model: tuple[Entries, Entries, Entries]) -> tuple[Entries, Entries]:
            gradient, of_lane, params = model
            new = unrolled(*gradient, *self.merge(of_lane, shared), *params)
            return new[:n], self.lane_leaves(new[n:])

        one, state = scalars_of(self.one), scalars_of(self.state)
        shared, model = self.shared_leaves(state), (one, self.lane_leaves(state), one)
        return _for_kernel(split(scalars, shared, model), shared, model)


def _of_lane(optimizer: optax.GradientTransformation, one: Params, state: Any) -> list[bool]:
    """Say which leaves are a model's own: those that have more axes in lanes than by themselves."""
    lane = jax.tree.map(lambda a: jax.ShapeDtypeStruct((*a.shape, 1, 1), a.dtype), one)
    in_lanes = jax.eval_shape(per_lane(optimizer, one).init, lane)
    return [a.ndim > b.ndim for a, b in zip(jax.tree.leaves(in_lanes), jax.tree.leaves(state), strict=True)]


def _gradient_stages(training: Training, one: Params) -> Staged:
    """Return the gradient with respect to the weights, from the data of one sample, ([x_1, ..., x_N], weight), and from
    (the parameters, the importance of feature 0). For the expected objective the data are the moments instead."""
    n, lane = training.model.n_features, lane_scalars(one)
    if training.objective == "expected":
        return _for_kernel(exact_terms(training.loss, one, n), MOMENTS, lane)
    return _for_kernel(gradient_terms(training.model.loss, one, n), ([NUMBER] * n, NUMBER), lane)


def scales(model: Model, importance: Array) -> list[Any]:
    """Return the model's scale of every feature at importances of any shape: an array of that shape, or one number
    where it does not depend on the importance of feature 0."""
    unrolled = unroll(model.scale, jax.ShapeDtypeStruct((model.n_features,), np.float32))
    return on_vectors(lambda v: unrolled(importances(v, model.n_features))[0], NUMBER)(importance)


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
