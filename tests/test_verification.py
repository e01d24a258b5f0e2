"""`polyjax info` and `polyjax verify`: what a file says of itself, and that a file which is wrong is found out."""

import dataclasses
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from diverging import DIVERGING

import polyjax
from polyjax.__main__ import main
from polyjax.cli.info import _retried
from polyjax.results import Results
from polyjax.runs import attempts, verification
from polyjax.runs.verification import verify
from polyjax.selection import Refined

ROOT = Path(__file__).parents[1]
# A third of the models has not settled after so few steps, and is retried; everything is refined.
SWEEP = polyjax.Sweep(
    polyjax.Anthropic(3, 2), [0.05, 0.3, 1.0], [0.3, 1.0, 3.0], restarts=3, steps=100, batch=16, refine=1
)
ALL = 9  # cells


@pytest.fixture(scope="module")
def results():
    results = polyjax.run(SWEEP, progress=False)
    assert (results.attempt > 0).any()
    assert (results.refined.gain > 0).any()
    return results


@pytest.fixture
def saved(results, tmp_path):
    """Saves the results with some arrays changed, and returns the path."""

    def save(config=None, **changed):
        path = tmp_path / "r.npz"
        refined = {k.removeprefix("refined_"): v for k, v in changed.items() if k.startswith("refined_")}
        own = {k: v for k, v in changed.items() if not k.startswith("refined_")}
        refined = Refined.of(results.refined.arrays() | refined)
        config = {**results.config, **(config or {})}
        Results.of(results.axes, results.arrays() | own, config, refined).save(path)
        return path

    return save


def with_one(array, value, index=(1, 2)):
    """A copy in which cell `index` has another first number."""
    changed = array.copy()
    changed[(*index, *(0,) * (array.ndim - 2))] = value
    return changed


def test_a_file_is_verified_to_the_bit_where_it_was_made(saved):
    cells = verify(saved(), ALL)
    assert len(cells) == ALL
    for cell in cells:
        assert cell.agrees
        assert cell.same_bits  # of the models that were not retried
        assert max(cell.capacity, cell.loss, cell.of_weights) < 1e-5  # evaluated in blocks of another shape


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [4, 7, 12])
def test_blocks_that_overlap_are_found_again(tmp_path, chunk):
    # 3 rows of 9 lanes in blocks of 4 or 7 lanes, or of two rows: models at the seams were trained twice.
    polyjax.run_to_file(replace(SWEEP, chunk=chunk, refine=0), tmp_path / "r.npz", progress=False)
    assert all(cell.same_bits for cell in verify(tmp_path / "r.npz", ALL))


@pytest.mark.slow
def test_axes_in_another_order_than_the_papers_are_found_again(tmp_path):
    sweep = polyjax.Sweep(polyjax.Redwood(3, 2), axes={"importance": [0.5, 1.0, 2.0], "density": [0.1, 0.4]}, steps=5)
    polyjax.run_to_file(sweep, tmp_path / "r.npz", progress=False)
    assert polyjax.load(tmp_path / "r.npz").config["order"] == ["importance", "density"]
    assert all(cell.same_bits and cell.agrees for cell in verify(tmp_path / "r.npz", 6))


@pytest.mark.slow
def test_the_cells_are_random_and_may_be_chosen_again(saved):
    path = saved()
    place = lambda cells: [tuple(cell.coordinates.values()) for cell in cells]  # noqa: E731
    assert place(verify(path, 3, seed=1)) == place(verify(path, 3, seed=1))
    assert place(verify(path, 3, seed=1)) != place(verify(path, 3, seed=2))
    assert len(set(place(verify(path, 1000)))) == ALL


@pytest.mark.parametrize("name", ["capacity", "loss", "W", "b", "refined_capacity", "refined_loss", "refined_W"])
def test_a_number_that_was_changed_is_found_out(saved, results, name):
    of = results.refined if name.startswith("refined_") else results
    array = getattr(of, name.removeprefix("refined_"))
    found = {
        tuple(cell.coordinates.values()): cell.agrees for cell in verify(saved(**{name: with_one(array, 0.7)}), ALL)
    }
    assert found.pop((0.3, 3.0)) is False
    assert all(found.values())


def found_wrong(path, sweep=None):
    """The arrays that verification finds to be wrong, of all cells."""
    return {name for cell in verify(path, ALL, sweep=sweep) for name in cell.wrong}


FORGED = {
    "settled": lambda a: ~a,
    "loss_se": lambda a: 0 * a,
    "rank_loss": lambda a: a * 1.5,
    "refined_settled": lambda a: ~a,
    "refined_loss_se": lambda a: 0 * a,
    "refined_rank_loss": lambda a: a * 0.9,
    "refined_gain": lambda a: a + 1,
}


@pytest.mark.parametrize("name", FORGED)
def test_an_array_that_was_forged_everywhere_is_found_out(saved, results, name):
    of = results.refined if name.startswith("refined_") else results
    forged = FORGED[name](getattr(of, name.removeprefix("refined_")))
    assert any(each.startswith(name) for each in found_wrong(saved(**{name: forged})))


def test_axes_that_are_not_those_of_the_configuration_are_refused(saved, results):
    path = saved()
    for name, forged in {"density": results.density[::-1], "importance": 3 * results.importance}.items():
        replace(results, axes={**results.axes, name: forged}).save(path)
        with pytest.raises(ValueError, match=f"path must name a file whose {name} is that of its configuration"):
            verify(path, ALL)


@pytest.mark.parametrize("gain", ["as it was", "as it follows"])
def test_a_refined_diagram_of_other_weights_is_found_out_also_where_its_numbers_are_theirs(saved, results, gain):
    worst = np.where(np.isfinite(results.rank_loss), results.rank_loss, -np.inf).argmax(-1)[..., None]

    def of_worst(a):
        return np.take_along_axis(a, worst.reshape(*worst.shape, *(1,) * (a.ndim - 3)), 2).squeeze(2)

    arrays = {n: a for n, a in results.arrays().items() if n in results.refined.arrays()}
    forged = {f"refined_{name}": of_worst(a) for name, a in arrays.items()}
    if gain == "as it follows":
        forged["refined_gain"] = results.select("best").rank_loss - forged["refined_rank_loss"]
    told = "refined_gain" if gain == "as it was" else "refined_rank_loss above that of the best restart"
    assert told in found_wrong(saved(**forged))


@pytest.mark.slow
def test_snapshots_and_polished_cells_are_verified_too(tmp_path):
    sweep = replace(SWEEP, refine=0, polish=True, snapshots=3, snapshot_weights=True, restarts=2)
    results, path = polyjax.run(sweep, progress=False), tmp_path / "r.npz"
    results.save(path)
    assert found_wrong(path) == set()
    for name in ("capacity", "loss", "embedding"):
        forged = results.snapshots._replace(**{name: 0.3 * getattr(results.snapshots, name)})
        replace(results, snapshots=forged).save(path)
        assert found_wrong(path) == {f"snapshot_{name}"}
    for name, forged in {"settled": ~results.refined.settled, "excess": -1 - results.refined.excess}.items():
        replace(results, refined=results.refined._replace(**{name: forged})).save(path)
        assert f"refined_{name}" in found_wrong(path)


@pytest.mark.slow
def test_many_cells_are_verified_in_parts(saved, monkeypatch):
    whole, parts = verify(saved(), ALL), []
    monkeypatch.setattr(verification, "PART", 2)
    evaluated = verification._evaluated

    def watched(sweep, judged, row, column, params):
        parts.append(len(row))
        return evaluated(sweep, judged, row, column, params)

    monkeypatch.setattr(verification, "_evaluated", watched)
    assert [cell[:3] for cell in verify(saved(), ALL)] == [cell[:3] for cell in whole]
    assert max(parts) == 2


def test_a_file_of_another_seed_is_found_out(saved):
    cells = verify(saved({"seed": 1}), ALL)
    assert not any(cell.same_bits for cell in cells)
    assert not all(cell.agrees for cell in cells)


def test_models_that_diverged_agree_with_themselves(tmp_path):
    # Losses of infinity and NaN: only the same again is no difference.
    results = polyjax.run(replace(SWEEP, learning_rate=1e30, retries=0, refine=0), progress=False)
    assert not np.isfinite(results.loss).any()
    results.save(tmp_path / "r.npz")
    assert all(cell.agrees for cell in verify(tmp_path / "r.npz", ALL))
    replace(results, loss=np.ones_like(results.loss)).save(tmp_path / "r.npz")
    assert not any(cell.agrees for cell in verify(tmp_path / "r.npz", ALL))


def test_a_sweep_is_made_again_from_its_description():
    for sweep in (SWEEP, replace(SWEEP, seed=3, learning_rate=0.1, chunk=5, sampler="iid")):
        again = polyjax.Sweep.from_config(sweep.describe())
        assert again.describe() == sweep.describe()
        assert again.training == sweep.training
    quadratic = polyjax.Sweep(polyjax.Redwood(3, 2), [0.5], [1.0], objective="expected")
    assert polyjax.Sweep.from_config(quadratic.describe()) == dataclasses.replace(
        quadratic,
        learning_rate=0.1,
        sampler="enumerated",
        distribution=polyjax.distributions.UNIFORM_SIGNED,
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"optimizer": optax.sgd(0.1)}, "optimizer"),
        ({"model": polyjax.Anthropic(3, 2, jnp.tanh)}, "activation"),
    ],
)
def test_what_a_description_does_not_hold_is_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        polyjax.Sweep.from_config(replace(SWEEP, **changes).describe())


# --- the commands


def command(*words):
    done = subprocess.run(
        [sys.executable, "-m", "polyjax", *map(str, words)], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_info_says_how_to_make_the_file_again(saved):
    made = {"command": "python -m sweeps.mine --out r.npz", "versions": {"jax": "0.1"}, "device": "cpu, Z80"}
    code, out, err = command("info", saved({"provenance": made | {"revision": "1a2b3c"}}))
    assert (code, err) == (0, "")
    for words in (*made["versions"], "0.1", made["command"], "cpu, Z80", "1a2b3c", "3 values from 0.05 to 1", "27"):
        assert words in out
    assert "Sweep.from_config(polyjax.load(" in out
    assert "retried" in out
    assert "not settled" in out


def test_info_of_an_unfinished_run_says_so(tmp_path, capsys):
    (tmp_path / "r.run").mkdir()
    (tmp_path / "r.run" / "train-000000.npz").touch()
    for name in ("r.npz", "r.run"):
        with pytest.raises(SystemExit) as ended:
            main(["info", str(tmp_path / name)])
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert told.startswith(f"polyjax: the run that makes {tmp_path / 'r.npz'} is not finished: 1 chunks")
        assert told.count("\n") == 1


def test_the_version_is_told(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"polyjax {version('polyjax')}\n"


def test_info_says_what_a_file_lacks_to_be_made_again(saved):
    given = {"given": {"model": {"loss": "1a2b3c", "init": "4d5e6f"}}}
    code, out, err = command("info", saved(given))
    assert (code, err) == (0, "")
    assert "not from this file alone: config must describe a sweep that needs no code but polyjax's" in out
    assert "model.init 4d5e6f, model.loss 1a2b3c" in out
    code, _, err = command("verify", saved(given))
    assert code == 2
    assert "needs the user's own model; polyjax.verify(path, sweep=...) takes the sweep itself" in err


@pytest.mark.parametrize("retries", [0, 1, 2, 3])
def test_info_counts_the_models_of_each_attempt_as_its_bar_does(retries, monkeypatch):
    sizes, size = [], attempts.Size
    monkeypatch.setattr(attempts, "Size", lambda *a: sizes.append(a) or size(*a))
    results = polyjax.run(replace(DIVERGING, retries=retries), progress=False)
    models = [units for units, unit, _ in sizes if unit == "model"]
    assert len(models) == retries
    told = _retried(results)
    if not retries:
        assert told == "0 models"
        return
    words = [f"{models[0]} models"] + [f"{n} of them in attempt {i} too" for i, n in enumerate(models[1:], 2)]
    replaced = f"the retry was better, and took the place, for {(results.attempt > 0).sum()}"
    assert told == f"{', '.join(words)}; {replaced}"


@pytest.mark.slow
def test_verify_compares_and_exits_with_1_where_cells_differ(saved, results):
    code, out, err = command("verify", saved(), "--cells", 2)
    assert (code, err) == (0, "")
    assert "all 2 cells agree" in out
    code, out, err = command("verify", saved(loss=results.loss * 2), "--cells", 2, "--seed", 0)
    assert (code, err) == (1, "")
    assert "2 of 2 cells differ" in out


@pytest.mark.parametrize("words", [["info", "nowhere.npz"], ["verify", "README.md"], ["verify"], ["sing"]])
def test_what_is_no_results_file_ends_in_one_line(words):
    code, _, err = command(*words)
    assert code == 2
    assert err.count("\n") == 1
    assert err.startswith("polyjax")
