"""The losses of blocks in the limit of sparse features, against minimisation, Monte Carlo and known frames."""

from math import comb

import numpy as np
import pytest
from scipy import integrate, optimize

import polyjax
from figures import sparse_limit
from polyjax import embedding

EXPONENTS = (0.75, 1.0, 1.5, 2.0, 3.0)
RNG = np.random.default_rng(0)


def test_the_lines_of_an_icosahedron_are_equiangular():
    gram = sparse_limit.equiangular_lines().T @ sparse_limit.equiangular_lines()
    np.testing.assert_allclose(gram**2, np.where(np.eye(6), 1, 1 / 5), atol=1e-15)


@pytest.mark.parametrize("q", EXPONENTS)
def test_six_equiangular_lines_are_worth_more_than_pairs_above_1_alone(q):
    pairs, lines = (
        sparse_limit.anthropic_loss(W, q) for W in (sparse_limit.pairs(3), sparse_limit.equiangular_lines())
    )
    assert pairs == pytest.approx(2 - 3 * (2 * q + 1) / (q + 2) ** 2)
    assert lines == pytest.approx(2 - 6 / (1 + 5 ** (1 - q)) * (2 * q + 1) / (q + 2) ** 2)
    assert np.sign(round(pairs - lines, 9)) == np.sign(q - 1)


@pytest.mark.parametrize("q", EXPONENTS)
@pytest.mark.parametrize("W", [sparse_limit.equiangular_lines(), sparse_limit.pairs(3)])
def test_the_loss_of_autoencoders_is_what_minimising_the_lengths_finds(W, q):
    """The model's own loss with one active feature, integrated by another rule."""
    u = (np.arange(400) + 0.5) / 400

    def loss(length):
        gram = (W * length).T @ (W * length)
        out = abs(gram[..., None] * u) ** q  # [output, active feature, sample]
        return ((out - np.eye(6)[..., None] * u) ** 2).mean(-1).sum()

    found = optimize.minimize(loss, RNG.uniform(0.6, 0.9, 6), method="L-BFGS-B", bounds=[(1e-3, None)] * 6)
    assert found.fun == pytest.approx(sparse_limit.anthropic_loss(W, q), rel=1e-3)  # of 400 midpoints


@pytest.mark.parametrize("q", EXPONENTS)
def test_the_loss_of_sums_is_that_of_the_model_with_two_active_features(q):
    W = RNG.standard_normal((3, 4))
    W /= (abs(W) ** q).sum(0) ** (1 / q)
    model = polyjax.Redwood(4, 3, lambda z: abs(z) ** q)
    params, total, variance, n = polyjax.Params(W, 0.0), 0.0, 0.0, 4000
    for i, j in zip(*np.triu_indices(4, 1), strict=True):
        x = np.zeros((n, 4))
        x[:, [i, j]] = RNG.uniform(-(3**0.5), 3**0.5, (n, 2))
        each = np.array([model.loss(params, sample, np.ones(4)) for sample in x[:1]])
        losses = ((abs(x @ W.T) ** q).sum(1) - (abs(x) ** q).sum(1)) ** 2
        np.testing.assert_allclose(losses[:1], each, rtol=1e-3)  # the model's, in single precision
        total, variance = total + losses.mean(), variance + losses.var() / n
    assert sparse_limit.redwood_loss(W, q) == pytest.approx(total, abs=4 * variance**0.5)


def test_for_the_quadratic_model_all_tight_frames_of_one_length_tie():
    """So that the loss does not set the size of blocks: it is that of eq. 13, at any density."""
    frames = {
        "pairs": sparse_limit.pairs(3),
        "lines": sparse_limit.equiangular_lines(),
        "generic": embedding.embedding_with_capacities(np.full(6, 0.5)) * 2**0.5,
    }
    rotation = np.linalg.qr(RNG.standard_normal((3, 3)))[0]
    for W in frames.values():
        assert sparse_limit.redwood_loss(W, 2) == pytest.approx(4 * 3)
        assert sparse_limit.redwood_loss(rotation @ W, 2) == pytest.approx(4 * 3)
    sizes = {name: sorted(int(s) for s in embedding.blocks(W, 0.01).sizes if s) for name, W in frames.items()}
    assert sizes["pairs"] == [2, 2, 2]
    assert sizes["lines"] == [6]
    moments = polyjax.distributions.UNIFORM_SIGNED.sparse_moments(np.float32(0.3))
    exact = [
        float(polyjax.Redwood(6, 3).expected_loss(polyjax.Params(W, 0.0), np.ones(6), moments)) for W in frames.values()
    ]
    np.testing.assert_allclose(exact, exact[0], rtol=1e-5)  # single precision


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_the_loss_of_a_simplex_is_that_of_its_features_two_at_a_time(k):
    simplex = np.linalg.svd(np.eye(k + 1) - 1 / (k + 1))[2][:k] * ((k + 1) / k) ** 0.5
    gram = simplex.T @ simplex
    np.testing.assert_allclose(gram, np.where(np.eye(k + 1), 1, -1 / k), atol=1e-12)

    def error(x, y):
        seen = np.zeros(k + 1)
        seen[:2] = x, y
        return ((np.maximum(gram @ seen, 0) - seen) ** 2).sum()

    two, _ = integrate.dblquad(error, 0, 1, 0, 1, epsabs=1e-5)
    assert comb(k + 1, 2) * two == pytest.approx(float(sparse_limit.simplex_loss(k)), abs=1e-4 * (k + 1) ** 2)


def test_pairs_are_the_simplices_of_least_loss():
    assert sparse_limit.simplex_loss(1) == min(sparse_limit.simplex_loss(k) for k in range(1, 1000))
    assert sparse_limit.relu_blocks(6, 3) == [2, 2, 2]
    assert sparse_limit.relu_blocks(6, 5) == [2, 1, 1, 1, 1]
    assert sparse_limit.relu_blocks(3, 4) == [1, 1, 1]
    assert sparse_limit.relu_blocks(7, 3) is None
