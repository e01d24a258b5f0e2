"""The lanes form: gradients of many small models at once, at the machine's arithmetic rate.

A lane is one model. Parameters keep their own axes first and have the lanes last, such as W [D, N, P, L] for P
rows and L lanes a row; so every weight is one contiguous array. The gradient of a loss is unrolled into scalar
arithmetic (`unroll`), vmapped over rows, lanes and samples, and all its terms are summed over the samples by ONE
variadic reduction, which XLA compiles to one kernel that keeps nothing in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from polyjax.engine.cells import NUMBER, Coordinates
from polyjax.engine.unroll import Scalars, Staged, scalars_of, split, unroll

if TYPE_CHECKING:
    from polyjax.toy.distributions import Batch

# The reduction vectorises only when it may be reassociated; results then differ from the plain order by rounding.
# Infinities and NaN are not honoured here, which is why nothing but the training loop is compiled with these.
CPU_COMPILER_OPTIONS = {
    "xla_cpu_enable_fast_math": True,
    "xla_cpu_prefer_vector_width": 512,
    "xla_backend_optimization_level": 2,  # as fast as 3, the default, and sooner compiled
}


def gradient_terms(loss: Callable[..., Array], params: Any, lane: Coordinates, n_features: int) -> Staged:
    """Return the gradient of weight * loss(params, x, lane) of one sample, in scalars and in two stages (see `split`):
    what (x, weight) alone decide, and the rest, from (params, the lane's coordinates).

    `params` and `lane` have the shapes of one model's. Parameters, and gradients, are lists of the entries of every
    leaf.
    """

    def one_sample(params: Any, x: Array, lane: Coordinates, weight: Array) -> Any:
        return jax.vjp(lambda p: loss(p, x, lane), params)[1](weight)[0]

    return _sample_terms(one_sample, params, lane, n_features)


def _sample_terms(one_sample: Callable[..., Any], params: Any, lane: Coordinates, n_features: int) -> Staged:
    """Unroll a function of (params, x, lane, weight), in the two stages of `gradient_terms`."""
    vector = jax.ShapeDtypeStruct((n_features,), np.float32)
    unrolled = unroll(one_sample, params, vector, lane, NUMBER)

    def terms(sample: tuple[list[Any], Any], model: tuple[list[list[Any]], Coordinates]) -> list[list[Any]]:
        (x, weight), (params, lane) = sample, model
        return unrolled(*params, x, *entries(lane), [weight])

    return split(terms, ([NUMBER] * n_features, NUMBER), (scalars_of(params), lane))


def sampled_gradient(loss: Callable[..., Array], params: Any, lane: Coordinates, n_features: int) -> Staged:
    """Return the gradient of the weighted sum of `loss` over a batch, in every lane, in two stages.

    The first maps a batch of x [P, B, N] and weight [P, B] to what the second needs of it, a list of arrays [P, B];
    the second maps params [..., P, L], the coordinates [P, L] of lanes and that list to gradients [..., P, L].
    """
    prepare, summed = _over_batch(gradient_terms(loss, params, lane, n_features))
    return Staged(prepare, lambda params, lane, samples: _join(summed(params, lane, samples), params))


def sampled_value_and_gradient(loss: Callable[..., Array], params: Any, lane: Coordinates, n_features: int) -> Staged:
    """Return the same with the value [P, L] before the gradient."""

    def one_sample(params: Any, x: Array, lane: Coordinates, weight: Array) -> Any:
        value, pull_back = jax.vjp(lambda p: loss(p, x, lane), params)
        return weight * value, pull_back(weight)[0]

    prepare, summed = _over_batch(_sample_terms(one_sample, params, lane, n_features))

    def both(params: Any, lane: Coordinates, samples: list[Array]) -> tuple[Array, Any]:
        (value,), *gradient = summed(params, lane, samples)
        return value, _join(gradient, params)

    return Staged(prepare, both)


def _over_batch(staged: Staged) -> Staged:
    """Return terms of a sample, summed over a batch in every lane, in the two stages of `sampled_gradient`."""
    before, after = staged
    terms, each = _over_samples_and_lanes(after), _over_samples(before)

    def summed(params: Any, lane: Coordinates, samples: list[Array]) -> list[list[Array]]:
        # Without the barrier XLA hoists importance x weight out of the training loop, as one large array.
        lane = lax.optimization_barrier(lane)
        shape = *jax.tree.leaves(params)[0].shape[-2:], samples[0].shape[-1]
        return _sum_samples(terms(samples, (_split(params), lane)), shape)

    return Staged(lambda batch: each((_features(batch), batch.weight)), summed)


def sampled_loss(loss: Callable[..., Array], params: Any, lane: Coordinates, n_features: int) -> Staged:
    """Return the weighted sum of `loss` over a batch, [P, L], in two stages as in `sampled_gradient`."""
    vector = jax.ShapeDtypeStruct((n_features,), np.float32)
    unrolled = unroll(loss, params, vector, lane)

    def one_sample(x: list[Any], model: tuple[list[list[Any]], Coordinates]) -> Any:
        params, lane = model
        return unrolled(*params, x, *entries(lane))[0][0]

    before, after = split(one_sample, [NUMBER] * n_features, (scalars_of(params), lane))
    each_sample, losses = _over_samples(before), _over_samples_and_lanes(after)

    def prepare(batch: Batch) -> tuple[list[Array], Array]:
        return each_sample(_features(batch)), batch.weight

    def total(params: Any, lane: Coordinates, samples: tuple[list[Array], Array]) -> Array:
        # Samples and sums apart: without fast-math a sum in the same kernel would keep all of it from being vectorised.
        values, weight = lax.optimization_barrier(samples)
        each = lax.optimization_barrier(losses(values, (_split(params), lane)))
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
    return jax.vmap(lanes, (0, 0))  # rows


def exact_terms(loss: Callable[..., Array], params: Any, lane: Coordinates, data: Any) -> Staged:
    """Return the gradient of `loss(params, lane, data)` without samples, in scalars and in two stages: what the
    `entries` of `data`, such as moments, decide alone, and the rest as in `gradient_terms`."""
    unrolled = unroll(jax.grad(loss), params, lane, data)

    def terms(data: list[list[Any]], model: tuple[list[list[Any]], Coordinates]) -> list[list[Any]]:
        params, lane = model
        return unrolled(*params, *entries(lane), *data)

    return split(terms, scalars_of(data), (scalars_of(params), lane))


def exact_gradient(loss: Callable[..., Array], params: Any, lane: Coordinates, data: Any) -> Staged:
    """Return the same in every lane, in two stages as in `sampled_gradient`, from data [P, ...]."""
    before, after = exact_terms(loss, params, lane, data)
    gradients = jax.vmap(jax.vmap(after, (None, 0)))  # lanes, then rows

    def gradient(params: Any, lane: Coordinates, data: list[Array]) -> Any:
        return _join(gradients(data, (_split(params), lane)), params)

    return Staged(jax.vmap(lambda data: before(entries(data))), gradient)


def entries(tree: Any) -> list[list[Any]]:
    """Return the entries of every leaf, in row-major order."""
    return [[*leaf.reshape(-1)] if np.ndim(leaf) else [leaf] for leaf in jax.tree.leaves(tree)]


def last(params: Any) -> Any:
    """Return parameters [P, L, ...] as [..., P, L], the form of this module."""
    return jax.tree.map(lambda a: jnp.moveaxis(a, (0, 1), (-2, -1)), params)


def first(params: Any) -> Any:
    """Return the inverse of `last`."""
    return jax.tree.map(lambda a: jnp.moveaxis(a, (-2, -1), (0, 1)), params)


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
