"""Where the time of a run went: stage by stage, and in each the parts of the work."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from polyjax.engine.drawing import seconds_a_step

if TYPE_CHECKING:
    from polyjax.engine.timing import Seconds
    from polyjax.runs.stages import Run

PARTS = ("compilation", "training", "polishing", "evaluation")  # see `engine.timing`


class Timing:
    """The seconds of a run, from when this is made."""

    def __init__(self) -> None:
        self._begin = perf_counter()
        self._stages: dict[str, Seconds] = {}

    @contextmanager
    def stage(self, title: str) -> Iterator[Seconds]:
        """Yield what collects the seconds of a stage; its rounds and attempts, such as "refining, round 2", are one."""
        seconds = self._stages.setdefault(title.split(",")[0], defaultdict(float))
        begin = perf_counter()
        try:
            yield seconds
        finally:
            seconds["from begin to end"] += perf_counter() - begin

    @property
    def steps_of_rows(self) -> float:
        """How often the samples of a row were drawn for a step of training."""
        return sum(seconds["steps of rows"] for seconds in self._stages.values())

    def table(self) -> str:
        """Return the seconds as a table, those of workers added up."""
        total = perf_counter() - self._begin
        between = total - sum(seconds["from begin to end"] for seconds in self._stages.values())
        rows = [["seconds", "from begin to end", *PARTS, "other work", "saving"]]
        rows += [[title, *map(_number, _columns(seconds))] for title, seconds in self._stages.items()]
        rows += [["between stages", _number(between)], ["all", _number(total)]]
        first = max(len(row[0]) for row in rows)
        return "\n".join(
            f"{title:{first}}  "
            + "  ".join(f"{word:>{len(head)}}" for word, head in zip(words, rows[0][1:], strict=False))
            for title, *words in rows
        )


def add(seconds: Seconds, more: Mapping[str, float]) -> None:
    """Add the seconds of a piece of work."""
    for name, spent in more.items():
        seconds[name] += spent


def where_time_went(run: Run) -> str:
    """Return a table of the seconds that the stages of a run took, and what drawing samples takes of the training."""
    table = run.timing.table()
    if run.sweep.objective == "expected" or not run.timing.steps_of_rows:
        return table
    rows = run.shape[0]
    each = seconds_a_step(run.training, run.sweep.layout.of_row(np.arange(rows)), rows) / rows
    return f"{table}\nof the training, samples took about {each * run.timing.steps_of_rows:.2f}, measured apart"


def _columns(seconds: Seconds) -> list[float]:
    parts = [seconds[name] for name in PARTS]
    return [seconds["from begin to end"], *parts, seconds["all"] - sum(parts), seconds["saving"]]


def _number(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds >= 0.005 else "-"
