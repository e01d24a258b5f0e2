"""Lanes that did not settle are trained again with smaller steps: no other, each by itself, and never to the worse."""

from dataclasses import replace

import hypothesis
import jax
import numpy as np
import optax
import pytest
from diverging import DIVERGING as SWEEP
from hypothesis import strategies as st

from polyjax import run
from polyjax.engine import choice, execution, optimizers
from polyjax.engine.keys import keys
from polyjax.runs import attempts
from polyjax.runs.grid import WIDTH, Grid, rectangles
from polyjax.runs.lanes import Lanes, Replaced
from polyjax.runs.store import Memory
from polyjax.selection import OF_LANES
from tests import paper

SEEDS = st.integers(0, 2**32 - 1)
FEW = hypothesis.settings(deadline=None, max_examples=100, derandomize=True)


def silent(sweep):
    return run(sweep, progress=False)


@pytest.fixture(scope="module")
def first():
    return silent(replace(SWEEP, retries=0))


@pytest.fixture(scope="module")
def one():
    return silent(replace(SWEEP, retries=1))


@pytest.fixture(scope="module")
def two():
    return silent(SWEEP)


def worth(results):
    """[P, V, R]: 0 for a lane that is not finite, 1 for one that is, 2 for one that has also settled."""
    return np.isfinite(results.loss).astype(int) + results.settled


def assert_same_bits(found, reference, where):
    assert where.any()  # or this would show nothing
    for name in (*OF_LANES, "W", "b"):
        assert getattr(found, name)[where].tobytes() == getattr(reference, name)[where].tobytes(), name


# --- which lanes


def test_two_attempts_are_the_default_and_none_change_nothing(first, two):
    assert SWEEP.retries == 2
    assert not first.attempt.any()
    assert not first.settled.all()
    assert two.attempt.max() == 2


def test_lanes_that_diverged_settle_with_smaller_steps(first, two):
    saved = ~np.isfinite(first.loss) & two.settled
    assert saved.sum() >= 3
    assert np.isfinite(two.loss[saved]).all()
    assert np.isfinite(two.W[saved]).all()
    assert (two.attempt[saved] > 0).all()
    assert set(two.attempt[saved]) == {1, 2}  # some needed half the steps, some a quarter


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_retry_takes_the_place_of_a_lane_if_it_did_better_and_never_otherwise(attempts, first, one, two):
    before, after = ((first, one), (one, two))[attempts - 1]
    replaced = after.attempt == attempts
    assert (worth(after)[replaced] > worth(before)[replaced]).all()
    assert replaced[before.settled].sum() == 0
    # All lanes that stay keep their bits, also those that were tried again in vain.
    assert_same_bits(after, before, ~replaced)
    assert_same_bits(after, before, before.settled)
    assert_same_bits(after, before, ~before.settled & ~replaced)


def test_a_finite_lane_that_has_not_settled_takes_the_place_of_an_infinite_one(first, two):
    better = (worth(first) == 0) & (worth(two) == 1)
    assert better.any()
    assert (two.attempt[better] > 0).all()
    assert not two.settled[better].any()


def test_a_lane_is_tried_a_second_time_only_where_the_first_did_not_settle(one, two):
    assert not (two.attempt == 2)[one.settled].any()
    again = (one.attempt == 1) & ~one.settled  # finite, and now settled
    assert (two.attempt[again] == 2).any() or not two.settled[again].any()


@pytest.mark.slow
def test_lanes_that_never_settle_stay_flagged_after_the_given_attempts(monkeypatch):
    asked, train = [], attempts._train_again

    def counted(run, attempt, lane, chunks):
        asked.append((attempt, lane.size))
        train(run, attempt, lane, chunks)

    monkeypatch.setattr(attempts, "_train_again", counted)
    hopeless = replace(SWEEP, optimizer=optax.sgd(1e6), retries=3)
    found = silent(hopeless)
    assert asked == [(1, 24), (2, 24), (3, 24)]
    assert not found.settled.any()
    assert not found.attempt.any()  # nothing was better, so all are the first ones
    assert_same_bits(found, silent(replace(hopeless, retries=0)), np.ones(hopeless.shape, bool))


def test_where_everything_settles_nothing_is_tried_again(monkeypatch):
    monkeypatch.setattr(attempts, "_train_again", lambda *_: pytest.fail("tried again"))
    settled = silent(replace(SWEEP, optimizer=optax.sgd(1e-6)))  # it hardly moves
    assert settled.settled.all()
    assert not settled.attempt.any()


def test_only_what_has_not_settled_is_trained_again(one, monkeypatch):
    asked, train = {}, attempts._train_again

    def seen(run, attempt, lane, chunks):
        asked[attempt] = lane.tolist()
        train(run, attempt, lane, chunks)

    monkeypatch.setattr(attempts, "_train_again", seen)
    silent(SWEEP)
    assert asked[2] == np.flatnonzero(~one.settled).tolist()


# --- how


def test_a_retry_has_fresh_weights_and_half_the_steps_of_the_attempt_before(two):
    """Every lane again, alone, from the words of the documentation."""
    of_sweep = keys(SWEEP.seed)
    p, v = np.float32(SWEEP.density), np.float32(SWEEP.importance)
    for attempt in (1, 2):
        fixed = replace(choice.with_engine(SWEEP.training), optimizer=optax.sgd(0.03 / 2**attempt))
        of_attempt = jax.random.fold_in(of_sweep.start, attempt)
        lanes = np.argwhere((two.attempt == attempt) & two.settled)
        assert len(lanes) >= 2
        for row, column, restart in lanes:
            density, importance = p[[row]], v[[[column]]]
            cell = {"density": density[None], "importance": importance}
            start = execution.compiled_initial(fixed)(of_attempt, cell, np.array([[restart]]))
            alone = execution.train(fixed, of_sweep, start, *paper.coordinates(importance, density))
            for name, a in alone.arrays().items():
                # A lane alone is vectorised otherwise, for 20 steps that settle. Measured: 2e-7.
                expected = getattr(two, name)[row, column, restart]
                rtol = 1e-4 if name == "loss_se" else 2e-5
                np.testing.assert_allclose(a[0, 0], expected, rtol=rtol, atol=4e-6)


def test_the_steps_of_any_optimiser_become_smaller():
    for optimizer in (optax.sgd(0.25), optax.adam(0.25), optax.sgd(0.25, momentum=0.5)):
        smaller = optimizers.smaller_steps(optimizer, 0.25)
        state, smaller_state = optimizer.init(1.0), smaller.init(1.0)
        for gradient in (1.0, -3.0, 0.5):
            step, state = optimizer.update(gradient, state, 1.0)
            smaller_step, smaller_state = smaller.update(gradient, smaller_state, 1.0)
            assert smaller_step == step / 4
    assert optimizers.smaller_steps(optimizer, 0.25) is smaller  # so that it is compiled once


def test_a_retried_lane_does_not_depend_on_the_grid_around_it(two):
    cells = [(row, column) for row, column in np.ndindex(4, 3) if two.settled[row, column].all()]
    cells = [cell for cell in cells if two.attempt[cell].any()]
    assert cells
    for row, column in cells:
        alone = replace(SWEEP, density=SWEEP.density[row : row + 1], importance=SWEEP.importance[column : column + 1])
        found = silent(alone)
        np.testing.assert_array_equal(found.attempt[0, 0], two.attempt[row, column])
        for name in (*OF_LANES, "W", "b"):
            rtol = 1e-4 if name == "loss_se" else 2e-5
            expected = getattr(two, name)[row, column]
            np.testing.assert_allclose(getattr(found, name)[0, 0], expected, rtol=rtol, atol=4e-6)


def test_another_sweep_that_retries_compiles_nothing_new(caplog, two):
    compiled = lambda: [r.getMessage() for r in caplog.records if "Compiling" in r.getMessage()]  # noqa: E731
    with jax.log_compiles():
        found = silent(replace(SWEEP, density=np.geomspace(0.06, 0.9, 4), seed=5))
        assert found.attempt.max() == 2
        assert compiled() == []


def test_the_expected_objective_retries_as_well():
    exact = replace(SWEEP, objective="expected")
    found = silent(exact)
    assert found.attempt.any()
    assert worth(found).sum() > worth(silent(replace(exact, retries=0))).sum()


# --- lanes in the store


class MadeUp(Memory):
    """Outcomes of a grid of lanes, where chunk for chunk and attempt for attempt every number is another one."""

    def __init__(self, rng, grid, chunks, attempts):
        super().__init__()
        self.lanes = {
            name: rng.normal(size=(grid.rows, grid.a_row, *more)).astype(np.float32) for name, more in FIELDS.items()
        }
        for i, chunk in enumerate(chunks):
            of_lanes = ((name, a.reshape(-1, *a.shape[2:])) for name, a in self.lanes.items())
            self.keep(f"train-{i:06d}", {name: a[chunk.lane] for name, a in of_lanes}, {})
        for attempt, count in attempts.items():
            for i in range(count):
                arrays = {name: rng.normal(size=(2, WIDTH, *more)).astype(np.float32) for name, more in FIELDS.items()}
                self.keep(f"retry{attempt}-{i:06d}", arrays, {})


FIELDS = {"loss": (), "capacity": (3,), "W": (2, 3)}


@FEW
@hypothesis.given(SEEDS, st.integers(1, 7), st.integers(1, 5), st.integers(1, 3), st.integers(1, 7), st.integers(1, 15))
def test_bands_are_the_plain_loop_over_chunks_and_attempts(seed, P, V, R, rows, width):
    rng = np.random.default_rng(seed)
    grid = Grid(P, V, R)
    chunks = rectangles(grid, (min(rows, P), min(width, V * R)))  # the last ones overlap those before
    store = MadeUp(rng, grid, chunks, {1: 2, 3: 1})
    lanes = Lanes(store, grid, chunks)
    expected = {name: a.copy() for name, a in store.lanes.items()} | {"attempt": np.zeros((P, V * R), np.uint8)}
    for number, count in ((1, 2), (3, 1)):  # of some attempts nothing was better
        n = rng.integers(0, P * V * R + 1)
        row, lane = np.divmod(np.sort(rng.choice(P * V * R, n, replace=False)), V * R)
        place = np.stack([rng.integers(0, high, n) for high in (count, 2, WIDTH)], axis=1)
        lanes.replaced.append(Replaced(number, row, lane, place))
        for p, j, (chunk, part, inside) in zip(row, lane, place, strict=True):
            for name in FIELDS:
                expected[name][p, j] = store.read(f"retry{number}-{chunk:06d}", [name])[name][part, inside]
            expected["attempt"][p, j] = number
    bands = lanes.bands()
    assert [band.start for band in bands] == [0, *(band.stop for band in bands[:-1])]
    assert bands[-1].stop == P
    assert max(band.stop - band.start for band in bands) <= rows
    for name, a in expected.items():
        found = np.concatenate([lanes.band(name, band) for band in bands])
        assert found.dtype == a.dtype
        np.testing.assert_array_equal(found, a)
    for name, a in store.lanes.items():
        np.testing.assert_array_equal(  # what is in the store is left as it was
            np.concatenate([Lanes(store, grid, chunks).band(name, band) for band in bands]), a
        )
