"""Polishing: the parameters of many trained models at once are minimised to the end on a fixed objective.

Training stops short of a minimum, as its gradients are noisy. Here the objective is the closed-form population loss
where the model has one, else the mean over a fixed batch (`lattice`), and the method is BFGS in every lane:
quasi-Newton steps from the Hessian at the start, which is measured by differences of gradients. So it asks of a model
no more than training does, and the batch averages over most kinks of ReLU. All lanes take the same number of steps,
each of which evaluates one trial point in every lane: lanes never wait for each other's line searches.

Axis letters: P densities, L lanes a density, n parameters of one model, B samples.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.typing import ArrayLike

from polyjax import devices, lanes
from polyjax.lattice import tile
from polyjax.models import Model, Params
from polyjax.training import Training, one_model

LARGEST = 300  # parameters: the Hessian of every lane is kept
COARSE = 60  # steps of the first attempt on one tile, before those on the whole batch
STEPS = 8  # most steps on the whole batch
TILES = (4, 4, 64, 64, 256)  # of the batch of every attempt
MOST = 0.98  # of the lanes that are polished together: when so many have arrived, the rest is left to other attempts
DIFFERENCE = (0.003, 0.03)  # between points at which gradients are compared: half a parameter's size, inside these
STIFFEST = 1e3  # the largest ratio of curvatures that the first steps believe
FARTHEST = 0.3  # how far the first step goes at most, in all parameters together, beside the weights' length
PROBE = 0.1  # likewise, of the steps along the direction of least curvature, which leave saddles
DESCENT, ROUNDING = 1e-4, 2e-7  # of Armijo's rule: the fraction of the slope, and what a float32 loss cannot resolve
LARGE = 1e30  # in place of infinity, which training knows nothing of
ENOUGH = 2e-5  # steps that promise less, beside the loss, are not worth taking

Objective = Callable[[Array], tuple[Array, Array]]  # x [n, P, L] -> loss [P, L] and gradient [n, P, L]


class Polished(NamedTuple):
    """What an attempt makes of solutions [P, L, ...], and what it finds out about them on its own samples."""

    end: Params
    before: Array  # [P, L], the loss of the solutions
    after: Array  # [P, L], the loss at the end
    hessian: Array  # [P, L, n, n], at the solutions


class _State(NamedTuple):
    x: Array  # [n, P, L]
    loss: Array  # [P, L]
    gradient: Array  # [n, P, L]
    inverse: Array  # [n, n, P, L], of the Hessian
    length: Array  # [P, L], of the next trial step beside a whole quasi-Newton step


def objective(training: Training, importance: Array, density: Array, key: Array) -> Callable[[ArrayLike], Objective]:
    """Return the loss and its gradient at the importance [P, L] of feature 0 and the density [P], on any number of
    tiles."""
    one, draw = one_model(training.model), partial(tile, training.sampler, key)
    if training.objective == "expected":
        data = jax.vmap(training.sampler.distribution.sparse_moments)(density)
        return lambda tiles: lambda x: _flat(_each_lane(training)(unflatten(x, one), importance, data))
    if training.engine == "arrays":
        prepare, each = lambda batch: batch, _each_lane(training)
    else:
        prepare, each = lanes.sampled_value_and_gradient(training.model.loss, one, training.model.n_features)

    def on(tiles: ArrayLike) -> Objective:
        def add(number: Array, total: tuple[Array, Array], x: Array) -> tuple[Array, Array]:
            batch = jax.vmap(draw, (0, None, None))(density, number, jnp.asarray(tiles))
            # Without the barrier XLA draws the samples again in every kernel that reads them.
            loss, gradient = _flat(each(unflatten(x, one), importance, lax.optimization_barrier(prepare(batch))))
            return total[0] + loss / tiles, total[1] + gradient / tiles

        def both(x: Array) -> tuple[Array, Array]:
            zero = jnp.zeros(x.shape[1:]), jnp.zeros(x.shape)
            return lax.fori_loop(0, tiles, partial(add, x=x), zero)

        return both

    return on


def _flat(found: tuple[Array, Params]) -> tuple[Array, Array]:
    return found[0], flatten(found[1])


def _each_lane(training: Training) -> Callable[[Params, Array, Any], tuple[Array, Params]]:
    def one(params: Params, importance: Array, data: Any) -> tuple[Array, Params]:
        v = training.importances(importance)
        return jax.value_and_grad(lambda params: training.loss(params, v, data))(params)

    return jax.vmap(jax.vmap(one, (-1, 0, None), (0, -1)), (-2, 0, 0), (0, -2))


def flatten(params: Params) -> Array:
    """Return parameters [..., P, L] as one array [n, P, L]."""
    return jnp.concatenate([leaf.reshape(-1, *leaf.shape[-2:]) for leaf in jax.tree.leaves(params)])


def unflatten(x: Array, one: Params) -> Params:
    """Return the inverse of `flatten`, in the shapes of `one` model."""
    leaves, structure = jax.tree.flatten(one)
    parts = jnp.split(x, np.cumsum([leaf.size for leaf in leaves])[:-1])
    return jax.tree.unflatten(
        structure, [p.reshape(*a.shape, *p.shape[1:]) for p, a in zip(parts, leaves, strict=True)]
    )


def curvature(both: Objective, x: Array) -> Array:
    """Return the Hessian [n, n, P, L] at x, by central differences of the gradient.

    The steps for small parameters are small: a weight may sit beside a kink at 0, which no sample averages over.
    """
    size = jnp.clip(jnp.abs(x) / 2, *DIFFERENCE)

    def column(i: Array) -> Array:
        step = jnp.where(jnp.arange(len(x))[:, None, None] == i, size, 0)
        ends = lax.map(lambda sign: both(x + sign * step)[1], jnp.array([1.0, -1.0]))
        return (ends[0] - ends[1]) / (2 * size[i])[None]

    hessian = lax.map(column, jnp.arange(len(x)))
    return (hessian + jnp.swapaxes(hessian, 0, 1)) / 2


def positive_inverse(hessian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a positive definite inverse of Hessians [P, L, n, n] and the direction [P, L, n] of least curvature.

    Of negative curvatures the inverse takes the absolute value, and of the smallest ones no less than the largest over
    `STIFFEST`. On the host: two threads of programs that decompose matrices can wait for each other for ever (jaxlib
    0.10).
    """
    finite = np.isfinite(hessian).all((-2, -1), keepdims=True)
    values, vectors = np.linalg.eigh(np.where(finite, hessian, 0))
    size = np.abs(values)
    size = np.maximum(size, np.maximum(size.max(-1, keepdims=True) / STIFFEST, 1e-30))
    inverse = (vectors / size[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    return inverse.astype(np.float32), vectors[..., 0].astype(np.float32)


def _leave_saddle(both: Objective, x: Array, direction: Array) -> tuple[Array, Array]:
    """Return the best of x and a step to either side along the direction, and the loss at x."""
    step = PROBE * jnp.sqrt(_dot(x, x) / len(x))[None] * direction
    losses = lax.map(lambda sign: both(x + sign * step)[0], jnp.array([0.0, 1.0, -1.0]))
    best = jnp.argmin(losses, axis=0)
    return x + jnp.where(best == 1, 1.0, jnp.where(best == 2, -1.0, 0.0))[None] * step, losses[0]


def _descend(on: Callable[[ArrayLike], Objective], x: Array, inverse: Array, coarse: Array, tiles: Array) -> _State:
    """Take BFGS steps with backtracking from an inverse Hessian: `coarse` steps on one tile, the others on all."""
    nothing = _State(x, jnp.full(x.shape[1:], LARGE), jnp.zeros(x.shape), inverse, jnp.zeros(x.shape[1:]))

    def going_on(carry: tuple[Array, _State]) -> Array:
        i, state = carry
        return (i < coarse + STEPS) & ((i <= coarse + 1) | ~_arrived(state))

    def body(carry: tuple[Array, _State]) -> tuple[Array, _State]:
        i, state = carry
        # On another batch the loss is another: it is evaluated where it stands before a step is taken.
        state = jax.tree.map(partial(jnp.where, i == coarse), nothing._replace(x=state.x, inverse=state.inverse), state)
        state = _step(on(jnp.where(i < coarse, 1, tiles)), state)
        return jnp.where((i > 0) & (i < coarse) & _arrived(state), coarse, i + 1), state

    return lax.while_loop(going_on, body, (jnp.int32(0), nothing))[1]


def _arrived(state: _State) -> Array:
    """Whether nearly all lanes have no step left that is worth taking."""
    promised = -_dot(_direction(state.inverse, state.gradient), state.gradient) / 2
    return (promised <= ENOUGH * state.loss).mean() >= MOST


def _step(both: Objective, state: _State) -> _State:
    """Try one step in every lane: where the loss falls enough it is taken, else the next trial is shorter. What both
    tell of the curvature goes into the inverse Hessian."""
    direction = _direction(state.inverse, state.gradient)
    step = state.length[None] * direction
    x = state.x + step
    loss, gradient = both(x)
    slope = _dot(state.gradient, step)
    taken = loss <= state.loss + DESCENT * slope + ROUNDING * jnp.abs(state.loss)
    inverse = _updated(state.inverse, step, gradient - state.gradient)
    now, before = (x, loss, gradient), (state.x, state.loss, state.gradient)
    x, loss, gradient = (jnp.where(jnp.broadcast_to(taken, a.shape), a, b) for a, b in zip(now, before, strict=True))
    whole = _direction(inverse, gradient)
    farthest = FARTHEST * jnp.sqrt(_dot(x, x) / jnp.maximum(_dot(whole, whole), 1e-30))
    length = jnp.minimum(jnp.where(taken, 1, state.length * 0.3), farthest)
    return _State(x, loss, gradient, inverse, length)


def _updated(inverse: Array, step: Array, change: Array) -> Array:
    """Return the BFGS update of inverse Hessians [n, n, P, L], where the gradient's change along the step says that
    the curvature is positive."""
    along = _dot(step, change)
    # The shortest steps tell of rounding alone; no square of their inverse, which float32 cannot hold.
    positive = along > jnp.maximum(1e-6 * jnp.sqrt(_dot(step, step) * _dot(change, change)), 1e-30)
    weight = 1 / jnp.where(positive, along, 1)
    product = (inverse * change[None]).sum(1)
    outer = product[:, None] * step[None]
    new = inverse - weight[None, None] * (outer + jnp.swapaxes(outer, 0, 1))
    scaled = weight[None] * step
    new = new + (weight * _dot(change, product) + 1)[None, None] * (scaled[:, None] * step[None])
    return jnp.where(positive[None, None], new, inverse)


def _direction(inverse: Array, gradient: Array) -> Array:
    return -(inverse * gradient[None]).sum(1)


def _dot(a: Array, b: Array) -> Array:
    return (a * b).sum(0)


def measure(training: Training, start: Params, importance: Array, density: Array, key: Array, attempt: Array) -> Array:
    """Return the Hessian [P, L, n, n] of an attempt's objective at params [P, L, ...]."""
    on = objective(training, importance, density, jax.random.fold_in(key, attempt))
    hessian = curvature(on(1), flatten(lanes.last(start)))
    return jnp.moveaxis(hessian, (0, 1), (-2, -1))


def descend(
    training: Training,
    start: tuple[Params, Array, Array],
    importance: Array,
    density: Array,
    key: Array,
    attempt: Array,
) -> tuple[Params, Array, Array]:
    """Minimise an attempt's objective from (params [P, L, ...], inverse Hessian [P, L, n, n], direction of least
    curvature [P, L, n]). Returns params, and the loss [P, L] before and after."""
    params, inverse, direction = start
    on = objective(training, importance, density, jax.random.fold_in(key, attempt))
    tiles, coarse = jnp.array(TILES)[attempt], jnp.where(attempt == 0, COARSE, 0)
    x, before = _leave_saddle(on(tiles), flatten(lanes.last(params)), jnp.moveaxis(direction, -1, 0))
    end = _descend(on, x, jnp.moveaxis(inverse, (-2, -1), (0, 1)), coarse, tiles)
    return lanes.first(unflatten(end.x, one_model(training.model))), before, end.loss


def polish(
    training: Training, start: Params, importance: ArrayLike, density: ArrayLike, key: Array, attempt: int
) -> Polished:
    """Minimise the objective from params [P, L, ...].

    Attempts are counted from 0, and each has samples of its own, more than the one before. The loss by which an
    attempt still falls says how far the solutions that it was given were from a minimum.
    """
    place = jnp.asarray(importance), jnp.asarray(density), key, jnp.int32(attempt)
    hessian = np.asarray(compiled(measure, training)(start, *place))
    end, before, after = compiled(descend, training)((start, *positive_inverse(hessian)), *place)
    return Polished(end, before, after, jnp.asarray(hessian))


def polished_as(training: Training, closed_form: bool) -> Training:
    """Return how models are polished that were trained so: on the closed form, or on a batch."""
    objective = "expected" if closed_form else "sampled"
    return replace(
        training,
        objective=objective,
        optimizer=_ANY,
        steps=0,
        engine="arrays" if training.engine == "arrays" else "lanes",
    )


def n_parameters(model: Model) -> int:
    """Return the number of parameters of one model."""
    return sum(leaf.size for leaf in jax.tree.leaves(one_model(model)))


_ANY = optax.identity()  # in place of the optimiser, which polishing does not use


@lru_cache(maxsize=32)
def compiled(f: Callable[..., Any], training: Training) -> Callable[..., Any]:
    """Return `measure` or `descend`, jitted; the same object for the same configuration, so compiled once."""

    def of_block(start: Any, importance: Array, density: Array, key: Array, attempt: Array) -> Any:
        with jax.default_matmul_precision("float32"):
            spread = devices.spread(lambda *block: f(training, *block, attempt))
            return spread(start, importance, density, key)

    return jax.jit(of_block, compiler_options=devices.on_cpu(lanes.CPU_COMPILER_OPTIONS))
