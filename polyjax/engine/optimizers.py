"""Optimisers, as a sweep has them, in every lane by itself."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import optax
from jax.extend.core import Jaxpr, Literal

from polyjax.engine.cells import NUMBER, Coordinates, OfAxes, at, names_of
from polyjax.engine.unroll import dependent


@lru_cache(maxsize=32)
def adam(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Return Adam whose learning rate decays to 0 along a cosine. Cached, so that equal configurations are one
    program."""
    return optax.adam(optax.cosine_decay_schedule(learning_rate, steps))


@lru_cache(maxsize=32)
def smaller_steps(
    optimizer: optax.GradientTransformation | OfAxes, factor: float
) -> optax.GradientTransformation | OfAxes:
    """Return the optimiser with all its steps times `factor`. Cached, so that equal configurations are one program."""
    if isinstance(optimizer, OfAxes):
        whole = optimizer.function
        return replace(optimizer, function=lambda **axes: optax.chain(whole(**axes), optax.scale(factor)))
    return optax.chain(optimizer, optax.scale(factor))


def per_lane(optimizer: Any, params: Any, lane: Coordinates) -> optax.GradientTransformation:
    """Return the optimiser, a part of a sweep, applied to every lane by itself: for params [..., P, L] at coordinates
    [P, L].

    What does not depend on the gradients or the coordinates, such as a step count and with it the learning rate, is
    kept once instead of once a lane.
    """
    lane = {name: lane[name] for name in names_of(optimizer)}
    axes = jax.tree.map(lambda own: -1 if own else None, depends_on_lane(optimizer, params))

    def twice(f: Callable[..., Any], in_axes: Any, out_axes: Any) -> Callable[..., Any]:
        return jax.vmap(jax.vmap(f, in_axes, out_axes), in_axes, out_axes)

    init = twice(lambda params, lane: at(optimizer, lane).init(params), -1, axes)
    update = twice(lambda *given: at(optimizer, given[-1]).update(*given[:-1]), (-1, axes, -1, -1), (-1, axes))
    return optax.GradientTransformation(
        lambda params: init(params, lane),
        lambda gradient, state, params=None: update(gradient, state, params, lane),
    )


def depends_on_lane(optimizer: Any, params: Any) -> Any:
    """Say for every leaf of the optimiser's state whether it depends on the gradients, the parameters or the
    coordinates."""
    lane = dict.fromkeys(names_of(optimizer), NUMBER)
    init, update = (lambda p, c: at(optimizer, c).init(p)), (lambda g, s, p, c: at(optimizer, c).update(g, s, p))
    program, state = jax.make_jaxpr(init, return_shape=True)(params, lane)
    structure = jax.tree.structure(state)
    n_params, n_lane = len(jax.tree.leaves(params)), len(lane)
    own = _reached(program.jaxpr, [True] * (n_params + n_lane))
    program = jax.make_jaxpr(update)(params, state, params, lane)
    while True:
        after = _reached(program.jaxpr, [True] * n_params + own + [True] * (n_params + n_lane))[n_params:]
        if after == own:
            return jax.tree.unflatten(structure, own)
        own = [a or b for a, b in zip(own, after, strict=True)]


def _reached(program: Jaxpr, marked: list[bool]) -> list[bool]:
    """Say which outputs of a program depend on the marked inputs."""
    sources = [v for v, mark in zip(program.invars, marked, strict=True) if mark]
    reached = dependent(program.eqns, sources)
    return [not isinstance(v, Literal) and v in reached for v in program.outvars]
