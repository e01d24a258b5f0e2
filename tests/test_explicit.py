"""The explicit solutions of the Anthropic ReLU model cost what their formulas say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import polyjax
from polyjax import evaluation
from polyjax.theory import ExplicitLosses, explicit_losses, explicit_weights

SOLUTIONS = ExplicitLosses._fields
DENSITY, IMPORTANCE = np.float32([0.01, 0.1, 0.5, 1]), np.float32([0.01, 1, 100])


@pytest.mark.parametrize("solution", SOLUTIONS)
def test_losses_are_those_of_the_weights_by_monte_carlo(solution):
    rng, n, r, p = np.random.default_rng(0), 4, 3.0, 0.6
    x = rng.random((400_000, n)) * (rng.random((400_000, n)) < p)
    W, b = explicit_weights(solution, n, p)
    error = (np.maximum(x @ W.T @ W + b, 0) - x) ** 2
    losses = r * error[:, 0] + error[:, 1:].sum(1)
    expected = float(getattr(explicit_losses(r, p), solution))
    # 4.5 standard errors: one false alarm in 150,000 for each of the four solutions.
    assert abs(losses.mean() - expected) < 4.5 * losses.std() / np.sqrt(len(losses))


@pytest.mark.parametrize("solution", SOLUTIONS)
def test_the_evaluation_finds_them_to_half_a_percent(solution):
    fixed = polyjax.Sweep(polyjax.Anthropic(6, 5, "relu"), DENSITY, IMPORTANCE).training
    weights = [explicit_weights(solution, 6, p) for p in DENSITY]
    tile = lambda a: jnp.broadcast_to(jnp.asarray(a, jnp.float32)[:, None], (4, 3, *np.shape(a)[1:]))  # noqa: E731
    params = polyjax.Params(tile([W for W, _ in weights]), tile([b for _, b in weights]))
    r = np.broadcast_to(IMPORTANCE, (4, 3))
    loss, loss_se = evaluation.compiled(fixed)(params, r, DENSITY, jax.random.key(0))
    expected = np.asarray(getattr(explicit_losses(r, DENSITY[:, None]), solution))
    assert (loss_se / expected < 0.005).all()  # the accuracy that the evaluation promises
    np.testing.assert_allclose(loss, expected, rtol=0.01)  # twice that


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
        (lambda: explicit_weights("triangle", 6, 0.5), "solution must be one of ignore_ordinary"),
        (lambda: explicit_weights("pair_ordinary", 2, 0.5), "n_features must be at least 3"),
    ],
)
def test_bad_values_are_named(call, told):
    with pytest.raises(ValueError, match=told):
        call()
