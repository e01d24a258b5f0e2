"""One cell of results: what all restarts came to there, and the features that they were trained on.

Axis letters: R restarts, D neurons, N features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polyjax.described import told
from polyjax.differences import check_same
from polyjax.toy.distributions import by_name
from polyjax.toy.features import Features, FirstImportance

if TYPE_CHECKING:
    from polyjax.results import Results
    from polyjax.selection import Refined, Snapshots
    from polyjax.sweep import Sweep


@dataclass(frozen=True, eq=False, repr=False)
class Cell:
    """One cell, every restart of it (see `Results.sel`)."""

    coordinates: Mapping[str, float]  # by axis, of the cell itself
    index: tuple[int, ...]  # of the cell in the arrays of the results
    capacity: np.ndarray  # [R, N]
    rank_loss: np.ndarray  # [R]
    loss: np.ndarray  # [R]
    loss_se: np.ndarray  # [R]
    settled: np.ndarray  # [R], bool
    attempt: np.ndarray  # [R], uint8
    params: Mapping[str, np.ndarray]  # by name, [R, ...]
    embedding: np.ndarray  # [R, D, N]; W in the paper's models
    snapshots: Snapshots | None  # of this cell alone, so [R, K, N] and [R, K]; where the sweep was told to take some
    refined: Refined | None  # of this cell alone, so [N], [] and so on; where the sweep was told to refine

    @classmethod
    def of(cls, results: Results, index: tuple[int, ...]) -> Cell:
        """Return a cell of results by its place."""
        coordinates = {name: float(values[i]) for (name, values), i in zip(results.axes.items(), index, strict=True)}
        names = ("capacity", "rank_loss", "loss", "loss_se", "settled", "attempt", "embedding")
        arrays = {name: getattr(results, name)[index] for name in names}
        params = {name: a[index] for name, a in results.params.items()}
        refined = results.refined and results.refined.each(lambda a: a[index])
        looks = results.snapshots and results.snapshots.each(lambda a: a[index])
        return cls(coordinates, index, **arrays, params=params, snapshots=looks, refined=refined)

    def __repr__(self) -> str:
        """Say which cell it is, and what the restart of the lowest loss came to."""
        where = ", ".join(f"{name}={value:.6g}" for name, value in self.coordinates.items())
        best = np.argmin(np.where(np.isnan(self.rank_loss), np.inf, self.rank_loss))
        capacity = " ".join(f"{c:.3g}" for c in self.capacity[best][:10]) + (
            " ..." if self.capacity.shape[1] > 10 else ""
        )
        words = [f"Cell at {where}", f"{self.settled.sum()} of {len(self.settled)} restarts settled"]
        words += [f"loss of the best {self.loss[best]:.4g}, its capacities {capacity}"]
        return "; ".join(words + ["refined"] * (self.refined is not None))


def features_of(cell: Cell, config: Mapping[str, Any], sweep: Sweep | None) -> Features:
    """Return the features of a cell (see `Results.features`)."""
    if sweep is not None:
        check_same(config, sweep)
        of_sizes = {name: cell.coordinates[name] for name in sweep.sizes}
        of_cell = next((part for values, part in sweep.by_size if values == of_sizes), sweep)
        return of_cell.training.features_at(cell.coordinates)
    given = sorted({"features", "distribution"} & (config.get("given") or {}).keys())
    if given:
        raise ValueError(f"sweep must be given, since the {given[0]} of these results are the user's own, but is None")
    if "features" in (config.get("described") or {}):
        described = told("features", config["described"]["features"])
        return described(**{name: cell.coordinates[name] for name in described.axes})
    of_axes = {name: cell.coordinates[name] for name in ("density", "importance") if name in cell.coordinates}
    n = (
        int(np.isfinite(cell.capacity).any(0).sum()) or cell.capacity.shape[1]
    )  # without what is filled up beyond the cell's own size
    return FirstImportance(n, by_name(config["distribution"]))(**of_axes)
