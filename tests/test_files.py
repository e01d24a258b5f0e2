"""Files that are whole or not there, whatever fails while they are written, and that are read as they were written."""

import os
import pickle

import numpy as np
import pytest

from polyjax import files


@pytest.fixture
def path(tmp_path):
    (tmp_path / "there").write_bytes(b"old")
    return tmp_path / "there"


def new(file):
    file.write(b"new")


def assert_untouched(path):
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_a_file_is_replaced_and_nothing_is_left_beside_it(path):
    files.write(path, new)
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == [path.name]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(path):
    def content(file):
        for _ in range(1000):
            file.write(bytes(1000))  # more than any buffer
            assert path.read_bytes() == b"old"

    files.write(path, content)
    assert path.stat().st_size == 10**6


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_writing_that_fails_half_way_leaves_the_old_file_and_nothing_beside_it(path, error):
    def content(file):
        file.write(bytes(10**6))
        assert len(files.unfinished(path.parent)) == 1
        raise error

    with pytest.raises(type(error)):
        files.write(path, content)
    assert_untouched(path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_step_that_fails_after_writing_leaves_the_old_file_and_nothing_beside_it(path, step, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        files.write(path, new)
    monkeypatch.undo()
    assert_untouched(path)


def test_a_file_is_on_the_disk_before_it_has_its_name(path, monkeypatch):
    # The other way round, a power failure could leave a name without content.
    steps, fsync, replace = [], os.fsync, os.replace

    def forced(descriptor):
        steps.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    def renamed(source, target):
        steps.append(os.path.basename(target))
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", forced)
    monkeypatch.setattr(files.os, "replace", renamed)
    files.write(path, new)
    assert steps == [3, "there"]


def test_an_unfinished_file_is_where_it_was_asked_for(path, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    seen = []

    def content(file):
        seen.extend((files.unfinished(tmp_path), files.unfinished(other)))

    files.write(path, content, beside=other)
    assert [len(found) for found in seen] == [0, 1]
    assert not files.unfinished(other)
    assert path.read_bytes() == b""


def test_what_a_killed_process_left_is_found_and_nothing_else_is(tmp_path):
    names = [".1-a.npz.0123456789abcdef.tmp", ".a.npz.0123456789abcdef.tmp"]
    for name in [*names, "1-a.npz", "a.tmp", ".hidden"]:
        (tmp_path / name).touch()
    assert sorted(path.name for path in files.unfinished(tmp_path)) == sorted(names)


def test_two_that_write_the_same_file_at_the_same_time_do_not_mix(path):
    def content(file):
        file.write(b"outer")
        files.write(path, lambda inner: inner.write(b"inner"))
        assert path.read_bytes() == b"inner"
        file.write(b" and last")

    files.write(path, content)
    assert path.read_bytes() == b"outer and last"
    assert os.listdir(path.parent) == [path.name]


# --- arrays

ARRAYS = {
    "W": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "b": np.array([np.nan, np.inf]),
    "text": np.array("κ"),
}


@pytest.fixture
def npz(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    return tmp_path / "a.npz"


def same(found, names=ARRAYS):
    expected = {name: ARRAYS[name] for name in names}
    return found.keys() == expected.keys() and all(
        (found[name].dtype, found[name].shape, found[name].tobytes()) == (a.dtype, a.shape, a.tobytes())
        for name, a in expected.items()
    )


def test_arrays_are_read_as_they_were_written(npz):
    assert same(files.arrays(npz))
    assert same(files.arrays(str(npz), ["W", "none of it"]), ["W"])
    np.savez_compressed(npz, **ARRAYS)
    assert same(files.arrays(npz))
    np.savez(npz, W=np.asfortranarray(ARRAYS["W"]))
    np.testing.assert_array_equal(files.arrays(npz)["W"], ARRAYS["W"])


def test_arrays_of_a_damaged_file_are_refused_or_the_same(npz):
    # So large that zip reads it in several parts: it sees the checksum only after the last one.
    W = np.arange(5000, dtype=np.float32).reshape(50, 100)
    np.savez(npz, W=W)
    content, rng, tried, refused = npz.read_bytes(), np.random.default_rng(0), 0, 0
    header, end = range(250), range(len(content) - 150, len(content))
    for i in (*header, *range(250, len(content) - 150, 997), *end):
        # By the digits of a header numpy reads; of all other bytes one bit is as good as another.
        for bit in range(8) if i in header and content[i : i + 1].isdigit() else rng.integers(8, size=1):
            damaged = bytearray(content)
            damaged[i] ^= 1 << int(bit)
            npz.write_bytes(bytes(damaged))
            tried += 1
            try:
                found = files.arrays(npz)
            except Exception:  # of any of the layers, as documented
                refused += 1
            else:  # of the list of arrays there is no checksum
                assert "W" not in found or (found["W"].shape == W.shape and found["W"].tobytes() == W.tobytes())
    assert refused > tried / 2


def test_arrays_of_a_file_that_is_cut_are_refused(npz):
    content = npz.read_bytes()
    for cut in range(0, len(content), 7):
        npz.write_bytes(content[:cut])
        with pytest.raises(Exception, match="zip"):
            files.arrays(npz)


def test_pickles_are_refused(npz):
    np.savez(npz, W=np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        files.arrays(npz)
    npz.write_bytes(pickle.dumps(ARRAYS))
    with pytest.raises(Exception, match="not a zip file"):
        files.arrays(npz)


def test_a_file_that_is_not_there_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.arrays(tmp_path / "nowhere.npz")
