"""All lanes of a grid, as the store holds them after training and retries.

Axis letters: P densities, V importances, R restarts, J lanes that were trained again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import jax
import numpy as np

from polyjax import selection
from polyjax.engine.outcome import parameter_names, snapshot_names
from polyjax.runs.grid import rectangles
from polyjax.runs.progress import say
from polyjax.runs.store import Store, outcome_name
from polyjax.selection import OF_LANES, Refined, Selection

if TYPE_CHECKING:
    from polyjax.runs.grid import Chunk, Grid
    from polyjax.runs.stages import Run
    from polyjax.sweep import Sweep


@dataclass
class Lanes:
    """All lanes of a grid as the store holds them, read in bands of densities, so that memory does not grow with the
    grid."""

    store: Store
    grid: Grid
    chunks: list[Chunk]
    replaced: list[Replaced] = field(default_factory=list)
    sharper: dict[str, np.ndarray] = field(default_factory=dict)  # losses [P, V R] that take the place of the first

    def __post_init__(self) -> None:
        self._chunks: dict[int, list[tuple[int, Chunk]]] = {}  # by where their densities end
        for i, chunk in enumerate(self.chunks):
            self._chunks.setdefault(int(chunk.row[-1]) + 1, []).append((i, chunk))

    def bands(self) -> list[slice]:
        """Return densities whose lanes are in the same chunks."""
        stops = sorted(self._chunks)
        return [slice(*ends) for ends in zip([0, *stops], stops, strict=False)]

    def band(self, name: str, rows: slice) -> np.ndarray:
        """Return one array of the outcome, or "attempt", of the lanes of some densities [rows, V R, ...]."""
        if name in self.sharper:
            return self.sharper[name][rows]
        parts = []
        for i, chunk in self._chunks[rows.stop]:
            values = self._of_chunk(i, name, chunk)
            parts.append((chunk.lane[0] % self.grid.a_row, values[rows.start - chunk.row[0] :]))
        _, first = parts[0]
        whole = np.empty((len(first), self.grid.a_row, *first.shape[2:]), first.dtype)
        for lanes, values in parts:
            whole[:, lanes] = values
        for attempt in self.replaced:
            attempt.put(self.store, name, rows, whole)
        return whole

    def _of_chunk(self, i: int, name: str, chunk: Chunk) -> np.ndarray:
        if name == "attempt":
            return np.zeros(chunk.shape, np.uint8)
        return self.store.read(outcome_name(stage(0), i), [name])[name]


def lanes_of(run: Run) -> Lanes:
    """Return all lanes of a run, in the chunks that it trains."""
    return Lanes(run.store, run.grid, rectangles(run.grid, run.shape))


@dataclass(frozen=True)
class Replaced:
    """Places in the store of the lanes that an attempt made better, in order of density."""

    number: int  # of the attempt, from 1
    row: np.ndarray  # [J]
    lane: np.ndarray  # [J], in its row
    place: np.ndarray  # [J, 3]: chunk, row in the chunk, and place in that row

    def put(self, store: Store, name: str, rows: slice, values: np.ndarray) -> None:
        """Put an array's new values into those of some densities [rows, V R, ...]."""
        inside = slice(*np.searchsorted(self.row, [rows.start, rows.stop]))
        row, lane, place = self.row[inside] - rows.start, self.lane[inside], self.place[inside]
        if name == "attempt":
            values[row, lane] = self.number
            return
        for chunk in np.unique(place[:, 0]):
            here = place[:, 0] == chunk
            new = store.read(outcome_name(stage(self.number), chunk), [name])[name]
            values[row[here], lane[here]] = new[place[here, 1], place[here, 2]]


def stage(attempt: int) -> str:
    """Return the name of the stage in which an attempt's lanes are trained; 0 is the first attempt."""
    return f"retry{attempt}" if attempt else "train"


def names_in_results(sweep: Sweep) -> tuple[str, ...]:
    """Return the names of the arrays of all networks in the results."""
    looks = snapshot_names(sweep.snapshot_weights) if sweep.snapshots else ()
    return *OF_LANES, *parameter_names(sweep.training.one_model), *looks


def bands(lanes: Lanes, name: str) -> Iterator[np.ndarray]:
    """Yield an array of the results, [rows, V, R, ...] at a time."""
    for rows in lanes.bands():
        a = lanes.band(name, rows)
        yield a.reshape(len(a), *lanes.grid[1:], *a.shape[2:])


def best(sweep: Sweep, lanes: Lanes) -> Selection:
    """Return the diagram by the rule `best`, band by band, so that not all restarts are in memory."""
    names = names_in_results(sweep)
    of_bands = zip(*(bands(lanes, name) for name in names), strict=True)
    found = [selection.best(dict(zip(names, arrays, strict=True))) for arrays in of_bands]
    return jax.tree.map(lambda *bands: np.concatenate(bands), *found)


def warn(lanes: Lanes, refined: Refined | None) -> None:
    """Say in one line if no model has settled, neither of the grid nor of the refined diagram."""

    def everywhere(name: str) -> Iterator[np.ndarray]:
        return chain(bands(lanes, name), [] if refined is None else [getattr(refined, name)])

    if any(settled.any() for settled in everywhere("settled")):
        return
    if any(np.isfinite(loss).any() for loss in everywhere("loss")):
        say("warning: no model has settled, so that the diagram shows unfinished training; more steps may help")
    else:
        say("warning: every model ended in infinities or NaN, so that the diagram is empty; smaller steps may help")
