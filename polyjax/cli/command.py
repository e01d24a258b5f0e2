"""Commands: functions whose parameters are arguments and options. Cyclopts reads these; errors are one line on stderr
with exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

from cyclopts import App, CycloptsError, Parameter

from polyjax.runs.folder.interruption import Interrupted, at_once
from polyjax.runs.provenance import installed

OPTIONS = {"restart=True": "--restart"}  # for the arguments that errors of the library name
# An option without a value, and without a --no- form.
Switch = Annotated[bool, Parameter(negative="", show_default=False)]


def application(prog: str, about: str | None) -> App:
    """Return an application without commands. Options have no short forms, since the command that continues a run is
    the same without some of them."""
    return App(
        name=prog,
        help=about,
        help_format="plaintext",
        version=f"polyjax {installed('polyjax')}",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )


def examples(*lines: str) -> str:
    """Return examples of a command for the end of its help."""
    return "\n".join(["Examples:", *(f"  {line}" for line in lines)])


def run(app: App, argv: Sequence[str] | None = None) -> None:
    """Do what a command line says. A bad argument, value or file ends the program with one line, an interruption with
    the exit code that shells give it."""
    prog = app.name[0]
    with at_once(prog):
        try:
            app(sys.argv[1:] if argv is None else argv)
        except CycloptsError as error:
            _end(prog, str(error))
        except OSError as error:
            _end(prog, f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
        except (ValueError, MemoryError) as error:
            _end(prog, _as_options(str(error)))
        except Interrupted as stopped:
            _end(prog, str(stopped), stopped.exit_code)
        except KeyboardInterrupt:
            _end(prog, "interrupted", 130)


def script(prog: str, work: Callable[..., None], argv: Sequence[str] | None = None, about: str | None = None) -> None:
    """Do the work of a script, whose parameters are its options and whose docstring its help, but for what is said
    about it."""
    app = application(prog, about)
    app.default(work)
    run(app, argv)


def _as_options(message: str) -> str:
    for argument, option in OPTIONS.items():
        message = message.replace(argument, option)
    return message


def _end(prog: str, message: Any, code: int = 2) -> NoReturn:
    print(f"{prog}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
