"""The figure of Elhage et al.'s experiments, from embeddings whose numbers are known."""

import numpy as np
import pytest
from legibility import assert_legible, rendered

from figures import elhage as figure
from polyjax.embedding.capacity import capacities
from polyjax.embedding.geometry import embedding_with_capacities, tegum_product
from polyjax.results import Results
from polyjax.selection import Refined
from polyjax.theory import correlated_weights

PAIR = embedding_with_capacities([0.5, 0.5])
CONFIG = {"steps": 100, "optimizer": "Adam", "learning_rate": 0.02, "seed": 0, "restarts": 1, "batch": 64}
DENSITY = np.geomspace(0.01, 0.5, 9)


def made(axes, W, loss=None):
    """Results of one restart whose embeddings W are [*axes, D, N]."""
    shape = tuple(len(values) for values in axes.values())
    W = np.broadcast_to(W, (*shape, *np.shape(W)[-2:]))
    loss = np.ones(shape) if loss is None else loss
    C, one = np.array(capacities(np.nan_to_num(W))), np.ones(shape, bool)
    refined = Refined(C, loss, loss, 0.01 * loss, one, {"W": W}, 0 * loss)
    C, loss, se, one, attempt, W = (
        a[len(shape) * (slice(None),) + (None,)] for a in (C, loss, 0.01 * loss, one, 0 * one, W)
    )
    named = {name: np.asarray(values, float) for name, values in axes.items()}
    return Results(named, C, loss, loss, se, one, attempt, {"W": W}, CONFIG, refined)


def phases(n):
    importance = np.geomspace(0.1, 10, 9)
    W = np.broadcast_to(np.eye(n - 1, n), (9, 9, n - 1, n))
    least = figure.theory.least_explicit(importance, DENSITY[:, None], n).loss
    return made({"density": DENSITY, "importance": importance}, W, 1.02 * least)


def small_networks():
    """Each in the corner of the largest, and NaN elsewhere."""
    W = np.full((5, 9, 3, 8), np.nan)
    for i, (n, d) in enumerate([(2, 1), (3, 2), (4, 3), (5, 2), (8, 3)]):
        W[i, :, :d, :n] = np.eye(d, n)
    return made({"n_features": [2, 3, 4, 5, 8], "density": DENSITY}, W, np.full((5, 9), 0.25))


@pytest.fixture(scope="module")
def panels():
    correlation = np.linspace(-1, 1, 9)
    kinds = ["antipodal", "antipodal", "antipodal", "antipodal", "orthogonal", "orthogonal", "orthogonal", "collapsed"]
    W = np.stack([correlated_weights(kind) for kind in [*kinds, "collapsed"]])
    reads = np.zeros((40, 100))
    reads[:, :4] = 1  # four features a neuron
    reads[0] = 0  # and one that is dead
    half = np.pad(tegum_product([PAIR] * 6), ((0, 0), (0, 8)))  # 6 of 10 pairs' worth: eight features are ignored
    return {
        "phases-2in1": phases(2),
        "phases-3in2": phases(3),
        "features-400in30": made({"density": DENSITY}, half),
        "features-80in20": made({"density": DENSITY}, half),
        "blocks": small_networks(),
        "pairs-4in2": made({"density": DENSITY, "correlation": correlation}, np.broadcast_to(W, (9, 9, 2, 4))),
        "absolute-100in40": made({"density": DENSITY}, reads),
    }


def test_the_figure_is_legible(panels):
    fig, drawn = rendered(lambda: figure.draw(panels))
    assert fig.get_figwidth() == 7
    assert_legible(fig, drawn)


def test_losses_are_told_beside_the_least_explicit_solution(panels):
    np.testing.assert_allclose(figure.excess(panels["phases-3in2"], 3), 0.02, rtol=1e-9)


@pytest.mark.slow
def test_pairs_have_half_a_dimension_a_feature_and_their_histogram_says_so(panels):
    best, every = figure.dimensions(panels["features-400in30"])
    np.testing.assert_allclose(best, 1)  # semi-orthogonal: ||W||_F^2 = D
    np.testing.assert_array_equal(every[:, 0], best)
    fig, _ = rendered(lambda: figure.draw(panels))
    (mesh,) = (ax.collections[0] for ax in fig.axes if ax.get_title() == "e  400 in 30")
    share = np.ma.filled(mesh.get_array(), 0)  # [bin, density]
    np.testing.assert_allclose(share.sum(0), 1)
    np.testing.assert_allclose(share[0], 0.4)  # 8 of 20 features are ignored
    np.testing.assert_allclose(share[19:21].sum(0), 0.6)  # the bins on both sides of 1/2


def test_blocks_side_by_side_cost_their_losses_and_the_variance_of_what_is_ignored(panels):
    above = figure.above_blocks(panels["features-400in30"], panels["blocks"])
    assert list(above) == ["2 in 1", "3 in 2", "4 in 3", "5 in 2", "8 in 3"]
    # Of 20 features in 6 neurons three copies of 5 in 2 leave 5 features ignored; the large loss is 1.
    np.testing.assert_allclose(above["5 in 2"], 1 / (3 * 0.25 + 5 * (DENSITY / 3 - DENSITY**2 / 4)) - 1)


def test_cosines_and_regions_of_pairs(panels):
    cosine = figure.cosines(panels["pairs-4in2"])
    np.testing.assert_allclose(cosine, np.tile([-1, -1, -1, -1, 0, 0, 0, 1, 1], (9, 1)), atol=1e-6)  # float32
    # Together, pairs collapse above density 1/4; exclusive ones never do.
    least = figure.least_correlated(np.array([0.2, 0.3]), np.array([-1.0, 1.0]))
    np.testing.assert_array_equal(least, [[0, 1], [0, 2]])


def test_a_neuron_reads_as_many_features_as_have_equal_weights(panels):
    read = figure.features_a_neuron(panels["absolute-100in40"])
    assert np.isnan(read[:, 0]).all()  # it is dead
    np.testing.assert_allclose(read[:, 1:], 4)


def test_a_monosemantic_network_is_the_sum_of_what_it_ignores(panels):
    p = DENSITY
    one = panels["absolute-100in40"].select("refined").loss  # 1 in every cell
    ignored = sum(0.8**i for i in range(20, 100)) * (p / 3 - p**2 / 4)
    np.testing.assert_allclose(figure.above_monosemantic(panels["absolute-100in40"], "refined"), one / ignored - 1)


def test_a_missing_panel_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"must have the panel .*phases-2in1\.npz"):
        figure.load_all(tmp_path)
