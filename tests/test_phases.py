"""Phases in trained networks: boundaries against the closed form, transitions by their kind, and grids of which only
what is near boundaries is trained."""

from dataclasses import replace

import numpy as np
import pytest

import polyjax
from figures import boundaries as figure
from polyjax import phases, theory
from polyjax.phases import boundaries_from, decades
from polyjax.runs.adaptive import divided, halved, shared_beside
from polyjax.theory import grid
from sweeps import boundaries as sweeps

N = 100
DENSITY, IMPORTANCE = np.geomspace(0.01, 1, N), np.geomspace(0.1, 10, N)
CONFIG = polyjax.Sweep(polyjax.Redwood(6, 3), DENSITY, IMPORTANCE, restarts=1).describe()
FORM = grid.closed_form(CONFIG)


def results_of(capacity, density=DENSITY, importance=IMPORTANCE):
    """Results whose feature 0 has these capacities."""
    lanes = (*capacity.shape, 1)
    arrays = {name: np.zeros(lanes) for name in ("rank_loss", "loss", "loss_se")}
    arrays |= {"settled": np.ones(lanes, bool), "attempt": np.zeros(lanes, np.uint8), "W": np.zeros((*lanes, 3, 6))}
    arrays |= {"capacity": np.repeat(capacity[..., None, None], 6, -1), "b": np.zeros(lanes)}
    arrays["rank_loss"] = np.where(np.isnan(capacity)[..., None], np.nan, 0.0)
    return polyjax.Results.of({"density": density, "importance": importance}, arrays, CONFIG, None)


def optimum():
    V, k = np.meshgrid(IMPORTANCE, np.asarray(FORM.kurtosis(DENSITY)))
    return FORM.capacity(V, k)[..., 0]


@pytest.fixture(scope="module")
def exact():
    return optimum()


def expected():
    """The boundaries of theory, NaN where the grid does not reach them."""
    return [np.where(edge < IMPORTANCE[0], np.nan, edge) for edge in FORM.boundaries(DENSITY)]


def test_boundaries_of_the_optimum_are_those_of_the_closed_form(exact):
    found = boundaries_from(results_of(exact))
    for each, edge in zip((found.ignored, found.full), expected(), strict=True):
        d = decades(each, edge)
        assert np.nanmax(abs(d[each.kind == "continuous"])) < 0.002
        assert np.nanmax(abs(d)) < 0.01
        assert (np.isnan(d) | (abs(d) < 3 * each.error + 1e-4)).all()


def test_transitions_are_continuous_below_the_critical_point_and_jumps_above(exact):
    found, k = boundaries_from(results_of(exact)), np.asarray(FORM.kurtosis(DENSITY))
    for each in (found.ignored, found.full):
        assert set(each.kind[k < 3]) == {"jump"}
        assert set(each.kind[k > 4]) <= {"continuous", "none"}  # none where the boundary is left of the grid


def test_errors_are_as_large_as_the_noise_makes_the_boundaries_wrong(exact):
    rng, ratio = np.random.default_rng(0), []
    for _ in range(5):
        noisy = np.where((exact > 0) & (exact < 1), np.clip(exact + rng.normal(0, 0.003, exact.shape), 0, 1), exact)
        found = boundaries_from(results_of(noisy))
        for each, edge in zip((found.ignored, found.full), expected(), strict=True):
            here = (each.kind == "continuous") & np.isfinite(edge)
            ratio.append(decades(each, edge)[here] / each.error[here])
    ratio = np.concatenate(ratio)
    assert 0.5 < np.sqrt(np.median(ratio**2)) / 0.6745 < 1.5  # a normal variable's median of |x| is 0.6745
    assert np.mean(abs(ratio) < 3) > 0.97


def test_a_cell_in_another_minimum_moves_no_boundary_but_widens_its_error(exact):
    row = N - 5
    wrong = exact.copy()
    wrong[row, 20] = 1  # ignored at the optimum
    found, before = (boundaries_from(results_of(each)).full for each in (wrong, exact))
    assert found.position[row] == before.position[row]
    assert found.error[row] > 2 * before.error[row]


def test_axes_may_be_swapped_and_are_in_ascending_order(exact):
    forward = boundaries_from(results_of(exact))
    backward = boundaries_from(results_of(exact[::-1], density=DENSITY[::-1]))
    np.testing.assert_array_equal(forward.full.position, backward.full.position)
    along = boundaries_from(results_of(exact.T, density=DENSITY, importance=IMPORTANCE), along="density")
    assert along.across == "importance"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"margin": 0.3}, "margin must be above 0 and below 0.25, but is 0.3"),
        ({"feature": 6}, "feature must be one of the 6 features, from 0, but is 6"),
        ({"along": "rate"}, "x must be one of density, importance, but is 'rate'"),
    ],
)
def test_what_does_not_exist_is_refused(exact, options, said):
    with pytest.raises(ValueError, match=said):
        boundaries_from(results_of(exact), **options)


# --- adaptive grids


LINES = (np.array([0, 4]),) * 2


def test_squares_whose_corners_differ_are_halved():
    phase, known = np.zeros((5, 5), np.int8), np.zeros((5, 5), bool)
    known[::4, ::4] = True
    assert not divided(phase, known, *LINES).any()
    phase[4, 4] = 1
    found = divided(phase, known, *LINES)
    assert {tuple(cell) for cell in np.argwhere(found)} == {(i, j) for i in (0, 2, 4) for j in (0, 2, 4)}


def test_a_boundary_of_known_phases_is_followed_wherever_it_goes():
    rng, found = np.random.default_rng(0), []
    for _ in range(20):
        n = 70
        slope, offset, bend = rng.normal(0, 1), rng.uniform(10, 50), rng.uniform(0, 8)
        i, j = np.indices((n, n))
        truth = (j > offset + slope * (i - 32) + bend * np.sin(i / 9)).astype(np.int8)
        known = np.zeros((n, n), bool)
        lines = np.union1d(np.arange(0, n, 8), [n - 1])
        known[np.ix_(lines, lines)] = True
        while np.diff(lines).max() > 1:
            new = divided(np.where(known, truth, -1), known, lines, lines) & ~known
            known |= new
            lines = lines if new.any() else halved(lines)
        crossed = truth[:, 1:] != truth[:, :-1]
        beside = known[:, 1:] & known[:, :-1]
        found.append(beside[crossed].mean())
        assert known.mean() < 0.4
    assert min(found) > 0.95  # what is smaller than a square of the first grid may be missed
    assert np.mean(found) > 0.995


def test_shared_cells_beside_a_boundary_are_trained_at_growing_distances():
    phase = np.full((1, 80), -1, np.int8)
    phase[0, 10:12] = 0, 1
    assert np.flatnonzero(shared_beside(phase)[0]).tolist() == [12, 13, 15, 19, 27, 43]
    phase[0, 10:12] = 1, 2
    assert np.flatnonzero(shared_beside(phase)[0]).tolist() == [2, 6, 8, 9]


@pytest.fixture(scope="module")
def adaptive():
    return polyjax.run_adaptively(sweeps.sweep("quick"), progress=False)


def test_the_cells_that_are_trained_are_those_of_the_whole_sweep(adaptive):
    trained = np.argwhere(np.isfinite(adaptive.loss[..., 0]))
    i, j = trained[len(trained) // 2]
    sweep = sweeps.sweep("quick")
    one = replace(sweep, density=[sweep.density[i]], importance=[sweep.importance[j]])
    alone = polyjax.run(one, progress=False).select("best")
    # To rounding, since chunks have another shape: which of two restarts that end alike is the best may differ.
    np.testing.assert_allclose(adaptive.capacity[i, j, 0, 0], alone.capacity[0, 0, 0], atol=1e-3)
    np.testing.assert_allclose(adaptive.loss[i, j, 0], alone.loss[0, 0], rtol=1e-4)


def test_few_cells_find_the_boundaries_of_theory(adaptive):
    assert np.isfinite(adaptive.loss).mean() < 0.3  # of 64 x 64; of 1000 x 1000 it is 2 %
    found = figure.distance(adaptive)
    seen = (found.kind == "continuous") & np.isfinite(found.decades)
    assert seen.sum() > 40
    assert abs(found.decades[seen]).max() < 0.01
    assert np.nanmedian(abs(found.decades[found.kind == "jump"])) < 0.017  # half a cell; some are in other minima


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"retries": 1}, {}, "retries must be 0 where cells are trained adaptively, but is 1"),
        ({"refine": 1}, {}, "refine must be 0"),
        ({}, {"feature": 6}, "feature must be one of the 6 features, from 0, but is 6"),
        ({}, {"coarse": 0}, "coarse must be a whole number of at least 1, but is 0"),
        ({"importance": None}, {}, "sweep must be of two axes"),
    ],
)
def test_what_it_is_not_made_for_is_refused(changes, options, said):
    with pytest.raises(ValueError, match=said):
        polyjax.run_adaptively(replace(sweeps.sweep("quick"), **changes), **options)


def test_the_figure_says_what_it_found(adaptive, exact, tmp_path):
    from polyjax.draw.style import style

    with style():
        fig = figure.draw(adaptive, replace(results_of(exact), config=adaptive.config | {"batch": 3}))
        fig.savefig(tmp_path / "a.png")
    assert "and how far the boundaries in trained networks are from those of the closed form" in fig.caption
    assert "Boundaries of figure 4: " in fig.details
    assert phases.phases(np.array([0, 0.5, 1, np.nan])).tolist() == [0, 1, 2, -1]
    assert theory.boundaries(3.5, 6, 3)[0] < 1
