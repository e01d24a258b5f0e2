"""The two definitions of capacity, beside what networks do: every measure against a formula that shares no code."""

import numpy as np
import pytest
from legibility import assert_legible, rendered
from scipy.stats import spearmanr

import polyjax
from figures import definitions, usefulness
from polyjax import embedding
from polyjax.toy.distributions import UNIFORM_POSITIVE, UNIFORM_SIGNED
from sweeps import figure7

RNG = np.random.default_rng(0)
W = RNG.standard_normal((5, 3, 6)) / np.sqrt(6)
V = np.geomspace(0.5, 2, 5)[:, None] * np.ones(6)
SAMPLED = 0.01  # the error of 256 points a pattern, of numbers up to 1


def linear(z):
    return z


@pytest.mark.parametrize("density", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("law", [UNIFORM_POSITIVE, UNIFORM_SIGNED])
def test_samples_have_the_moments_of_the_features(law, density):
    x, weight = usefulness.samples(4, density, law)
    exact = law.sparse_moments(np.float32(density))
    assert weight.sum() == pytest.approx(1)
    np.testing.assert_allclose(weight @ x, exact.mean, atol=SAMPLED)
    np.testing.assert_allclose(usefulness.covariance(x.T, x.T, weight), exact.variance, rtol=SAMPLED)
    off = usefulness.covariance(x.T[:, None], x.T[None], weight) / exact.variance - np.eye(4)
    assert abs(off).max() < SAMPLED


@pytest.mark.parametrize("density", [0.05, 0.5])
def test_what_a_linear_autoencoder_recovers_is_the_capacity_of_eq_3(density):
    """Appendix E, by samples."""
    drawn = usefulness.samples(6, density, UNIFORM_POSITIVE)
    did = usefulness.behaviour(polyjax.Anthropic(6, 3, linear), W, np.zeros((5, 6)), V, drawn)
    np.testing.assert_allclose(did.recovery, polyjax.capacities(W), atol=SAMPLED)
    np.testing.assert_allclose(did.gain, (W**2).sum(-2), rtol=3 * SAMPLED)


def test_what_the_best_linear_readout_recovers_is_the_capacity_of_appendix_g():
    drawn = usefulness.samples(6, 0.2, UNIFORM_POSITIVE)
    x = drawn.x - drawn.weight @ drawn.x
    root = np.sqrt(drawn.weight)[:, None]
    fit = np.linalg.lstsq(root * (x @ W[0].T), root * x, rcond=None)[0]
    left = drawn.weight @ (x - x @ W[0].T @ fit) ** 2
    explained = 1 - left / (drawn.weight @ x**2)
    np.testing.assert_allclose(explained, polyjax.isotropic_capacities(W[0]), atol=SAMPLED)


@pytest.mark.parametrize("density", [0.1, 0.6])
def test_the_gain_of_the_quadratic_model_is_the_ratio_of_true_covariances(density):
    """Eqs. 39 and 42, by samples."""
    drawn = usefulness.samples(6, density, UNIFORM_SIGNED)
    did = usefulness.behaviour(polyjax.Redwood(6, 3), W, np.zeros(5), V, drawn)
    exact = embedding.covariances(W, V, 9 / (5 * density))
    expected = exact.true_model / exact.true_target
    error = abs(did.gain - expected) / expected.max(-1, keepdims=True)  # all features of a network add to it
    assert error.max() < SAMPLED
    np.testing.assert_allclose(did.unexplained, (V**2).sum(-1) * (9 / (5 * density) - 1), rtol=3 * SAMPLED)


@pytest.mark.parametrize("model", [polyjax.Redwood(6, 3, "relu"), polyjax.Anthropic(6, 3, "relu")])
def test_the_gain_is_what_the_loss_rises_by_where_a_feature_is_exchanged_for_a_copy(model):
    """Of independent samples, half of which lend the copies."""
    x = np.where(RNG.random((200_000, 6)) < 0.5, model.distribution.active_value(RNG.random((200_000, 6)), 0.5), 0)
    relu, w, v, i = lambda z: np.maximum(z, 0), W[0], V[0], 2
    swapped = x.copy()
    swapped[:, i] = np.roll(x[:, i], 1)
    if isinstance(model, polyjax.Redwood):

        def loss(seen):
            return (relu(seen @ w.T).sum(-1) - relu(x) @ v) ** 2

        most = 2 * v[i] ** 2 * relu(x[:, i]).var()
    else:

        def loss(seen):
            return (relu(seen @ w.T @ w) - x) ** 2 @ v

        most = 2 * v[i] * x[:, i].var()
    bias = np.zeros(5 if isinstance(model, polyjax.Redwood) else (5, 6))
    did = usefulness.behaviour(model, W, bias, V, usefulness.samples(6, 0.5, model.distribution))
    rise = (loss(swapped) - loss(x)) / most
    error = rise.std() / np.sqrt(len(x))
    assert error < 0.03  # of gains of about 1
    assert did.gain[0, i] == pytest.approx(rise.mean(), abs=4 * error)


def test_capacities_of_efficient_blocks_add_up_to_their_rank_by_both_definitions():
    factors = [embedding.embedding_with_capacities(C) for C in ([0.5, 0.5], [0.8, 0.7, 0.5])]
    efficient = np.pad(embedding.tegum_product(factors, [1, 3]), ((0, 0), (0, 1)))[None]
    stretched = efficient * np.array([1, 1, 2])[:, None]  # one dimension of the block of three
    eq3, isotropic = usefulness.capacities(efficient)
    found = embedding.blocks(efficient)
    np.testing.assert_allclose(usefulness.shortfall(eq3, found), [0, 0], atol=1e-6)
    np.testing.assert_allclose(isotropic, eq3, atol=1e-6)
    eq3, isotropic = usefulness.capacities(stretched)
    short = usefulness.shortfall(eq3, embedding.blocks(stretched))
    assert short[0] == pytest.approx(0, abs=1e-6)
    assert short[1] > 0.05
    np.testing.assert_allclose(usefulness.shortfall(isotropic, found), [0, 0], atol=1e-6)
    np.testing.assert_allclose(isotropic, usefulness.capacities(efficient).isotropic, atol=1e-6)


def test_ranks_over_restarts_are_those_of_scipy_and_a_constant_tells_nothing():
    value, loss = RNG.random((4, 8)), 1 + RNG.random((4, 8))
    each = [spearmanr(a, b).statistic for a, b in zip(value, loss, strict=True)]
    assert usefulness.over_restarts(value, loss) == pytest.approx(np.mean(each))
    value[1:] = 0.3
    assert usefulness.over_restarts(value, loss) == pytest.approx(each[0] / 4)
    assert np.isnan(usefulness.over_restarts(value, np.ones((4, 8))))


def test_the_interval_of_a_difference_covers_it_as_often_as_it_says():
    covered = []
    for seed in range(200):
        rows = np.random.default_rng(seed).standard_normal((2, 40)) + np.array([[0], [0.5]])
        found = usefulness.compare(rows, seed)
        covered.append(found.low[2] < 0.5 < found.high[2])
    assert 0.88 < np.mean(covered) < 0.99  # 200 draws of 95 %, and a bootstrap of 40 values is a little short
    assert usefulness.compare(np.full((2, 40), np.nan)) is None


@pytest.mark.slow
def test_the_figure_is_legible_and_tells_the_measures_of_its_panels():
    names = ("redwood-relu-6in3", "anthropic-relu-6in3")
    panels = {name: polyjax.run(figure7.sweep(name, "quick"), progress=False) for name in names}
    fig, drawn = rendered(lambda: definitions.draw(panels))
    assert fig.get_figwidth() == 7
    assert_legible(fig, drawn)
    share = usefulness.capacities(panels[names[0]].refined.W).parted.mean()
    assert f"Redwood ReLU, 6 in 3 {share:.1%}" in fig.details
