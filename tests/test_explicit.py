"""The explicit solutions of the Anthropic ReLU model cost what their formulas say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import polyjax
from polyjax.engine import choice, evaluation
from polyjax.theory import (
    ExplicitLosses,
    best_explicit_losses,
    best_explicit_weights,
    best_pair,
    explicit_losses,
    explicit_weights,
    pair_loss,
)

SOLUTIONS = ExplicitLosses._fields
FORMS = {  # losses(r, p) and weights(solution, N, r, p)
    "fixed": (explicit_losses, lambda solution, n, r, p: explicit_weights(solution, n, p)),
    "best": (best_explicit_losses, best_explicit_weights),
}
DENSITY, IMPORTANCE = np.float32([0.01, 0.1, 0.5, 1]), np.float32([0.01, 1, 100])


def by_monte_carlo(W, b, r, p, n_samples=400_000):
    """The loss of weights and its standard error, from samples of the model as it is defined."""
    rng, n = np.random.default_rng(0), W.shape[1]
    x = rng.random((n_samples, n)) * (rng.random((n_samples, n)) < p)
    error = (np.maximum(x @ W.T @ W + b, 0) - x) ** 2
    losses = r * error[:, 0] + error[:, 1:].sum(1)
    return losses.mean(), losses.std() / np.sqrt(n_samples)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("solution", SOLUTIONS)
@pytest.mark.parametrize(("r", "p"), [(3.0, 0.6), (0.7, 0.5), (0.98, 1.0)])
def test_losses_are_those_of_the_weights_by_monte_carlo(solution, form, r, p):
    losses, weights = FORMS[form]
    found, error = by_monte_carlo(*weights(solution, 4, r, p), r, p)
    # 4.5 standard errors: one false alarm in 150,000 for each of the 24 cases, whose seed is fixed.
    assert abs(found - float(getattr(losses(r, p), solution))) < 4.5 * error


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("solution", SOLUTIONS)
def test_the_evaluation_finds_them_to_half_a_percent(solution, form):
    fixed = choice.with_engine(polyjax.Sweep(polyjax.Anthropic(6, 5, "relu"), DENSITY, IMPORTANCE).training)
    losses, weights = FORMS[form]
    W, b = zip(*(weights(solution, 6, float(r), float(p)) for p in DENSITY for r in IMPORTANCE), strict=True)
    params = polyjax.Params(*(jnp.reshape(jnp.float32(a), (4, 3, *a[0].shape)) for a in (W, b)))
    r = np.broadcast_to(IMPORTANCE, (4, 3))
    _, loss, loss_se = evaluation.compiled(fixed)(params, {"importance": r}, {"density": DENSITY}, jax.random.key(0))
    expected = np.asarray(getattr(losses(r, DENSITY[:, None]), solution))
    assert (loss_se / expected < 0.005).all()  # the accuracy that the evaluation promises
    np.testing.assert_allclose(loss, expected, rtol=0.01)  # twice that


GRID = np.geomspace(0.01, 100, 17)[None], np.geomspace(0.01, 1, 12)[:, None]


def test_the_best_lengths_and_biases_are_no_worse_than_1_and_0():
    with jax.enable_x64(True):
        fixed = [np.asarray(loss) for loss in explicit_losses(*GRID)]
    best = best_explicit_losses(*GRID)
    for loss, other, name in zip(best, fixed, SOLUTIONS, strict=True):
        # Rounding, and 1e-13 at which the search stops.
        assert (loss <= other * (1 + 1e-12)).all()
        if name.startswith("ignore"):
            np.testing.assert_allclose(np.broadcast_to(loss, other.shape), other, rtol=1e-14)
    least = np.minimum(np.minimum(fixed[0], fixed[1]), fixed[3])
    assert (best.pair_swept <= least * (1 + 1e-12)).all()  # nor worse than ignoring either of the two
    assert (best.pair_swept / fixed[3]).min() < 0.1  # where the fixed pair would better have been ignored
    # The whole gain over what is best of the fixed ones, measured: 14 % at p = 0.57 and V = 1.
    at = best_explicit_losses(1.0, 0.57), explicit_losses(1.0, 0.57)
    assert min(at[0]) / min(np.array(at[1])) == pytest.approx(0.86, abs=0.005)


def test_the_loss_of_any_pair_is_that_by_monte_carlo():
    rng = np.random.default_rng(1)
    w, b = rng.uniform(-1.3, 1.3, (12, 2)), rng.normal(0, 0.4, (12, 2))  # of one sign as well
    b[0], w[1, 0] = -5, 0  # nothing is ever active; and an embedding of length zero
    r, p = rng.uniform(0.1, 5, 12), np.append(rng.uniform(0.05, 1, 11), 1)
    exact = pair_loss(w, b, r, p)
    for i in range(12):
        found, error = by_monte_carlo(w[i][None], b[i], r[i], p[i])
        assert abs(found - exact[i]) < 4.5 * error  # as above


@pytest.mark.parametrize(
    "p", [0.3, 0.75, *(pytest.param(p, marks=pytest.mark.slow) for p in (0.02, 0.5, 0.57, 0.65, 0.9, 1.0))]
)
def test_no_generic_optimiser_finds_a_better_pair(p):
    rng = np.random.default_rng([int(100 * p)])
    for r in (0.03, 0.3, 0.8, 1.0, 4.0):
        f = lambda z, r=r: float(pair_loss(z[:2], z[2:], r, p))  # noqa: E731
        starts = [[1, -1, 0, 0], [1, -0.4, 0, p / 2], *rng.uniform(-1.2, 1.2, (6, 4))]
        runs = [optimize.minimize(f, z, method="BFGS").fun for z in starts]
        found = best_pair(r, p)
        assert found.loss <= min(runs) * (1 + 1e-9)  # rounding, and what a search leaves: its square is below 1e-12
        assert found.loss == pytest.approx(pair_loss(found.w, found.b, r, p), rel=1e-13)  # rounding
        assert found.loss >= min(runs) * (1 - 1e-6)  # what finite differences leave to BFGS


def test_limits_of_the_best_pair():
    r = np.array([0.3, 1, 5])
    # Few features at once: the interference is p^2 / 6 to leading order; lengths and biases change it in relative terms
    # of order p (1/r + r), times a number of order one.
    np.testing.assert_allclose(best_pair(r, 1e-4).loss, (1 + r) * 1e-8 / 6, rtol=1e-3)
    # Exchanging the two features multiplies all importances by r.
    there, back = best_pair(r, 0.4), best_pair(1 / r, 0.4)
    np.testing.assert_allclose(there.loss, r * back.loss, rtol=1e-12)  # what the search leaves
    np.testing.assert_allclose(abs(there.w), abs(back.w)[:, ::-1], atol=1e-6)  # its square root
    even = best_pair(1.0, 0.4)
    np.testing.assert_allclose(np.append(even.w.sum(), np.diff(even.b)), 0, atol=1e-6)  # the same
    # Always active and unequal: a feature is better ignored, with its mean 1/2 and its variance 1/12.
    lone = best_pair(0.3, 1.0)
    assert lone.loss == pytest.approx(0.3 / 12, rel=1e-12)
    # The loss is quadratic around it, so that parameters are known to the square root of that.
    np.testing.assert_allclose([*np.abs(lone.w), *lone.b], [0, 1, 0.5, 0], atol=1e-5)


def test_the_four_solutions_follow_each_other_in_importance():
    """What figure 7 draws: two others form a pair above importance 1, at any density; below, feature 0 is one of a pair
    or ignored. At importance 1 it makes no difference which pair it is."""
    losses = best_explicit_losses(*GRID)
    loss = np.stack([np.broadcast_to(x, losses.pair_swept.shape) for x in losses])
    below, above = GRID[0][0] < 0.99, GRID[0][0] > 1.01
    assert (loss.argmin(0)[:, above] == SOLUTIONS.index("pair_ordinary")).all()
    assert (loss[[1, 3]].min(0) < loss[[0, 2]].min(0))[:, below].all()
    at_one = best_explicit_losses(1.0, GRID[1])
    np.testing.assert_array_equal(at_one.pair_ordinary, at_one.pair_swept)


def test_the_solutions_differ_in_the_feature_that_gives_way():
    capacity = lambda name: np.asarray(polyjax.capacities(explicit_weights(name, 4, 0.5)[0]))  # noqa: E731
    np.testing.assert_array_equal(capacity("ignore_ordinary"), [1, 0, 1, 1])
    np.testing.assert_array_equal(capacity("ignore_swept"), [0, 1, 1, 1])
    np.testing.assert_array_equal(capacity("pair_ordinary"), [1, 0.5, 0.5, 1])
    np.testing.assert_array_equal(capacity("pair_swept"), [0.5, 0.5, 1, 1])


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: explicit_losses(-1.0, 0.5), "importance must be at least 0"),
        (lambda: explicit_losses(1.0, 0.0), "density must be above 0"),
        (lambda: best_explicit_losses(0.0, 0.5), "importance must be above 0"),
        (lambda: best_pair(np.inf, 0.5), "importance must be above 0 and finite"),
        (lambda: best_pair(1.0, [0.5, 1.1]), "density must be above 0 and at most 1, but is 1.1 at index 1"),
        (lambda: pair_loss([1.0, -1.0], [0.0, 0.0], 1.0, 0.0), "density must be above 0"),
        (lambda: best_explicit_weights("triangle", 6, 1.0, 0.5), "solution must be one of ignore_ordinary"),
        (lambda: explicit_weights("triangle", 6, 0.5), "solution must be one of ignore_ordinary"),
        (lambda: explicit_weights("pair_ordinary", 2, 0.5), "n_features must be a whole number of at least 3"),
    ],
)
def test_bad_values_are_named(call, told):
    with pytest.raises(ValueError, match=told):
        call()
