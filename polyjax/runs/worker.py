"""A process's part in runs: what it was told, what it has compiled, and how many lanes its device has memory for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from math import ceil, prod
from threading import Lock
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from polyjax.engine import devices, timing
from polyjax.engine.devices import compile_ahead
from polyjax.runs import provenance
from polyjax.runs.grid import Window, windows
from polyjax.runs.work import Done, Lanes, Setting, Shape, Work

if TYPE_CHECKING:
    from polyjax.runs.store import Arrays

OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory")  # in the errors of accelerators and of CPUs


class Worker:
    """What a process knows of one run; several threads of it may work at a time."""

    def __init__(self, setting: Setting) -> None:
        devices.keep_programs()
        self.setting = setting
        self.room: int | None = None
        self._without_room = ""
        self._compiled: set[tuple[Any, ...]] = set()
        self._compiling, self._halving = Lock(), Lock()

    def do(self, work: Work, lanes: Lanes, room: int | None) -> Done:
        """Do a task, in equal parts where the device has no memory for all lanes at once; `room` is how many the run
        knows to fit."""
        fixed = work.training(self.setting, work.attempt)
        part = lambda *window: work.do(self.setting, fixed, lanes.part(*window), work.attempt)  # noqa: E731
        while True:
            at_once = self._room(lanes.shape, room)
            parts = windows(lanes.shape, at_once)
            rows, columns = parts[0]
            try:
                with timing.measured() as seconds:
                    self.compile([(work, (rows.stop, columns.stop))])
                    arrays = _in_parts(parts, lanes.shape, part)
                return Done(arrays, self._made, self.room, self._without_room, seconds)
            except jax.errors.JaxRuntimeError as error:
                if not _of_memory(error):
                    raise
                self._halve(at_once, error)

    def compile(self, works: Sequence[tuple[Work, Shape]]) -> None:
        """Compile what works run on [G, L] lanes, all at the same time, unless this process has done so. Some compilers
        find out that a program is too large for the device, which `do` then meets as well."""
        with self._compiling:
            every = [(work.programs, work.training(self.setting, work.attempt), shape) for work, shape in works]
            new = [each for each in every if each not in self._compiled]
            if not new:
                return
            self._compiled.update(new)
            programs = [program for find, fixed, shape in new for program in find(self.setting, fixed, shape)]
            try:
                with timing.part("compilation"):
                    compile_ahead(programs)
            except jax.errors.JaxRuntimeError as error:
                if not _of_memory(error):
                    raise

    def _room(self, shape: Shape, room: int | None) -> int:
        """Return how many of [G, L] lanes are worked on at once."""
        return min(n for n in (self.room, room, prod(shape)) if n is not None)

    def _halve(self, lanes: int, error: Exception) -> None:
        with self._halving:
            if self.room is not None and self.room < lanes:
                return  # another thread was faster
            said = devices.first_line(error)
            if lanes == 1:
                raise MemoryError(f"the device has no memory for a single model: {said}") from error
            self.room = ceil(lanes / 2)
            self._without_room = f"{lanes:,} models at once ({said})"

    @cached_property
    def _made(self) -> dict[str, Any]:
        return provenance.made(self.setting.engine)


def _of_memory(error: Exception) -> bool:
    return any(words in str(error) for words in OUT_OF_MEMORY)


def _in_parts(parts: Sequence[Window], shape: Shape, do: Callable[[slice, slice], Arrays]) -> Arrays:
    if len(parts) == 1:
        return do(*parts[0])
    whole: dict[str, np.ndarray] = {}
    for rows, lanes in parts:
        for name, values in do(rows, lanes).items():
            if name not in whole:
                whole[name] = np.empty((*shape, *values.shape[2:]), values.dtype)
            whole[name][rows, lanes] = values
    return whole
