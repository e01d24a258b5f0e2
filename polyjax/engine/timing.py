"""Where the time of a piece of work goes: the seconds of its parts, wherever in the code these are."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter

Seconds = defaultdict[str, float]  # by name
_spent: ContextVar[Seconds | None] = ContextVar("spent", default=None)  # of the work that is being measured


@contextmanager
def measured() -> Iterator[Seconds]:
    """Yield what collects the seconds of the parts of what is done here, and "all" of them in the end."""
    seconds: Seconds = defaultdict(float)
    token = _spent.set(seconds)
    try:
        with part("all"):
            yield seconds
    finally:
        _spent.reset(token)


@contextmanager
def part(name: str) -> Iterator[None]:
    """Add the time that is spent here to a part of the work, if that is measured."""
    begin = perf_counter()
    try:
        yield
    finally:
        if (seconds := _spent.get()) is not None:
            seconds[name] += perf_counter() - begin
