"""Runs of sweep.py as a user would start them, each in a folder of its own, and what is expected of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STAGES = ("train", "retry1", "look1", "refine1")
OUT = Path("results", "grid.npz")
LIMIT_S = 120  # no run takes longer, however busy the machine is
MEANWHILE = (
    "dashboard of the workers: ",
    "waiting for a worker",
    "stopping when what is in hand is saved; ",
)  # what is said before the end
THEN_CORRECT = "one line, then correct"
OUTCOMES: dict[str, Counter[str]] = {}  # of each fault, how often it ended so


class Expected(NamedTuple):
    """Of a run that nothing disturbs."""

    digest: str
    seconds: float


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    text: str  # of stderr

    @property
    def lines(self) -> list[str]:
        """Without the progress bars."""
        return [line for line in self.text.replace("\r", "\n").split("\n") if line.strip() and "%|" not in line]


class Place:
    """A folder in which a user runs the sweep."""

    def __init__(self, folder: Path, code: Path) -> None:
        self.folder, self.code = folder, code
        self.file = folder / OUT
        self.results, self.run = self.file.parent, self.file.with_suffix(".run")
        self.manifest, self.trap = self.run / "manifest.json", folder / "trap"
        self.results.mkdir(parents=True, exist_ok=True)

    def start(
        self, *words: object, module: str = "sweep", fault: str = "", within: Sequence[str] = (), **options
    ) -> subprocess.Popen:
        """A command of the user's, `fault` as inside/sitecustomize.py takes it, `within` another command."""
        path = f"{self.code}{os.pathsep}{HERE / 'inside'}" if fault else str(self.code)
        env = os.environ | {"PYTHONPATH": path, "FAULT": fault, "JAX_PLATFORMS": "cpu"}
        command = [*within, sys.executable, "-m", module, *map(str, words)]
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=env, **streams, **options)

    def start_sweep(self, *words: object, **options) -> subprocess.Popen:
        return self.start("--out", OUT, *words, **options)

    def sweep(self, *words: object, **options) -> Ended:
        return end(self.start_sweep(*words, **options))

    def chunks(self, stage: str = "") -> list[Path]:
        return sorted(self.run.glob(f"{stage}*-*.npz"))

    def copied(self, place: Place) -> Place:
        """Puts what another place has into this one."""
        shutil.copytree(place.folder, self.folder, dirs_exist_ok=True)
        return self


def wait_until(there: Callable[[], object], process: subprocess.Popen) -> None:
    """Waits for a moment in the life of a process, at most to its end."""
    limit = monotonic() + LIMIT_S
    while not there() and process.poll() is None and monotonic() < limit:
        sleep(0.002)


def end(process: subprocess.Popen) -> Ended:
    """Waits for the end of a process."""
    with process:
        try:
            text = process.communicate(timeout=LIMIT_S)[1]
        except BaseException:
            process.kill()
            raise
    return Ended(process.returncode, text)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def numbers(file: Path) -> str:
    """The checksum of all arrays, without the configuration, which tells of the sessions that made them."""
    found = hashlib.sha256()
    with np.load(file) as arrays:
        for name in sorted({*arrays.files} - {"config"}):
            found.update(name.encode() + arrays[name].tobytes())
    return found.hexdigest()


class Judge:
    """What a fault may end in; counts it for the table."""

    def __init__(self, fault: str, expected: Expected) -> None:
        self.expected, self._outcomes = expected, OUTCOMES.setdefault(fault, Counter())

    def count(self, outcome: str, times: int = 1) -> None:
        self._outcomes[outcome] += times

    def correct(self, place: Place, ended: Ended, outcome: str = "correct", times: int = 1) -> None:
        """The file of an undisturbed run, and nothing beside it."""
        assert ended.code == 0, ended.text
        assert "Traceback" not in ended.text, ended.text
        assert digest(place.file) == self.expected.digest
        assert [path.name for path in place.results.iterdir()] == [OUT.name]
        assert not place.trap.exists()
        self.count(outcome, times)

    def one_line(self, ended: Ended, *told: object, code: int = 2) -> None:
        """An end in one line, which says this. It is counted when the run was continued."""
        assert ended.code == code, ended.text
        line = ended.lines[-1]
        assert [said for said in ended.lines if not said.startswith(MEANWHILE)] == [line], ended.text
        assert line.startswith(("python -m ", "polyjax: ")), ended.text
        for words in map(str, told):
            assert words in line


def two_at_a_time(do: Callable, cases: Iterable[object]) -> None:
    """`do(case)` for each case; a start hardly uses a second core."""

    def one(case: object) -> None:
        try:
            do(case)
        except BaseException as error:
            error.add_note(f"case: {case!r}")
            raise

    with ThreadPoolExecutor(2) as executor:
        list(executor.map(one, cases))
