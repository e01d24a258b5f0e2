"""What is tried before any training, so that nothing of it fails when all is trained."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING

from polyjax import files
from polyjax.checks import switch
from polyjax.differences import check_sweep
from polyjax.engine import devices
from polyjax.runs import executors, provenance

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from pathlib import Path

    from polyjax.sweep import Sweep


def check(sweep: Sweep, executor: Executor | None, **switches: bool) -> None:
    """Raise ValueError unless this is a sweep that can be described, an executor that can work or None, and switches
    that are True or False."""
    check_sweep(sweep)
    switch(**switches)
    devices.check()
    if executor is not None:
        executors.check(executor)
    provenance.made(sweep.engine)
    try:
        json.dumps([sweep.describe(), sweep.sources])
    except (TypeError, ValueError) as error:
        raise ValueError(f"sweep must be such that its results can say what it is, but {error}") from error


def check_place(path: Path, folder: Path) -> None:
    """Raise OSError unless a results file can be written at `path` by way of a folder, in which it is until it is
    whole."""
    try:
        files.try_to_write(path, folder)
    except OSError as error:
        why = f"{folder} is on another file system" if error.errno == errno.EXDEV else error.strerror or str(error)
        raise OSError(f"path must be where a file can be written, but {path} is not: {why}") from error
