"""A parser of the command line whose errors are one line on stderr, with exit code 2."""

import argparse
from collections.abc import Callable
from typing import NoReturn

from polyjax.runs.folder.interruption import Interrupted

OPTIONS = {"restart=True": "--restart"}  # for the arguments that errors of the library name


class Parser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")

    def report(self, work: Callable[[], None]) -> None:
        """Do the work; a bad value or file ends the program with one line, an interruption with the exit code that
        shells give it."""
        try:
            work()
        except OSError as error:
            self.error(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
        except (ValueError, MemoryError) as error:
            message = str(error)
            for argument, option in OPTIONS.items():
                message = message.replace(argument, option)
            self.error(message)
        except Interrupted as stopped:
            self.exit(stopped.exit_code, f"{self.prog}: {stopped}\n")
        except KeyboardInterrupt:
            self.exit(130, f"{self.prog}: interrupted\n")
