"""Stores, which keep the outcomes of chunks until the results are put together: here in memory; see `folder` for one
that outlives the process."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Store(Protocol):
    """Outcomes by name, such as "train-000012", and what was decided when the run began."""

    shape: tuple[int, int] | None  # [G, L] of a chunk of the grid, where the run in progress has decided it
    room: int | None  # lanes that fit the device at once, where more did not

    def kept(self, name: str) -> bool:
        """Say whether the outcome is there, and whole."""

    def keep(self, name: str, arrays: Arrays, made: Mapping[str, Any]) -> None:
        """Keep an outcome, and how it was made."""

    def read(self, name: str, fields: Sequence[str]) -> Arrays:
        """Return some arrays of an outcome that is there."""

    def remember(self, **found: object) -> None:
        """Set `shape` or `room`, for this process and for those that continue the run."""

    def provenances(self) -> list[dict[str, Any]]:
        """Return how the outcomes were made, each way once."""


class Memory:
    """Outcomes in memory."""

    shape: tuple[int, int] | None = None
    room: int | None = None

    def __init__(self) -> None:
        self._kept: dict[str, Arrays] = {}
        self._made: set[str] = set()

    def kept(self, name: str) -> bool:
        return name in self._kept

    def keep(self, name: str, arrays: Arrays, made: Mapping[str, Any]) -> None:
        self._kept[name] = arrays
        self._made.add(json.dumps(made, sort_keys=True))

    def read(self, name: str, fields: Sequence[str]) -> Arrays:
        return self._kept[name]

    def fill(self, names: Sequence[str]) -> bool:
        """Put NaN and False where outcomes of these names are missing, and say whether any of them was there."""
        kept = [self._kept[name] for name in names if name in self._kept]
        for name in names if kept else ():
            blank = {key: np.full_like(a, np.nan if a.dtype.kind == "f" else 0) for key, a in kept[0].items()}
            self._kept.setdefault(name, blank)
        return bool(kept)

    def remember(self, **found: object) -> None:
        vars(self).update(found)

    def provenances(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in sorted(self._made)]


def outcome_name(stage: str, i: int) -> str:
    return f"{stage}-{i:06d}"


def names(stage: str, count: int) -> list[str]:
    """Return the names of a stage's outcomes."""
    return [outcome_name(stage, i) for i in range(count)]


def outcomes(store: Store, stage: str, count: int, fields: Sequence[str]) -> Iterator[Arrays]:
    """Yield a stage's outcomes, one after the other."""
    return (store.read(name, fields) for name in names(stage, count))
