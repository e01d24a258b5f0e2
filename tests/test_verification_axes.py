"""`polyjax.verify` with the sweep, for whatever a sweep may be made of."""

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import polyjax
from polyjax import Anthropic, Features, Redwood, Sweep, activity, distributions
from polyjax.runs.verification import verify

FEW = {"restarts": 2, "steps": 10, "batch": 16, "retries": 0}


@dataclass(frozen=True)
class Penalised(Redwood):
    factor: float = 0.0

    def loss(self, params, x, importance):
        return super().loss(params, x, importance) + self.factor * jnp.abs(params.W).sum()


def power_law(density, decay):
    return Features(density, decay ** jnp.arange(3))


def exclusive(density, v):
    return Features(density, jnp.ones(3).at[0].set(v), distributions.NORMAL, activity.Exclusive([(0, 1)]))


POWER_LAW = Sweep(Redwood(3, 2), axes={"decay": [0.5, 1.0], "density": [0.1, 0.4]}, features=power_law, **FEW)
SWEEPS = {
    "features": POWER_LAW,
    "polished": replace(POWER_LAW, polish=True, refine=1),
    "law of activity": Sweep(Anthropic(3, 2), axes={"v": [0.5, 1.0], "density": [0.1, 0.4]}, features=exclusive, **FEW),
    "expected": replace(POWER_LAW, objective="expected"),
    "rate": Sweep(
        Redwood(3, 2),
        axes={"rate": [0.01, 0.03], "density": [0.1, 0.4]},
        optimizer=lambda rate: optax.adam(rate),
        **FEW,
    ),
    "one row": Sweep(
        Redwood(3, 2),
        axes={"rate": [0.01, 0.03]},
        features=Features(0.2),
        optimizer=lambda rate: optax.sgd(rate),
        **FEW,
    ),
    "three axes, a retry": Sweep(
        lambda factor: Penalised(3, 2, factor=factor),
        axes={"rate": [0.1, 0.3], "density": [0.1, 0.4], "factor": [0.0, 0.1]},
        optimizer=lambda rate: optax.adam(rate),
        **FEW | {"retries": 1},
    ),
}


LONG = ("polished", "law of activity", "three axes, a retry")  # to compile


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in SWEEPS])
def test_a_sweep_of_the_users_is_verified_to_the_bit(name, tmp_path):
    sweep, path = SWEEPS[name], tmp_path / "r.npz"
    polyjax.run_to_file(sweep, path, progress=False)
    cells = int(np.prod([len(values) for values in sweep.coordinates.values()]))
    found = polyjax.verify(path, cells, sweep=sweep)
    assert len(found) == cells
    assert all(cell.agrees for cell in found)
    assert all(cell.same_bits for cell in found if polyjax.load(path).sel(**cell.coordinates).attempt.min() == 0)


def test_a_wrong_number_in_a_sweep_of_the_users_is_found_out(tmp_path):
    results = polyjax.run(POWER_LAW, progress=False)
    wrong = results.loss.copy()
    wrong[1, 0] *= 2
    replace(results, loss=wrong).save(tmp_path / "r.npz")
    found = {tuple(cell.coordinates.values()): cell.agrees for cell in verify(tmp_path / "r.npz", 4, sweep=POWER_LAW)}
    assert found == {(0.5, 0.1): True, (0.5, 0.4): True, (1.0, 0.1): False, (1.0, 0.4): True}


def test_the_sweep_that_is_needed_is_asked_for_and_another_is_refused(tmp_path):
    path = tmp_path / "r.npz"
    polyjax.run(POWER_LAW, progress=False).save(path)
    with pytest.raises(ValueError, match=r"needs the user's own features; polyjax.verify\(path, sweep=...\) takes"):
        verify(path)
    with pytest.raises(ValueError, match=r"^sweep must be the one .*, but differs: batch \(16 there, 32 here\); seed "):
        verify(path, sweep=replace(POWER_LAW, batch=32, seed=1))
    other = replace(POWER_LAW, features=lambda density, decay: Features(density, decay ** (2 * jnp.arange(3))))
    with pytest.raises(ValueError, match=r"but differs: given.features.program"):
        verify(path, sweep=other)
    with pytest.raises(ValueError, match=r"^sweep must be a Sweep, but is 5$"):
        verify(path, sweep=5)
