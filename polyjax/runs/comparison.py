"""Comparison of cells of a results file with what is computed here: which arrays agree, and by how much others do not.

Axis letters: C cells, R restarts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polyjax import selection
from polyjax.archive import REFINED
from polyjax.engine import certificate
from polyjax.toy.model import SNAPSHOT

if TYPE_CHECKING:
    from polyjax.axes import Axes
    from polyjax.engine.outcome import Outcome
    from polyjax.runs.store import Arrays

Differences = dict[str, tuple[np.ndarray, Any]]  # by array: of cells [C, ...], and how much is tolerated

# Of capacities, and of losses relatively. On the machine that trained a file the bits are the same; other devices and
# versions round differently, which training contracts to far less than this except next to a phase boundary.
CAPACITY, LOSS = 1e-3, 1e-2
LOSS_SE = 0.05  # relatively: an error of few parts is less certain than their mean
ON_THE_WAY = 0.05  # of snapshots, between which small differences grow before they shrink
ROUNDING = 1e-5  # of a loss, relatively


class Comparison(NamedTuple):
    """Comparison of one cell of the file, all restarts of it, with what is computed here."""

    coordinates: dict[str, float]
    same_bits: bool  # the weights when trained again, of all restarts that were trained once
    capacity: float  # the largest difference of a capacity when trained again
    loss: float  # the largest relative difference of a loss when trained again
    of_weights: float  # likewise the largest difference from what the stored weights have, the refined ones too
    wrong: tuple[str, ...] = ()  # the arrays of the file that do not agree, by name

    @property
    def agrees(self) -> bool:
        return not self.wrong


def of_training(stored: Arrays, again: Outcome) -> Differences:
    """Return by how much the arrays of a file, [C, R, ...], differ from those of training again."""
    found = again.arrays()
    return losses(stored, found) | {
        "capacity": (apart(stored["capacity"], found["capacity"]), CAPACITY),
        "settled": (stored["settled"] != found["settled"], 0),
        **{
            name: (apart(a, found[name], relative=not name.endswith("capacity")), ON_THE_WAY)
            for name, a in stored.items()
            if name.startswith(SNAPSHOT)
        },
    }


def losses(stored: Arrays, found: Arrays, tolerated: float = LOSS) -> Differences:
    """Return the relative differences of losses, and of their errors beyond what rounding of a loss makes."""
    se, rounding = found["loss_se"], ROUNDING * np.nan_to_num(abs(found["loss"]), posinf=0, neginf=0)
    near = abs(stored["loss_se"] - se) <= rounding
    relative = {name: (apart(stored[name], found[name], relative=True), tolerated) for name in ("rank_loss", "loss")}
    return relative | {"loss_se": (np.where(near, 0, apart(stored["loss_se"], se, relative=True)), LOSS_SE)}


def renamed(found: Differences) -> Differences:
    return {f"{REFINED}{name}": difference for name, difference in found.items()}


def of_refining(stored: Arrays, refined: Arrays, polished: bool) -> Differences:
    """Return where arrays of a refined diagram [C, ...] contradict those of the restarts [C, R, ...] and each other: a
    cell that refining did not improve has the best restart as it is, no loss has become worse, and `gain` says by how
    much it fell; a polished cell has settled where its `excess` says so."""
    best = selection.best(stored)
    fell = np.where(np.isnan(best.rank_loss), 0, best.rank_loss - refined["rank_loss"])
    scale = np.nan_to_num(abs(refined["rank_loss"]), posinf=0, neginf=0)
    found: Differences = {f"{REFINED}gain": (apart(refined["gain"], fell), ROUNDING * scale)}
    if polished:
        worse = LOSS * scale + 4 * np.nan_to_num(refined["loss_se"])
        excess = refined["excess"]
        found[f"{REFINED}settled"] = refined["settled"] != (excess <= certificate.SETTLED), 0
        found[f"{REFINED}excess"] = excess < 0, 0
    else:
        worse, kept = 0 * scale, fell == 0
        pairs = {name: a for name, a in (best._asdict() | (best.params or {})).items() if name != "params"}
        for name, a in pairs.items():
            differs = _each(apart(a.astype(float), refined[name].astype(float)))
            found[f"{REFINED}{name} of a cell that was not improved"] = np.where(kept, differs, 0), 0
    found[f"{REFINED}rank_loss above that of the best restart"] = np.maximum(-fell, 0), worse
    return found


def compared(
    axes: Axes, row: np.ndarray, column: np.ndarray, stored: Arrays, again: Outcome, differences: Sequence[Differences]
) -> Iterator[Comparison]:
    largest = [{name: _each(a) for name, (a, _) in found.items()} for found in differences]
    names = list(dict.fromkeys(name for found in differences for name in found))
    beyond = {
        (number, name): _each(np.asarray(a) > tolerated)
        for number, found in enumerate(differences)
        for name, (a, tolerated) in found.items()
    }
    for i, (p, v) in enumerate(zip(row, column, strict=True)):
        once = stored["attempt"][i] == 0
        weights = [(stored[name][i], a[i]) for name, a in again.params.items()]
        wrong = (name for name in names if any(cells[i] for (_, other), cells in beyond.items() if other == name))
        of_weights = (found[name][i] for found in largest[1:3] for name in found if not name.endswith("_se"))
        yield Comparison(
            axes.coordinates(p, v),
            all(a[once].tobytes() == b[once].tobytes() for a, b in weights) and bool(once.any()),
            float(largest[0]["capacity"][i]),
            float(largest[0]["loss"][i]),
            float(max(of_weights)),
            tuple(wrong),
        )


def _each(a: np.ndarray) -> np.ndarray:
    """Return the largest of each cell, [C], of an array [C, ...]."""
    return np.asarray(a, float).reshape(len(a), -1).max(1)


def apart(a: np.ndarray, b: np.ndarray, relative: bool = False) -> np.ndarray:
    """Return the difference; none where both are NaN or the same infinity, infinitely large where only one is."""
    scale = np.maximum(abs(a), abs(b)) if relative else np.ones_like(a)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(same, 0, np.nan_to_num(abs(a - b) / scale, nan=np.inf))
