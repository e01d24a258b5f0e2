"""Refining removes the speckles of a diagram that single restarts leave, and never makes a cell worse."""

import itertools

import jax
import numpy as np
import pytest
from runner import in_memory

import polyjax
from polyjax.axes import Axes
from polyjax.engine.outcome import Outcome
from polyjax.runs import jobs, refinement
from polyjax.runs.grid import WIDTH, scattered
from polyjax.theory import explicit_losses

CELLS = 12
SPECKLED = polyjax.Sweep(
    polyjax.Anthropic(6, 5, "relu"),
    np.geomspace(0.01, 1, CELLS),
    np.geomspace(0.01, 100, CELLS),
    restarts=1,
    steps=1000,
    refine=6,
    seed=1,
)


@pytest.fixture(scope="module")
def results():
    return polyjax.run(SPECKLED, progress=False)


def excess(results, rule):
    """[P, V]: by how much the loss is above that of the best explicit solution, which is feasible."""
    bound = np.min(np.array(explicit_losses(results.importance[None], results.density[:, None])), axis=0)
    return results.select(rule).loss / bound - 1


@pytest.mark.slow
def test_single_restarts_are_worse_than_an_explicit_solution_and_refined_ones_are_not(results):
    assert (excess(results, "best") > 0.05).sum() >= 5  # this grid is known to need refining
    assert excess(results, "refined").max() < 0.01  # the evaluation is good to half of that


def test_no_cell_gets_worse_and_the_gain_is_what_the_loss_fell_by(results):
    best, refined = results.select("best"), results.refined
    assert (refined.rank_loss <= best.rank_loss).all()
    np.testing.assert_array_equal(refined.gain, best.rank_loss - refined.rank_loss)
    assert (refined.gain > 0).any()
    same = refined.gain == 0
    np.testing.assert_array_equal(refined.W[same], best.W[same])


def test_refined_arrays_belong_together(results):
    refined = results.refined
    np.testing.assert_allclose(refined.capacity, polyjax.capacities(refined.W), atol=1e-6)  # rounding
    assert refined.loss_se.shape == refined.loss.shape == (CELLS, CELLS)
    assert np.isfinite(refined.loss).all()


def assert_the_same(a, b):
    assert a.arrays().keys() == b.arrays().keys()
    for name, values in a.arrays().items():
        np.testing.assert_array_equal(values, b.arrays()[name])


def test_the_same_sweep_refines_to_the_same_bits(results):
    again = polyjax.run(SPECKLED, progress=False)
    assert_the_same(again.refined, results.refined)


def test_refined_results_survive_the_file(results, tmp_path):
    results.save(tmp_path / "r.npz")
    assert_the_same(polyjax.load(tmp_path / "r.npz").refined, results.refined)


def test_without_rounds_there_is_nothing_refined():
    sweep = polyjax.Sweep(polyjax.Redwood(2, 1), [0.5], [1.0], restarts=1, steps=2)
    results = polyjax.run(sweep, progress=False)
    assert results.refined is None
    with pytest.raises(ValueError, match="rule must not be refined"):
        results.select("refined")


def test_a_failed_cell_is_taken_over_by_a_neighbour(results):
    best = results.select("best")
    for a in (best.rank_loss, best.loss, best.loss_se, best.capacity, best.W, best.b):
        a[3, 4] = np.nan
    best.settled[3, 4] = False
    refined = refinement.refine(in_memory(SPECKLED, tuple(results.config["shape"])), Outcome(**best._asdict()))
    assert np.isfinite(refined.loss).all()
    assert np.isfinite(refined.params["W"]).all()


def axes(P, V):
    return Axes({"density": tuple(range(P)), "importance": tuple(range(V))}, ("density",))


def test_neighbours_are_those_along_every_axis():
    of_three = Axes({"a": (0.0, 1.0), "b": (0.0, 1.0, 2.0), "c": (5.0, 6.0)}, ("c", "b"))
    found = jobs.neighbours(of_three, np.ones((6, 2), bool))

    def place(cell):
        return tuple(of_three.coordinates(*divmod(cell, 2)).values())

    pairs = {(place(row * 2 + column), place(origin)) for row, column, origin in zip(*found, strict=True)}
    cells = [*itertools.product(*of_three.values.values())]
    assert pairs == {(a, b) for a in cells for b in cells if np.abs(np.subtract(a, b)).sum() == 1}
    assert len(pairs) == found.row.size


def test_neighbours_are_those_beside_above_and_below_that_have_news():
    news = np.zeros((3, 4), bool)
    news[0, 1] = True
    given = jobs.neighbours(axes(3, 4), news)
    assert sorted(zip(given.row.tolist(), given.column.tolist(), strict=True)) == [(0, 0), (0, 2), (1, 1)]
    assert set(given.origin.tolist()) == {1}  # row by row
    assert sorted(zip(*jobs.neighbours(axes(3, 4), news, 2)[:2], strict=True)) == [(0, 3), (2, 1)]
    everywhere = jobs.neighbours(axes(3, 4), np.ones((3, 4), bool))
    assert everywhere.row.size == 2 * (2 * 4 + 3 * 3)  # every edge between two cells, both ways


def test_capacities_differ_up_to_the_order_of_the_features_that_are_alike():
    a = np.array([0.5, 1.0, 0.0, 0.5])
    kinds = np.array([0, 1, 1, 1])
    assert not jobs.differ(a, a[[0, 2, 3, 1]], kinds)
    assert jobs.differ(a, a[[1, 0, 2, 3]], kinds)
    assert jobs.differ(a, np.full(4, np.nan), kinds)
    assert not jobs.differ(a, a[[1, 0, 2, 3]], np.zeros(4))
    assert jobs.differ(a, a[[0, 2, 3, 1]], np.arange(4))


def taken(outcome, index):
    """The lanes of an outcome at an index, all arrays of them."""
    return jax.tree.map(lambda a: a[index], outcome)


@pytest.mark.parametrize("seed", range(5))
def test_of_all_starts_in_a_cell_the_best_is_accepted_and_none_that_is_worse_than_what_is_there(seed):
    rng = np.random.default_rng(seed)
    P, V, N, D = 4, 5, 3, 2

    def outcomes(*shape):
        loss = rng.integers(1, 9, shape).astype(np.float32)  # with ties
        loss[rng.random(shape) < 0.2] = np.nan
        of_lane = [rng.random((*shape, N)), loss, rng.random(shape), rng.random(shape), rng.random(shape) < 0.5]
        return Outcome(*of_lane, {"W": rng.normal(size=(*shape, D, N)), "b": rng.normal(size=shape)})

    now = outcomes(P, V)
    given = jobs.neighbours(axes(P, V), rng.random((P, V)) < 0.7)
    of_job = outcomes(given.row.size)
    found = [(block, taken(of_job, block.lane)) for block in scattered(given.row, (2, WIDTH))]
    assert len(found) > 1
    before = jax.tree.map(np.copy, now)
    then, news = jobs.accept(now, given, iter(found), refinement.IMPROVED)
    for p, v in np.ndindex(P, V):
        here = [j for j in range(given.row.size) if (given.row[j], given.column[j]) == (p, v)]
        losses = [before.rank_loss[p, v], *of_job.rank_loss[here]]
        finite = [loss for loss in losses if not np.isnan(loss)]
        if not finite:
            assert np.isnan(then.rank_loss[p, v])
            assert not news[p, v]
            continue
        assert then.rank_loss[p, v] == min(finite)
        better = np.isnan(losses[0]) or min(finite) < losses[0]
        assert news[p, v] == better
        # All arrays are of the same lane, of one of those that are best.
        sources = [taken(of_job, j) for j in here if of_job.rank_loss[j] == min(finite)]
        sources = sources if better else [taken(before, (p, v))]
        found_here = taken(then, (p, v)).arrays()
        assert any(all(np.array_equal(a, one.arrays()[k]) for k, a in found_here.items()) for one in sources)
    for name, a in now.arrays().items():
        np.testing.assert_array_equal(a, before.arrays()[name])  # what was there is left as it was
