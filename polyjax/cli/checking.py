"""`polyjax verify` and `export`: whether results can be made again, and what is in them for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from polyjax.export import export
from polyjax.results import load
from polyjax.runs.verification import Comparison, verify


def check(file: Path, /, *, cells: int = 5, seed: int | None = None) -> None:
    """Train a few cells of a results file again and compare; exit code 1 where they differ.

    Args:
        file: A results file.
        cells: How many cells.
        seed: Of the choice of cells; by default others every time.
    """
    print(file)
    found = verify(file, cells, seed)
    names = "".join(f"{name:<12}" for name in found[0].coordinates)
    print(f"  {names}largest difference: trained again  of what the stored weights have")
    for cell in found:
        values = "".join(f"{value:<12.4g}" for value in cell.coordinates.values())
        differs = f"; differ: {', '.join(cell.wrong)}" if cell.wrong else ""
        print(f"  {values}{_again(cell):<33}  {cell.of_weights:.1e}{differs}")
    wrong = sum(not cell.agrees for cell in found)
    print(f"{wrong} of {len(found)} cells differ" if wrong else f"all {len(found)} cells agree")
    if wrong:
        sys.exit(1)


def _again(cell: Comparison) -> str:
    differences = f"{max(cell.capacity, cell.loss):.1e}"
    return f"{differences}, same weights" if cell.same_bits else differences


def write(
    file: Path,
    /,
    *,
    to: Literal["csv", "netcdf", "xarray"],
    out: Annotated[Path | None, Parameter(show_default=False)] = None,
) -> None:
    """Write results for other programs.

    Args:
        file: A results file.
        to: csv: a table with a line for every network. netcdf: all arrays, labelled, in one file, which
            xarray.open_dataset reads, too. xarray: the same as a folder in Zarr's format, for xarray.open_zarr. The
            last two need the extra polyjax[xarray].
        out: What to write; by default beside the results file.
    """
    print(export(load(file), file, to, out))
