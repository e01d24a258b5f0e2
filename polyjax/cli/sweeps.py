"""The command line of scripts that run sweeps: the options that all of them have, and results files."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from polyjax.cli.dask import executor
from polyjax.cli.parser import Parser
from polyjax.runs import to_file
from polyjax.runs.folder.interruption import at_once

if TYPE_CHECKING:
    from polyjax.sweep import Sweep


class SweepParser(Parser):
    """An argument parser of a script that runs sweeps, with the options that all of them have."""

    def __init__(self, prog: str, description: str) -> None:
        # Whole options alone, since the command that continues a run is this one without some of them.
        super().__init__(prog=prog, description=description, allow_abbrev=False)
        self.add_argument("--seed", type=int, default=0, help="of the initialisations and the samples (default: 0)")
        self.add_argument("--restart", action="store_true", help="discard the results or the unfinished run there")
        timing = "print where the time went: compilation, samples, training, evaluation, polishing, saving"
        self.add_argument("--timing", action="store_true", help=timing)
        looks = "times that capacities are looked at on the way, for films (default: as the sweep has it)"
        self.add_argument("--snapshots", type=int, metavar="K", help=looks)
        what = "workers that train: a Dask scheduler's, or local:N for N processes here (see docs/clusters.md)"
        self.add_argument("--dask", metavar="ADDRESS", help=what)

    def run(self, arguments: argparse.Namespace, sweeps: Mapping[Path, Callable[[], Sweep]]) -> None:
        """Run each sweep into its results file."""
        with at_once(self.prog):
            self.report(lambda: self._run(arguments, sweeps))

    @staticmethod
    def _run(arguments: argparse.Namespace, sweeps: Mapping[Path, Callable[[], Sweep]]) -> None:
        if arguments.restart:
            for path in sweeps:  # all at once, since the command that continues says no more of it
                to_file.discard(path)
        looks = arguments.snapshots
        needed = arguments.dask and not all(path.exists() for path in sweeps)
        with executor(arguments.dask) if needed else nullcontext() as workers:
            for path, sweep in sweeps.items():
                if len(sweeps) > 1:
                    print(path, flush=True)
                asked = sweep() if looks is None else replace(sweep(), snapshots=looks)
                to_file.run_to_file(asked, path, executor=workers, timing=arguments.timing)


def results_path(text: str) -> Path:
    """Return the path of a results file to be written. Raises argparse's error unless it can be, so that no training is
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
