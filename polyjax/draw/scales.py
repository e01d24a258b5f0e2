"""Axes of a grid on paper: logarithmic where their values are geometric, else linear; edges of cells, ticks, labels."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

LABELS = {"density": "density $p$", "importance": "importance $V$"}  # of the paper's axes; both have no unit
FEW = 6  # values that all have a tick
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Scale:
    """An axis of a grid: its name and its values [n], in any order, at least one."""

    name: str
    values: np.ndarray

    @cached_property
    def order(self) -> np.ndarray:
        """The places [n] of the values in ascending order."""
        return np.argsort(self.values, kind="stable")

    @cached_property
    def centres(self) -> np.ndarray:
        """The values in ascending order."""
        return np.asarray(self.values, float)[self.order]

    @cached_property
    def is_geometric(self) -> bool:
        """Say whether the ratios of neighbours differ less than their distances; of two values, whether they are more
        than a factor of 3 apart."""
        c = self.centres
        if c[0] <= 0 or c.size < 2:
            return False
        if c.size == 2:
            return bool(c[1] > 3 * c[0])
        return _unevenness(np.log(c)) < _unevenness(c) - ROUNDING

    @cached_property
    def edges(self) -> np.ndarray:
        """The edges [n + 1] of cells, half-way between neighbours on the scale; a value alone is in the middle of a
        cell as wide as itself."""
        c = np.log(self.centres) if self.is_geometric else self.centres
        if c.size == 1:
            half = abs(c[0]) / 2 or 0.5
            return np.array([c[0] - half, c[0] + half])
        middle = (c[1:] + c[:-1]) / 2
        edges = np.concatenate([[2 * c[0] - middle[0]], middle, [2 * c[-1] - middle[-1]]])
        return np.exp(edges) if self.is_geometric else edges

    @property
    def label(self) -> str:
        return LABELS.get(self.name) or self.name.replace("_", " ")

    def set_x(self, ax: Axes, *, cells: bool = True) -> None:
        """Make this the x axis, as wide as the cells or from the first value to the last."""
        ax.set_xscale("log" if self.is_geometric else "linear")
        ax.set_xlim(*self._limits(cells))
        ax.set_xlabel(self.label)
        self._set_ticks(ax.xaxis)

    def set_y(self, ax: Axes) -> None:
        """Make this the y axis, as high as the cells."""
        ax.set_yscale("log" if self.is_geometric else "linear")
        ax.set_ylim(*self._limits(True))
        ax.set_ylabel(self.label)
        self._set_ticks(ax.yaxis)

    def _limits(self, cells: bool) -> tuple[float, float]:
        ends = self.edges if cells or self.centres.size == 1 else self.centres
        return float(ends[0]), float(ends[-1])

    def _set_ticks(self, axis: Axis) -> None:
        if self.centres.size <= FEW:
            axis.set_ticks([*self.centres], [f"{c:.3g}" for c in self.centres])
            axis.set_minor_locator(NullLocator())
        elif self.is_geometric:
            plain_log_ticks(axis)


def _unevenness(values: np.ndarray) -> float:
    """Return by how much the steps between values differ, beside their mean."""
    steps = np.diff(values)
    return float(np.ptp(steps) / max(abs(steps).mean(), 1e-30))


def plain_log_ticks(axis: Axis) -> None:
    """Set ticks such as 0.1, 0.3, 1 in place of powers of ten; only whole decades where the view spans more than
    2.5."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 3) if high / low < 10**2.5 else (1,), numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_locator(NullLocator())
