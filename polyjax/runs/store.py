"""Stores, which keep the outcomes of chunks until the results are put together: here in memory; see `folder` for one
that outlives the process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Store(Protocol):
    """Outcomes by name, such as "train-000012"."""

    index: int  # of this process among those that share the work
    processes: int
    shape: tuple[int, int] | None  # [G, L] of a chunk of the grid, where the run in progress has decided it
    engine: str  # by which this process trains
    room: int | None  # lanes that fit the device at once, where more did not

    def kept(self, name: str) -> bool:
        """Say whether the outcome is there, and whole."""

    def keep(self, name: str, arrays: Arrays) -> None: ...

    def read(self, name: str, fields: Sequence[str]) -> Arrays:
        """Return some arrays of an outcome that is there."""

    def remember(self, **found: object) -> None:
        """Set `shape` or `room`, for this process and for those that continue the run."""

    def stopping(self) -> bool:
        """Say whether the user has asked this process to stop."""

    def stopped(self, progress: str) -> BaseException:
        """Return what to raise then, once everything is kept; `progress` says how far the run is."""

    def others(self, names: Sequence[str], tell: Callable[[str], None]) -> None:
        """Wait until the other processes have kept all outcomes of these names, and tell for whom."""


class Memory:
    """Outcomes in memory, of one process, which nothing but an exception stops."""

    index, processes = 0, 1
    shape: tuple[int, int] | None = None
    room: int | None = None
    engine = ""

    def __init__(self) -> None:
        self._kept: dict[str, Arrays] = {}

    def kept(self, name: str) -> bool:
        return name in self._kept

    def keep(self, name: str, arrays: Arrays) -> None:
        self._kept[name] = arrays

    def read(self, name: str, fields: Sequence[str]) -> Arrays:
        return self._kept[name]

    def remember(self, **found: object) -> None:
        vars(self).update(found)

    def stopping(self) -> bool:
        return False

    def stopped(self, progress: str) -> BaseException:
        return KeyboardInterrupt(progress)

    def others(self, names: Sequence[str], tell: Callable[[str], None]) -> None:
        return None


def outcome_name(stage: str, i: int) -> str:
    return f"{stage}-{i:06d}"


def names(stage: str, count: int) -> list[str]:
    """Return the names of a stage's outcomes."""
    return [outcome_name(stage, i) for i in range(count)]


def outcomes(store: Store, stage: str, count: int, fields: Sequence[str]) -> Iterator[Arrays]:
    """Yield a stage's outcomes, one after the other."""
    return (store.read(name, fields) for name in names(stage, count))
