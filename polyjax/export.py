"""Results for other programs: a table, or labelled arrays in a file of xarray's."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polyjax.checks import one_of

if TYPE_CHECKING:
    from polyjax.results import Results

OF_NETWORK = ("loss", "loss_se", "settled", "attempt")  # columns of the table


def export(results: Results, file: Path, to: str, out: Path | None = None) -> Path:
    """Write results, of a file of this name, and return the path of what was written. Raises ValueError for a format
    that does not exist, and where what writes it is missing."""
    one_of("to", to, FORMATS)
    suffix, write = FORMATS[to]
    path = file.with_suffix(suffix) if out is None else out
    try:
        write(results, path)
    except ImportError as error:
        raise ValueError(f"{to} needs the extra polyjax[xarray]: {error}") from error
    return path


def rows(results: Results) -> Iterator[list[Any]]:
    """Yield the names of the columns, and the values of every network: its coordinates, its restart, what its training
    came to, and its capacities."""
    *_, R, N = results.capacity.shape
    yield [*results.axes, "restart", *OF_NETWORK, *(f"capacity_{i}" for i in range(N))]
    columns = [results.capacity[..., i] for i in range(N)]
    columns = [getattr(results, name) for name in OF_NETWORK] + columns
    flat = zip(*(np.reshape(column, -1).tolist() for column in columns), strict=True)
    for (*coordinates, restart), values in zip(product(*results.axes.values(), range(R)), flat, strict=True):
        yield [*(float(each) for each in coordinates), restart, *values]


def _csv(results: Results, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows(results))


def _netcdf(results: Results, path: Path) -> None:
    results.to_xarray().to_netcdf(path, engine="h5netcdf")


def _zarr(results: Results, path: Path) -> None:
    results.to_xarray().to_zarr(path, mode="w")


FORMATS: dict[str, tuple[str, Callable[[Results, Path], None]]] = {
    "csv": (".csv", _csv),
    "netcdf": (".nc", _netcdf),
    "xarray": (".zarr", _zarr),
}
