"""Threads of this process, which do the work of a run unless an executor does (see `elsewhere`)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from polyjax.runs.handing import Answer
from polyjax.runs.work import Setting, Shape, Task, Work
from polyjax.runs.worker import Suited, Worker, suited
from polyjax.sweep import Sweep


class Threads:
    """Threads of this process, which share its devices."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor

    def suited(self, sweep: Sweep) -> Suited:
        """Return how this process runs a sweep."""
        return suited(sweep)

    def begin(self, setting: Setting) -> None:
        """Begin a run."""
        self._worker = Worker(setting)

    def compile(self, works: Sequence[tuple[Work, Shape]]) -> None:
        """Compile what works run on [G, L] lanes, all at the same time."""
        self._worker.compile(works)

    def submit(self, task: Task) -> Answer:
        """Hand out a task."""
        return self._executor.submit(self._worker.do, task.work, task.lanes, task.room)

    @property
    def ahead(self) -> int:
        """How many tasks are in hand at a time."""
        return 2 * self._executor._max_workers

    def words(self, in_hand: int) -> str:
        """Return nothing, as there is nothing to tell of threads."""
        return ""
