"""Ctrl-C and SIGTERM as requests to stop at the next good moment."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Handler = Callable[[int, FrameType | None], None]


class Interrupted(KeyboardInterrupt):
    """A run that a signal stopped after it had saved what was trained."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number
        self.exit_code = 128 + number


class Requests:
    """Context manager: the first signal is noted in `number` and said to be, another one does what it did before. What
    is not heard (see `_handled`) is not noted."""

    number: int | None = None

    def __init__(self, how_to_continue: str = "") -> None:
        self._how_to_continue = how_to_continue

    def stopping(self) -> bool:
        """Say whether the user has asked this process to stop."""
        return self.number is not None

    def stopped(self, progress: str) -> Interrupted:
        """Return what to raise then, once everything is kept; `progress` says how far the run is."""
        assert self.number is not None
        _end_in_one_line()
        return Interrupted(self.number, f"stopped. {progress}; {self._how_to_continue}")

    def __enter__(self) -> Requests:
        self._before = _handled(SIGNALS, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        _restore(self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        _say_now(f"stopping when what is in hand is saved; {name} again stops at once")
        _restore(self._before)


def _end_in_one_line() -> None:
    """Have a script that does not catch an `Interrupted` end with its words, not with a traceback, and by the signal
    itself, as programs do that handle none."""
    before = sys.excepthook

    def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, Interrupted):
            before(kind, error, trace)
            return
        print(error, file=sys.stderr, flush=True)
        signal.signal(error.number, signal.SIG_DFL)
        os.kill(os.getpid(), error.number)

    sys.excepthook = end


@contextmanager
def at_once(prog: str) -> Iterator[None]:
    """Ctrl-C ends the program with one line, at once: Python would wait for the threads that train."""

    def end(number: int, frame: FrameType | None) -> None:
        _say_now(f"{prog}: interrupted")
        os._exit(128 + number)

    before = _handled([signal.SIGINT], end)
    try:
        yield
    finally:
        _restore(before)


def _handled(numbers: Iterable[int], handler: Handler) -> dict[int, Any]:
    """Handles the signals from now on, and returns what did so before. None outside the main thread, where Python
    delivers none, nor those that the program was started to ignore, as Ctrl-C is by jobs in the background."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}


def _restore(before: Mapping[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


def _say_now(words: str) -> None:
    """Not through Python's stream, which may be in the middle of a line."""
    with suppress(OSError):
        os.write(2, f"\n{words}\n".encode())
