"""The reference loss against its definition by Monte Carlo, its derivatives, and the closed form of one model."""

import numpy as np
import pytest

from tests import reference

PANELS = [
    f"{model}-{activation}-{size}"
    for model, size in (("redwood", "6in3"), ("anthropic", "6in3"), ("anthropic", "6in5"))
    for activation in ("square", "relu", "gelu")
]
ACTIVATIONS = {
    "square": lambda z: z**2,
    "relu": lambda z: np.maximum(z, 0),
    "gelu": lambda z: z * (1 + np.tanh((2 / np.pi) ** 0.5 * (z + 0.044715 * z**3))) / 2,
}


def weights(problem, random):
    W = 0.6 * random.normal(size=(problem.neurons, 6))
    return W, 0.2 * random.normal(size=() if problem.model == "redwood" else 6)


def sampled_loss(problem, W, b, random, samples):
    """The mean loss and its standard error, as the models are defined."""
    v = np.array([problem.importance, 1, 1, 1, 1, 1])
    f = ACTIVATIONS[problem.activation]
    s, u = random.random((2, 6, samples))
    active = s < problem.density
    if problem.model == "redwood":
        x = active * (3 / problem.density) ** 0.5 * (2 * u - 1)
        loss = (f(W @ x).sum(0) + b - v @ f(x)) ** 2
    else:
        x = active * u
        loss = v @ (f(W.T @ (W @ x) + b[:, None]) - x) ** 2
    return loss.mean(), loss.std() / samples**0.5


@pytest.mark.parametrize("panel", PANELS)
@pytest.mark.parametrize("density", [0.1, 0.7])
def test_the_loss_is_the_mean_over_independent_samples(panel, density):
    problem, random = reference.problem(panel, density, 2.5), np.random.default_rng(3)
    W, b = weights(problem, random)
    mean, error = sampled_loss(problem, W, b, random, 300_000)
    # Of 18 normal scores one is above 4 once in a thousand seeds; 300,000 samples show errors of half a per cent.
    assert abs(reference.expected_loss(problem, W, b).value - mean) < 4 * error


@pytest.mark.parametrize("panel", PANELS)
def test_the_derivatives_are_those_of_the_loss(panel):
    problem, random = reference.problem(panel, 0.4, 3), np.random.default_rng(4)
    samples = reference.quadrature(problem, points=4096)
    W, b = weights(problem, random)
    dW, db = weights(problem, random)
    step = 1e-6
    ends = [reference.expected_loss(problem, W + s * dW, b + s * db, samples).value for s in (step, -step)]
    loss = reference.expected_loss(problem, W, b, samples)
    along = np.vdot(loss.W, dW) + np.vdot(loss.b, db)
    # Differences of float64 lose 1e-10 to rounding; kinks that the step crosses, a millionth of the samples, little.
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(along, rel=1e-5)


def test_the_gauss_rule_has_the_moments_of_a_sparse_feature():
    for panel in ("redwood-square-6in3", "anthropic-square-6in3"):
        for p in (0.01, 0.3, 1):
            x, weight, _ = reference.quadrature(reference.problem(panel, p, 1))
            expected = [1, 0, 1, 0, 9 / 5 / p] if panel.startswith("redwood") else [1, *(p / n for n in range(2, 6))]
            moments = [weight @ x[2] ** n for n in range(5)]
            # In units of the standard deviation, to rounding of 729 terms.
            assert moments == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_the_quadratic_redwood_loss_is_that_of_the_closed_form():
    """Eq. 33, with kurtosis k = 9 / (5 p)."""
    problem, random = reference.problem("redwood-square-6in3", 0.2, 7), np.random.default_rng(5)
    W, b = weights(problem, random)
    gram, k = W.T @ W, 9 / 5 / 0.2
    gap = np.diag(gram) - [7, 1, 1, 1, 1, 1]
    shared = (gram**2).sum() - (np.diag(gram) ** 2).sum()
    expected = (k - 1) * (gap**2).sum() + 2 * shared + (b + gap.sum()) ** 2
    assert reference.expected_loss(problem, W, b).value == pytest.approx(expected, rel=1e-12)
