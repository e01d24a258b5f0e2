"""What the command-line scripts share: early errors, in one line on stderr, with exit code 2."""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")

    def report(self, work: Callable[[], None]) -> None:
        """Does the work; a bad value or file ends the program with one line, an interruption with exit code 130."""
        try:
            work()
        except (ValueError, OSError) as error:
            self.error(str(error))
        except KeyboardInterrupt:
            self.exit(130, f"{self.prog}: interrupted\n")


def results_path(text: str) -> Path:
    """The path of a results file to be written; raises argparse's error unless it can be, so that no training is
    lost in the end."""
    path = Path(text)
    if path.suffix != ".npz":
        raise argparse.ArgumentTypeError(f"must end in .npz, but is {text!r}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"must be in a folder that can be written to, but is {text!r}: {error}"
        ) from None
    return path
