"""The command line of scripts that run sweeps: the options that all of them have, and results files."""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from polyjax.checks import require
from polyjax.cli.parser import Parser
from polyjax.runs import hosts
from polyjax.runs import run as runs
from polyjax.runs.folder.interruption import at_once
from polyjax.sweep import Sweep


class SweepParser(Parser):
    """An argument parser of a script that runs sweeps, with the options that all of them have."""

    def __init__(self, prog: str, description: str) -> None:
        # Whole options alone, since the command that continues a run is this one without some of them.
        super().__init__(prog=prog, description=description, allow_abbrev=False)
        self.add_argument("--seed", type=int, default=0, help="of the initialisations and the samples (default: 0)")
        self.add_argument("--restart", action="store_true", help="discard the results or the unfinished run there")
        group = self.add_argument_group("several processes, which share the work (see docs/clusters.md)")
        group.add_argument("--coordinator", metavar="ADDRESS:PORT", help="where process 0 is")
        group.add_argument("--num-processes", type=int, metavar="N", help="how many there are")
        group.add_argument("--process-id", type=int, metavar="I", help="which this one is, from 0")
        group.add_argument("--cluster", action="store_true", help="let JAX find the others: TPU pods, Kubernetes")

    def run(self, arguments: argparse.Namespace, sweeps: Mapping[Path, Callable[[], Sweep]]) -> None:
        """Run each sweep into its results file. A sweep is made when the processes have met, since that uses JAX."""
        with at_once(self.prog):
            self.report(lambda: self._run(arguments, sweeps))

    @staticmethod
    def _run(arguments: argparse.Namespace, sweeps: Mapping[Path, Callable[[], Sweep]]) -> None:
        asked = arguments.coordinator, arguments.num_processes, arguments.process_id, arguments.cluster
        share = hosts.Share()
        if arguments.restart or not all(path.exists() for path in sweeps):
            share = hosts.join(hosts.Cluster(*asked), [runs.lock(path) for path in sweeps])
        if arguments.restart:
            require(share.processes == 1, "--restart", "be left out where several processes share a run", True)
            for path in sweeps:  # all at once, since the command that continues says no more of it
                runs.discard(path)
        for path, sweep in sweeps.items():
            if len(sweeps) > 1 and share.process == 0:
                print(path, flush=True)
            runs.run_to_file(sweep(), path, share=share)


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
