"""Tasks in hand: given out a few more than there are workers, so that memory is bounded however many there are, and
given out again where a worker has died or must be told of the run first."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import BrokenExecutor, Future
from queue import Empty, Queue
from typing import Any, Generic, Protocol, TypeVar

from polyjax.runs.executors import died, in_words
from polyjax.runs.work import Done, Task

TICK_S = 0.5  # between two looks at whether to stop, and at the workers
TRIES = 4  # of a task that dies with its worker, each of which may be several of the executor's own

Piece = TypeVar("Piece")
Answer = Future[Any]


class Takes(Protocol):
    """What takes tasks (see `workers`)."""

    def submit(self, task: Task) -> Answer:
        """Hand out a task; None comes back from a worker that must be told of the run."""

    @property
    def ahead(self) -> int:
        """How many tasks are in hand before the first has come back."""


class Hand(Generic[Piece]):
    """Pieces of work that have been submitted, and not yet been seen to end."""

    def __init__(self, submit: Callable[[Piece], Answer]) -> None:
        self._submit = submit
        self._running: dict[Answer, Piece] = {}
        self._ended: Queue[Answer] = Queue()  # a signal at the wrong moment makes a SimpleQueue wait for ever

    def __len__(self) -> int:
        return len(self._running)

    def give(self, piece: Piece) -> None:
        """Submit a piece."""
        with in_words():
            future = self._submit(piece)
        self._running[future] = piece
        future.add_done_callback(self._ended.put)

    def take(self) -> tuple[Piece, Answer] | None:
        """Return the next piece that has ended, and its future; None where none has for a while."""
        try:
            future = self._ended.get(timeout=TICK_S)
        except Empty:
            return None
        return self._running.pop(future), future

    def cancel(self) -> None:
        """Take back what can be taken back; it ends at once."""
        for future in [*self._running]:
            future.cancel()


def answers(
    takes: Takes, tasks: Iterable[Task], stopping: Callable[[], bool], look: Callable[[int], None]
) -> Generator[tuple[int, Done]]:
    """Yield the number of each task and what came back from it, as they come; where `stopping`, of those that cannot be
    taken back. `look` is told every now and then how many tasks are in hand.

    Raises what a task raised, and WorkersLost where the executor works no more.
    """
    hand, rest = Hand(takes.submit), iter(tasks)
    try:
        while True:
            while len(hand) < takes.ahead and not stopping() and (task := next(rest, None)) is not None:
                hand.give(task)
            if stopping():
                hand.cancel()
            if not hand:
                return
            look(len(hand))
            if (ended := hand.take()) is not None:
                task, future = ended
                done = _answer(task, future, stopping())
                if isinstance(done, Done):
                    yield task.number, done
                elif done is not None:
                    hand.give(done)
    finally:
        hand.cancel()


def _answer(task: Task, future: Answer, stopping: bool) -> Done | Task | None:
    """Return what came back from a task, or the task as it is to be handed out again; None where it was taken back."""
    if stopping and (future.cancelled() or isinstance(future.exception(), BrokenExecutor)):
        return None  # a terminal's Ctrl-C reaches the processes of a pool, which end by it
    if task.tries < TRIES and not future.cancelled() and died(future.exception()):
        again = task._replace(tries=task.tries + 1)
    else:
        with in_words():
            done: Done | None = future.result()
        if done is not None:
            return done
        again = task._replace(told=True)
    return None if stopping else again
