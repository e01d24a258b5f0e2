"""Ctrl-C and SIGTERM as requests to stop at the next good moment."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run that a signal stopped after it had saved what was trained."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Requests:
    """Context manager: the first signal is noted in `number` and said to be, another one does what it did before.

    Outside the main thread, where Python delivers no signals, nothing is noted; nor is a signal that the program was
    started to ignore, as Ctrl-C is by jobs in the background.
    """

    number: int | None = None

    def __enter__(self) -> "Requests":
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        _say_now(f"stopping when what is in hand is saved; {name} again stops at once")
        for each, handler in self._before.items():
            signal.signal(each, handler)


@contextmanager
def at_once(prog: str) -> Iterator[None]:
    """Ctrl-C ends the program with one line, at once: Python would wait for the threads that train."""

    def end(number: int, frame: FrameType | None) -> None:
        _say_now(f"{prog}: interrupted")
        os._exit(128 + number)

    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN  # by a job in the background
    if ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _say_now(words: str) -> None:
    """Not through Python's stream, which may be in the middle of a line."""
    with suppress(OSError):
        os.write(2, f"\n{words}\n".encode())
