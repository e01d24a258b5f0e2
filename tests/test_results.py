"""Results: the rules over restarts against plain loops, and a file that is whole, safe, small in memory while it is
written, and the same when it is read."""

import dataclasses
import io
import json
import os
import pickle
import tracemalloc
import zipfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.lib import format as npy

from polyjax import archive as module
from polyjax import files
from polyjax.archive import Parts
from polyjax.results import Results, load
from polyjax.selection import Refined

P, V, R, D, N = 2, 3, 4, 2, 3
OVER_RESTARTS = ("best", "mean", "drop_worst")
ARRAYS = ("capacity", "rank_loss", "loss", "loss_se", "settled", "attempt", "W", "b")
AXES = ["density", "importance"]
SEEDS = st.integers(0, 2**32 - 1)
FEW = hypothesis.settings(deadline=None, max_examples=30, derandomize=True)


def made_up(rng, restarts=R, bias=(), **changes):
    shape = (P, V, restarts)
    arrays = {
        "axes": {"density": np.geomspace(0.01, 1, P), "importance": np.geomspace(0.1, 10, V)},
        "capacity": rng.random((*shape, N)).astype(np.float32),
        "loss": rng.random(shape).astype(np.float32),
        "loss_se": rng.random(shape).astype(np.float32),
        "W": rng.normal(size=(*shape, D, N)).astype(np.float32),
        "b": rng.normal(size=(*shape, *bias)).astype(np.float32),
        "settled": rng.random(shape) < 0.7,
        "attempt": rng.integers(0, 3, shape).astype(np.uint8),
    }
    config = {"model": {"name": "Redwood"}, "seed": 3, "learning_rate": 0.02, "note": "κ = 9/5p", "nothing": None}
    config["order"] = AXES
    arrays |= changes
    arrays = {"rank_loss": arrays["loss"]} | arrays
    return Results.of(arrays.pop("axes"), arrays, arrays.pop("config", config), arrays.pop("refined", None))


def failures(rng, results):
    """The same with restarts that ended in NaN or infinity, one cell in which all did, and ties; and with a ranking
    loss of its own."""
    loss, capacity, W = results.loss.copy(), results.capacity.copy(), results.W.copy()
    rank_loss = rng.random(loss.shape).astype(np.float32)
    rank_loss[1, 2] = 0.25
    rank_loss[rng.random(loss.shape) < 0.1] = np.nan
    loss[rng.random(loss.shape) < 0.2] = np.nan
    loss[rng.random(loss.shape) < 0.1] = np.inf
    loss[0, 1] = np.nan
    broken = rng.random(loss.shape) < 0.1
    capacity[broken, 0], W[broken] = np.nan, np.nan
    return dataclasses.replace(
        results, rank_loss=rank_loss, loss=loss, capacity=capacity, params={"W": W, "b": results.b}
    )


def refined(results):
    """As if refining had halved every loss."""
    best = results.select("best")
    halved = best._replace(rank_loss=best.rank_loss / 2, loss=best.loss / 2)
    return dataclasses.replace(results, refined=Refined(*halved, gain=best.rank_loss / 2))


def polished(results):
    """The same with certificates."""
    spectrum = np.sort(np.random.default_rng(7).normal(size=(P, V, D * N + 1)).astype(np.float32))
    found = refined(results).refined._replace(excess=np.full((P, V), 2e-4, np.float32), spectrum=spectrum)
    return dataclasses.replace(results, refined=found)


def in_a_loop(results, rule, p, v):
    """One cell by one rule, from the words of the docstring: the restarts that are used, in order."""
    usable = [
        r
        for r in range(results.loss.shape[2])
        if np.isfinite([results.loss[p, v, r], results.rank_loss[p, v, r], *results.capacity[p, v, r]]).all()
    ]
    loss = {r: float(results.rank_loss[p, v, r]) for r in usable}
    if rule == "best":
        return usable and [min(usable, key=loss.get)]
    settled = [r for r in usable if results.settled[p, v, r]]
    if rule == "drop_worst" and len(settled) > 1:
        return [r for r in settled if r != max(settled, key=loss.get)]
    return settled


@FEW
@hypothesis.given(SEEDS, st.sampled_from(OVER_RESTARTS), st.sampled_from([1, 2, 5]), st.sampled_from([(), (N,)]))
def test_rules_over_restarts_are_the_plain_loops(seed, rule, restarts, bias):
    rng = np.random.default_rng(seed)
    results = failures(rng, made_up(rng, restarts, bias))
    found = results.select(rule)
    assert found.capacity.shape == (P, V, N)
    assert found.loss.shape == found.loss_se.shape == found.settled.shape == (P, V)
    assert found.settled.dtype == bool
    for p, v in np.ndindex(P, V):
        used = in_a_loop(results, rule, p, v)
        assert found.settled[p, v] == (bool(used) and bool(results.settled[p, v, used].all()))
        for name in ("capacity", "rank_loss", "loss", "loss_se"):
            values = getattr(results, name)[p, v, used].astype(float)
            expected = values.mean(0) if used else np.nan
            # Means of up to 5 numbers in float32.
            np.testing.assert_allclose(getattr(found, name)[p, v], expected, rtol=1e-6)
        if rule == "best":
            for name in ("W", "b"):
                expected = getattr(results, name)[p, v, used[0]] if used else np.nan
                np.testing.assert_array_equal(getattr(found, name)[p, v], expected)
    if rule != "best":
        assert found.W is None
        assert found.b is None


@pytest.mark.parametrize("rule", OVER_RESTARTS)
def test_a_cell_in_which_every_restart_failed_holds_nan_and_is_not_settled(rule):
    rng = np.random.default_rng(0)
    results = made_up(rng, settled=np.ones((P, V, R), bool))
    results.loss[1, 1] = np.nan
    found = results.select(rule)
    assert np.isnan(found.capacity[1, 1]).all()
    assert np.isnan([found.loss[1, 1], found.loss_se[1, 1]]).all()
    assert not found.settled[1, 1]
    assert found.settled.sum() == P * V - 1
    assert np.isfinite(found.loss).sum() == P * V - 1


def test_one_settled_restart_is_never_dropped_and_all_rules_agree_on_it():
    settled = np.random.default_rng(1).random((P, V, 1)) < 0.7
    assert 0 < settled.sum() < settled.size
    results = made_up(np.random.default_rng(1), restarts=1, settled=settled)
    for rule in OVER_RESTARTS:
        found, there = results.select(rule), settled[..., 0] | (rule == "best")
        np.testing.assert_array_equal(found.loss, np.where(there, results.loss[..., 0], np.nan))
        np.testing.assert_array_equal(found.capacity, np.where(there[..., None], results.capacity[:, :, 0], np.nan))
        np.testing.assert_array_equal(found.settled, settled[..., 0])


def test_a_restart_that_has_not_settled_is_in_no_mean_but_may_be_the_best_and_says_so():
    results = made_up(np.random.default_rng(4), settled=np.ones((P, V, R), bool))
    results.loss[0, 0] = [3, 1, 2, 4]
    results.settled[0, 0, 1] = False
    assert results.select("best").loss[0, 0] == 1
    assert not results.select("best").settled[0, 0]
    assert results.select("mean").loss[0, 0] == 3
    assert results.select("drop_worst").loss[0, 0] == 2.5
    assert results.select("mean").settled.all()


def test_of_equal_losses_the_first_restart_is_best():
    results = made_up(np.random.default_rng(2), loss=np.ones((P, V, R), np.float32))
    np.testing.assert_array_equal(results.select().W, results.W[:, :, 0])


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match=r"^rule must be one of best, mean, drop_worst, refined, but is 'median'$"):
        made_up(np.random.default_rng(0)).select("median")


def test_the_refined_diagram_is_that_of_refining():
    results = made_up(np.random.default_rng(3))
    with pytest.raises(ValueError, match=r"^rule must not be refined "):
        results.select("refined")
    found, best = refined(results).select("refined"), results.select("best")
    np.testing.assert_array_equal(found.loss, best.loss / 2)
    np.testing.assert_array_equal(found.rank_loss, best.rank_loss / 2)
    for name in ("capacity", "loss_se", "settled", "W", "b"):
        np.testing.assert_array_equal(getattr(found, name), getattr(best, name))


def test_the_best_restart_is_that_of_the_lowest_ranking_loss_whose_other_loss_is_reported():
    results = made_up(np.random.default_rng(4), rank_loss=np.ones((P, V, R), np.float32))
    results.rank_loss[0, 0], results.loss[0, 0] = [3, 1, 2, 4], [1, 7, 2, 3]
    found = results.select("best")
    assert (found.rank_loss[0, 0], found.loss[0, 0]) == (1, 7)
    settled = dataclasses.replace(results, settled=np.ones((P, V, R), bool)).select("drop_worst")
    assert (settled.rank_loss[0, 0], settled.loss[0, 0]) == (2, 10 / 3)  # without the last, means of three


# --- the file


@pytest.fixture
def results():
    rng = np.random.default_rng(5)
    return failures(rng, made_up(rng))


@pytest.fixture
def path(tmp_path, results):
    results.save(tmp_path / "sweep.npz")
    return tmp_path / "sweep.npz"


def rewritten(path, **changes):
    """The same file with some arrays replaced, or left out where None; pickles are allowed in writing."""
    with np.load(path) as file:
        arrays = {**file, **changes}
    np.savez(path, **{name: a for name, a in arrays.items() if a is not None})
    return path


def assert_refused(path):
    with pytest.raises(ValueError, match=r"^path must name a whole polyjax results file, but is ") as error:
        load(path)
    assert os.fspath(path) in str(error.value)


@pytest.mark.parametrize("bias", [(), (N,)])
def test_a_file_gives_back_the_same_bits(tmp_path, bias):
    rng = np.random.default_rng(0)
    results = failures(rng, made_up(rng, bias=bias))
    results.save(tmp_path / "new folder" / "sweep.npz")
    found = load(str(tmp_path / "new folder" / "sweep.npz"))
    for name in ARRAYS:
        a, b = getattr(found, name), getattr(results, name)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())  # NaN included
    assert found.config == results.config
    assert found.refined is None


@pytest.mark.parametrize("made", [refined, polished])
def test_a_refined_diagram_is_kept_in_the_file(tmp_path, made):
    results = made(made_up(np.random.default_rng(0)))
    results.save(tmp_path / "sweep.npz")
    found = load(tmp_path / "sweep.npz").refined
    assert found.arrays().keys() == results.refined.arrays().keys()
    for name, a in found.arrays().items():
        b = results.refined.arrays()[name]
        assert (a.dtype, a.tobytes()) == (b.dtype, b.tobytes())
    assert (found.excess is None) == (found.spectrum is None) == (made is refined)


@pytest.mark.parametrize(
    "change",
    [
        {"refined_gain": None},
        {"refined_loss": np.zeros((V, P))},
        {"refined_rank_loss": np.zeros((V, P))},
        {"refined_excess": None},  # which the file says that it has
        {"refined_excess": np.zeros((V, P))},
        {"refined_spectrum": np.zeros(P)},
    ],
)
def test_a_refined_diagram_that_does_not_fit_is_refused(tmp_path, change):
    polished(made_up(np.random.default_rng(0))).save(tmp_path / "sweep.npz")
    assert_refused(rewritten(tmp_path / "sweep.npz", **change))


def test_a_file_loads_in_plain_numpy_without_pickles(path, results):
    with np.load(path, allow_pickle=False) as file:
        assert set(file) == {*ARRAYS, "axis_density", "axis_importance", "config"}
        assert json.loads(str(file["config"]))["seed"] == results.config["seed"]


def test_saving_replaces_the_old_file_and_leaves_nothing_beside_it(path, results):
    other = dataclasses.replace(results, config={"seed": 4, "order": AXES})
    other.save(path)
    assert load(path).config == {"seed": 4, "order": AXES}
    assert os.listdir(path.parent) == [path.name]


def fail(*_, **__):
    raise OSError("disk full")


@pytest.mark.parametrize("step", ["write_array_header_1_0", "fsync", "replace"])
def test_a_failing_save_keeps_the_old_file_and_leaves_nothing_beside_it(step, path, results, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(files.os if hasattr(os, step) else module.npy, step, fail)
    with pytest.raises(OSError, match="disk full"):
        dataclasses.replace(results, config={"seed": 4, "order": AXES}).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


class SmallDisk(io.FileIO):
    """A file with room for a few bytes."""

    def __init__(self, path, mode, room):
        super().__init__(path, mode)
        self.room = room

    def write(self, data):
        n = min(len(data), self.room - self.tell())
        if not n:
            raise OSError("disk full")
        return super().write(memoryview(data)[:n])


def test_a_disk_that_is_full_after_any_number_of_bytes_keeps_the_old_file_and_leaves_nothing_beside_it(
    path, results, monkeypatch
):
    other, before = dataclasses.replace(results, config={"seed": 4, "order": AXES}), path.read_bytes()
    other.save(path.with_name("other.npz"))
    size = path.with_name("other.npz").stat().st_size
    path.with_name("other.npz").unlink()
    for room in (0, 1, 100, *range(500, size, 500), size - 1):
        small = lambda path, mode, room=room: io.BufferedWriter(SmallDisk(path, mode, room))  # noqa: E731
        monkeypatch.setattr(files, "open", small, raising=False)
        with pytest.raises(OSError, match="disk full"):
            other.save(path)
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == [path.name]
    monkeypatch.setattr(files, "open", lambda path, mode: io.BufferedWriter(SmallDisk(path, mode, size)), raising=False)
    other.save(path)  # there was no other reason
    assert load(path).config == {"seed": 4, "order": AXES}


@pytest.mark.parametrize("name", [*ARRAYS, "refined_W"])
def test_a_save_that_stops_half_way_through_writing_leaves_nothing(name, path, monkeypatch):
    def interrupted():
        yield np.zeros((1, 3), np.float32)
        unfinished = [p for p in path.parent.iterdir() if p != path]
        assert len(unfinished) == 1  # or this would test nothing
        raise KeyboardInterrupt

    whole = refined(made_up(np.random.default_rng(0)))
    arrays = {each: Parts.of(getattr(whole, each)) for each in ARRAYS}
    if name in arrays:
        arrays[name] = Parts(interrupted())
    else:
        monkeypatch.setattr(Parts, "of", lambda array: Parts(interrupted()))
    with pytest.raises(KeyboardInterrupt):
        module.write(path.with_name("other.npz"), whole.config, whole.axes, AXES, arrays, whole.refined)
    assert os.listdir(path.parent) == [path.name]


def test_an_array_written_in_parts_is_the_array_that_numpy_writes(tmp_path):
    rng = np.random.default_rng(6)
    whole = polished(made_up(rng, bias=(N,)))
    arrays = {name: getattr(whole, name) for name in ARRAYS}
    arrays["W"] = np.asfortranarray(arrays["W"])  # as a file of another program may have it
    arrays["capacity"] = arrays["capacity"][::-1]
    parts = {name: Parts(np.array_split(a, len(a)), a.shape[:1], 1) for name, a in arrays.items()}
    module.write(tmp_path / "parts.npz", whole.config, whole.axes, AXES, parts, whole.refined)
    more = {f"refined_{name}": a for name, a in whole.refined.arrays().items()}
    arrays = {f"axis_{name}": a for name, a in whole.axes.items()} | arrays
    words = {
        "format": module.FORMAT,
        "arrays": [*arrays, *more],
        "order": AXES,
        "stored": AXES,
        "parameters": ["W", "b"],
        **whole.config,
    }
    config = np.array(json.dumps(words, sort_keys=True))
    np.savez(tmp_path / "numpy.npz", config=config, **{n: np.ascontiguousarray(a) for n, a in arrays.items()}, **more)
    with zipfile.ZipFile(tmp_path / "parts.npz") as found, zipfile.ZipFile(tmp_path / "numpy.npz") as expected:
        assert found.testzip() is None
        assert found.namelist() == expected.namelist()
        for name in expected.namelist():
            assert found.read(name) == expected.read(name), name  # headers included


def test_equal_results_are_equal_files(tmp_path, results):
    # Zip notes the time of every member, unless told otherwise.
    results.save(tmp_path / "a.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipfile.time, "localtime", lambda *_: (2031, 5, 6, 7, 8, 9, 0, 0, 0))
        results.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_writing_needs_the_memory_of_a_part_and_not_of_the_array(tmp_path):
    rows, size = 64, 2**18  # a MiB of float32 a row

    def parts():
        return (np.full((1, size), i, np.float32) for i in range(rows))

    tracemalloc.start()
    module.write(tmp_path / "large.npz", {}, {}, [], {"W": Parts(parts(), (rows,), 1)}, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with np.load(tmp_path / "large.npz") as file:
        assert file["W"].shape == (rows, size)
        np.testing.assert_array_equal(file["W"][:, 0], np.arange(rows))
    assert peak < 5 * 2**20  # the part that is written, the next one being made, and what zip keeps of them


def of_format(path, version):
    """The same file as an earlier polyjax would have written it."""
    later = ["settled", "refined_settled"] if version < 4 else []
    later += ["refined_excess", "refined_spectrum", "rank_loss", "refined_rank_loss"] if version < 3 else []
    later += ["attempt"] if version == 1 else []
    with np.load(path) as file:
        config = json.loads(str(file["config"])) | {"format": version, "block": [2, 3]}
        settled = later[:2] if version < 4 else []
        old = {name.replace("settled", "converged"): file[name] for name in settled if name in file}
        old |= {name: file[f"axis_{name}"] for name in AXES}
    later += [f"axis_{name}" for name in AXES]
    names = config.pop("arrays")
    del config["order"], config["stored"]
    if version > 1:
        config["arrays"] = [name for name in names if name not in later] + [*old]
    return rewritten(path, config=np.array(json.dumps(config)), **dict.fromkeys(later), **old)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
@pytest.mark.parametrize("made", [lambda results: results, refined, polished], ids=["plain", "refined", "polished"])
def test_a_file_of_an_earlier_format_is_read_with_what_it_lacks_filled_in(tmp_path, made, version):
    rng = np.random.default_rng(5)
    results = made(failures(rng, made_up(rng)))
    results.save(tmp_path / "sweep.npz")
    found = load(of_format(tmp_path / "sweep.npz", version))
    assert found.config == {**results.config, "shape" if version < 4 else "block": [2, 3]}
    assert list(found.axes) == AXES
    assert all(found.axes[name].tobytes() == values.tobytes() for name, values in results.axes.items())
    same = [name for name in ARRAYS if name not in ("rank_loss", "attempt")]
    assert all(getattr(found, name).tobytes() == getattr(results, name).tobytes() for name in same)
    # Restarts were chosen by the loss that is reported; before format 2 none was trained again.
    assert found.rank_loss.tobytes() == (results.loss if version < 3 else results.rank_loss).tobytes()
    attempt = np.zeros((P, V, R), np.uint8) if version == 1 else results.attempt
    assert (found.attempt.dtype, found.attempt.tobytes()) == (np.uint8, attempt.tobytes())
    if results.refined is None:
        assert found.refined is None
        return
    before = results.refined.loss if version < 3 else results.refined.rank_loss
    assert found.refined.rank_loss.tobytes() == before.tobytes()
    assert found.refined.settled.tobytes() == results.refined.settled.tobytes()
    assert found.refined.gain.tobytes() == results.refined.gain.tobytes()
    if version < 3:  # nothing was polished
        assert found.refined.excess is found.refined.spectrum is None
    assert found.select("refined").W.tobytes() == results.refined.W.tobytes()


def test_the_configuration_is_read_without_the_arrays(path, results):
    assert module.configuration(path) == results.config
    rewritten(path, W=np.zeros(3))  # which would not load
    assert module.configuration(path) == results.config
    with pytest.raises(FileNotFoundError):
        module.configuration(path.with_name("nowhere.npz"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"^path must name a whole polyjax results file, but is .*sweep\.npz"):
        module.configuration(path)


def test_a_configuration_that_is_not_json_is_refused_before_anything_is_written(path, results):
    with pytest.raises(TypeError):
        dataclasses.replace(results, config={"seed": object()}).save(path.with_name("other.npz"))
    assert os.listdir(path.parent) == [path.name]


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        load(tmp_path / "nowhere.npz")


def test_a_truncated_file_is_refused_wherever_it_is_cut(path):
    whole = path.read_bytes()
    for cut in range(0, len(whole), 101):
        path.write_bytes(whole[:cut])
        assert_refused(path)


def test_a_damaged_file_is_refused_or_gives_the_same_arrays(path, results):
    rng = np.random.default_rng(0)
    whole = path.read_bytes()
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        try:
            found = load(path)
        except ValueError as error:  # nothing else, such as the NotImplementedError of an unknown compression
            assert str(path) in str(error)  # noqa: PT017
            refused += 1
        else:
            # A bit of zip's dates or attributes; the arrays are guarded by checksums.
            assert all(np.array_equal(getattr(found, n), getattr(results, n), equal_nan=True) for n in ARRAYS)
    assert refused > 200


def test_a_file_in_which_arrays_are_hidden_is_refused(path):
    # Zip has checksums of its files, but none of the list of them.
    refined(made_up(np.random.default_rng(0))).save(path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    hidden = 0
    for i in range(start, len(whole)):
        damaged = bytearray(whole)
        damaged[i] ^= 2
        path.write_bytes(bytes(damaged))
        try:
            with zipfile.ZipFile(path) as archive:
                hidden += len(archive.namelist()) < len(ARRAYS) + 1 + len(Refined._fields) + 1
            found = load(path)
        except (ValueError, zipfile.BadZipFile, NotImplementedError):
            continue
        assert found.refined is not None
    assert hidden > 0  # or this would show nothing


def test_a_file_compressed_by_other_means_is_read_or_refused(path):
    with np.load(path) as file:
        arrays = dict(file)
    np.savez_compressed(path, **arrays)
    assert load(path).config["seed"] == 3
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("W.npy")
    damaged = bytearray(path.read_bytes())
    damaged[member.header_offset + 80] ^= 0xFF  # inside the deflated data
    path.write_bytes(bytes(damaged))
    assert_refused(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"density,importance\n0.1,1\n", b"PK\x05\x06" + bytes(18), b"\x93NUMPY\x01\x00"],
    ids=["empty", "csv", "empty zip", "broken npy"],
)
def test_what_is_no_results_file_is_refused(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    assert_refused(tmp_path / "other")


def test_other_arrays_and_folders_are_refused(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "some.npz", capacity=np.zeros(3))
    for name in ("one.npy", "some.npz", "."):
        assert_refused(tmp_path / name)


@pytest.mark.parametrize("name", [*ARRAYS, "config"])
def test_a_file_without_one_of_its_arrays_is_refused(path, name):
    assert_refused(rewritten(path, **{name: None}))


@pytest.mark.parametrize(
    "config",
    ["", "not json", "[]", "null", "3", '{"seed": 3}', '{"format": 0}', '{"format": "2"}', '{"format": 5, "seed": 3}'],
)
def test_another_format_is_refused(path, config):
    assert_refused(rewritten(path, config=np.array(config)))


def test_a_file_of_a_newer_version_says_so(path):
    with pytest.raises(ValueError, match=r": it is of format 6, from a newer polyjax; this one reads up to 5$"):
        load(rewritten(path, config=np.array('{"format": 6}')))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("axis_density", (P + 1,)),
        ("axis_density", (P, 1)),
        ("axis_density", ()),
        ("axis_importance", (V - 1,)),
        ("capacity", (P, V, R)),
        ("capacity", (P, V, R, N + 1)),
        ("capacity", (P, V, R + 1, N)),
        ("rank_loss", (P, V)),
        ("loss", (P, V)),
        ("loss_se", (V, P, R)),
        ("W", (P, V, R, N)),
        ("W", (P, V, R, D, N, 1)),
        ("W", (N,)),
        ("W", ()),
        ("b", (P, V, R + 1, N)),
        ("b", (P, V)),
        ("settled", (P, V, 1)),
        ("attempt", (P, V)),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(path, name, shape):
    assert_refused(rewritten(path, **{name: np.zeros(shape, np.float32)}))


class Trap:
    """Pickled, it makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (os.fspath(self.path),)


@pytest.mark.parametrize("name", ["loss", "config"])
def test_a_pickle_in_the_file_is_refused_and_never_run(path, tmp_path, name):
    sprung = tmp_path / "sprung"
    assert_refused(rewritten(path, **{name: np.array([Trap(sprung)], object)}))
    assert not sprung.exists()
    with np.load(path, allow_pickle=True) as file:
        file[name]  # the trap is real
    assert sprung.exists()


def test_a_bare_pickle_is_refused_and_never_run(tmp_path):
    sprung = tmp_path / "sprung"
    (tmp_path / "sweep.npz").write_bytes(pickle.dumps(Trap(sprung)))
    assert_refused(tmp_path / "sweep.npz")
    assert not sprung.exists()


def test_biases_of_any_shape_come_back(tmp_path, results):
    D = results.W.shape[-2]
    hidden = dataclasses.replace(
        results, params={"W": results.W, "b": np.random.default_rng(0).normal(size=(P, V, R, D)).astype(np.float32)}
    )
    hidden.save(tmp_path / "hidden.npz")
    assert load(tmp_path / "hidden.npz").b.tobytes() == hidden.b.tobytes()


def test_members_that_are_not_the_files_own_are_not_read(path, results):
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("more.npy", "w") as member:
        npy.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (2**28,)})
        for _ in range(2**8):
            member.write(bytes(2**20))
    tracemalloc.start()
    found = load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.W.tobytes() == results.W.tobytes()
    assert peak < 2**26


def test_an_array_that_says_it_is_larger_than_the_file_is_refused_before_it_is_made(path):
    with np.load(path) as file:
        arrays = dict(file)
    with zipfile.ZipFile(path, "w") as archive:
        for name, a in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                header = npy.header_data_from_array_1_0(a)
                more = {"shape": (2**40, *header["shape"][1:])} if name == "loss" else {}
                npy.write_array_header_1_0(member, header | more)
                member.write(np.ascontiguousarray(a).data)
    with pytest.raises(ValueError, match=r"loss\.npy has \d+ bytes, but its header says \d+"):
        load(path)


def test_a_truncated_file_is_told_from_one_that_is_no_npz(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r": it is truncated$"):
        load(path)
    path.write_bytes(b"text" + whole[4 : len(whole) // 2])
    with pytest.raises(ValueError, match=r": it is no \.npz file$"):
        load(path)
