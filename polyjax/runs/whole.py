"""What results hold beside their arrays: how they were made, and how far a run came that was stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyjax.runs.lanes import Lanes, stage
from polyjax.runs.progress import say
from polyjax.runs.store import Memory, names

if TYPE_CHECKING:
    from polyjax.runs.folder.interruption import Interrupted
    from polyjax.runs.stages import Run


def config(run: Run) -> dict[str, Any]:
    """Return the configuration as results hold it, with how they were made."""
    made, *others = run.store.provenances()
    texts = run.sweep.sources
    return {
        **run.sweep.describe(),
        **({"source": texts} if texts else {}),
        "engine": run.engine,
        "shape": [*run.shape],
        "room": run.store.room,
        "provenance": made | ({"other_sessions": others} if others else {}),
    }


def fill(run: Run, lanes: Lanes, stopped: Interrupted) -> dict[str, Any]:
    """Put NaN where networks were not trained, in a run in memory that was stopped, and return what its configuration
    says of that. Raises the interruption again where none was trained."""
    assert isinstance(run.store, Memory)
    if not run.store.fill(names(stage(0), len(lanes.chunks))):
        raise stopped
    say(str(stopped))
    return {"unfinished": str(stopped)}
