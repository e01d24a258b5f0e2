"""The axes of a grid, by name, and the coordinates of its cells.

Axes on which the samples depend are those of rows, all others those of columns; both are numbered in row-major order.
So a grid of any number of axes is trained as P rows and V columns. Axis letters: P rows, V columns, G rows of a chunk,
L lanes in each.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np


@dataclass(frozen=True)
class Axes:
    """Named axes and which of them are those of rows."""

    values: Mapping[str, tuple[float, ...]]  # in the order of the results
    of_rows: tuple[str, ...]  # names, in that order

    @property
    def of_columns(self) -> tuple[str, ...]:
        return tuple(name for name in self.values if name not in self.of_rows)

    @property
    def stored(self) -> tuple[str, ...]:
        """All names, in the order in which rows and columns are numbered."""
        return *self.of_rows, *self.of_columns

    def size(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the lengths of some axes."""
        return tuple(len(self.values[name]) for name in names)

    @property
    def n_rows(self) -> int:
        """P"""
        return prod(self.size(self.of_rows))

    @property
    def n_columns(self) -> int:
        """V"""
        return prod(self.size(self.of_columns))

    @cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """The coordinates [P] of all rows."""
        return self._flat(self.of_rows)

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """The coordinates [V] of all columns."""
        return self._flat(self.of_columns)

    def _flat(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        values = [np.asarray(self.values[name], np.float32) for name in names]
        mesh = np.meshgrid(*values, indexing="ij")
        return {name: a.ravel() for name, a in zip(names, mesh, strict=True)}

    def of_row(self, row: np.ndarray) -> dict[str, np.ndarray]:
        """Return the coordinates [G] of rows by their numbers [G]."""
        return {name: a[row] for name, a in self.rows.items()}

    def of_cells(
        self, row: np.ndarray, column: np.ndarray, names: Collection[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Return coordinates of cells by their rows and columns, of one shape: of all axes, or of those named."""
        found = {name: a[row] for name, a in self.rows.items()} | {name: a[column] for name, a in self.columns.items()}
        return {name: a for name, a in found.items() if names is None or name in names}

    def coordinates(self, row: int, column: int) -> dict[str, float]:
        """Return the coordinates of one cell as they were given, in the order of the axes."""
        places = (np.unravel_index(row, self.size(self.of_rows)), np.unravel_index(column, self.size(self.of_columns)))
        index = dict(zip(self.stored, (*places[0], *places[1]), strict=True))
        return {name: values[index[name]] for name, values in self.values.items()}

    def neighbours(self, distance: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for every direction along every axis the cells that have a neighbour at a distance there, and these,
        as numbers of cells: row times V plus column."""
        number = np.arange(self.n_rows * self.n_columns).reshape(self.size(self.stored))
        pairs = []
        for axis in range(number.ndim):
            before, after = (np.delete(number, np.s_[cut], axis) for cut in (np.s_[-distance:], np.s_[:distance]))
            if distance < number.shape[axis]:
                pairs += [(after.ravel(), before.ravel()), (before.ravel(), after.ravel())]
        return pairs

    def unfolded(self, a: np.ndarray) -> np.ndarray:
        """Return an array [P, V, ...] with one axis for every axis of the grid, in their order, [*shape, ...]."""
        whole = a.reshape(*self.size(self.stored), *a.shape[2:])
        return np.moveaxis(whole, [self.stored.index(name) for name in self.values], range(len(self.values)))

    def folded(self, a: np.ndarray) -> np.ndarray:
        """Return the inverse of `unfolded`."""
        order = list(self.values)
        whole = np.moveaxis(a, [order.index(name) for name in self.stored], range(len(order)))
        return whole.reshape(self.n_rows, self.n_columns, *a.shape[len(order) :])
