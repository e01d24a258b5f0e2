"""What does the work of a run: threads of this process, or the workers of an executor, with what their processes are
asked to do."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from itertools import count
from math import inf, prod
from pickle import loads
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from polyjax.engine import choice, devices
from polyjax.runs import executors
from polyjax.runs.executors import Cluster
from polyjax.runs.handing import Answer, Hand
from polyjax.runs.progress import say
from polyjax.runs.worker import Worker

if TYPE_CHECKING:
    from polyjax.runs.folder.interruption import Requests
    from polyjax.runs.work import Done, Lanes, Setting, Shape, Task, Work
    from polyjax.sweep import Sweep

MOST_KNOWN = 4  # runs; a process forgets those that it was told of before
TELL_S = 5.0  # after which waiting for the first worker is told


class Suited(NamedTuple):
    """What suits a process and its devices."""

    engine: str
    chunk: int  # lanes trained at once
    shares: int  # of which the number of chunks is a multiple


def suited(sweep: Sweep) -> Suited:
    """Return how this process would run a sweep."""
    devices.keep_programs()
    engine = choice.with_engine(sweep.training).engine
    n_lanes = prod(sweep.shape)
    return Suited(engine, devices.default_chunk(n_lanes, engine), devices.shares(n_lanes, engine))


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


class Elsewhere:
    """Workers of an executor."""

    def __init__(self, executor: Executor, requests: Requests) -> None:
        self._executor, self._requests = executor, requests
        self._cluster = Cluster(executor)
        self._numbers = count()

    def close(self) -> None:
        """Hear no more of the workers."""
        self._cluster.close()

    def suited(self, sweep: Sweep) -> Suited:
        """Return how the first worker that is there would run a sweep. Raises Interrupted where the user is asked to
        wait for it and would not."""
        hand = Hand[bytes](lambda sweep: self._executor.submit(ask, sweep))
        hand.give(executors.pickled(sweep))
        tell_at = monotonic() + TELL_S
        while (ended := hand.take()) is None:
            if self._requests.stopping():
                hand.cancel()
                raise self._requests.stopped("no worker has begun")
            if monotonic() > tell_at:
                tell_at = inf
                say("waiting for a worker")
        with executors.in_words():
            found, warned = ended[1].result()
        for message in warned:
            warnings.warn(message, stacklevel=2)
        return found

    def begin(self, setting: Setting) -> None:
        """Begin a run, of which a worker is told when it first asks."""
        self._setting = executors.pickled(setting)
        self._name = sha256(self._setting).hexdigest()

    def compile(self, works: Sequence[tuple[Work, Shape]]) -> None:
        """Leave it to the workers, which compile what their tasks need."""

    def submit(self, task: Task) -> Answer:
        """Hand out a task; None comes back from a worker that must be told of the run."""
        setting = self._setting if task.told else None
        arguments = setting, task.work, task.lanes, task.room, next(self._numbers)
        return self._executor.submit(compute, self._name, *arguments)

    @property
    def ahead(self) -> int:
        """How many tasks are in hand at a time: a few wait at the workers, so that these need not."""
        n = self._cluster.size
        return n + n // 8 + 2

    def words(self, in_hand: int) -> str:
        """Return how many workers there are, and what befell them."""
        n, retried = self._cluster.size, self._cluster.retried
        some = f"{n} worker{'s' if n != 1 else ''}, {in_hand} in hand"
        return f"{some}, {retried} retried" if retried else some


Workers = Threads | Elsewhere


@contextmanager
def workers_of(executor: Executor | None, requests: Requests) -> Iterator[Workers]:
    """Return what does the work, by threads of this process unless there is an executor; closed in the end."""
    if executor is None:
        with ThreadPoolExecutor(devices.workers()) as threads:
            yield Threads(threads)
    elif isinstance(executor, ThreadPoolExecutor):
        yield Threads(executor)
    else:
        workers = Elsewhere(executor, requests)
        try:
            yield workers
        finally:
            workers.close()


# --- what other processes are asked to do

_known: dict[str, Worker] = {}  # of runs by name, in the order in which this process was told
_telling = Lock()


def ask(sweep: bytes) -> tuple[Suited, list[str]]:
    """Return what suits this process for a pickled sweep, and what it warns of, which nobody would see here."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = suited(loads(sweep))
    return found, [str(warning.message) for warning in caught if warning.category is UserWarning]


def compute(run: str, setting: bytes | None, work: Work, lanes: Lanes, room: int | None, _: int) -> Done | None:
    """Do a task of the run of this name. Return None where this process does not know the run and is not told of it
    either, by its pickled setting. The last argument tells tasks apart for executors that know equal ones by name."""
    worker = _worker(run, setting)
    return worker.do(work, lanes, room) if worker else None


def _worker(run: str, setting: bytes | None) -> Worker | None:
    with _telling:
        if run not in _known and setting is not None:
            _known[run] = Worker(loads(setting))
            for old in [*_known][:-MOST_KNOWN]:
                del _known[old]
        return _known.get(run)
