"""What executors have no common words for: how many workers they have, whether these die, and whether they can work."""

import pickle
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from contextlib import contextmanager
from time import monotonic
from typing import Any

from polyjax.checks import require

LOOK_S = 2.0  # between two looks at the workers of a cluster, which come and go
UNKNOWN = 64  # workers, of an executor that does not say how many it has


class WorkersLost(OSError):
    """Error of an executor that works no longer."""


class Cluster:
    """The workers of an executor."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._client: Any = getattr(executor, "_client", None)  # Dask's
        self._size, self._looked = 0, -LOOK_S
        self.retried = 0  # tasks whose worker died, which Dask gives to others
        if self._client is not None:
            self._client.subscribe_topic("all", self._heard)

    def close(self) -> None:
        """Hear no more of the workers."""
        if self._client is not None and self._client.status == "running":
            self._client.unsubscribe_topic("all")

    @property
    def size(self) -> int:
        """How many tasks the workers do at a time."""
        if monotonic() - self._looked >= LOOK_S:
            self._size, self._looked = self._look(), monotonic()
        return self._size

    def _look(self) -> int:
        if self._client is None:
            several = (getattr(self._executor, name, None) for name in ("num_workers", "_max_workers"))
            return next((n for n in several if isinstance(n, int)), UNKNOWN)
        if self._client.status != "running":
            return self._size
        try:
            return sum(self._client.nthreads().values())
        except OSError:  # while the connection is lost
            return self._size

    def _heard(self, event: tuple[float, dict[str, Any]]) -> None:
        _, message = event
        if message.get("action") == "remove-worker":
            self.retried += sum(key in self._client.futures for key in message["processing-tasks"])


def check(executor: Any) -> None:
    """Raise ValueError unless this is an executor whose workers can use JAX."""
    must = "be a concurrent.futures.Executor, such as a Dask client's get_executor()"
    require(isinstance(executor, Executor), "executor", must, executor)
    context = getattr(executor, "_mp_context", None)
    method = context.get_start_method() if context is not None else ""
    must = (
        'start its processes by "spawn" (mp_context=multiprocessing.get_context("spawn")), as forked ones hang in JAX'
    )
    require(method != "fork", "executor", must, method)


def pickled(value: Any) -> bytes:
    """Return a pickle, by cloudpickle where it is installed, which takes functions that a program defines. Raises
    ValueError where it cannot be made."""
    try:
        import cloudpickle as pickles
    except ImportError:
        pickles = pickle
    try:
        return bytes(pickles.dumps(value))
    except Exception as error:  # of any kind that the user's objects raise
        more = "" if pickles is not pickle else " (with cloudpickle installed, functions of a program's own can)"
        raise ValueError(f"sweep must be such that workers can be told of it{more}, but {error}") from error


def died(error: BaseException | None) -> bool:
    """Say whether a task died with its worker, as often as the executor tried it."""
    return type(error).__name__ == "KilledWorker"  # Dask's


@contextmanager
def in_words() -> Iterator[None]:
    """Turn errors of the executor itself, such as a lost scheduler, into `WorkersLost`."""
    try:
        yield
    except (BrokenExecutor, CancelledError) as error:
        why = str(error) or "the connection to their scheduler broke"
        raise WorkersLost(f"the workers are lost: {why}") from error
    except Exception as error:
        if died(error):
            raise WorkersLost(f"whatever worker has this chunk dies: {error}") from error
        raise
