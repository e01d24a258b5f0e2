"""Results files that no polyjax wrote: each is refused in one line that says what is wrong, before much is read."""

import json
import os
import tracemalloc
import zipfile

import numpy as np
import pytest

import polyjax
from polyjax.checks import printable

SWEEP = polyjax.Sweep(
    polyjax.Redwood(3, 2), [0.2, 0.5], [0.5, 2.0], restarts=2, steps=4, batch=8, retries=0, refine=1, snapshots=2
)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The arrays in a file, and its configuration."""
    path = tmp_path_factory.mktemp("whole") / "r.npz"
    polyjax.run(SWEEP, progress=False).save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(str(arrays.pop("config")))


def refused(path):
    for read in (polyjax.load, polyjax.verify):
        with pytest.raises(ValueError, match=r"^path must name a whole polyjax results file, but is ") as error:
            read(path)
        assert "\n" not in str(error.value)
    return str(error.value).split(": ", 1)[1]


def saved(path, arrays, config, save=np.savez):
    save(path, config=np.array(json.dumps(config)), **arrays)
    return path


CONFIGS = {
    "provenance": [[], None, "text", 3, {"versions": []}, {"other_sessions": {}}, {"other_sessions": [1]}],
    "model": ["Redwood", [3, 2]],
    "axes": [[0.2], {"density": 0.2}, {"density": []}, {"density": ["a"]}],
    "order": ["density", {"density": 1}, [1, 2], None],
    "stored": [3, [3]],
    "shape": [3, [3], [1, 2, 3], [0, 4], [1.5, 2], "12", {"a": 1}],
    "snapshots": [[3], {"steps": 3}, {"steps": ["a"]}],
    "source": ["text", ["text"]],
    "restarts": ["4", -1, 1.5, None],
    "retries": ["4", [1]],
    "sizes": ["n"],
    "format": ["5", 5.0, True, None, -1, 0],
}
CASES = [(name, value) for name, values in CONFIGS.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES, ids=[f"{name}={value}"[:40] for name, value in CASES])
def test_a_configuration_with_another_kind_of_field_is_refused(content, tmp_path, name, value):
    arrays, config = content
    assert refused(saved(tmp_path / "r.npz", arrays, config | {name: value}))


ARRAYS = {
    "capacity": [lambda a: a + 1j, lambda a: a + 1, lambda a: -a, lambda a: a.astype(str), lambda a: a[..., :0]],
    "loss": [lambda a: a * 1j, lambda a: a.astype(int), lambda a: a.astype(bool), lambda a: a[:, :, :0]],
    "loss_se": [lambda a: -a],
    "settled": [lambda a: a.astype(float), lambda a: a.astype(int)],
    "attempt": [lambda a: a.astype(float)],
    "W": [lambda a: a.astype(complex), lambda a: a.astype("M8[s]")],
    "axis_density": [lambda a: a * np.nan, lambda a: a[:, None], lambda a: a.astype(str), lambda a: a[:0]],
    "axis_importance": [lambda a: a * np.inf],
    "refined_settled": [lambda a: a.astype(float)],
    "refined_capacity": [lambda a: a + 1],
    "snapshot_capacity": [lambda a: a - 1],
}
FORGED = [(name, number) for name, changes in ARRAYS.items() for number in range(len(changes))]


@pytest.mark.parametrize(("name", "number"), FORGED)
def test_an_array_of_another_kind_or_out_of_range_is_refused(content, tmp_path, name, number):
    arrays, config = content
    refused(saved(tmp_path / "r.npz", arrays | {name: ARRAYS[name][number](arrays[name])}, config))


def test_arrays_of_the_other_byte_order_are_read(content, tmp_path):
    arrays, config = content
    swapped = {name: a.astype(a.dtype.newbyteorder(">")) for name, a in arrays.items()}
    results = polyjax.load(saved(tmp_path / "r.npz", swapped, config))
    for name, a in results.arrays().items():
        assert a.dtype.isnative
        np.testing.assert_array_equal(a, arrays[name])


BOMB = 300_000_000  # bytes, of zeros, which compress to a thousandth


@pytest.mark.parametrize(
    "name", ["converged", "refined_excess", "snapshot_embedding", "density", "loss", "axis_density"]
)
def test_an_archive_that_expands_to_what_nobody_needs_does_not_expand(content, tmp_path, name):
    arrays, config = content
    path = saved(tmp_path / "r.npz", {n: a for n, a in arrays.items() if n != name}, config)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open(f"{name}.npy", "w") as member:
        header = {"descr": "<f4", "fortran_order": False, "shape": (BOMB // 4,)}
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(100):
            member.write(bytes(BOMB // 100))
    tracemalloc.start()
    try:
        polyjax.load(path)
    except ValueError:
        pass
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 20_000_000


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "r.npz")
    assert refused(tmp_path / "r.npz") == "it is no file"


def test_what_moves_a_terminals_cursor_is_written_out():
    assert printable("a\x1b[2Jb\r\x07c\nd é \u202e") == "a\\x1b[2Jb\\r\\x07c\nd é \\u202e"
