"""The order parameter of section 3.6, from embeddings that are optimal by construction."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from legibility import assert_legible, rendered, sentences

from figures import order_parameter as drawing
from figures.figure4 import problem
from polyjax import theory
from polyjax.embedding.capacity import capacities, trained_marginal
from polyjax.embedding.geometry import embedding_with_capacities, tegum_product
from polyjax.results import Results

N, D = 6, 3


def embedding(importance, kurtosis):
    """W [D, N] of the best loss: full features have a neuron each and n = v, shared ones are a block (eq. 24)."""
    v = np.array([importance, 1, 1, 1, 1, 1.0])
    C = np.asarray(theory.optimal_capacity(v, kurtosis, D), float)
    n = np.asarray(theory.squared_norm(C, v, kurtosis), float)
    full, shared = np.flatnonzero(C == 1), np.flatnonzero((C > 0) & (C < 1))
    factors, scales = [np.eye(1)] * len(full), list(v[full])
    if shared.size:
        inside = C[shared] / C[shared].sum() * round(C[shared].sum())  # single precision is not quite an integer
        factors, scales = [*factors, embedding_with_capacities(inside)], [*scales, (n / np.maximum(C, 1e-9))[shared][0]]
    blocks = tegum_product(factors, scales)
    W = np.zeros((D, N))
    W[: len(blocks), np.concatenate([full, shared])] = blocks
    return W


@pytest.fixture(scope="module")
def results():
    density, importance = np.geomspace(0.02, 1, 24), np.geomspace(0.2, 5, 20)
    W = np.array([[embedding(v, 9 / (5 * p)) for v in importance] for p in density])[:, :, None]
    loss = np.ones(W.shape[:3])
    config = {
        "model": {"name": "Redwood", "n_features": N, "n_neurons": D, "activation": "square"},
        "distribution": "uniform_signed",
        "steps": 2000,
        "optimizer": "Adam, cosine decay from 0.02",
        "learning_rate": 0.02,
        "provenance": {"versions": {"polyjax": "0.1.0"}, "revision": None},
    }
    arrays = (
        np.array(capacities(W)),
        loss,
        loss,
        0.01 * loss,
        loss > 0,
        np.zeros(loss.shape, np.uint8),
        {"W": W, "b": 0 * loss},
    )
    return Results({"density": density, "importance": importance}, *arrays, config)


def test_the_marginal_of_trained_weights_is_twice_the_square_of_length_over_capacity():
    W = np.random.default_rng(0).standard_normal((4, 3, 5))
    with jax.enable_x64(True):
        C, found = np.asarray(capacities(W)), np.asarray(trained_marginal(W))
        short = np.asarray(trained_marginal(W * [1e-9, 1, 1, 1, 1]))
        zero = np.asarray(trained_marginal(W * [0, 1, 1, 1, 1]))
    np.testing.assert_allclose(found, 2 * ((W**2).sum(-2) / C) ** 2, rtol=1e-12)  # rounding
    assert np.isnan(zero[..., 0]).all()
    np.testing.assert_allclose(short, np.where(np.isnan(zero), short, zero), rtol=1e-12)
    assert np.isfinite(short).all()


def test_a_diverged_embedding_has_no_marginal():
    W = np.ones((3, 2))
    W[0, 1] = np.nan
    assert np.isnan(np.asarray(trained_marginal(W))).all()
    with pytest.raises(ValueError, match="W must have at least one row"):
        trained_marginal(np.ones(3))


@pytest.mark.parametrize(("density", "importance"), [(0.1, 1.0), (0.1, 0.6), (0.1, 4.0), (0.3, 1.3), (0.9, 1.5)])
def test_at_the_optimum_it_is_the_closed_form(density, importance):
    W, k = embedding(importance, 9 / (5 * density)), 9 / (5 * density)
    v = np.array([importance, 1, 1, 1, 1, 1.0])
    C = theory.optimal_capacity(v, k, D)
    expected = np.where(np.asarray(C) > 0, theory.marginal_loss_reduction(C, v, k), np.nan)
    found = np.asarray(trained_marginal(W))
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # single precision
    inside = np.asarray((C > 0) & (C < 1))
    level = 2 * theory.multiplier(v, k, D) ** 2
    np.testing.assert_allclose(found[inside], np.full(inside.sum(), level), rtol=1e-5)


def test_the_jump_is_that_of_the_closed_form():
    """By hand: 2 against (k - 1)^2 / 2 above the critical point; 2 ((k - 1) N / ((k - 3) D + 2 N))^2 below."""
    config = {"model": {"name": "Redwood", "n_features": N, "n_neurons": D, "activation": "square"}}
    p = problem(config | {"distribution": "uniform_signed"})
    below, above = drawing.limits(p, np.array([1.8, 2.5, 3.0, 9.0, 180.0]))
    shared = 2 * (np.array([2, 8, 179.0]) * 6 / (np.array([0, 6, 177]) * 3 + 12)) ** 2
    np.testing.assert_allclose(below, [0.32, 1.125, *shared], rtol=1e-5)  # single precision
    np.testing.assert_allclose(above, [2, 2, *shared], rtol=1e-5)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("kurtosis", [1.8, 2.5, 6.0, 60.0])
def test_the_limits_are_those_of_the_optimum_next_to_equal_importance(kurtosis, side):
    config = {"model": {"name": "Redwood", "n_features": N, "n_neurons": D, "activation": "square"}}
    p = problem(config | {"distribution": "uniform_signed"})
    k = np.array([kurtosis])
    near = drawing.optimal(p, np.array([(0.9999, 1.0001)[side]]), k)
    np.testing.assert_allclose(drawing.limits(p, k)[side], near, rtol=3e-4)  # it goes with V^2 at most


def test_optimal_embeddings_give_the_jump_and_the_continuity(results):
    p = problem(results.config)
    k = 9 / (5 * results.density)
    found = drawing.at_one(results, p, drawing.trained(results, p, "best"))
    jumps = drawing.jumps(found, k)
    np.testing.assert_allclose(jumps, np.where(k < 3, 2 - (k - 1) ** 2 / 2, 0), atol=1e-4)  # of values up to 10
    assert jumps[-1] == pytest.approx(1.68, abs=1e-4)
    dense = k < 3
    assert np.isfinite(found.ignored[0, dense]).all()
    assert np.isfinite(found.embedded[1]).all()


def test_models_on_the_wrong_branch_give_no_jump(results):
    p = problem(results.config)
    W = results.W.copy()
    left, right = drawing.sides(results.importance)
    W[:, left] = W[:, right]
    swapped = replace(results, params={"W": W, "b": results.b}, capacity=np.array(capacities(W)))
    order = drawing.at_one(swapped, p, drawing.trained(swapped, p, "best"))
    k = 9 / (5 * results.density)
    np.testing.assert_array_equal(np.isnan(drawing.jumps(order, k)), k < 3)


def test_failed_cells_have_no_order_parameter(results):
    capacity, W = results.capacity.copy(), results.W.copy()
    capacity[3, 4], W[3, 4] = np.nan, np.nan
    found = drawing.trained(
        replace(results, capacity=capacity, params={"W": W, "b": results.b}), problem(results.config), "best"
    )
    assert np.isnan(found.embedded[3, 4])
    assert np.isnan(found.ignored[3, 4])
    estimators = np.isfinite(found.embedded).astype(int) + np.isfinite(found.ignored)
    assert estimators.sum() == estimators.size - 1  # one in every other cell


def test_a_column_at_equal_importance_is_on_neither_side():
    assert drawing.sides(np.array([0.5, 0.9, 1.0 + 1e-9, 1.1])) == (1, 3)
    with pytest.raises(ValueError, match="both sides of 1"):
        drawing.sides(np.array([0.5, 0.9]))


def test_all_text_is_legible(results):
    fig, drawn = rendered(lambda: drawing.draw(results))
    assert fig.get_figwidth() == 7  # two columns of a page
    assert_legible(fig, drawn)
    assert sentences(fig) == 2
    assert "2 (n/C)² of the trained weights alone (eq. 14)" in fig.details
    assert "the gain of eq. 54 at the trained capacity" in fig.details
    assert "0 cells failed. 0 cells are not settled." in fig.details


def test_failed_and_unsettled_cells_are_counted(results):
    capacity, settled = results.capacity.copy(), results.settled.copy()
    capacity[3, 4:6], settled[3, 4:9] = np.nan, False
    fig, _ = rendered(lambda: drawing.draw(replace(results, capacity=capacity, settled=settled)))
    assert "2 cells failed. 3 cells are not settled." in fig.details


def test_the_command_leaves_both_images(tmp_path, results):
    results.save(tmp_path / "r.npz")
    drawing.main(["--results", str(tmp_path / "r.npz"), "--out", str(tmp_path / "new" / "figure")])
    png, pdf = ((tmp_path / "new" / f"figure.{kind}").read_bytes() for kind in ("png", "pdf"))
    assert int.from_bytes(png[16:20], "big") == 7 * 300  # the PNG header
    assert b"/Type3" not in pdf


@pytest.mark.parametrize(
    ("rule", "changes", "message"),
    [
        ("mean", {}, "rule must choose one restart"),
        ("best", {"model": {"name": "Redwood", "n_features": 6, "n_neurons": 3, "activation": "relu"}}, "closed form"),
        ("best", None, "No such file"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, capsys, results, rule, changes, message):
    if changes is not None:
        replace(results, config=results.config | changes).save(tmp_path / "r.npz")
    arguments = ["--results", tmp_path / "r.npz", "--out", tmp_path / "figure", "--rule", rule]
    with pytest.raises(SystemExit) as ended:
        drawing.main([str(a) for a in arguments])
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "figure.png").exists()
