"""What a run hands to its workers: what they are told once, and the tasks, which name functions and hold arrays.

Axis letters: G rows of a chunk, L lanes in each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from polyjax.engine import keys
from polyjax.engine.training import LARGEST_LANES, Training
from polyjax.runs.grid import Grid
from polyjax.toy.model import n_weights

if TYPE_CHECKING:
    from polyjax.engine.devices import Program
    from polyjax.engine.keys import Keys
    from polyjax.runs.store import Arrays
    from polyjax.sweep import Sweep

Shape = tuple[int, int]  # [G, L]


@dataclass
class Setting:
    """What all tasks of a run have in common."""

    sweep: Sweep
    engine: str  # that trains, the same everywhere

    @cached_property
    def training(self) -> Training:
        """How every network is trained, by this engine."""
        return replace(self.sweep.training, engine=self.engine)

    @cached_property
    def grid(self) -> Grid:
        """The lanes of the sweep."""
        return Grid(*self.sweep.shape)

    @cached_property
    def keys(self) -> Keys:
        """The random keys of the sweep."""
        return keys.keys(self.sweep.seed)

    @property
    def is_large(self) -> bool:
        """Whether a model alone keeps a core busy, whichever engine trains it."""
        return n_weights(self.training.one_model) > LARGEST_LANES


class Lanes(Protocol):
    """Lanes of a chunk, as a task holds them."""

    @property
    def shape(self) -> Shape:
        """[G, L]"""

    def part(self, rows: slice, lanes: slice) -> Lanes:
        """Return some rows of the chunk, and some lanes of each."""


class Work(NamedTuple):
    """What a stage does with its chunks, by functions of modules, since these travel by name."""

    training: Callable[[Setting, int], Training]  # by which lanes are trained or judged, in the attempt of this number
    do: Callable[[Setting, Training, Any, int], Arrays]  # with lanes [G, L]
    programs: Callable[[Setting, Training, Shape], Sequence[Program]]  # that it runs on [G, L] lanes
    attempt: int = 0


class Task(NamedTuple):
    """A chunk's part of a stage, as it is handed out."""

    number: int  # of the chunk in its stage
    work: Work
    lanes: Lanes
    room: int | None  # lanes that fit the device at once, as far as the run knows
    told: bool = False  # whether the worker is told of the run with it
    tries: int = 1


class Done(NamedTuple):
    """What comes back from a task."""

    arrays: Arrays
    made: dict[str, Any]  # how, see `provenance`
    room: int | None  # lanes that fit the device at once, where more did not
    without_room: str  # how many did not, and what the device said
    seconds: Mapping[str, float]  # that its parts took (see `engine.timing`)
