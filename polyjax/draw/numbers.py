"""Phase diagrams in numbers (section 3.7): cells that stand alone, plateaus, superposition and jumps.

Capacities are those of feature 0, [P, V]: density P (rows), importance V (columns). NaN marks a cell that failed; it is
never counted. NumPy, on the host.
"""

import numpy as np

MARGIN = 0.03  # capacities this near to 0, 1/2 or 1 count as these: the contours of figure 7 are at 0.47 and 0.53


def isolated(capacity: np.ndarray, threshold: float = 0.25) -> np.ndarray:
    """Return the cells whose capacity differs by more than `threshold` from ALL their (up to four) neighbours; bool [P,
    V].

    A phase boundary isolates no cell, since a cell has neighbours on its own side. So such a speckle is a model that
    training left in a worse local minimum, or a phase that is narrower than the grid resolves.
    """
    capacity = np.asarray(capacity, float)
    padded = np.pad(capacity, 1, constant_values=np.nan)
    around = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    away = abs(around - capacity)
    return np.where(np.isnan(away), True, away > threshold).all(0) & np.isfinite(away).any(0)


def superposed(capacity: np.ndarray) -> np.ndarray:
    """Return the cells in which feature 0 is neither ignored nor full, up to `MARGIN`; bool [P, V]."""
    return (capacity > MARGIN) & (capacity < 1 - MARGIN)


def plateau(capacity: np.ndarray, value: float = 0.5) -> float:
    """Return the share of cells with a capacity within `MARGIN` of `value`: at 1/2, the antipodal pairs."""
    finite = np.isfinite(capacity)
    return int((abs(capacity - value) < MARGIN).sum()) / max(int(finite.sum()), 1)


def steepest(capacity: np.ndarray) -> np.ndarray:
    """Return the largest rise of capacity from one importance to the next in every row, [P]: 1 is a jump from ignored
    to full."""
    return np.fmax.reduce(np.diff(capacity, axis=1), axis=1)  # type: ignore[call-overload]


def nearest(axis: np.ndarray, value: float) -> int:
    """Return the index of the cell at `value` on a logarithmic axis [n]."""
    return int(abs(np.log(axis) - np.log(value)).argmin())
