"""A run's stages: chunks of lanes, each of which leaves an outcome in the store. What the store holds already is not
computed again.

Axis letters: G rows of a chunk, L lanes in each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

from polyjax.engine import timing
from polyjax.runs.features import FeaturesOfCells, features_of_cells
from polyjax.runs.handing import answers
from polyjax.runs.progress import Progress, Size, say
from polyjax.runs.provenance import command
from polyjax.runs.store import Store, names
from polyjax.runs.timing import Timing, add
from polyjax.runs.work import Done, Lanes, Setting, Shape, Task, Work

if TYPE_CHECKING:
    from polyjax.runs.folder.interruption import Requests
    from polyjax.runs.grid import Chunk
    from polyjax.runs.workers import Workers


@dataclass
class Run(Setting):
    """A sweep being trained: what all stages need."""

    store: Store
    shape: Shape  # [G, L] of a chunk of the grid, on which all other chunks are modelled
    workers: Workers
    requests: Requests
    progress: bool
    timing: Timing = field(default_factory=Timing)

    def __post_init__(self) -> None:
        self.workers.begin(Setting(self.sweep, self.engine))

    @cached_property
    def features(self) -> FeaturesOfCells:
        """The features of all cells."""
        return features_of_cells(self.sweep.layout, self.training)

    def complete(
        self,
        stage: str,
        title: str,
        chunks: Sequence[Chunk],
        work: Work,
        lanes: Callable[[Chunk], Lanes],
        size: Size,
    ) -> None:
        """Have the work of every chunk done that the store does not hold, on lanes as `lanes` makes them of the chunk
        when it is handed out. All chunks have one shape."""
        all_names = names(stage, len(chunks))
        missing = [i for i, name in enumerate(all_names) if not self.store.kept(name)]
        if missing:
            self.compile(title, [(work, chunks[0].shape)])
        saved = len(chunks) - len(missing)
        tasks = (Task(i, work, lanes(chunks[i]), self.store.room) for i in missing)
        shown = Progress(title, size, self.progress)
        with shown as bar, self.timing.stage(title) as seconds:
            bar.done(size.units * saved // len(chunks), 0)
            seconds["steps of rows"] += size.steps * len(missing) * chunks[0].shape[0]
            look = lambda in_hand: bar.tell(self.workers.words(in_hand))  # noqa: E731
            with closing(answers(self.workers, tasks, self.requests.stopping, look)) as found:
                for n, (i, done) in enumerate(found, 1):
                    self._learn(done)
                    add(seconds, done.seconds)
                    with timing.measured() as saving:
                        self.store.keep(all_names[i], done.arrays, {"command": command(), **done.made})
                    seconds["saving"] += saving["all"]
                    saved += 1
                    bar.done(size.units * saved // len(chunks), n * prod(chunks[0].shape))
        if self.requests.stopping():
            raise self.requests.stopped(f"{title}: {saved} of {len(chunks)} chunks are saved")

    def compile(self, title: str, works: Sequence[tuple[Work, Shape]]) -> None:
        """Have compiled what works of a stage run on [G, L] lanes, all at the same time."""
        with self.timing.stage(title) as seconds, timing.measured() as compiling:
            self.workers.compile(works)
        add(seconds, compiling)

    def _learn(self, done: Done) -> None:
        """Remember how many lanes fit, where a worker found that fewer do."""
        if done.room is not None and (self.store.room is None or done.room < self.store.room):
            self.store.remember(room=done.room)
            say(f"out of memory with {done.without_room}: going on with {done.room:,}")
