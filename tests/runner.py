"""A run in memory, of which tests take a part."""

from concurrent.futures import ThreadPoolExecutor

from polyjax.engine import choice
from polyjax.runs.folder.interruption import Requests
from polyjax.runs.stages import Run
from polyjax.runs.store import Memory
from polyjax.runs.workers import Threads


def in_memory(sweep, shape):
    """A run of the sweep in chunks of the shape [G, L]."""
    workers = Threads(ThreadPoolExecutor(1))
    return Run(sweep, choice.with_engine(sweep.training).engine, Memory(), shape, workers, Requests(), progress=False)
