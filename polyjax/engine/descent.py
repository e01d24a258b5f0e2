"""Minimising many functions at once, one a lane, to the end: BFGS from a measured Hessian.

All lanes take the same number of steps, each of which evaluates one trial point in every lane, so that lanes never wait
for each other's line searches. The functions are evaluated on a device, in float32; the rest is NumPy in double
precision, on the host.

Axis letters: [...] lanes, n parameters.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

MOST = 0.98  # of the lanes that are minimised together: when so many have arrived, the rest is left to other attempts
DIFFERENCE = (0.003, 0.03)  # between points at which gradients are compared: half a parameter's size, inside these
STIFFEST = 1e3  # the largest ratio of curvatures that the first steps believe
FARTHEST = 0.3  # how far a step goes at most, in all parameters together, beside the weights' length
PROBE = 0.1  # likewise, of the steps along the direction of least curvature, which leave saddles
DESCENT, ROUNDING = 1e-4, 2e-7  # of Armijo's rule: the fraction of the slope, and what a float32 loss cannot resolve
ENOUGH = 2e-5  # steps that promise less, beside the loss, are not worth taking

# x [..., n] -> loss [...], gradient [..., n]; also of several points [S, ..., n] at a time, for less than one by one
Objective = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class State(NamedTuple):
    x: np.ndarray  # [..., n], float32, as it is evaluated
    loss: np.ndarray  # [...]
    gradient: np.ndarray  # [..., n]
    inverse: np.ndarray  # [..., n, n], of the Hessian
    whole: np.ndarray  # [..., n], the quasi-Newton step
    length: np.ndarray  # [...], of the next trial step beside the whole one


def state(
    x: np.ndarray, loss: np.ndarray, gradient: np.ndarray, inverse: np.ndarray, length: np.ndarray | float = 1
) -> State:
    """Return the state at x, from which a trial step has this length at most."""
    whole = -(inverse @ gradient[..., None])[..., 0]
    farthest = FARTHEST * np.sqrt(_dot(x, x) / np.maximum(_dot(whole, whole), 1e-30))
    return State(x, loss, gradient, inverse, whole, np.minimum(length, farthest))


def descend(objective: Objective, state: State, steps: int) -> State:
    """Take steps with backtracking, until nearly all lanes have arrived."""
    for _ in range(steps):
        if arrived(state):
            break
        state = _step(objective, state)
    return state


def arrived(state: State) -> bool:
    """Say whether nearly all lanes have no step left that is worth taking."""
    promised = -_dot(state.whole, state.gradient) / 2
    return bool((~(promised > ENOUGH * state.loss)).mean() >= MOST)


def _step(objective: Objective, before: State) -> State:
    """Try one step in every lane: where the loss falls enough it is taken, else the next trial is shorter. What both
    tell of the curvature goes into the inverse Hessian."""
    x = (before.x + before.length[..., None] * before.whole).astype(np.float32)
    step = x.astype(float) - before.x
    loss, gradient = objective(x)
    taken = loss <= before.loss + DESCENT * _dot(before.gradient, step) + ROUNDING * abs(before.loss)
    inverse = _updated(before.inverse, step, gradient - before.gradient)
    x, gradient = (np.where(taken[..., None], a, b) for a, b in ((x, before.x), (gradient, before.gradient)))
    length = np.where(taken, 1, before.length * 0.3)
    return state(x, np.where(taken, loss, before.loss), gradient, inverse, length)


def _updated(inverse: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Return the BFGS update of inverse Hessians [..., n, n], where the gradient's change along the step says that the
    curvature is positive."""
    along = _dot(step, change)
    positive = along > np.maximum(1e-6 * np.sqrt(_dot(step, step) * _dot(change, change)), 1e-30)
    weight = np.where(positive, 1 / np.where(positive, along, 1), 0)[..., None]
    product = np.where(positive[..., None], (inverse @ change[..., None])[..., 0], 0)
    scaled = weight * step
    # H - (Hy s' + s Hy') / (s'y) + (1 + y'Hy / (s'y)) s s' / (s'y), as two products.
    both = (1 + weight[..., 0] * _dot(change, product))[..., None] * step / 2 - product
    outer = both[..., :, None] * scaled[..., None, :]
    return inverse + outer + np.swapaxes(outer, -1, -2)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("...i,...i->...", a, b, dtype=float)


def steered(few: Objective, x: np.ndarray, loss: np.ndarray, gradient: np.ndarray) -> Objective:
    """Return an objective that has this loss and gradient at x, which are those of a dearer one.

    Its minimum is that of the dearer one, as far as the two differ by their slope alone.
    """
    loss_of_few, gradient_of_few = few(x)
    more, slope = loss - loss_of_few, gradient - gradient_of_few

    def objective(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        loss, gradient = few(y)
        return loss + more + _dot(slope, y.astype(float) - x), gradient + slope

    return objective


def curvature(objective: Objective, x: np.ndarray, both_sides: bool = True) -> np.ndarray:
    """Return the Hessian [..., n, n] at x, by differences of the gradient: central ones, or from x to one side, for
    half as many gradients.

    The steps for small parameters are small: a weight may sit beside a kink at 0, which no sample averages over.
    """
    size = np.clip(abs(x) / 2, *DIFFERENCE)
    with np.errstate(invalid="ignore"):  # models that are not finite
        ahead, behind = x + size, x - size if both_sides else x
        there, here = objective(_one_by_one(x, ahead))[1], objective(_one_by_one(x, behind) if both_sides else x)[1]
        apart = np.moveaxis(ahead.astype(float) - behind, -1, 0)
        hessian = np.moveaxis((there - here) / apart[..., None], 0, -2)
    return (hessian + np.swapaxes(hessian, -1, -2)) / 2


def _one_by_one(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return points [n, ..., n], each of which is x [..., n] but for one parameter, which has its value [..., n]."""
    points, every = np.repeat(x[None], x.shape[-1], axis=0), np.arange(x.shape[-1])
    points[every, ..., every] = np.moveaxis(values, -1, 0)
    return points


def positive_inverse(hessian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a positive definite inverse of Hessians [..., n, n] and the direction [..., n] of least curvature, which
    is 0 where no curvature is negative.

    Of negative curvatures the inverse takes the absolute value, and of the smallest ones no less than the largest over
    `STIFFEST`, below which none counts as negative. On the host, since two threads of programs that decompose matrices
    can wait for each other for ever (jaxlib 0.10).
    """
    finite = np.isfinite(hessian).all((-2, -1), keepdims=True)
    values, vectors = np.linalg.eigh(np.where(finite, hessian, 0))
    least = np.maximum(abs(values).max(-1, keepdims=True) / STIFFEST, 1e-30)
    inverse = (vectors / np.maximum(abs(values), least)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    return inverse, np.where(values[..., :1] < -least, vectors[..., 0], 0)


def leave_saddle(objective: Objective, x: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best of x and a step to either side along the direction, and the loss at x beside that at the best."""
    if not direction.any():
        return x, np.ones(x.shape[:-1])
    step = PROBE * np.sqrt(_dot(x, x) / x.shape[-1])[..., None] * direction
    points = np.stack([x, x + step, x - step]).astype(np.float32)
    losses = objective(points)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        best = np.argmin(np.where(np.isnan(losses), np.inf, losses), axis=0)
        best = np.where(np.isfinite(losses[0]), best, 0)
        least = np.take_along_axis(losses, best[None], 0)[0]
        gain = np.where(best == 0, 1, losses[0] / least)
    return np.take_along_axis(points, best[None, ..., None], 0)[0], gain
