"""What a run in progress is, on disk: read back as it was written, or refused in words that help."""

import json

import numpy as np
import pytest

from polyjax import Redwood, Sweep
from polyjax.runs.folder import manifest

CONFIG = json.loads(json.dumps(Sweep(Redwood(6, 3), np.geomspace(0.01, 1, 7), [0.5, 1.0]).describe()))
WHOLE = {"config": CONFIG, "command": "python -m sweeps.figure4", "shape": [3, 10], "room": None}


@pytest.fixture
def folder(tmp_path):
    manifest.write(tmp_path, WHOLE)
    return tmp_path


def refused(folder):
    with pytest.raises(ValueError, match="restart=True") as error:  # and no other exception
        manifest.read(folder)
    assert str(manifest.path(folder)) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_manifest_is_read_as_it_was_written(folder):
    assert manifest.read(folder) == WHOLE
    manifest.write(folder, WHOLE | {"room": 7})
    assert manifest.read(folder) == WHOLE | {"room": 7}
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]


def test_a_folder_without_a_manifest_has_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        manifest.read(tmp_path)


def test_a_truncated_manifest_is_refused_wherever_it_is_cut(folder):
    whole = manifest.path(folder).read_bytes()
    for cut in range(len(whole)):
        manifest.path(folder).write_bytes(whole[:cut])
        refused(folder)


def test_a_damaged_manifest_is_refused_or_read_as_it_was_written(folder):
    whole = manifest.path(folder).read_bytes()
    refusals = 0
    for i in range(len(whole)):
        manifest.path(folder).write_bytes(whole[:i] + bytes([whole[i] ^ 0x80]) + whole[i + 1 :])
        refused(folder)  # not ASCII any more
        manifest.path(folder).write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        try:
            assert manifest.read(folder) == WHOLE  # between its words
        except ValueError:
            refusals += 1
    assert refusals > 0.9 * len(json.dumps(WHOLE))


@pytest.mark.parametrize("text", ["[]", "null", "3", '"text"', "[1]", "{}", "\ud800".encode("utf-8", "surrogatepass")])
def test_other_json_is_refused(folder, text):
    manifest.path(folder).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert "is damaged" in refused(folder)


@pytest.mark.parametrize("name", WHOLE)
def test_a_field_that_is_missing_or_was_changed_is_refused(folder, name):
    written = json.loads(manifest.path(folder).read_text())
    for changed in ({key: value for key, value in written.items() if key != name}, written | {name: 3}):
        manifest.path(folder).write_text(json.dumps(changed))
        assert "is damaged: its content is not what was written" in refused(folder)


def test_another_format_is_refused_by_its_number(folder):
    path = manifest.path(folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 9}))
    assert "is of format 9, from another version of polyjax" in refused(folder)
