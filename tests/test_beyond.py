"""The sweeps and figures of what the paper leaves open: unequal features, and the critical point."""

from dataclasses import replace

import numpy as np
import pytest
from legibility import assert_legible, rendered, sentences

import polyjax
from figures import critical_point as critical
from figures import unequal as differing
from polyjax.draw.optimum import form_of
from polyjax.theory import grid
from sweeps import critical_point, unequal


@pytest.fixture(scope="module")
def near(tmp_path_factory):
    folder = tmp_path_factory.mktemp("critical")
    critical_point.main(["--preset", "quick", "--out", str(folder)])
    return folder


@pytest.fixture(scope="module")
def unlike(tmp_path_factory):
    path = tmp_path_factory.mktemp("unequal") / "r.npz"
    unequal.main(["--preset", "quick", "--out", str(path)])
    return path


def test_the_sweep_has_the_density_and_importance_of_its_axes():
    found = critical_point.sweep("expected").training.features_at({"excess": -0.1, "scaled": 0.5})
    np.testing.assert_allclose(found.moments().fourth, 2.9 - 3, rtol=1e-5)  # k - 3, of variance 1
    np.testing.assert_allclose(found.importances(6), [1.05, 1, 1, 1, 1, 1], rtol=1e-6)
    found = unequal.sweep().training.features_at({"density": 0.5, "importance": 2.0})
    np.testing.assert_allclose(found.densities(6), [0.5, 0.5, 0.5, 0.3, 0.3, 0.3], rtol=1e-6)
    np.testing.assert_allclose(found.importances(6), [2, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_every_preset_is_a_valid_sweep(preset):
    assert [len(values) for values in unequal.sweep(preset).coordinates.values()] == [unequal.PRESETS[preset][0]] * 2
    for panel in critical_point.PANELS:
        sweep = critical_point.sweep(panel, preset)
        assert 0 not in sweep.coordinates["scaled"]  # where below k = 3 either of two capacities is the best
        assert sweep.training.steps == critical_point.PRESETS[preset][panel]


@pytest.mark.slow
def test_the_critical_point_is_legible(near):
    fig, drawn = rendered(lambda: critical.draw(critical.read(near)))
    assert_legible(fig, drawn)
    assert sentences(fig) == 2
    assert "Largest distance of C from the limit" in fig.details


@pytest.mark.slow
def test_unequal_features_are_legible(unlike):
    results = polyjax.load(unlike)
    fig, drawn = rendered(lambda: differing.draw(results, "best"))
    assert_legible(fig, drawn)
    assert sentences(fig) == 2
    with pytest.raises(ValueError, match=r"results must be those of sweeps\.unequal"):
        differing.draw(replace(results, axes={"density": np.ones(3)}), "best")


@pytest.mark.slow
def test_the_distance_is_that_from_the_limit(near):
    results = critical.read(near)["expected"]
    e, x = results.axes["excess"], results.axes["scaled"]
    exact = np.clip((3 + 10 * x) / 6, 0, 1)  # by hand: D/N + 2 (N-1)/N x of 6 in 3
    shifted = np.broadcast_to(exact + 0.1 * (e[:, None] == 0.03), (e.size, x.size))
    capacity = np.repeat(np.repeat(shifted[:, :, None, None], results.loss.shape[-1], 2), 6, 3)
    found = critical.off(replace(results, capacity=capacity), "best")
    assert [*found] == [0.01, 0.03, 0.1]
    np.testing.assert_allclose([*found.values()], [0, 0.1, 0], atol=1e-6)


@pytest.mark.slow
def test_steps_to_settle_are_those_after_which_errors_stay_small(near):
    results = critical.read(near)["descent"]
    steps, e = results.snapshots.steps, results.axes["excess"]
    C = critical.optimum(results)[:, :, None, None, None]
    settled = np.array([3, 5, steps.size])[:, None, None, None, None]  # the last never does
    off = np.where(np.arange(steps.size)[:, None] < settled, 0.2, 0.04)
    shape = results.snapshots.capacity.shape
    looks = results.snapshots._replace(capacity=np.broadcast_to(C + off, shape))
    found = critical.steps_to_settle(replace(results, snapshots=looks))
    np.testing.assert_array_equal(found, [steps[3], steps[5], np.nan])
    by_hand = np.log(steps[5] / steps[3]) / np.log(e[1] / e[0])
    assert critical.exponent(replace(results, snapshots=looks)) == pytest.approx(by_hand)


@pytest.mark.slow
def test_phases_are_those_of_capacities(unlike):
    results = polyjax.load(unlike)
    sweep = differing.sweep_of(results)
    v, p, phase = differing.phases(results, sweep, 12)
    C = grid.capacity(form_of(results, sweep), {"density": p, "importance": v})[..., 0]
    np.testing.assert_array_equal(phase, np.where(C >= 1, 2, np.where(C > 0, 1, 0)))
    assert np.unique(phase).tolist() == [0, 1, 2]


@pytest.mark.slow
def test_the_commands_leave_images(tmp_path, near, unlike):
    critical.main(["--results", str(near), "--out", str(tmp_path / "c")])
    differing.main(["--results", str(unlike), "--out", str(tmp_path / "u"), "--rule", "best"])
    for name in ("c.png", "c.pdf", "u.png", "u.pdf"):
        assert (tmp_path / name).stat().st_size > 10_000
