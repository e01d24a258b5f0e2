"""The lanes form: gradients of many small models at once, at the machine's arithmetic rate.

A lane is one model. Parameters keep their own axes first and have the lanes last, such as W [D, N, P, L] for P
densities and L lanes a density; so every weight is one contiguous array. The gradient of a loss is unrolled into scalar
arithmetic (`unroll`), vmapped over densities, lanes and samples, and all its terms are summed over the samples by ONE
variadic reduction, which XLA compiles to one kernel that keeps nothing in memory.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.extend.core import Jaxpr, Literal

from polyjax.engine.unroll import Scalars, Staged, dependent, scalars_of, split, unroll
from polyjax.toy.distributions import Batch, Moments

NUMBER = jax.ShapeDtypeStruct((), np.float32)
MOMENTS: Any = jax.tree.map(lambda _: NUMBER, Moments(*[0] * 4))  # type: ignore[arg-type]

# The reduction vectorises only when it may be reassociated; results then differ from the plain order by rounding.
# Infinities and NaN are not honoured here, which is why nothing but the training loop is compiled with these.
CPU_COMPILER_OPTIONS = {
    "xla_cpu_enable_fast_math": True,
    "xla_cpu_prefer_vector_width": 512,
    "xla_backend_optimization_level": 2,  # as fast as 3, the default, and sooner compiled
}


def gradient_terms(loss: Callable[..., Array], params: Any, n_features: int) -> Staged:
    """Return the gradient of weight * loss(params, x, importance) of one sample, in scalars and in two stages (see
    `split`): what (x, weight) alone decide, and the rest, from (params, the importance of feature 0; that of the others
    is 1).

    `params` has the shapes of one model. Parameters, and gradients, are lists of the entries of every leaf.
    """

    def one_sample(params: Any, x: Array, importance: Array, weight: Array) -> Any:
        return jax.vjp(lambda p: loss(p, x, importance), params)[1](weight)[0]

    return _sample_terms(one_sample, params, n_features)


def _sample_terms(one_sample: Callable[..., Any], params: Any, n_features: int) -> Staged:
    """Unroll a function of (params, x, importance, weight), in the two stages of `gradient_terms`."""
    vector = jax.ShapeDtypeStruct((n_features,), np.float32)
    unrolled = unroll(one_sample, params, vector, vector, NUMBER)

    def terms(sample: tuple[list[Any], Any], lane: tuple[list[list[Any]], Any]) -> list[list[Any]]:
        (x, weight), (params, importance) = sample, lane
        return unrolled(*params, x, importances(importance, n_features), [weight])

    return split(terms, ([NUMBER] * n_features, NUMBER), lane_scalars(params))


def sampled_gradient(loss: Callable[..., Array], params: Any, n_features: int) -> Staged:
    """Return the gradient of the weighted sum of `loss` over a batch, in every lane, in two stages.

    The first maps a batch of x [P, B, N] and weight [P, B] to what the second needs of it, a list of arrays [P, B];
    the second maps params [..., P, L], the importance [P, L] of feature 0 and that list to gradients [..., P, L].
    """
    prepare, summed = _over_batch(gradient_terms(loss, params, n_features))
    return Staged(prepare, lambda params, importance, samples: _join(summed(params, importance, samples), params))


def sampled_value_and_gradient(loss: Callable[..., Array], params: Any, n_features: int) -> Staged:
    """Return the same with the value [P, L] before the gradient."""

    def one_sample(params: Any, x: Array, importance: Array, weight: Array) -> Any:
        value, pull_back = jax.vjp(lambda p: loss(p, x, importance), params)
        return weight * value, pull_back(weight)[0]

    prepare, summed = _over_batch(_sample_terms(one_sample, params, n_features))

    def both(params: Any, importance: Array, samples: list[Array]) -> tuple[Array, Any]:
        (value,), *gradient = summed(params, importance, samples)
        return value, _join(gradient, params)

    return Staged(prepare, both)


def _over_batch(staged: Staged) -> Staged:
    """Return terms of a sample, summed over a batch in every lane, in the two stages of `sampled_gradient`."""
    before, after = staged
    terms, each = _over_samples_and_lanes(after), _over_samples(before)

    def summed(params: Any, importance: Array, samples: list[Array]) -> list[list[Array]]:
        # Without the barrier XLA hoists importance x weight out of the training loop, as one large array.
        importance = lax.optimization_barrier(importance)
        P, L = importance.shape
        return _sum_samples(terms(samples, (_split(params), importance)), (P, L, samples[0].shape[-1]))

    return Staged(lambda batch: each((_features(batch), batch.weight)), summed)


def sampled_loss(loss: Callable[..., Array], params: Any, n_features: int) -> Staged:
    """Return the weighted sum of `loss` over a batch, [P, L], in two stages as in `sampled_gradient`."""
    vector = jax.ShapeDtypeStruct((n_features,), np.float32)
    unrolled = unroll(loss, params, vector, vector)

    def one_sample(x: list[Any], lane: tuple[list[list[Any]], Any]) -> Any:
        params, importance = lane
        return unrolled(*params, x, importances(importance, n_features))[0][0]

    before, after = split(one_sample, [NUMBER] * n_features, lane_scalars(params))
    each_sample, losses = _over_samples(before), _over_samples_and_lanes(after)

    def prepare(batch: Batch) -> tuple[list[Array], Array]:
        return each_sample(_features(batch)), batch.weight

    def total(params: Any, importance: Array, samples: tuple[list[Array], Array]) -> Array:
        # Samples and sums apart: without fast-math a sum in the same kernel would keep all of it from being vectorised.
        values, weight = lax.optimization_barrier(samples)
        each = lax.optimization_barrier(losses(values, (_split(params), importance)))
        return jnp.einsum("plb,pb->pl", each, weight)

    return Staged(prepare, total)


def _features(batch: Batch) -> list[Array]:
    """Return x [P, B, N] as one array [P, B] for every feature."""
    return [*jnp.moveaxis(batch.x, -1, 0)]


def _over_samples(before: Scalars) -> Scalars:
    """Return `before` on samples [P, B]."""
    return jax.vmap(jax.vmap(before))


def _over_samples_and_lanes(after: Scalars) -> Callable[..., Any]:
    """Return `after` on samples [P, B] and lanes [P, L], as arrays [P, L, B]."""
    lanes = jax.vmap(jax.vmap(after, (0, None)), (None, 0))  # samples, then lanes
    return jax.vmap(lanes, (0, 0))  # densities


def exact_terms(loss: Callable[..., Array], params: Any, n_features: int) -> Staged:
    """Return the gradient of `loss(params, importance, data)` without samples, in scalars and in two stages: what the
    moments `data` decide alone, and the rest as in `gradient_terms`."""
    vector = jax.ShapeDtypeStruct((n_features,), np.float32)
    unrolled = unroll(jax.grad(loss), params, vector, MOMENTS)

    def terms(data: Any, lane: tuple[list[list[Any]], Any]) -> list[list[Any]]:
        params, importance = lane
        return unrolled(*params, importances(importance, n_features), *([moment] for moment in data))

    return split(terms, MOMENTS, lane_scalars(params))


def exact_gradient(loss: Callable[..., Array], params: Any, n_features: int) -> Staged:
    """Return the same in every lane, in two stages as in `sampled_gradient`, from moments [P]."""
    before, after = exact_terms(loss, params, n_features)
    gradients = jax.vmap(jax.vmap(after, (None, 0)))  # lanes, then densities

    def gradient(params: Any, importance: Array, data: list[Array]) -> Any:
        return _join(gradients(data, (_split(params), importance)), params)

    return Staged(jax.vmap(before), gradient)


def last(params: Any) -> Any:
    """Return parameters [P, L, ...] as [..., P, L], the form of this module."""
    return jax.tree.map(lambda a: jnp.moveaxis(a, (0, 1), (-2, -1)), params)


def first(params: Any) -> Any:
    """Return the inverse of `last`."""
    return jax.tree.map(lambda a: jnp.moveaxis(a, (-2, -1), (0, 1)), params)


def importances(importance: Any, n_features: int) -> list[Any]:
    """Return v in scalars, from the importance of feature 0."""
    return [importance] + [np.float32(1)] * (n_features - 1)


def lane_scalars(params: Any) -> Any:
    """Return the shapes of a lane's parameters and importance, in scalars."""
    return scalars_of(params), NUMBER


def _split(params: Any) -> list[list[Array]]:
    """Return every leaf [..., P, L] as a list of its entries [P, L]."""
    return [[*leaf.reshape(-1, *leaf.shape[-2:])] for leaf in jax.tree.leaves(params)]


def _join(terms: list[list[Array]], params: Any) -> Any:
    """Return the inverse of `_split`, in the shapes of `params`."""
    leaves, structure = jax.tree.flatten(params)
    return jax.tree.unflatten(structure, [jnp.stack(t).reshape(p.shape) for t, p in zip(terms, leaves, strict=True)])


def _sum_samples(terms: list[list[Array]], shape: tuple[int, int, int]) -> list[list[Array]]:
    """Sum every term over the samples, the last axis of `shape`."""
    flat, structure = jax.tree.flatten(terms)
    flat = [jnp.broadcast_to(t, shape) for t in flat]
    sums = lax.reduce(flat, [np.float32(0)] * len(flat), lambda a, b: [x + y for x, y in zip(a, b, strict=True)], (2,))
    return jax.tree.unflatten(structure, sums)


def per_lane(optimizer: optax.GradientTransformation, params: Any) -> optax.GradientTransformation:
    """Return the transformation applied to every lane by itself, for params [..., P, L].

    What does not depend on the gradients, such as a step count and with it the learning rate, is kept once instead of
    once a lane.
    """
    state = jax.eval_shape(optimizer.init, params)
    axes = jax.tree.map(lambda own: -1 if own else None, _depends_on_lane(optimizer, params, state))

    def twice(f: Callable[..., Any], in_axes: Any, out_axes: Any) -> Callable[..., Any]:
        return jax.vmap(jax.vmap(f, in_axes, out_axes), in_axes, out_axes)

    init = twice(optimizer.init, -1, axes)
    update = twice(optimizer.update, (-1, axes, -1), (-1, axes))
    return optax.GradientTransformation(init, update)


def _depends_on_lane(optimizer: optax.GradientTransformation, params: Any, state: Any) -> Any:
    """Say for every leaf of the optimiser's state whether it depends on the gradients or the parameters."""
    structure = jax.tree.structure(state)
    n_params = len(jax.tree.leaves(params))
    own = _reached(jax.make_jaxpr(optimizer.init)(params).jaxpr, [True] * n_params)
    program = jax.make_jaxpr(optimizer.update)(params, state, params).jaxpr
    while True:
        after = _reached(program, [True] * n_params + own + [True] * n_params)[n_params:]
        if after == own:
            return jax.tree.unflatten(structure, own)
        own = [a or b for a, b in zip(own, after, strict=True)]


def _reached(program: Jaxpr, marked: list[bool]) -> list[bool]:
    """Say which outputs of a program depend on the marked inputs."""
    sources = [v for v, mark in zip(program.invars, marked, strict=True) if mark]
    reached = dependent(program.eqns, sources)
    return [not isinstance(v, Literal) and v in reached for v in program.outvars]
