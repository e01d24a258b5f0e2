"""Files that are whole or not there: written beside their place, forced to the disk, and renamed into it."""

import os
import secrets
import zipfile
from collections.abc import Callable, Collection, Iterator
from math import prod
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

LONGEST = 200  # bytes of a file's name in that of the unfinished one; file systems take 255 in all
Header = tuple[tuple[int, ...], bool, np.dtype[Any]]  # the shape, whether columns are side by side, and the type


def write(path: Path, content: Callable[[BinaryIO], None], beside: Path | None = None) -> None:
    """Writes what `content` puts into the open file. A reader sees the old file or the whole new one, never a part.

    `beside` is the folder, of the same file system, in which the unfinished file is, by default that of `path`.
    """
    temporary = (beside or path.parent) / _unfinished(path)
    try:
        with open(temporary, "xb") as file:
            content(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def try_to_write(path: Path, beside: Path) -> None:
    """Raise OSError where `write` could not write there, by way of a folder: a file is renamed, but not to the path."""
    temporary, there = (folder / _unfinished(path) for folder in (beside, path.parent))
    try:
        temporary.touch(exist_ok=False)
        os.replace(temporary, there)
    finally:
        temporary.unlink(missing_ok=True)
        there.unlink(missing_ok=True)


def _unfinished(path: Path) -> str:
    """Return a name for a file that is not whole yet: with that of the file, as far as there is room for it."""
    name = path.name.encode(errors="ignore")[:LONGEST].decode(errors="ignore")
    return f".{name}.{secrets.token_hex(8)}.tmp"


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises OSError in the user's words."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"path must be in a folder that can be made, but {folder} cannot: {error.strerror}") from error


def arrays(path: str | os.PathLike[str], names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of these names in an `.npz`, or all of them, without pickles. Raises some exception where it is
    damaged. Nothing is read of other members, nor of an array whose header says another size than the archive."""
    found = {}
    for name, file, (shape, in_columns, dtype) in _members(path, names):
        content = bytearray(file.read())  # to the end, where zip looks at its checksum
        a = np.ndarray(shape, dtype, content, order="F" if in_columns else "C")
        found[name] = a if dtype.isnative else a.astype(dtype.newbyteorder("="))
    return found


def shapes(path: str | os.PathLike[str], names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Return arrays of the same shapes and types that hold nothing and take no memory. Raises the errors of `arrays`
    that headers tell."""
    return {
        name: np.broadcast_to(np.zeros((), dtype.newbyteorder("=")), shape)
        for name, _, (shape, _, dtype) in _members(path, names)
    }


def _members(path: str | os.PathLike[str], names: Collection[str] | None) -> Iterator[tuple[str, IO[bytes], Header]]:
    """Yield the arrays of an `.npz` by name, as open files after their headers, and these."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if names is None or name in names:
                with archive.open(member) as file:
                    shape, _, dtype = header = _header(file)
                    said = file.tell() + prod(shape) * dtype.itemsize
                    if said != member.file_size:
                        raise ValueError(f"{member.filename} has {member.file_size} bytes, but its header says {said}")
                    yield name, file, header


def _header(file: IO[bytes]) -> Header:
    """Return the shape of the array in an `.npy`, whether its columns are side by side, and its type."""
    header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(file))
    if header is None:
        raise ValueError("it holds an array of another format than numpy's 1.0 and 2.0")
    shape, in_columns, dtype = header(file)
    if dtype.hasobject:
        raise ValueError("it holds objects, which are pickled and not loaded (allow_pickle=False)")
    return shape, in_columns, dtype


def unfinished(folder: Path) -> list[Path]:
    """Return what processes that were killed left of files that they were writing."""
    return list(folder.glob(".*.tmp"))
