"""Lanes that ended in infinities, or had not settled, are trained again: from fresh weights, with smaller steps.

The retry takes the lane's place where it did better: settled before finite, finite before infinite. This is ours, not
the paper's.

Axis letters: P densities, V importances, R restarts, J lanes to be trained again.
"""

from dataclasses import dataclass, field, replace
from functools import partial

import jax
import numpy as np

from polyjax.engine import execution, training
from polyjax.engine.execution import Keys, train_block
from polyjax.engine.training import Training
from polyjax.runs.polishing import polished_restarts
from polyjax.runs.stages import Run, Size, Strips, strips
from polyjax.runs.store import Arrays, Store, outcome_name, outcomes
from polyjax.sweep import Sweep

SMALLER = 0.5  # times the steps of the attempt before


@dataclass
class Lanes:
    """All lanes of a grid as the store holds them, read in bands of densities, so that memory does not grow with the
    grid."""

    store: Store
    shape: tuple[int, int, int]  # P, V, R
    plan: list[execution.Block]
    replaced: list["Replaced"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._blocks: dict[int, list[tuple[int, execution.Block]]] = {}  # by where their densities end
        for i, block in enumerate(self.plan):
            self._blocks.setdefault(block.rows.stop, []).append((i, block))

    def bands(self) -> list[slice]:
        """Densities whose lanes are in the same blocks."""
        stops = sorted(self._blocks)
        return [slice(*ends) for ends in zip([0, *stops], stops, strict=False)]

    def band(self, name: str, rows: slice) -> np.ndarray:
        """One array of an outcome, or "attempt", of the lanes of some densities [rows, V R, ...]."""
        parts = []
        for i, block in self._blocks[rows.stop]:
            found = self._of_block(outcome_name("train", i), name, block)
            parts.append((block.lanes, found[rows.start - block.rows.start : rows.stop - block.rows.start]))
        _, first = parts[0]
        values = np.empty((len(first), self.shape[1] * self.shape[2], *first.shape[2:]), first.dtype)
        for of_block, found in parts:
            values[:, of_block] = found
        for attempt in self.replaced:
            attempt.put(self.store, name, rows, values)
        return values

    def _of_block(self, part: str, name: str, block: execution.Block) -> np.ndarray:
        return np.zeros(block.shape, np.uint8) if name == "attempt" else self.store.read(part, [name])[name]


@dataclass(frozen=True)
class Replaced:
    """Where the better ones of an attempt's lanes are in the store, in order of density."""

    number: int  # of the attempt, from 1
    row: np.ndarray  # [J]
    lane: np.ndarray  # [J]
    place: np.ndarray  # [J, 3]: block, strip, and place in the strip

    def put(self, store: Store, name: str, rows: slice, values: np.ndarray) -> None:
        """Puts an array's new values into those of some densities [rows, V R, ...]."""
        inside = slice(*np.searchsorted(self.row, [rows.start, rows.stop]))
        row, lane, place = self.row[inside] - rows.start, self.lane[inside], self.place[inside]
        if name == "attempt":
            values[row, lane] = self.number
            return
        for block in np.unique(place[:, 0]):
            here = place[:, 0] == block
            found = store.read(outcome_name(phase(self.number), block), [name])[name]
            values[row[here], lane[here]] = found[place[here, 1], place[here, 2]]


def phase(attempt: int) -> str:
    return f"retry{attempt}"


def retry(run: Run, lanes: Lanes) -> None:
    """At most `retries` attempts at what has not settled."""
    for attempt in range(1, run.sweep.retries + 1):
        row, lane, worth = unsettled(lanes)
        if not row.size:
            return
        blocks = strips(row, run.block)
        train(run, attempt, row, lane, blocks)
        found, place = _gathered(run.store, attempt, blocks, row.size)
        better = found > worth
        lanes.replaced.append(Replaced(attempt, row[better], lane[better], place[better]))


def train(run: Run, attempt: int, row: np.ndarray, lane: np.ndarray, blocks: list[Strips]) -> None:
    """Has lanes [J] trained, as the attempt of this number."""
    sweep = run.sweep
    fixed, keys = as_attempted(sweep, run.keys, attempt)
    density, importance = sweep.axes()
    column, restart = np.divmod(lane, sweep.restarts)
    initial = execution.compiled_initial(sweep.training)

    def do(block: Strips) -> Arrays:
        p, v = density[block.row], importance[column[block.job]]
        start = initial(keys.start, p, v, restart[block.job])
        return train_block(fixed, keys, start, v, p, polished_restarts(sweep))._asdict()

    size = Size(row.size, "model", fixed.steps)
    programs = partial(execution.fresh_programs, fixed)
    run.complete(phase(attempt), f"retrying, attempt {attempt}", blocks, do, size, programs)


def as_attempted(sweep: Sweep, keys: Keys, attempt: int) -> tuple[Training, Keys]:
    """How the models of an attempt are trained; 0 is the first training."""
    first = sweep.training
    if attempt == 0:
        return first, keys
    fixed = replace(first, optimizer=training.smaller_steps(first.optimizer, SMALLER**attempt))
    return fixed, keys._replace(start=jax.random.fold_in(keys.start, attempt))


def unsettled(lanes: Lanes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Density and lane [J] of what has not settled, in order of density, and what it is worth."""
    found = []
    for rows in lanes.bands():
        worth = _worth(lanes.band("converged", rows), lanes.band("loss", rows))
        row, lane = np.nonzero(worth < 2)
        found.append((row + rows.start, lane, worth[row, lane]))
    row, lane, worth = map(np.concatenate, zip(*found, strict=True))
    return row, lane, worth


def _worth(converged: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """0 for lanes that are not finite, 1 for those that are and have not settled, 2 for the others."""
    return np.isfinite(loss).astype(np.int8) + converged


def _gathered(store: Store, attempt: int, blocks: list[Strips], n: int) -> tuple[np.ndarray, np.ndarray]:
    """What lanes [n] are worth after an attempt, and their places [n, 3] in its blocks of strips."""
    worth, place = np.empty(n, np.int8), np.empty((n, 3), np.int32)
    found = outcomes(store, phase(attempt), len(blocks), ["converged", "loss"])
    for i, (block, outcome) in enumerate(zip(blocks, found, strict=True)):
        worth[block.job] = _worth(outcome["converged"], outcome["loss"])
        strip, inside = np.indices(block.job.shape)
        place[block.job] = np.stack([np.full_like(strip, i), strip, inside], axis=-1)
    return worth, place
