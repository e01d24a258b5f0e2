"""The manifest of a run in progress: its configuration and the shape of its chunks, in one JSON file."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from polyjax import files

FORMAT = 5  # another one where stages or their chunks are others than before, so that no run mixes two kinds


def path(folder: Path) -> Path:
    return folder / "manifest.json"


def write(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write `{"config": ..., "command": ..., "code": ..., "shape": [G, L], "room": lanes or None}`."""
    described = {"format": FORMAT, "checksum": checksum(manifest), **manifest}
    text = json.dumps(described, indent=1, sort_keys=True)

    def content(file: BinaryIO) -> None:
        file.write(text.encode())

    files.write(path(folder), content)


def read(folder: Path) -> dict[str, Any]:
    """Read it. Raises FileNotFoundError, or ValueError where it cannot be understood."""
    try:
        manifest = json.loads(path(folder).read_text("utf-8"))
        version, written = manifest.pop("format"), manifest.pop("checksum", None)
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _refused(folder, f"is damaged ({error!r})") from error
    if version != FORMAT:
        another = f"is of format {version!r}, from another version of polyjax"
        raise _refused(folder, f"{another}; this one continues runs of format {FORMAT}")
    if written != checksum(manifest):
        raise _refused(folder, "is damaged: its content is not what was written")
    return manifest


def checksum(value: Any) -> str:
    """Return the checksum of a value that can be written as JSON."""
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"


def _refused(folder: Path, why: str) -> ValueError:
    return ValueError(f"{path(folder)} {why}; restart=True discards the run in {folder}")
