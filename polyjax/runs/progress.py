"""The progress bar: cells done, model-steps a second, workers, time left."""

from __future__ import annotations

import sys
from time import perf_counter
from types import TracebackType
from typing import NamedTuple

from tqdm.auto import tqdm  # a widget in notebooks

SHORTEST = 1e-9  # seconds, where a clock stands still


class Size(NamedTuple):
    """The size of a stage."""

    units: int  # in all chunks
    unit: str
    steps: int  # of training that each of its models takes; 0 where none is trained


class Progress:
    """A bar over a stage; nothing is shown unless `shown`."""

    def __init__(self, title: str, size: Size, shown: bool) -> None:
        self.total = size.units
        self._steps = size.steps
        self._start = perf_counter()
        self._rate, self._workers = "", ""
        self._bar = tqdm(total=size.units, desc=title, unit=size.unit, disable=not shown, dynamic_ncols=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._bar.close()

    def done(self, cells: int, models: int) -> None:
        """Show how many cells are whole, and how many models were trained now, up to here."""
        if models == 0:
            self._bar.initial = cells  # they took no time
        if self._steps:
            rate = models * self._steps / max(perf_counter() - self._start, SHORTEST)
            self._rate = f"{rate / 1e6:.2f} M model-steps/s" if rate >= 1e5 else f"{rate:,.0f} model-steps/s"
            self._show(refresh=False)
        self._bar.update(int(cells) - self._bar.n)

    def tell(self, workers: str) -> None:
        """Show what the workers do."""
        if workers != self._workers:
            self._workers = workers
            self._show(refresh=True)

    def _show(self, refresh: bool) -> None:
        self._bar.set_postfix_str(", ".join(filter(None, (self._rate, self._workers))), refresh=refresh)


def say(line: str) -> None:
    """Write one line to the user, above the bar if there is one."""
    tqdm.write(line, file=sys.stderr)
