"""A run's phases: pieces of work, each of which leaves an outcome in the store. What is there is not done again.

Axis letters: P densities, L lanes a density; or G strips of a density, STRIP lanes in each.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import ceil, prod
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from polyjax.engine import devices
from polyjax.engine.execution import Block, Keys, Program, blocks, compile_ahead
from polyjax.runs.progress import Progress, say
from polyjax.runs.store import Arrays, Store, names
from polyjax.sweep import Sweep

STRIP = 32  # scattered lanes of one density that lie side by side in a block
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory")  # in the errors of accelerators and of CPUs
FEWEST_STRIPS = 64  # in a block, unless the plan's blocks are smaller: fewer would only be another program to compile

Piece = TypeVar("Piece", Block, "Strips")
Work = TypeVar("Work")
Result = TypeVar("Result")


@dataclass
class Run:
    """A sweep being trained: what all phases need."""

    sweep: Sweep
    keys: Keys
    store: Store
    block: tuple[int, int]  # [P, L] lanes of a block of the grid, on which all others are modelled
    progress: bool
    _halving: Lock = field(default_factory=Lock)

    def complete(
        self,
        phase: str,
        title: str,
        pieces: Sequence[Piece],
        do: Callable[[Piece], Arrays],
        size: "Size",
        programs: Callable[[tuple[int, int]], Sequence[Program]],
    ) -> None:
        """Has every piece done, by `do`: this process's share here and now, the rest by the others. All pieces have one
        shape; `programs` tells what runs on [P, L] lanes, which is compiled ahead."""
        store, all_names = self.store, names(phase, len(pieces))
        share = range(store.index, len(pieces), store.processes)
        missing = [i for i in share if not store.kept(all_names[i])]
        if missing:
            self._compile(programs, pieces[0].shape)

        def one(i: int) -> None:
            piece = pieces[i]
            store.keep(all_names[i], self.fitting(piece.shape, lambda rows, lanes: do(piece.part(rows, lanes))))

        there = len(share) - len(missing)
        with Progress(title, size.units * len(share) // len(pieces), size.steps, self.progress, size.unit) as bar:
            bar.done(bar.total * there // max(1, len(share)), 0)
            for n, _ in enumerate(in_parallel(one, missing, store.stopping), 1):
                there += 1
                bar.done(bar.total * there // len(share), n * prod(pieces[0].shape))
            if store.stopping():
                raise store.stopped(f"{title}: {there} of {len(share)} chunks are saved")
            store.others(all_names, bar.tell)

    def fitting(self, shape: tuple[int, int], do: Callable[[slice, slice], Arrays]) -> Arrays:
        """What `do(rows, lanes)` gives for [P, L] lanes, in equal parts where the device has no memory for all."""
        while True:
            lanes = self.room(shape)
            try:
                return _in_parts(blocks(*shape, lanes), shape, do)
            except jax.errors.JaxRuntimeError as error:
                if not _of_memory(error):
                    raise
                self._halve(lanes, error)

    def room(self, shape: tuple[int, int]) -> int:
        """How many of [P, L] lanes are trained at once."""
        return min(self.store.room or prod(shape), prod(shape))

    def _compile(self, programs: Callable[[tuple[int, int]], Sequence[Program]], shape: tuple[int, int]) -> None:
        """Some compilers find out that a program is too large for the device, which `fitting` then meets as well."""
        try:
            compile_ahead(programs(blocks(*shape, self.room(shape))[0].shape))
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
    """Of a phase, for the progress bar."""

    units: int  # in all pieces
    unit: str
    steps: int  # a lane


def _of_memory(error: Exception) -> bool:
    return any(words in str(error) for words in OUT_OF_MEMORY)


def _in_parts(parts: Sequence[Block], shape: tuple[int, int], do: Callable[[slice, slice], Arrays]) -> Arrays:
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
    """The result of each piece of work, in order; where `stopping`, of those that were begun."""
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


class Strips(NamedTuple):
    """Scattered lanes side by side, as the engines take them: a density for every strip, and in it any lanes of that
    density."""

    row: np.ndarray  # [G], index of density
    job: np.ndarray  # [G, STRIP], index into the list of lanes

    @property
    def shape(self) -> tuple[int, int]:
        """[G, STRIP]"""
        return self.job.shape

    def part(self, rows: slice, lanes: slice) -> "Strips":
        return Strips(self.row[rows], self.job[rows, lanes])


def strips(row: np.ndarray, block: tuple[int, int]) -> list[Strips]:
    """Blocks of strips that hold all lanes of the densities `row` [J], about as many lanes in each as in a `block` of
    the grid."""
    return packed(row, *like(row, block))


def like(row: np.ndarray, block: tuple[int, int]) -> tuple[int, int]:
    """How many strips, and how wide, make a block of the lanes `row` [J] that is like a `block` of the grid."""
    count = sum(-(-n // STRIP) for n in np.unique(row, return_counts=True)[1])
    most = max(1, prod(block) // STRIP)
    return min(most, max(FEWEST_STRIPS, 1 << (int(count) - 1).bit_length())), STRIP


def packed(row: np.ndarray, most: int, width: int) -> list[Strips]:
    """Blocks of `most` strips, each `width` lanes of one density, that hold all lanes of the densities `row` [J]; they
    are filled up with lanes that are there already."""
    rows, members = [], []
    for each in np.unique(row):
        of_row = np.flatnonzero(row == each)
        several = np.pad(of_row, (0, -of_row.size % width), mode="edge").reshape(-1, width)
        rows += [each] * len(several)
        members += [*several]
    fill = -len(rows) % most
    all_rows = np.pad(np.array(rows, int), (0, fill), mode="edge").reshape(-1, most)
    all_members = np.pad(np.array(members), ((0, fill), (0, 0)), mode="edge").reshape(-1, most, width)
    return [Strips(*both) for both in zip(all_rows, all_members, strict=True)]
