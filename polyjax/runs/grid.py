"""The lanes of a grid, and the chunks in which lanes are trained.

Lanes are numbered density by density, then importance by importance, then restart by restart. Axis letters: P
densities, V importances, R restarts, G rows of a chunk (a density each), L lanes in each row, J scattered lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from typing import NamedTuple

import numpy as np

WIDTH = 32  # lanes in a row of a chunk of scattered lanes
FEWEST_ROWS = 64  # in such a chunk, unless the run's own are smaller: fewer would only be another program to compile
SEVERAL = 8  # chunks of large models, where there are as many rows: so many workers, at least, have something to do

Window = tuple[slice, slice]  # some rows, and some lanes of each


class Grid(NamedTuple):
    """The shape [P, V, R] of all lanes."""

    rows: int
    columns: int
    restarts: int

    @property
    def a_row(self) -> int:
        """The number of lanes of one density."""
        return self.columns * self.restarts

    def place(self, lane: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the row, the column and the restart of lanes by their numbers, each of the same shape."""
        row, column, restart = np.unravel_index(lane, self)
        return row, column, restart


class Chunk(NamedTuple):
    """Lanes that are trained together and saved in one file."""

    row: np.ndarray  # [G], indices of densities
    lane: np.ndarray  # [G, L], numbers of lanes in the grid, or in a list of scattered ones

    @property
    def shape(self) -> tuple[int, int]:
        """[G, L]"""
        return self.lane.shape

    def part(self, rows: slice, lanes: slice) -> Chunk:
        """Return some rows of the chunk, and some lanes of each."""
        return Chunk(self.row[rows], self.lane[rows, lanes])


def windows(shape: tuple[int, int], most: int, shares: int = 1) -> list[Window]:
    """Return windows of equal shape, of at most `most` lanes, that cover [P, L] lanes: a multiple of `shares` of them
    where the rows allow it, so that nobody waits in the end."""

    def size(total: int, most: int, multiple: int = 1) -> int:
        return ceil(total / min(ceil(ceil(total / most) / multiple) * multiple, total))

    rows, lanes = shape
    width, part = size(lanes, min(most, lanes)), size(lanes, min(most, lanes), shares)
    by_rows = size(rows, max(1, most // width), shares), width
    by_lanes = size(rows, max(1, most // part)), part  # which draws the samples of a row more than once
    return min((tiles(shape, by_rows), tiles(shape, by_lanes)), key=lambda windows: _rounds(windows, shares))


def _rounds(windows: list[Window], shares: int) -> int:
    """Return how many lanes are trained one after the other where `shares` windows are trained at the same time."""
    (rows, lanes), *_ = windows
    return ceil(len(windows) / shares) * (rows.stop - rows.start) * (lanes.stop - lanes.start)


def tiles(shape: tuple[int, int], of: tuple[int, int]) -> list[Window]:
    """Return windows of the shape `of` that cover [P, L] lanes. The last ones of a row or a column are moved back so
    as to fit, and so train some lanes again, to the same result."""

    def cover(total: int, size: int) -> list[slice]:
        return [slice(min(i, total - size), min(i, total - size) + size) for i in range(0, total, size)]

    return [(rows, lanes) for rows in cover(shape[0], of[0]) for lanes in cover(shape[1], of[1])]


def rectangles(grid: Grid, of: tuple[int, int]) -> list[Chunk]:
    """Return chunks of the shape `of` that cover a grid."""
    lane = np.arange(grid.rows)[:, None] * grid.a_row + np.arange(grid.a_row)
    whole = Chunk(np.arange(grid.rows), lane)
    return [whole.part(*window) for window in tiles(lane.shape, of)]


def scattered(row: np.ndarray, of: tuple[int, int], large: bool = False) -> list[Chunk]:
    """Return chunks that hold lanes of the densities `row` [J], about as many in each as in rectangles of the shape
    `of`, or in many small chunks where the models are large (see `like`)."""
    return packed(row, *like(row, of, large))


def like(row: np.ndarray, of: tuple[int, int], large: bool = False) -> tuple[int, int]:
    """Return the shape of such chunks.

    Small models are trained side by side, so that a few more of them are free; large ones one after the other, so that
    none is to fill a chunk up, and a program more is compiled instead.
    """
    each = np.unique(row, return_counts=True)[1]
    width = min(WIDTH, prod(of), int(each.mean())) if large else WIDTH
    count, most = int((-(-each // width)).sum()), max(1, prod(of) // width)
    if large:
        return min(most, -(-count // SEVERAL)), width
    return min(most, max(FEWEST_ROWS, 1 << (count - 1).bit_length())), width


def packed(row: np.ndarray, most: int, width: int) -> list[Chunk]:
    """Return chunks of `most` rows, each of `width` lanes of one density, that hold lanes of the densities `row` [J].
    They are filled up with lanes that they hold already."""
    rows: list[int] = []
    members: list[np.ndarray] = []
    for each in np.unique(row):
        of_row = np.flatnonzero(row == each)
        several = np.pad(of_row, (0, -of_row.size % width), mode="edge").reshape(-1, width)
        rows += [each] * len(several)
        members += [*several]
    fill = -len(rows) % most
    all_rows = np.pad(np.array(rows, int), (0, fill), mode="edge").reshape(-1, most)
    all_members = np.pad(np.array(members), ((0, fill), (0, 0)), mode="edge").reshape(-1, most, width)
    return [Chunk(*both) for both in zip(all_rows, all_members, strict=True)]


def holder(chunks: Sequence[Chunk], lane: int) -> tuple[int, int, int]:
    """Return which rectangle a lane of the results is from, and its row and place there: where rectangles overlap, the
    first of a column and the last of a row."""
    found = []
    for number, chunk in enumerate(chunks):
        for row, place in np.argwhere(chunk.lane == lane):
            found.append((-chunk.row[0], chunk.lane[0, 0], number, int(row), int(place)))
    return max(found)[2:]
