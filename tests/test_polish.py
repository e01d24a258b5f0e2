"""Polishing many models at once: against the theory's optimum, another minimiser, exact Hessians, and at its edges."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from polyjax import theory
from polyjax.engine import descent, polish
from polyjax.toy.distributions import UNIFORM_SIGNED
from polyjax.toy.model import n_parameters, one_model
from polyjax.toy.models import Anthropic, Params, Redwood
from tests import paper

EPS = float(np.finfo(np.float32).eps)
DENSITY = np.float32([0.05, 0.3, 0.7, 1.0])  # of signed uniform features, whose kurtosis is 36, 6, 2.6 and 1.8
IMPORTANCE = np.float32([0.3, 1, 3])
KEY = jax.random.key(0)
# Two models, and the blocks of lanes in which they are polished, so that few programs are compiled.
QUADRATIC, LANES = Redwood(5, 2), np.repeat(IMPORTANCE, 8)
SHAPE = len(DENSITY), LANES.size
RELU, RELU_DENSITY, RELU_IMPORTANCE = Anthropic(3, 2), np.float32([0.1, 0.5]), np.float32([1, 2])


@cache
def fixed(model, closed_form, engine="lanes"):
    return polish.of_cells(paper.configuration(model, engine, steps=1), closed_form or "sampled")


def starts(model, shape, seed=0):
    return jax.vmap(jax.vmap(model.init))(jax.random.split(jax.random.key(seed), shape))


def flat(params):
    """Parameters as x [P, L, n], on the host."""
    return np.array(polish.flatten(params))


def polished(fixed, start, importance, density, attempt=0):
    shape = start.W.shape[:2]
    lane, row = paper.coordinates(np.broadcast_to(np.float32(importance), shape), density)
    return polish.polish(fixed, start, lane, row, KEY, attempt)


def exact(model, params, importance, density):
    """The population loss [P, L] in double precision."""

    def one(params, importance, density):
        v = jnp.ones(model.n_features, float).at[0].set(importance)
        return model.expected_loss(params, v, model.distribution.sparse_moments(density))

    with jax.enable_x64(True):
        params = Params(*(jnp.asarray(a, float) for a in params))
        v = jnp.broadcast_to(jnp.asarray(importance, float), params.W.shape[:2])
        found = jax.vmap(jax.vmap(one, (0, 0, None)))(params, v, jnp.asarray(density, float))
        return np.asarray(found)


def optimum(model, importance, density):
    """What the theory says, [P, V]."""
    with jax.enable_x64(True):
        v = np.ones((1, len(importance), model.n_features))
        v[..., 0] = importance
        k = np.asarray(UNIFORM_SIGNED.kurtosis(np.float64(density)))[:, None]
        return np.asarray(theory.optimal_loss(v, k, model.n_neurons))


# --- minima


@pytest.fixture(scope="module")
def quadratic():
    """Eight random starts of every density and importance, polished and polished further; and the loss [P, V, 8]."""
    found = polished(fixed(QUADRATIC, True), starts(QUADRATIC, SHAPE), LANES, DENSITY)
    again = polished(fixed(QUADRATIC, True), found.end, LANES, DENSITY, attempt=1)
    loss = exact(QUADRATIC, again.end, LANES, DENSITY)
    return found, again, loss.reshape(len(DENSITY), len(IMPORTANCE), 8)


def test_the_quadratic_model_reaches_the_optimum_of_the_theory(quadratic):
    *_, loss = quadratic
    expected = optimum(QUADRATIC, IMPORTANCE, DENSITY)
    # No weights are better than the optimum, and the best of eight starts is as good: steps that promise less than 1e-5
    # are not taken, and the next to last has left far less than it promised.
    assert np.all(loss >= expected[..., None] * (1 - 1e-6))  # weights in float32
    np.testing.assert_allclose(loss.min(-1), expected, rtol=1e-5)


def test_the_losses_before_and_after_are_those_of_the_solutions(quadratic):
    found, again, loss = quadratic
    assert (found.after <= found.before * (1 + 1e-6)).all()  # what a float32 loss cannot resolve
    # A loss is a sum of a few squares of differences of the size of the importances.
    np.testing.assert_allclose(again.after.ravel(), loss.ravel(), rtol=1e-4)
    np.testing.assert_allclose(again.before, found.after, rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "density", "importance"),
    [(QUADRATIC, DENSITY, LANES), (RELU, RELU_DENSITY, RELU_IMPORTANCE)],
    ids=["closed form", "batch"],
)
def test_the_end_is_as_low_as_that_of_another_minimiser_from_the_same_start(model, density, importance):
    of, shape, attempt = fixed(model, model is QUADRATIC), (len(density), len(importance)), 0
    both, one = objective(of, shape, importance, density, polish.ATTEMPTS[attempt][0]), one_model(model)
    some = [(p, lane) for p in range(2) for lane in (0, shape[1] - 1)]

    def minimum(x, lane):
        """In one lane, with the others at rest."""

        def f(y):
            moved = x.copy()
            moved[lane] = y
            loss, gradient = both(moved)
            return loss[lane], gradient[lane]

        return scipy.optimize.minimize(f, x[lane], jac=True, method="BFGS", options={"gtol": 1e-6})

    x = flat(starts(model, shape, seed=1))
    for lane in some:
        x[lane] = minimum(x, lane).x
    # Near a minimum, so that both end in the same.
    x *= 1 + 0.05 * np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    theirs = np.array([minimum(x, lane).fun for lane in some])
    end = polish.unflatten(x, one)
    for _ in range(3):  # as an attempt has few steps
        ours = polished(of, end, importance, density, attempt)
        end = ours.end
    # Ours leaves out steps that promise less than that, by a Hessian that is measured on one tile.
    assert np.all(np.array([ours.after[lane] for lane in some]) <= theirs * (1 + 2 * descent.ENOUGH))


def objective(of, shape, importance, density, tiles, attempt=0):
    """The loss and gradient of x [P, L, n], on the samples of an attempt."""
    v = np.broadcast_to(np.float32(importance), shape)
    lane, row = paper.coordinates(v, np.float32(density))
    data = polish.compiled_data(of, shape[0])(row, jax.random.fold_in(KEY, attempt))
    both = polish.objective(of, lane, row, data, tiles)
    return lambda x: both(np.float32(x))


@pytest.mark.parametrize("closed_form", [True, False], ids=["exact", "sampled"])
@pytest.mark.parametrize("engine", ["lanes", "arrays"])
def test_several_points_are_evaluated_as_one_by_one(closed_form, engine):
    model = Redwood(3, 2) if closed_form else RELU
    both = objective(fixed(model, closed_form, engine), (2, 2), RELU_IMPORTANCE, RELU_DENSITY, 2)
    points = np.stack([flat(starts(model, (2, 2), seed)) for seed in range(polish.POINTS + 2)])  # more than a program's
    (losses, gradients), each = both(points), [both(x) for x in points]
    assert losses.shape == points.shape[:-1]
    assert gradients.shape == points.shape
    np.testing.assert_array_equal(losses, [loss for loss, _ in each])
    np.testing.assert_array_equal(gradients, [gradient for _, gradient in each])


@pytest.mark.parametrize("tiles", [1, 4])
def test_steered_by_a_look_at_the_whole_few_tiles_have_its_loss_and_slope(tiles):
    of, place = fixed(RELU, False), (RELU_IMPORTANCE, RELU_DENSITY)
    few, many = (objective(of, (2, 2), *place, n) for n in (tiles, 16))
    x = flat(starts(RELU, (2, 2)))
    loss, gradient = many(x)
    assert abs(few(x)[0] / loss - 1).max() > 1e-6  # other samples
    both = descent.steered(few, x, loss, gradient)
    np.testing.assert_allclose(both(x)[0], loss, rtol=1e-12)
    np.testing.assert_allclose(both(x)[1], gradient, rtol=1e-12, atol=1e-12)
    # Its loss is the integral of its gradient: over a short step the mean of the slopes at both ends, but for the third
    # derivative and float32.
    step = 0.002 * np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    (there, slope), (back, other) = both(x + step), both(x - step)
    np.testing.assert_allclose(there - back, ((slope + other) * step).sum(-1), atol=2e-5 * loss.max())


# --- curvature


@pytest.mark.slow
@pytest.mark.parametrize("model", [QUADRATIC, Anthropic(3, 2, "square")], ids=["Redwood", "Anthropic"])
def test_the_hessian_is_that_of_the_closed_form(model):
    start, importance = starts(model, SHAPE), np.broadcast_to(LANES, SHAPE)
    found = descent.curvature(objective(fixed(model, True), SHAPE, LANES, DENSITY, 1), flat(start))

    def loss(x, importance, density):
        params = jax.tree.map(lambda a: a[0, 0], polish.unflatten(x[None, None], one_model(model)))
        v = jnp.ones(model.n_features, float).at[0].set(importance)
        return model.expected_loss(params, v, model.distribution.sparse_moments(density))

    def third_of_gradient(x, *place):
        """Of every gradient along each parameter i alone: [i, j]."""

        def along(f, e):
            return lambda x: jax.jvp(f, (x,), (e,))[1]

        gradient = jax.grad(lambda x: loss(x, *place))
        return jax.vmap(lambda e: along(along(along(gradient, e), e), e)(x))(jnp.eye(x.size))

    with jax.enable_x64(True):
        x = jnp.asarray(flat(start), float)
        place = jnp.asarray(importance, float), jnp.asarray(DENSITY, float)
        gradient, hessian, third = (
            np.asarray(jax.jit(jax.vmap(jax.vmap(f, (0, 0, None))))(x, *place))
            for f in (jax.grad(loss), jax.hessian(loss), third_of_gradient)
        )
    h = np.clip(np.abs(np.asarray(x)) / 2, *descent.DIFFERENCE)[..., None]
    # A central difference is off by h^2 / 6 of the third derivative of a gradient that is cubic, or for the autoencoder
    # of the seventh degree, whose next term is beside it; and by the gradients' rounding, over h.
    allowed = 1.5 * h**2 / 6 * abs(third) + 32 * EPS * (1 + abs(gradient).max(-1))[..., None, None] / h
    assert np.all(abs(found - hessian) <= (allowed + np.swapaxes(allowed, -1, -2)) / 2)
    # Which is a few per cent of the curvature at most; measured 1.5 %.
    assert np.all(abs(found - hessian).max((-2, -1)) < 0.03 * abs(hessian).max((-2, -1)))


def test_the_inverse_is_positive_definite_whatever_the_hessian():
    rng = np.random.default_rng(0)
    hessian = rng.normal(size=(2, 3, 5, 5))
    hessian = hessian + np.swapaxes(hessian, -1, -2)
    hessian[0, 0], hessian[0, 1], hessian[0, 2, 1, 3] = 0, np.diag([1e6, 1, 1e-9, -3, 2]), np.nan
    inverse, direction = descent.positive_inverse(hessian)
    assert np.isfinite(inverse).all()
    assert (np.linalg.eigvalsh(inverse.astype(float)) > 0).all()
    values, vectors = np.linalg.eigh(hessian[1])
    with_sizes = np.einsum("lij,lj,lkj->lik", vectors, 1 / abs(values), vectors)
    np.testing.assert_allclose(inverse[1], with_sizes, rtol=1e-10, atol=1e-10)  # within the ratio
    cosine = np.einsum("li,li->l", direction[1], vectors[..., 0])
    np.testing.assert_allclose(abs(cosine), values[:, 0] < 0, atol=1e-10)
    assert not direction[0].any()  # -3 is nothing beside 1e6


SADDLES = {
    # No other feature shares a neuron with feature 0 or has any length: no gradient says that it should.
    "an empty neuron": [[1, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
    # Features 0 and 1 share a neuron alike, each with w^2 = (k - 1) / (k + 1), which is the best that alike features
    # do. But for k = 9/5 one should have all of it.
    "a symmetric one": [[(0.8 / 2.8) ** 0.5, (0.8 / 2.8) ** 0.5, 0, 0, 0], [0, 0, 1, 0, 0]],
}
ALIKE, DENSE = 8, 3  # a lane of importance 1, and the row of density 1


@pytest.mark.parametrize("name", SADDLES)
def test_a_saddle_is_left(name):
    W = jnp.asarray(SADDLES[name], jnp.float32)
    best_bias = QUADRATIC.n_features - (W**2).sum()
    start = Params(jnp.broadcast_to(W, (*SHAPE, *W.shape)), jnp.broadcast_to(best_bias, SHAPE))
    of = fixed(QUADRATIC, True)
    # It is a saddle: the gradient vanishes, beside curvatures of about 1.
    here = jax.tree.map(lambda a: a[:1, :1], start)
    assert np.abs(objective(of, (1, 1), 1, [1], 1)(flat(here))[1]).max() < 16 * EPS
    found = polished(of, start, LANES, DENSITY, attempt=1)  # the first is a trial
    end = exact(QUADRATIC, found.end, LANES, DENSITY)[DENSE, ALIKE]
    np.testing.assert_allclose(end, optimum(QUADRATIC, [1.0], [1.0])[0, 0], rtol=1e-5)  # as for the random starts
    assert end < 0.95 * found.before[DENSE, ALIKE]


# --- lanes


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_model_that_is_not_finite_spoils_no_other(quadratic, bad):
    reference, *_ = quadratic
    start = starts(QUADRATIC, SHAPE)
    broken = start._replace(W=start.W.at[1, 2, 0, 0].set(bad))
    found = polished(fixed(QUADRATIC, True), broken, LANES, DENSITY)
    assert not np.isfinite(found.before[1, 2])
    assert not np.isfinite(found.end.W[1, 2]).all() or bad == 1e30
    others = np.ones(SHAPE, bool)
    others[1, 2] = False
    assert all(np.isfinite(a[others]).all() for a in found.end)
    # All lanes take the same number of steps, of which there may be more than without the one.
    assert np.all(found.after[others] <= reference.after[others] * (1 + 1e-5))


def test_both_engines_polish_alike():
    place = RELU_IMPORTANCE, RELU_DENSITY
    start = polished(fixed(RELU, False), starts(RELU, (2, 2), seed=3), *place).end
    ours, theirs = (polished(fixed(RELU, False, engine), start, *place, attempt=1) for engine in ("lanes", "arrays"))
    # The same samples, summed in another order.
    np.testing.assert_allclose(ours.before, theirs.before, rtol=64 * EPS)
    # Differences of gradients in float32 over steps of at least 0.003.
    size = np.abs(theirs.hessian).max((-2, -1), keepdims=True)
    assert np.all(np.abs(ours.hessian - theirs.hessian) <= 64 * EPS / descent.DIFFERENCE[0] * (1 + size))
    # Rounding decides which steps are taken; both end where no step promises more than `ENOUGH`.
    np.testing.assert_allclose(ours.after, theirs.after, rtol=2 * descent.ENOUGH)


def test_one_sided_differences_are_those_of_both_sides_but_for_the_third_derivative():
    start = flat(starts(QUADRATIC, SHAPE))
    both = objective(fixed(QUADRATIC, True), SHAPE, LANES, DENSITY, 1)
    calls = []
    one, two = (
        descent.curvature(lambda x: calls.append(x.size // start.size) or both(x), start, both_sides=b)
        for b in (False, True)
    )
    n = start.shape[-1]
    assert sum(calls) == (n + 1) + 2 * n
    assert abs(one - two).max() < 0.1 * abs(two).max()  # steps of at most 0.03 of a quartic


def test_parameters_are_flattened_and_back():
    for model in (Redwood(3, 2), Anthropic(3, 2)):
        params = starts(model, (2, 4))
        flat = polish.flatten(params)
        assert flat.shape == (2, 4, n_parameters(model))
        back = polish.unflatten(flat, one_model(model))
        for a, b in zip(back, params, strict=True):
            np.testing.assert_array_equal(a, b)
