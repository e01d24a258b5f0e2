"""Runs that are interrupted anywhere, damaged, out of memory, or beside each other end in the file of an undisturbed
run, bit for bit."""

import os
import pickle
import shutil
import signal
import threading
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from diverging import DIVERGING

import polyjax
from polyjax import Redwood, archive
from polyjax.archive import Parts
from polyjax.engine import evaluation, execution
from polyjax.runs import run as runs
from polyjax.runs import to_file
from polyjax.runs.folder import directory, manifest
from polyjax.runs.folder.directory import Directory
from polyjax.runs.folder.interruption import Interrupted
from polyjax.runs.grid import WIDTH, Grid, rectangles
from polyjax.runs.lanes import Lanes
from polyjax.runs.to_file import run_to_file
from polyjax.selection import OF_LANES

TINY = replace(DIVERGING, refine=2)
OTHER = replace(TINY, seed=1)
STAGES = ("train", "retry1", "retry2", "look1", "refine1", "look2", "refine2")
TRAINING = "polyjax.engine.execution.train"  # where all stages look it up


class Undisturbed:
    """A run by itself: its file, and its chunks by name."""

    def __init__(self, sweep, folder):
        with watched() as seen:
            run_to_file(sweep, folder / "run.npz", progress=False)
        self.bytes = (folder / "run.npz").read_bytes()
        self.chunks = seen.kept
        self.results = polyjax.load(folder / "run.npz")


class Seen:
    def __init__(self):
        self.kept = []  # names of chunks
        self.trained = 0  # chunks


@contextmanager
def watched(most=10**9, error=KeyboardInterrupt, then=None):
    """Counts what a run does; once `most` chunks are kept, nothing more is, but `then(store)` called or `error` raised
    in its place."""
    seen, lock, keep, train = Seen(), threading.Lock(), Directory.keep, execution.train

    def counted(self, name, arrays, made):
        with lock:
            enough = len(seen.kept) >= most
            if not enough:
                seen.kept.append(name)
        if enough and then is None:
            raise error
        if enough:
            then(self)
        keep(self, name, arrays, made)

    def counting(*args, **options):
        with lock:
            seen.trained += 1
        return train(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Directory, "keep", counted)
        patch.setattr(TRAINING, counting)
        yield seen


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Undisturbed(TINY, tmp_path_factory.mktemp("whole"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


@pytest.fixture
def trained(path, whole):
    """A run of which nothing but the results file is missing: its folder."""
    return interrupted(TINY, path, whole)


def interrupted(sweep, path, whole):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_file.archive, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            run_to_file(sweep, path, progress=False)
    assert chunks(to_file.folder(path)) == sorted(whole.chunks)
    return to_file.folder(path)


def stop(*_, **__):
    raise KeyboardInterrupt


def chunks(folder):
    return sorted(file.stem for file in folder.glob("*.npz"))


def contents(folder):
    """Every file that is whole, but not who holds the lock."""
    found = (file for file in folder.rglob("*") if file.is_file() and file.name != directory.LOCK)
    return {file: file.read_bytes() for file in found if file.suffix != ".tmp"}


def assert_whole(path, whole):
    assert path.read_bytes() == whole.bytes
    assert os.listdir(path.parent) == [path.name]  # nothing of the run is left


def assert_continues(path, whole, expected):
    """That the run goes on, doing nothing but the `expected` chunks, to the same file."""
    with watched() as seen:
        run_to_file(TINY, path, progress=False)
    assert sorted(seen.kept) == sorted(expected)
    assert seen.trained == sum(not name.startswith("look") for name in expected)
    assert_whole(path, whole)


# --- the file


def test_every_stage_of_the_tests_has_several_chunks_or_these_tests_would_show_little(whole):
    counts = {stage: sum(name.startswith(f"{stage}-") for name in whole.chunks) for stage in STAGES}
    assert sum(counts.values()) == len(whole.chunks)
    assert all(counts.values())
    assert min(counts[stage] for stage in ("train", "retry1", "retry2", "refine1")) >= 2
    assert set(np.unique(whole.results.attempt)) == {0, 1, 2}
    assert 0 < whole.results.settled.mean() < 1
    assert 0 < np.isfinite(whole.results.loss).mean() < 1


def test_the_file_holds_the_arrays_of_a_run_in_memory_bit_for_bit(whole):
    in_memory = polyjax.run(TINY, progress=False)
    for name, a in whole.results.arrays().items():
        b = in_memory.arrays()[name]
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), name
    for name, a in whole.results.refined.arrays().items():
        b = in_memory.refined.arrays()[name]
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), name
    for name, values in in_memory.axes.items():
        np.testing.assert_array_equal(whole.results.axes[name], values)
    assert whole.results.config == in_memory.config


def test_the_same_sweep_gives_the_same_file_and_leaves_nothing_else(path, whole, capfd):
    with watched() as seen:
        run_to_file(TINY, path, progress=False)
    assert sorted(seen.kept) == sorted(whole.chunks)
    assert_whole(path, whole)
    assert capfd.readouterr() == ("", "")


def test_results_of_a_run_are_saved_as_they_would_be_written(path, whole):
    whole.results.save(path)
    with np.load(path) as a:
        saved = {name: a[name].tobytes() for name in a}
    path.write_bytes(whole.bytes)
    with np.load(path) as b:
        assert saved == {name: b[name].tobytes() for name in b}


# --- interruptions


def test_a_run_that_is_interrupted_anywhere_goes_on_from_there(tmp_path, whole, capfd):
    for n in range(len(whole.chunks)):
        path = tmp_path / str(n) / "run.npz"
        with watched(most=n) as seen, pytest.raises(KeyboardInterrupt):
            run_to_file(TINY, path, progress=False)
        assert not path.exists()
        assert chunks(to_file.folder(path)) == sorted(seen.kept)
        assert len(seen.kept) == n
        assert_continues(path, whole, set(whole.chunks) - set(seen.kept))
    assert capfd.readouterr() == ("", "")


def test_a_run_may_be_interrupted_again_and_again(path, whole):
    kept = []
    while not path.exists():
        with watched(most=3) as seen:
            try:
                run_to_file(TINY, path, progress=False)
            except KeyboardInterrupt:
                assert len(seen.kept) == 3
        kept += seen.kept
    assert sorted(kept) == sorted(whole.chunks)
    assert_whole(path, whole)


def test_a_run_that_is_interrupted_while_its_file_is_written_trains_nothing_again(path, trained, whole, monkeypatch):
    def interrupted(member, parts):
        before(member, parts)
        if written.append(parts) or len(written) == 4:
            raise KeyboardInterrupt

    before, written = archive._write_parts, []
    monkeypatch.setattr(archive, "_write_parts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_to_file(TINY, path, progress=False)
    monkeypatch.undo()
    assert os.listdir(path.parent) == [trained.name]
    assert_continues(path, whole, [])


def test_what_a_killed_process_left_half_written_is_removed_at_the_next_start(path, trained, whole):
    # A kill -9 while a chunk, the manifest or the results are written.
    for name in (".0-train-000001.npz.12345678.tmp", ".manifest.json.12345678.tmp", ".run.npz.12345678.tmp"):
        (trained / name).write_bytes(b"PK")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_file.archive, "write", lambda *_, **__: [*trained.glob(".*.tmp")] == [] and stop())
        with pytest.raises(KeyboardInterrupt):
            run_to_file(TINY, path, progress=False)
    assert_continues(path, whole, [])


def test_a_run_that_is_killed_when_its_file_is_whole_is_cleared_up_by_the_next_call(path, trained, whole, monkeypatch):
    monkeypatch.setattr(Directory, "remove", stop)
    with pytest.raises(KeyboardInterrupt):
        run_to_file(TINY, path, progress=False)
    monkeypatch.undo()
    assert trained.exists()
    run_to_file(TINY, path, progress=False)
    assert_whole(path, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize(("after", "title", "total"), [(0, "training", 4), (4, "retrying, attempt 1", None)])
def test_a_signal_finishes_the_chunks_in_hand_and_tells_how_to_go_on(
    path, whole, capfd, monkeypatch, number, after, title, total
):
    sent = []

    def signalled(store):
        if not sent:
            sent.append(number)
            signal.raise_signal(number)

    monkeypatch.setattr("polyjax.engine.devices.workers", lambda: 1)
    with watched(most=after, then=signalled), pytest.raises(Interrupted) as stopped:
        run_to_file(TINY, path, progress=False)
    assert stopped.value.exit_code == 128 + number
    total = total or sum(name.startswith("retry1") for name in whole.chunks)
    there = chunks(to_file.folder(path))
    # The one that was in hand, and perhaps one that the worker took up before the main thread saw it done.
    assert after + 1 <= len(there) <= after + 2
    assert len(there) < after + total
    assert str(stopped.value).startswith(f"stopped. {title}: {len(there) - after} of {total} chunks are saved; ")
    assert "\n" not in str(stopped.value)
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert capfd.readouterr() == ("", f"\nstopping when what is in hand is saved; {name} again stops at once\n")
    assert_continues(path, whole, set(whole.chunks) - set(there))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_run_that_is_continued_on_another_device_names_both(stage, path, whole, monkeypatch):
    # Of the second session there is nothing but the last chunks.
    first = {name for name in whole.chunks if STAGES.index(name.split("-")[0]) < STAGES.index(stage)}
    monkeypatch.setattr("polyjax.engine.devices.words", lambda: "cpu, of yesterday")
    with watched(most=len(first)) as seen, pytest.raises(KeyboardInterrupt):
        run_to_file(TINY, path, progress=False)
    assert set(seen.kept) == first
    monkeypatch.setattr("polyjax.engine.devices.words", lambda: "cpu, of today")
    run_to_file(TINY, path, progress=False)
    found = polyjax.load(path)
    made = found.config["provenance"]
    [other] = made.pop("other_sessions")
    assert {made["device"], other["device"]} == {"cpu, of yesterday", "cpu, of today"}
    assert made.keys() == other.keys()
    assert found.loss.tobytes() == whole.results.loss.tobytes()


# --- chunks that are gone or damaged


@pytest.mark.parametrize("stage", STAGES)
def test_a_chunk_that_is_gone_is_trained_again_and_no_other(stage, path, trained, whole, capfd):
    (trained / f"{stage}-000000.npz").unlink()
    assert_continues(path, whole, [f"{stage}-000000"])
    assert capfd.readouterr() == ("", "")


def test_chunks_that_are_gone_in_every_stage_are_trained_again(path, trained, whole):
    gone = whole.chunks[1::2]
    for name in gone:
        (trained / f"{name}.npz").unlink()
    assert_continues(path, whole, gone)


def truncated(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(file):
    file.write_bytes(b"")


def flipped(file):
    with np.load(file) as arrays:
        largest = max(arrays.files, key=lambda name: arrays[name].nbytes)
        data = arrays[largest].tobytes()
    content = bytearray(file.read_bytes())
    content[content.index(data) + len(data) // 2] ^= 1
    file.write_bytes(bytes(content))


class Trap:
    """Pickled, it makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (os.fspath(self.path),)


def pickled(file):
    file.write_bytes(pickle.dumps(Trap(file.with_name("sprung"))))


def with_a_pickle(file):
    with np.load(file) as arrays:
        changed = {**arrays, "about": np.array([Trap(file.with_name("sprung"))], object)}
    np.savez(file, **changed)


def without_the_run(file):
    with np.load(file) as arrays:
        np.savez(file, **{name: a for name, a in arrays.items() if name != "about"})


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("damage", [truncated, emptied, flipped, pickled, with_a_pickle, without_the_run])
def test_a_damaged_chunk_is_trained_again_which_is_said_in_one_line(stage, damage, path, trained, whole, capfd):
    file = trained / f"{stage}-000000.npz"
    damage(file)
    assert_continues(path, whole, [file.stem])
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"{file} is damaged (")
    assert err.endswith("): what it held is trained again\n")
    assert err.count("\n") == 1
    assert not file.with_name("sprung").exists()


@pytest.mark.parametrize("stage", STAGES)
def test_a_chunk_of_another_run_is_trained_again_which_is_said_in_one_line(stage, path, trained, whole, capfd):
    file = trained / f"{stage}-000000.npz"
    with np.load(file) as arrays:
        mine = dict(arrays)
    with pytest.MonkeyPatch.context() as patch:  # as the run of another seed would have kept it
        patch.setattr(Directory, "_run", "00000000")
        store = Directory(trained, OTHER.describe())
        store.keep(file.stem, {name: a for name, a in mine.items() if name != "about"}, {})
    assert_continues(path, whole, [file.stem])
    out, err = capfd.readouterr()
    assert out == ""
    assert err == f"{file} is of another run: what it held is trained again\n"


def test_runs_of_other_configurations_and_other_chunks_are_told_apart(tmp_path):
    def run_of(sweep, shape):
        store = Directory(tmp_path, sweep.describe())
        store.shape = shape
        return store._run

    assert run_of(TINY, (1, 6)) == run_of(replace(TINY), (1, 6))
    others = [run_of(OTHER, (1, 6)), run_of(TINY, (2, 6)), run_of(replace(TINY, steps=21), (1, 6))]
    assert len({run_of(TINY, (1, 6)), *others}) == 4


def test_a_run_goes_on_with_another_chunk_in_the_shapes_that_it_began_with(path, whole):
    with watched(most=3), pytest.raises(KeyboardInterrupt):
        run_to_file(TINY, path, progress=False)
    run_to_file(replace(TINY, chunk=2), path, progress=False)
    assert_whole(path, whole)


@pytest.mark.slow
def test_a_run_goes_on_on_another_engine_and_names_both(path, whole):
    with watched(most=3), pytest.raises(KeyboardInterrupt):
        run_to_file(TINY, path, progress=False)
    run_to_file(replace(TINY, engine="arrays"), path, progress=False)
    found = polyjax.load(path)
    made = found.config["provenance"]
    assert {made["engine"], *(other["engine"] for other in made["other_sessions"])} == {"lanes", "arrays"}
    assert found.config["engine"] == "arrays"  # of the last one
    several = found.settled & whole.results.settled  # what diverges does so by its own rounding
    assert several.any()
    np.testing.assert_allclose(found.capacity[several], whole.results.capacity[several], atol=1e-4)


ARRAYS = {
    "W": np.random.default_rng(0).normal(size=(2, 3, 2, 3)).astype(np.float32),
    "loss": np.array([[1, np.nan, np.inf], [0, 1, 2]], np.float32),
    "settled": np.array([[True, False, True], [False, True, False]]),
}


@pytest.fixture
def store(tmp_path):
    with Directory(tmp_path / "a.run", TINY.describe()) as store:
        store.remember(shape=(2, 3))
        store.keep("train-000000", ARRAYS, {"device": "cpu"})
        yield store


def same(found):
    return found.keys() == ARRAYS.keys() and all(found[name].tobytes() == a.tobytes() for name, a in ARRAYS.items())


def test_a_chunk_is_whole_or_damaged_wherever_a_bit_of_it_is_wrong(store, monkeypatch):
    said, file = [], store.folder / "train-000000.npz"
    monkeypatch.setattr(directory, "say", said.append)
    with zipfile.ZipFile(file) as archive:
        words = range(200, archive.infolist()[1].header_offset)  # long ones, of which a few bytes will do
    content, rng = file.read_bytes(), np.random.default_rng(0)
    refused, tried = 0, 0
    for i in range(len(content)):
        if i in words and i % 29:
            continue
        # A digit of a header is the size of an array, by which numpy reads; otherwise one bit is as good as another.
        for bit in range(8) if content[i : i + 1].isdigit() else rng.integers(8, size=1):
            damaged = bytearray(content)
            damaged[i] ^= 1 << int(bit)
            file.write_bytes(bytes(damaged))
            whole = store.kept("train-000000")
            assert len(said) == (not whole)
            said.clear()
            tried += 1
            refused += not whole
            if whole:  # zip's dates and attributes, which mean nothing
                assert same(store.read("train-000000", [*ARRAYS]))
    assert refused > tried / 4


def test_the_whole_configuration_is_not_gone_through_for_every_chunk(tmp_path, monkeypatch):
    # It has the values of all axes, so that the time of a large grid would grow with its square.
    asked, checksum = [], manifest.checksum
    with Directory(tmp_path / "b.run", TINY.describe()) as store:
        store.remember(shape=(1, 2))
        monkeypatch.setattr(manifest, "checksum", lambda value: asked.append(value) or checksum(value))
        for i in range(3):
            store.keep(f"train-{i:06d}", ARRAYS, {})
            assert store.kept(f"train-{i:06d}")
    assert len(asked) == 1


def test_a_chunk_under_the_name_of_another_is_trained_again(path, trained, whole, capfd):
    shutil.copy(trained / "train-000000.npz", trained / "train-000001.npz")
    assert_continues(path, whole, ["train-000001"])
    assert said(capfd) == [f"{trained / 'train-000001.npz'} is of another chunk: what it held is trained again"]


def test_a_chunk_is_damaged_wherever_it_is_cut(store, capfd):
    file = store.folder / "train-000000.npz"
    content = file.read_bytes()
    for cut in range(0, len(content), 41):
        file.write_bytes(content[:cut])
        assert not store.kept("train-000000")
        assert capfd.readouterr().err.count("\n") == 1
    file.write_bytes(content)
    assert store.kept("train-000000")
    assert same(store.read("train-000000", [*ARRAYS]))


def test_a_chunk_that_is_damaged_after_it_was_looked_at_ends_the_run_in_one_line(path, trained, whole, monkeypatch):
    write = to_file.archive.write

    def damaged_before(*args, **options):
        truncated(trained / "train-000002.npz")
        write(*args, **options)

    monkeypatch.setattr(to_file.archive, "write", damaged_before)
    with pytest.raises(ValueError, match=r"train-000002\.npz was damaged during the run \(.*the same command trains"):
        run_to_file(TINY, path, progress=False)
    monkeypatch.undo()
    assert os.listdir(path.parent) == [trained.name]
    assert_continues(path, whole, ["train-000002"])


# --- the disk


@pytest.mark.parametrize("name", ["retry1-000001", "run", "manifest"])
def test_a_full_disk_ends_the_run_in_one_line_that_says_what_is_safe(name, path, whole, monkeypatch):
    fsync, unfinished = os.fsync, directory.files.unfinished

    def full(descriptor):
        if any(f"{name}." in file.name for file in unfinished(to_file.folder(path))):
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"^cannot save in .*run\.run: No space left on device\. What was saved before"):
        run_to_file(TINY, path, progress=False)
    monkeypatch.undo()
    assert unfinished(to_file.folder(path)) == []
    there = chunks(to_file.folder(path))
    assert f"{name}.npz" not in there
    assert_continues(path, whole, set(whole.chunks) - set(there))


def test_a_folder_that_is_removed_during_the_run_ends_it_in_one_line(path, whole):
    def removed(store):
        shutil.rmtree(store.folder, ignore_errors=True)

    with watched(most=5, then=removed), pytest.raises(OSError, match=r"run\.run was removed during the run"):
        run_to_file(TINY, path, progress=False)
    assert not path.exists()
    assert_continues(path, whole, whole.chunks)


def test_a_chunk_that_is_removed_during_the_run_ends_it_in_one_line(path, whole):
    def removed(store):
        (store.folder / "train-000000.npz").unlink(missing_ok=True)

    with watched(most=4, then=removed), pytest.raises(OSError, match="was removed during the run"):
        run_to_file(TINY, path, progress=False)
    assert not path.exists()
    run_to_file(TINY, path, progress=False)
    assert_whole(path, whole)


def test_a_path_that_cannot_be_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(ValueError, match=r"^path must end in \.npz, but is "):
        run_to_file(TINY, tmp_path / "results", progress=False)
    (tmp_path / "taken").write_text("a file, not a folder")
    with watched() as seen, pytest.raises(OSError, match="taken"):
        run_to_file(TINY, tmp_path / "taken" / "run.npz", progress=False)
    assert seen.trained == 0


# --- configurations


def test_another_configuration_is_refused_in_an_unfinished_run_which_is_left_as_it_is(path, trained):
    before = contents(path.parent)
    with watched() as seen, pytest.raises(ValueError, match="is of another configuration") as error:
        run_to_file(replace(TINY, seed=1, steps=30, model=Redwood(3, 1)), path, progress=False)
    differ = "model.n_neurons (2 there, 1 here); seed (0 there, 1 here); steps (20 there, 30 here)"
    assert str(error.value) == f"the run in {trained} is of another configuration: {differ}. restart=True discards it"
    assert contents(path.parent) == before
    assert seen.trained == 0


def test_another_configuration_is_refused_where_the_results_are_which_are_left_as_they_are(path, whole):
    path.write_bytes(whole.bytes)
    with watched() as seen, pytest.raises(ValueError, match="is of another configuration") as error:
        run_to_file(OTHER, path, progress=False)
    differ = "seed (0 there, 1 here)"
    assert str(error.value) == f"{path} is of another configuration: {differ}. restart=True discards it"
    assert_whole(path, whole)
    assert seen.trained == 0


def test_results_that_are_there_are_not_trained_again_which_is_said_in_one_line(path, whole, capfd):
    path.write_bytes(whole.bytes)
    with watched() as seen:
        run_to_file(TINY, path, progress=False)
    assert seen.trained == 0
    assert_whole(path, whole)
    assert capfd.readouterr() == (
        "",
        f"{path} is there already, of the same configuration\n",
    )


@pytest.mark.parametrize("when", ["before its lock is opened", "when its lock is open"])
def test_results_that_another_process_finishes_just_now_are_found_which_is_said_in_one_line(
    path, whole, capfd, monkeypatch, when
):
    def finish():
        if not path.exists():
            path.write_bytes(whole.bytes)
            shutil.rmtree(directory.folder(path))

    def lock(file):
        if when == "before its lock is opened":
            finish()
            return held(file)
        lock = held(file)
        finish()
        return lock

    held = directory.Held
    monkeypatch.setattr(directory, "Held", lock)
    with watched() as seen:
        run_to_file(TINY, path, progress=False)
    assert seen.trained == 0
    assert_whole(path, whole)
    assert capfd.readouterr().err == f"{path} is there already, of the same configuration\n"


def test_a_damaged_results_file_is_refused_and_left_as_it_is(path, whole):
    path.write_bytes(whole.bytes[:-100])
    with watched() as seen, pytest.raises(ValueError, match="whole polyjax results file"):
        run_to_file(TINY, path, progress=False)
    assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == whole.bytes[:-100]
    assert seen.trained == 0
    run_to_file(TINY, path, progress=False, restart=True)
    assert_whole(path, whole)


def test_a_damaged_manifest_is_refused_and_what_was_trained_is_left(path, trained, whole):
    file = manifest.path(trained)
    content = file.read_bytes()
    file.write_bytes(content[:-10])
    before = contents(path.parent)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged .*restart=True discards"):
        run_to_file(TINY, path, progress=False)
    assert contents(path.parent) == before
    file.write_bytes(content)
    assert_continues(path, whole, [])


@pytest.mark.parametrize("sweep", [TINY, OTHER], ids=["the same", "another"])
def test_a_restart_discards_the_results_and_the_unfinished_run(path, whole, sweep, capfd):
    with watched(most=6), pytest.raises(KeyboardInterrupt):
        run_to_file(sweep, path, progress=False)
    path.write_bytes(whole.bytes)
    with watched() as seen:
        run_to_file(TINY, path, progress=False, restart=True)
    assert sorted(seen.kept) == sorted(whole.chunks)
    assert_whole(path, whole)
    assert capfd.readouterr() == ("", "")


def test_a_restart_that_is_interrupted_has_discarded_the_old_results(path, whole):
    path.write_bytes(whole.bytes)
    with watched(most=6), pytest.raises(KeyboardInterrupt):
        run_to_file(OTHER, path, progress=False, restart=True)
    assert not path.exists()


def test_what_else_is_in_the_folder_of_a_run_stays_there(path, trained, whole):
    mine = {"notes.txt", "results.npz", "re-run.npz"}
    for name in mine:
        (trained / name).write_text("mine")
    run_to_file(TINY, path, progress=False)
    assert path.read_bytes() == whole.bytes
    assert set(os.listdir(trained)) == mine


# --- what nobody should use


FEW_STEPS = replace(TINY, steps=2, retries=0, refine=0, restarts=1, optimizer=None, learning_rate=0.9)
NONE_SETTLED = "warning: no model has settled, so that the diagram shows unfinished training; more steps may help\n"
NONE_FINITE = "warning: every model ended in infinities or NaN, so that the diagram is empty; smaller steps may help\n"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"learning_rate": 1e-4}, ""),  # as they began
        ({"density": [0.5], "importance": [1.0]}, NONE_SETTLED),
        ({"learning_rate": 1e30}, NONE_FINITE),
        ({"learning_rate": 1e30, "refine": 1, "retries": 1}, NONE_FINITE),
    ],
)
def test_a_run_in_which_no_model_settled_ends_with_one_line_that_says_so(changes, told, path, capfd):
    sweep = replace(FEW_STEPS, **changes)
    results = polyjax.run(sweep, progress=False)
    assert results.settled.any() == (told == "")
    assert np.isfinite(results.loss).any() == (told != NONE_FINITE)
    assert capfd.readouterr() == ("", told)
    run_to_file(sweep, path, progress=False)
    assert capfd.readouterr() == ("", told)


def test_a_diagram_that_settled_by_refining_needs_no_warning(whole, capfd):
    lanes = SimpleNamespace(bands=lambda: [slice(0, 4)], band=lambda *_: np.zeros((4, 6), bool), grid=(4, 3, 2))
    refined = whole.results.refined
    for settled, lines in ((np.ones_like, 0), (np.zeros_like, 1)):
        runs.warn(lanes, refined._replace(settled=settled(refined.settled)))
        assert capfd.readouterr().err.count("\n") == lines


# --- side by side


def test_a_run_in_progress_is_refused_to_others_and_goes_on(path, whole):
    refused = []

    def meanwhile(store):
        if not refused:
            for options in ({}, {"restart": True}):
                before = contents(path.parent)
                with pytest.raises(ValueError, match="is in progress already, by process") as error:
                    run_to_file(TINY, path, progress=False, **options)
                refused.append(str(error.value))
                assert before.items() <= contents(path.parent).items()

    with watched(most=3, then=meanwhile):
        run_to_file(TINY, path, progress=False)
    assert (
        refused == [f"the run in {to_file.folder(path)} is in progress already, by {refused[0].split(', by ')[1]}"] * 2
    )
    assert_whole(path, whole)


def test_two_sweeps_that_write_into_one_folder_do_not_disturb_each_other(tmp_path, whole, tmp_path_factory):
    # Names that differ in what looks like a suffix.
    paths = {tmp_path / "sweep.v1.npz": TINY, tmp_path / "sweep.v2.npz": OTHER}
    other = Undisturbed(OTHER, tmp_path_factory.mktemp("other"))
    with ThreadPoolExecutor(2) as executor:
        list(executor.map(lambda item: run_to_file(item[1], item[0], progress=False), paths.items()))
    assert [path.read_bytes() for path in paths] == [whole.bytes, other.bytes]
    assert sorted(os.listdir(tmp_path)) == ["sweep.v1.npz", "sweep.v2.npz"]


def test_an_unfinished_run_is_not_disturbed_by_another_that_ends_beside_it(path, trained, whole):
    before = contents(trained)
    run_to_file(OTHER, path.with_name("other.npz"), progress=False, restart=True)
    assert contents(trained) == before
    path.with_name("other.npz").unlink()
    assert_continues(path, whole, [])


# --- memory of the device

# Adam, whose lanes all end where rounding does not matter.
STEADY = replace(TINY, optimizer=None, learning_rate=0.1, chunk=12, refine=2)
MESSAGE = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123 bytes.\nBufferAssignment OOM Debugging."
ON_CPUS = "Out of memory allocating 123 bytes."


def small_device(call, most, message=MESSAGE):
    """`call(..., params, ...)` on a device that has room for `most` lanes."""

    def limited(*args, **options):
        lanes = max(a.W.shape[0] * a.W.shape[1] for a in args if isinstance(a, polyjax.Params))
        if lanes > most:
            raise jax.errors.JaxRuntimeError(message)
        return call(*args, **options)

    limited.lower = getattr(call, "lower", None)  # of programs, which are compiled ahead
    return limited


def stage_of(fixed, keys, start, *_):
    """The stage of a run of STEADY or TINY that trains these lanes."""
    if fixed.steps != STEADY.steps:
        return "refine"
    if fixed.optimizer not in (TINY.optimizer, STEADY.training.optimizer):
        return "retry"
    return "refine" if fixed.optimizer is TINY.optimizer and start.W.shape[1] == WIDTH else "train"


def only(stage, call):
    """`call` in place of the training of one stage."""
    train = execution.train
    return lambda *args, **options: (call if stage_of(*args) == stage else train)(*args, **options)


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polyjax.engine.devices.workers", lambda: 2)
        return Undisturbed(STEADY, tmp_path_factory.mktemp("steady"))


@pytest.fixture
def two_workers(monkeypatch):
    monkeypatch.setattr("polyjax.engine.devices.workers", lambda: 2)


def assert_the_same_to_rounding(found, expected):
    # Blocks of other shapes are vectorised otherwise, over 20 steps of Adam and at most 20 more. Measured: 3e-7 of
    # capacities, weights and, relatively, losses.
    for name in (*OF_LANES, "W", "b"):
        rtol = 1e-4 if name == "loss_se" else 2e-5
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=rtol, atol=4e-6)
    for name, a in found.refined.arrays().items():
        b = expected.refined.arrays()[name]
        assert a.shape == b.shape
    np.testing.assert_allclose(found.refined.loss, expected.refined.loss, rtol=2e-5, atol=4e-6)


def said(capfd):
    out, err = capfd.readouterr()
    assert out == ""
    return err.splitlines()


def halving(lanes, message=MESSAGE):
    """What is said of the last halving of a chunk."""
    first = message.splitlines()[0]
    return f"out of memory with {lanes} models at once ({first}): going on with {-(-lanes // 2)}"


@pytest.mark.usefixtures("two_workers")
@pytest.mark.parametrize(
    ("stage", "most", "too_many"),
    [
        pytest.param("train", 5, 6, marks=pytest.mark.slow),
        ("retry", 10, 16),
        pytest.param("refine", 8, 16, marks=pytest.mark.slow),
    ],
)
def test_half_as_many_models_are_trained_at_once_where_the_memory_ends(
    path, steady, capfd, monkeypatch, stage, most, too_many
):
    monkeypatch.setattr(TRAINING, only(stage, small_device(execution.train, most)))
    run_to_file(STEADY, path, progress=False)
    assert said(capfd) == [halving(too_many)]  # the second time; 12 and 32 were halved before
    found = polyjax.load(path)
    assert found.config.pop("room") == too_many // 2
    assert found.config == {key: value for key, value in steady.results.config.items() if key != "room"}
    assert_the_same_to_rounding(found, steady.results)


@pytest.mark.usefixtures("two_workers")
def test_neighbours_are_looked_at_in_parts_where_the_memory_ends(path, steady, capfd, monkeypatch):
    ranking = evaluation.compiled_rank
    monkeypatch.setattr(evaluation, "compiled_rank", lambda fixed: small_device(ranking(fixed), 3))
    run_to_file(STEADY, path, progress=False)
    assert said(capfd) == [halving(6)]  # of the chunks of the grid
    assert_the_same_to_rounding(polyjax.load(path), steady.results)


@pytest.mark.usefixtures("two_workers")
def test_a_program_too_large_to_be_compiled_is_made_smaller(path, steady, capfd, monkeypatch):
    # Compilers for TPUs know beforehand what does not fit.
    def too_large(programs):
        if np.prod(jax.tree.leaves(programs[0][1][1])[0].shape) > 6:  # [P, L] of a coordinate
            raise jax.errors.JaxRuntimeError(MESSAGE)

    monkeypatch.setattr("polyjax.runs.worker.compile_ahead", too_large)
    monkeypatch.setattr(TRAINING, small_device(execution.train, 6))
    run_to_file(STEADY, path, progress=False)
    assert said(capfd) == [halving(12)]
    assert_the_same_to_rounding(polyjax.load(path), steady.results)


@pytest.mark.usefixtures("two_workers")
def test_threads_that_run_out_of_memory_together_halve_once(path, capfd, monkeypatch):
    together, train = threading.Barrier(2), execution.train

    def limited(fixed, keys, start, *others):
        if start.b.size > 6:
            together.wait(10)
            raise jax.errors.JaxRuntimeError(ON_CPUS)
        return train(fixed, keys, start, *others)

    monkeypatch.setattr(TRAINING, limited)
    run_to_file(replace(STEADY, retries=0, refine=0), path, progress=False)
    assert said(capfd) == [halving(12, ON_CPUS)]


@pytest.mark.usefixtures("two_workers")
def test_a_run_that_is_continued_knows_how_much_fits(path, steady, capfd, monkeypatch):
    monkeypatch.setattr(TRAINING, small_device(execution.train, 5))
    with watched(most=1), pytest.MonkeyPatch.context() as patch:
        patch.setattr(TRAINING, small_device(execution.train, 5))
        with pytest.raises(KeyboardInterrupt):
            run_to_file(STEADY, path, progress=False)
    assert said(capfd) == [halving(6)]
    assert manifest.read(to_file.folder(path))["room"] == 3
    run_to_file(STEADY, path, progress=False)
    assert said(capfd) == []
    assert_the_same_to_rounding(polyjax.load(path), steady.results)


def test_a_model_that_does_not_fit_alone_is_an_error_of_one_clear_sentence(path, capfd, monkeypatch):
    monkeypatch.setattr(TRAINING, small_device(execution.train, 0))
    with pytest.raises(MemoryError) as error:
        run_to_file(TINY, path, progress=False)
    assert str(error.value) == f"the device has no memory for a single model: {MESSAGE.splitlines()[0]}"
    assert said(capfd) == []


@pytest.mark.parametrize("stage", ["train", "retry", "refine"])
def test_another_error_of_the_device_is_not_taken_for_a_lack_of_memory(path, whole, capfd, monkeypatch, stage):
    broken = small_device(execution.train, 0, "INTERNAL: the device fell off the bus")
    monkeypatch.setattr(TRAINING, only(stage, broken))
    with pytest.raises(jax.errors.JaxRuntimeError, match="fell off the bus"):
        run_to_file(TINY, path, progress=False)
    monkeypatch.undo()
    assert said(capfd) == []
    there = chunks(to_file.folder(path))
    assert ("train-000000" in there) == (stage != "train")
    assert_continues(path, whole, set(whole.chunks) - set(there))


# --- memory of the host


class Rows:
    """A store of chunks of 1 MiB that are made when they are read."""

    def read(self, name, fields):
        return {field: np.full((1, 64, 64, 64), float(name[-2:]), np.float32) for field in fields}


def test_a_file_is_written_in_the_memory_of_a_band(tmp_path):
    P, V, R = 48, 32, 2
    grid = Grid(P, V, R)
    lanes = Lanes(Rows(), grid, rectangles(grid, (1, V * R)))
    tracemalloc.start()
    archive.write(tmp_path / "large.npz", {}, {}, [], {"W": Parts(runs.bands(lanes, "W"), (P,), 1)}, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with np.load(tmp_path / "large.npz") as file:
        W = file["W"]
    assert W.shape == (P, V, R, 64, 64)
    np.testing.assert_array_equal(W[:, 3, 1, 5, 7], np.arange(P))
    assert peak < 6 * 2**20  # a band, its chunks, and what zip keeps of them; the array has 48 MiB


def test_the_best_restarts_are_found_band_by_band(whole):
    with runs.workers_of(None, runs.Requests()) as workers:
        begun = runs.begin(TINY, runs.Memory(), workers, runs.Requests(), progress=False)
        lanes = runs.lanes_of(begun)
        runs.train(begun, lanes)
    bands = [*runs.bands(lanes, "loss")]
    assert len(bands) == 4
    found, expected = runs.best(TINY, lanes), whole.results.select("best")
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        assert a.tobytes() == b.tobytes()


def test_a_folder_that_cannot_be_made_is_named(monkeypatch, tmp_path):
    mkdir = to_file.Path.mkdir

    def as_in_proc(self, *args, **options):
        if self.name == "nowhere":
            raise FileNotFoundError(2, "No such file or directory")
        mkdir(self, *args, **options)

    monkeypatch.setattr(to_file.Path, "mkdir", as_in_proc)
    with pytest.raises(
        OSError, match=r"^path must be in a folder that can be made, but .*nowhere cannot: No such file or directory$"
    ):
        run_to_file(TINY, tmp_path / "nowhere" / "run.npz", progress=False)


@pytest.mark.parametrize("call", [lambda path: polyjax.run("run.npz"), lambda path: run_to_file(path, TINY)])
def test_what_is_no_sweep_is_refused(call, path):
    with pytest.raises(ValueError, match=r"^sweep must be a Sweep, but is "):
        call(path)
