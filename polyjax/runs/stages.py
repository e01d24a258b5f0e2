"""A run's stages: chunks of lanes, each of which leaves an outcome in the store. What the store holds already is not
computed again.

Axis letters: P rows, or G rows of a chunk; L lanes in each.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, prod
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from polyjax.engine import devices
from polyjax.engine.devices import Program, compile_ahead
from polyjax.engine.keys import Keys
from polyjax.engine.training import Training
from polyjax.runs.features import FeaturesOfCells, features_of_cells
from polyjax.runs.grid import Chunk, Grid, Window, windows
from polyjax.runs.progress import Progress, say
from polyjax.runs.store import Arrays, Store, names
from polyjax.sweep import Sweep

OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory")  # in the errors of accelerators and of CPUs

Work = TypeVar("Work")
Result = TypeVar("Result")


@dataclass
class Run:
    """A sweep being trained: what all stages need."""

    sweep: Sweep
    training: Training  # the sweep's, by the engine that runs it here
    keys: Keys
    store: Store
    shape: tuple[int, int]  # [G, L] of a chunk of the grid, on which all other chunks are modelled
    progress: bool
    _halving: Lock = field(default_factory=Lock)

    @cached_property
    def features(self) -> FeaturesOfCells:
        """The features of all cells."""
        return features_of_cells(self.sweep.layout, self.training)

    @cached_property
    def grid(self) -> Grid:
        """The lanes of the sweep."""
        return Grid(*self.sweep.shape)

    def complete(
        self,
        stage: str,
        title: str,
        chunks: Sequence[Chunk],
        do: Callable[[Chunk], Arrays],
        size: "Size",
        programs: Callable[[tuple[int, int]], Sequence[Program]],
    ) -> None:
        """Have the work of every chunk done: this process's share here and now, the rest by the others. All chunks have
        one shape; `programs` returns what runs on [P, L] lanes, which is compiled ahead."""
        store, all_names = self.store, names(stage, len(chunks))
        share = range(store.index, len(chunks), store.processes)
        missing = [i for i in share if not store.kept(all_names[i])]
        if missing:
            rows, lanes = windows(chunks[0].shape, self.room(chunks[0].shape))[0]
            self.compile(programs((rows.stop, lanes.stop)))

        def one(i: int) -> None:
            chunk = chunks[i]
            store.keep(all_names[i], self.fitting(chunk.shape, lambda *window: do(chunk.part(*window))))

        saved = len(share) - len(missing)
        with Progress(title, size.units * len(share) // len(chunks), size.steps, self.progress, size.unit) as bar:
            bar.done(bar.total * saved // max(1, len(share)), 0)
            for n, _ in enumerate(in_parallel(one, missing, store.stopping), 1):
                saved += 1
                bar.done(bar.total * saved // len(share), n * prod(chunks[0].shape))
            if store.stopping():
                raise store.stopped(f"{title}: {saved} of {len(share)} chunks are saved")
            store.others(all_names, bar.tell)

    def fitting(self, shape: tuple[int, int], do: Callable[[slice, slice], Arrays]) -> Arrays:
        """Return what `do(rows, lanes)` gives for [P, L] lanes, in equal parts where the device has no memory for
        all."""
        while True:
            lanes = self.room(shape)
            try:
                return _in_parts(windows(shape, lanes), shape, do)
            except jax.errors.JaxRuntimeError as error:
                if not _of_memory(error):
                    raise
                self._halve(lanes, error)

    def room(self, shape: tuple[int, int]) -> int:
        """Return how many of [P, L] lanes are trained at once."""
        return min(self.store.room or prod(shape), prod(shape))

    def compile(self, programs: Sequence[Program]) -> None:
        """Compile programs at the same time. Some compilers find out that a program is too large for the device, which
        `fitting` then meets as well."""
        try:
            compile_ahead(programs)
        except jax.errors.JaxRuntimeError as error:
            if not _of_memory(error):
                raise

    def _halve(self, lanes: int, error: Exception) -> None:
        with self._halving:
            if self.store.room is not None and self.store.room < lanes:
                return  # another thread was faster
            if lanes == 1:
                raise MemoryError(
                    f"the device has no memory for a single model: {devices.first_line(error)}"
                ) from error
            half = ceil(lanes / 2)
            self.store.remember(room=half)
            say(f"out of memory with {lanes:,} models at once ({devices.first_line(error)}): going on with {half:,}")


class Size(NamedTuple):
    """The size of a stage, for the progress bar."""

    units: int  # in all chunks
    unit: str
    steps: int  # a lane


def _of_memory(error: Exception) -> bool:
    return any(words in str(error) for words in OUT_OF_MEMORY)


def _in_parts(parts: Sequence[Window], shape: tuple[int, int], do: Callable[[slice, slice], Arrays]) -> Arrays:
    if len(parts) == 1:
        return do(*parts[0])
    whole: dict[str, np.ndarray] = {}
    for rows, lanes in parts:
        for name, values in do(rows, lanes).items():
            if name not in whole:
                whole[name] = np.empty((*shape, *values.shape[2:]), values.dtype)
            whole[name][rows, lanes] = values
    return whole


def in_parallel(
    do: Callable[[Work], Result], work: Sequence[Work], stopping: Callable[[], bool] = lambda: False
) -> Iterator[Result]:
    """Yield the result of each piece of work, in order; where `stopping`, of those that were begun."""
    n, rest = devices.workers(), iter(work)
    running: deque[Future[Any]] = deque()
    executor = ThreadPoolExecutor(n)
    try:
        while True:
            while len(running) < 2 * n and not stopping() and (piece := next(rest, None)) is not None:
                running.append(executor.submit(do, piece))
            if stopping():
                running = deque(future for future in running if not future.cancel())
            if not running:
                return
            yield running.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)
