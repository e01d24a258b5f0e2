"""The progress bar: cells done, model-steps a second, time left."""

import sys
from time import perf_counter
from types import TracebackType

from tqdm import tqdm


class Progress:
    """A bar over `total` cells, each of whose models takes `steps` steps of training, or 0 where none is trained;
    nothing is shown unless `shown`."""

    def __init__(self, name: str, total: int, steps: int, shown: bool, unit: str = "cell") -> None:
        self.total = total
        self._steps = steps
        self._start = perf_counter()
        self._bar = tqdm(total=total, desc=name, unit=unit, disable=not shown, dynamic_ncols=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._bar.close()

    def done(self, cells: int, models: int) -> None:
        """Show how many cells are whole, and how many models were trained here, up to now."""
        if models == 0:
            self._bar.initial = cells  # they took no time
        if self._steps:
            rate = models * self._steps / (perf_counter() - self._start)
            self._bar.set_postfix_str(f"{rate / 1e6:.2f} M model-steps/s", refresh=False)
        self._bar.update(int(cells) - self._bar.n)

    def tell(self, what: str) -> None:
        """Show what the run waits for."""
        self._bar.set_postfix_str(what)


def say(line: str) -> None:
    """Write one line to the user, above the bar if there is one."""
    tqdm.write(line, file=sys.stderr)
