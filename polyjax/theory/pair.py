"""The best antipodal pair: two features of the Anthropic ReLU model in one neuron, with free lengths and biases.

x~_0 = relu(w_0^2 x_0 + w_0 w_1 x_1 + b_0) and the same with 0 and 1 exchanged, for features that are non-zero with
probability p and then uniform on [0, 1]; feature 0 has importance r, feature 1 has 1. Expectations are exact, by
quadrature over the pieces on which the squared error is a polynomial. NumPy in double precision. The best pair is
antipodal, w_0 and w_1 of opposite sign: those of one sign are local minima too, and worse ones.

Axis letters: M nodes, T the parameters w_0, w_1, b_0, b_1.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real

from polyjax.checks import ArrayLike, broadcast, doubles, require

ITERATIONS = 60
ROUNDING = 1e-13  # relative to the loss
GAUSS = (1 + np.array([-1, 1]) / 3**0.5) / 2  # nodes on [0, 1], exact to the third degree with equal weights
TINY = 1e-300  # in place of zero where a division is clipped afterwards


class Pair(NamedTuple):
    """Weights of one neuron and two biases, and their expected loss."""

    w: np.ndarray  # [..., 2], w_0 >= 0 >= w_1 up to rounding; 0 where a feature is better ignored
    b: np.ndarray  # [..., 2]
    loss: np.ndarray  # [...]


def best_pair(importance: Real[ArrayLike, "*#batch"], density: Real[ArrayLike, "*#batch"]) -> Pair:
    """Return the pair of least expected loss r E[(x~_0 - x_0)^2] + E[(x~_1 - x_1)^2], by Newton's method from three
    starts.

    For importance r > 0, finite, and density p in (0, 1], which broadcast to [...]; ValueError for other values. Never
    worse than weights 1 and -1 without bias, nor than ignoring one of the two; wherever a generic optimiser was tried,
    it found nothing better.
    """
    r, p = np.broadcast_arrays(*_checked(importance, density))
    weaker, flat = np.minimum(r, 1 / r).ravel(), p.ravel()  # feature 0 is the less important one, until the end
    one, zero = np.ones_like(flat), np.zeros_like(flat)
    equal = np.array([one, -one, flat**2 / 6, flat**2 / 6])
    faint = np.array([0.4 * one, -one, flat / 2, zero])  # where pairs are unequal, which they are not by degrees
    ignored = np.array([zero, -one, flat / 2, zero])  # stationary, hence of use only where it is the best
    losses, found = zip(*(_minimum(start, weaker, flat) for start in (equal, faint, ignored)), strict=True)
    best = np.argmin(losses, axis=0)
    theta = np.array(found)[best, :, np.arange(flat.size)].reshape(*r.shape, 2, 2)
    theta = np.where((r > 1)[..., None, None], theta[..., ::-1], theta)
    theta[..., 0, :] *= np.where(theta[..., 0, :1] < 0, -1, 1)
    return Pair(theta[..., 0, :], theta[..., 1, :], np.maximum(r, 1) * np.min(losses, axis=0).reshape(r.shape))


def pair_loss(
    w: Real[ArrayLike, "*#batch 2"],
    b: Real[ArrayLike, "*#batch 2"],
    importance: Real[ArrayLike, "*#batch"],
    density: Real[ArrayLike, "*#batch"],
) -> Float[np.ndarray, "*#batch"]:
    """Return the expected loss, [...], of any w and b, [..., 2], at the importance and density of `best_pair`."""
    w, b, (r, p) = doubles("w", w), doubles("b", b), _checked(importance, density)
    for name, a in (("w", w), ("b", b)):
        require(a.shape[-1:] == (2,), name, "have two numbers, [..., 2]", a.shape)
    broadcast(w=w.shape[:-1], b=b.shape[:-1], importance=r.shape, density=p.shape)
    arrays = np.broadcast_arrays(w[..., 0], w[..., 1], b[..., 0], b[..., 1], r, p)
    *theta, r, p = (a.ravel() for a in arrays)
    return _value(np.array(theta), r, p)[0].reshape(arrays[0].shape)


def _checked(importance: ArrayLike, density: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    r, p = doubles("importance", importance), doubles("density", density)
    require((r > 0) & (r < np.inf), "importance", "be above 0 and finite", r)
    require((p > 0) & (p <= 1), "density", "be above 0 and at most 1", p)
    broadcast(importance=r.shape, density=p.shape)
    return r, p


def _minimum(theta: np.ndarray, r: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least loss [n] and its parameters [T, n], by Newton steps along |H|, which turn away from saddles and
    never rise; a cell rests once a step promises less than rounding."""
    theta, (loss, slope, curvature) = theta.copy(), _value(theta, r, p)
    share = np.ones_like(loss)  # of the step
    moving = np.arange(loss.size)
    for _ in range(ITERATIONS):
        step, promise = _newton(slope, curvature)
        going = share * promise > ROUNDING * loss[moving]
        moving, slope, curvature, share = moving[going], slope[:, going], curvature[..., going], share[going]
        if not moving.size:
            break
        trial = theta[:, moving] - share * step[:, going]
        value, *derivatives = _value(trial, r[moving], p[moving])
        better = value < loss[moving]
        loss[moving[better]], theta[:, moving[better]] = value[better], trial[:, better]
        slope, curvature = (
            np.where(better, new, old) for new, old in zip(derivatives, (slope, curvature), strict=True)
        )
        share = np.where(better, np.minimum(1, 4 * share), share / 4)
    return loss, theta


def _newton(slope: np.ndarray, curvature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the step |H|^-1 g, [T, n], and how much it lowers the loss to first order, [n]."""
    values, axes = np.linalg.eigh(np.moveaxis(curvature, -1, 0))
    values = np.maximum(abs(values), 1e-9 * abs(values).max(-1, keepdims=True))
    along = np.matmul(slope.T[:, None], axes)[:, 0]
    return np.matmul(axes, (along / values)[..., None])[..., 0].T, (along**2 / values).sum(-1)


def _value(theta: np.ndarray, r: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the loss [n] of parameters [T, n] with its gradient [T, n] and Hessian [T, T, n]."""
    loss, slope, curvature = np.zeros_like(r), np.zeros_like(theta), np.zeros((4, *theta.shape))
    for i, j, v in ((0, 1, r), (1, 0, 1.0)):
        own, other, f, df, ddf = theta[i], theta[j], *_error(theta[i] ** 2, theta[i] * theta[j], theta[2 + i], p)
        zero = np.zeros_like(r)
        # Of own^2, own other and the bias by own, other and the bias.
        jacobian = np.array([[2 * own, zero, zero], [other, own, zero], [zero, zero, zero + 1]])
        half = (ddf[:, :, None] * jacobian[None]).sum(1)
        by_own = (jacobian[:, :, None] * half[:, None]).sum(0)
        by_own[0, 0] += 2 * df[0]
        by_own[[0, 1], [1, 0]] += df[1]
        loss += v * f
        slope[[i, j, 2 + i]] += v * (jacobian * df[:, None]).sum(0)
        curvature[np.ix_([i, j, 2 + i], [i, j, 2 + i])] += v * by_own
    return loss, slope, curvature


def _error(a: np.ndarray, s: np.ndarray, b: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E[(relu(a x + s y + b) - x)^2], [n], its gradient [3, n] and Hessian [3, 3, n] in a >= 0, s and b."""
    y, weight = _nodes(a, s, b, p)
    c, steep = s * y + b, np.maximum(a, TINY)
    edge = np.clip(-c / steep, 0, 1)  # of x, above which the ReLU is positive
    # The feature is off, or at one of two nodes above the edge.
    x = np.array([0 * edge, *(edge + (1 - edge) * node for node in GAUSS)])
    on = p * weight * (1 - edge) / 2
    w = np.array([(1 - p) * weight * (c > 0), on, on])
    error = a * x + c - x
    f = (p * weight * edge**3 / 3).sum(0) + (w * error**2).sum((0, 1))
    by_x, by_1 = 2 * (w * error * x).sum(0), 2 * (w * error).sum(0)
    df = np.array([by_x.sum(0), (by_1 * y).sum(0), by_1.sum(0)])
    # The slope of the ReLU jumps at the edge, where the error is -x.
    bend = np.where((edge > 0) & (edge < 1), p * weight * edge / steep, 0)
    xx, x1, one = ((w * x**n).sum(0) - bend * edge**n for n in (2, 1, 0))
    aa, ab, bb = xx.sum(0), x1.sum(0), one.sum(0)
    sa, sb, ss = (x1 * y).sum(0), (one * y).sum(0), (one * y**2).sum(0)
    return f, df, 2 * np.array([[aa, sa, ab], [sa, ss, sb], [ab, sb, bb]])


def _nodes(a: np.ndarray, s: np.ndarray, b: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes [M, n] of the other feature y, and their probabilities: y = 0, and two on each of the pieces of [0, 1]
    between the values at which the ReLU is zero at x = 0 and at x = 1."""
    slope = np.where(s == 0, TINY, s)
    with np.errstate(over="ignore"):  # to infinity, which is clipped
        cuts = np.clip(-b / slope, 0, 1), np.clip(-(a + b) / slope, 0, 1)
    first, second = np.minimum(*cuts), np.maximum(*cuts)
    pieces = ((0 * b, first), (first, second), (second, 0 * b + 1))
    y = [low + (high - low) * node for low, high in pieces for node in GAUSS]
    weight = [p * (high - low) / 2 for low, high in pieces for _ in GAUSS]
    return np.array([0 * b, *y]), np.array([1 - p, *weight])
