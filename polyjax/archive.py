"""The results file: an `.npz` of arrays by name with one JSON string, written whole or not at all, and read with every
check that it needs (see `results.Results`).

Axes: those of the grid, by name [*axes], then restart R, neuron D and feature N.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import ArrayLike

from polyjax import content, files
from polyjax.checks import a_path
from polyjax.selection import OF_LANES, Refined, Snapshots, is_parameter
from polyjax.toy.model import SNAPSHOT

# 1 had no "attempt", 2 no "rank_loss" (`loss` chose the restarts), 3 called `settled` "converged", and all of them had
# the axes density and importance alone.
FORMAT = 5
SNAPSHOTS = tuple(f"{SNAPSHOT}{name}" for name in Snapshots._fields[1:])
LARGEST_CONFIG = 2**28  # bytes
AXIS, REFINED = "axis_", "refined_"  # before the names of axes and of the refined diagram's arrays, in a file


class Parts(NamedTuple):
    """An array that is written part by part, so that it need not be in memory as a whole."""

    arrays: Iterable[np.ndarray]  # along the first axis, at least one
    axes: tuple[int, ...] = ()  # the lengths that the whole has in place of the first `replaced` axes
    replaced: int = 0

    @classmethod
    def of(cls, array: np.ndarray) -> Parts:
        return cls([array])


def write(
    path: Path,
    config: Mapping[str, Any],
    axes: Mapping[str, ArrayLike],
    stored: Sequence[str],
    arrays: Mapping[str, Parts],
    refined: Refined | None,
    beside: Path | None = None,
) -> None:
    """Write a results file in one step. The axes of all arrays are in the order `stored`; `beside` is where the file is
    until it is whole (see `files.write`)."""
    params = [name for name in arrays if is_parameter(name)]
    values = {f"{AXIS}{name}": Parts.of(np.asarray(a, np.float64)) for name, a in axes.items()}
    arrays = values | {**arrays}
    if refined is not None:
        arrays |= {f"{REFINED}{name}": Parts.of(a) for name, a in refined.arrays().items()}
    order = {"format": FORMAT, "arrays": [*arrays], "order": [*axes], "stored": [*stored], "parameters": params}
    text = np.array(json.dumps(order | {**config}, sort_keys=True))

    def written(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            with archive.open("config.npy", "w") as member:
                npy.write_array(member, text, allow_pickle=False)
            for name, parts in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    _write_parts(member, parts)

    files.write(path, written, beside)


def _write_parts(member: IO[bytes], parts: Parts) -> None:
    """Write the `.npy` of an array that is known part by part."""
    for i, part in enumerate(parts.arrays):
        if i == 0:
            shape = *parts.axes, *part.shape[parts.replaced :]
            header = npy.header_data_from_array_1_0(part) | {"shape": shape}
            npy.write_array_header_1_0(member, header | {"fortran_order": False})
        member.write(np.ascontiguousarray(part).data)


# Of the arrays in a file beside the axes; `settled` was "converged" before format 4, and two axes had their names.
_BEFORE = {"converged", "refined_converged", "density", "importance"}


Content = tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any], Refined | None]


def read(path: str | os.PathLike[str]) -> Content:
    """Return the axes, the arrays by name, the configuration and the refined diagram that a file holds. Raises
    FileNotFoundError, or ValueError where the file is truncated, is not a polyjax results file, has another format, or
    holds arrays whose shapes do not fit together."""
    with _whole(path):
        config = _read_config(path)
        order = config.get("order", [])
        stored, params = (config.pop(key, []) for key in ("stored", "parameters"))
        params = params or ["W", "b"]  # of the paper's models, whose were the only ones
        version, listed = config.pop("format"), config.pop("arrays", [])
        names = _names(version, order, params, config)
        # Shapes are looked at before anything is read, so that nothing large is that is not needed.
        for read in (files.shapes, files.arrays):
            file, found = read(path, names), {**config}
            _require(file, [name for name in listed if name in names])  # zip has no checksum of its list
            _update(version, found, file)
            order, stored = (found["order"],) * 2 if version < 5 else (order, stored)
            _require(file, [*(f"{AXIS}{name}" for name in order), *OF_LANES, *params])
            axes, arrays, refined = _in_order(order, stored, params, file)
            content.check_shapes(axes, arrays, params, refined, len((config.get("snapshots") or {}).get("steps", [])))
        content.check_values(axes, arrays, refined)
    return axes, arrays, found, refined


def _names(version: int, order: list[str], params: list[str], config: Mapping[str, Any]) -> set[str]:
    """Return the names of the arrays that a file may have."""
    of_cells = [*(name for name in Refined._fields if name != "params"), *params]
    names = {*OF_LANES, *params, *(f"{REFINED}{name}" for name in of_cells), *(f"{AXIS}{name}" for name in order)}
    return names | ({*SNAPSHOTS} if config.get("snapshots") else set()) | (_BEFORE if version < 5 else set())


def _require(file: Mapping[str, np.ndarray], names: list[str]) -> None:
    if missing := [name for name in names if name not in file]:
        raise ValueError(f"it has no {', '.join(missing)}")


def _in_order(
    order: list[str], stored: list[str], params: list[str], file: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], Refined | None]:
    """Return the axes, the arrays and the refined diagram in a file, with the axes of its arrays in their order."""
    if sorted(order) != sorted(stored):
        raise ValueError("its axes do not fit together")

    def moved(a: np.ndarray) -> np.ndarray:
        return np.moveaxis(a, range(len(order)), [order.index(name) for name in stored])

    arrays = {name: moved(file[name]) for name in (*OF_LANES, *params, *SNAPSHOTS) if name in file}
    of_cells = {name.removeprefix(REFINED): moved(a) for name, a in file.items() if name.startswith(REFINED)}
    axes = {name: file[f"{AXIS}{name}"] for name in order}
    return axes, arrays, Refined.of(of_cells) if of_cells else None


def _update(version: int, config: dict[str, Any], file: dict[str, np.ndarray]) -> None:
    """Bring the content of a file of an earlier format up to the present one."""
    if version < 2 and "loss" in file:
        file["attempt"] = np.zeros(file["loss"].shape, np.uint8)
    for prefix in ("", "refined_"):
        if version < 3 and f"{prefix}loss" in file:
            file[f"{prefix}rank_loss"] = file[f"{prefix}loss"]
        if version < 4 and f"{prefix}converged" in file:
            file[f"{prefix}settled"] = file.pop(f"{prefix}converged")
    if version < 4 and "block" in config:
        config["shape"] = config.pop("block")
    if version < 5:
        both = ("density", "importance")
        file |= {f"{AXIS}{name}": file.pop(name) for name in both if name in file}
        if all(name in config for name in both):
            config["axes"] = {name: config.pop(name) for name in both}
        config["order"] = [*both]


def configuration(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the configuration in a results file, without its arrays. Raises the errors of `load`."""
    with _whole(path):
        config = _read_config(path)
    _update(config["format"], config, {})
    return {key: value for key, value in config.items() if key not in ("format", "arrays", "stored", "parameters")}


@contextmanager
def _whole(path: str | os.PathLike[str]) -> Iterator[None]:
    """A damaged file can fail in any of the layers that read it."""
    path = a_path(path)
    try:
        if path.is_dir():
            raise ValueError("it is a folder")
        if path.exists() and not path.is_file():  # a pipe, from which nothing may ever come
            raise ValueError("it is no file")
        if os.path.exists(path) and not zipfile.is_zipfile(path):
            with open(path, "rb") as file:
                raise ValueError("it is truncated" if file.read(2) == b"PK" else "it is no .npz file")
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"path must name a whole polyjax results file, but is {os.fspath(path)!r}: {error}") from error


def _read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the configuration in a results file, with "format" and "arrays". Raises ValueError unless it can be
    read."""
    shape = files.shapes(path, ["config"]).get("config")
    if shape is None:
        raise ValueError("it has no config")
    if shape.nbytes > LARGEST_CONFIG:
        raise ValueError(f"its config has {shape.nbytes:,} bytes")
    config = json.loads(str(files.arrays(path, ["config"])["config"]))
    content.check_config(config)
    version = config.get("format")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"it is not of format 1 to {FORMAT}")
    if version > FORMAT:
        raise ValueError(f"it is of format {version}, from a newer polyjax; this one reads up to {FORMAT}")
    return config
