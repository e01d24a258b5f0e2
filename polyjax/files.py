"""Files that are whole or not there: written beside their place, forced to the disk, and renamed into it."""

import os
import secrets
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy


def write(path: Path, content: Callable[[BinaryIO], None], beside: Path | None = None, prefix: str = "") -> None:
    """Writes what `content` puts into the open file. A reader sees the old file or the whole new one, never a part.

    `beside` is the folder, of the same file system, in which the unfinished file is, by default that of `path`.
    """
    temporary = (beside or path.parent) / f".{prefix}{path.name}.{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as file:
            content(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def arrays(path: str | os.PathLike[str], names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Return what an `.npz` holds of these names, or all of it, without pickles. Raises some exception where it is
    damaged: numpy reads as much as the header of an array says, and zip looks at a checksum only when all of it was
    read."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            if names is None or name in names:
                with archive.open(member) as file:
                    found[name] = npy.read_array(file, allow_pickle=False)
                    if file.read(1):
                        raise ValueError(f"{member} is longer than its header says")
    return found


def unfinished(folder: Path, prefix: str = "") -> list[Path]:
    """Return what processes that were killed left of files that they were writing."""
    return list(folder.glob(f".{prefix}*.tmp"))
