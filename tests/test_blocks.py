"""The sweeps of block sizes, and the figure that is drawn from them."""

from dataclasses import replace

import numpy as np
import pytest
from legibility import assert_legible, rendered, words

import polyjax
from figures import blocks, sparse_limit
from polyjax import embedding
from sweeps import blocks as sweeps


@pytest.mark.parametrize("panel", sweeps.PANELS)
@pytest.mark.parametrize("preset", sweeps.PRESETS)
def test_a_panel_is_the_sweep_that_its_name_says(panel, preset):
    made = sweeps.sweep(panel, preset)
    if panel in sweeps.EXPONENTS:
        assert [*made.coordinates] == ["density", "q"]
    else:
        assert made.sizes == ("n_features", "n_neurons")


def test_1_and_2_are_among_the_exponents_of_the_figure():
    q = np.array(sweeps.sweep("redwood-abs").coordinates["q"])
    for exact in (1, 2):
        assert abs(q - exact).min() < 1e-12


@pytest.mark.parametrize("q", [0.7, 1.0, 2.0, 3.5])
def test_powers_and_their_gradients_are_finite_at_0_too(q):
    import jax

    z = np.array([-2.0, 0.0, 2.0])
    for power, expected in ((sweeps.absolute_power, abs(z) ** q), (sweeps.positive_power, np.maximum(z, 0) ** q)):
        f = power(q)
        np.testing.assert_allclose(f(z), expected, rtol=1e-6)
        slopes = np.array([jax.grad(f)(each) for each in z])
        assert slopes[1] == 0
        assert slopes[2] == pytest.approx(q * 2 ** (q - 1), rel=1e-6)


def test_the_blocks_of_a_network_are_listed_from_the_largest_on():
    pair, three = (embedding.embedding_with_capacities(C) for C in ([0.5, 0.5], [0.8, 0.7, 0.5]))
    W = np.pad(embedding.tegum_product([pair, three, np.eye(1)]), ((0, 0), (0, 1)))
    assert blocks.block_sizes(W) == [3, 2, 1]
    assert blocks._shown([3, 2, 1]) == "3 2 1"
    assert blocks._shown([2, 2, 2]) == "3 x 2"
    assert blocks._shown([6]) == "6"


@pytest.fixture(scope="module")
def panels():
    """The quick sweeps, trained but for a few steps."""
    made = {name: sweeps.sweep(name, "quick") for name in sweeps.PANELS}
    return {name: polyjax.run(replace(s, steps=50, refine=0, retries=0), progress=False) for name, s in made.items()}


@pytest.mark.slow
def test_the_figure_is_legible_and_shows_the_blocks_of_the_networks(panels):
    fig, drawn = rendered(lambda: blocks.draw(panels))
    assert fig.get_figwidth() == 7
    assert_legible(fig, drawn)
    best = panels["anthropic-relu-sizes"].select("best").W[0]
    shown = blocks._shown(blocks.block_sizes(best[1, 0][:2, :5]))
    assert shown in [text.get_text() for text in fig.axes[-1].texts]
    assert "ignored features are in none" in words(drawn)


@pytest.mark.slow
def test_trained_pairs_have_the_loss_of_the_sparse_limit():
    """Of a quadratic Redwood model at density 0.001, whose frames tie."""
    sweep = polyjax.Sweep(
        polyjax.Redwood(6, 3), density=[0.001], importance=[1], objective="expected", restarts=4, steps=4000
    )
    results = polyjax.run(sweep, progress=False)
    exact = sparse_limit.redwood_loss(sparse_limit.pairs(3), 2)
    assert results.rank_loss.min() == pytest.approx(exact, rel=5e-3)  # terms of the next order in the density
