"""What it costs to hand chunks to the workers of an executor.

    python -m benchmarks.executors [--quick]

First, chunks of 0.2 s on four processes and on four Dask workers here, in turn with threads of this process. Then a
cluster of 500 workers that only sleep, behind threads and behind Dask: how busy this process keeps them, and how many
chunks it could take if they needed no time. About five minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import resource
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Any, NamedTuple

import numpy as np

import polyjax
from benchmarks.machine import machine, words
from polyjax.cli import dask
from polyjax.runs import attempts
from polyjax.runs.folder.directory import Directory
from polyjax.runs.folder.interruption import Requests
from polyjax.runs.grid import rectangles
from polyjax.runs.lanes import Lanes
from polyjax.runs.stages import Run
from polyjax.runs.work import Done
from polyjax.runs.workers import Elsewhere

LANES = 800  # in a chunk
WORKERS, CHUNK_S = 500, 2.0  # of the cluster that sleeps


def sweep(chunks: int, steps: int) -> polyjax.Sweep:
    """Return a sweep of so many chunks of LANES lanes, half of figure 4's restarts."""
    return polyjax.Sweep(
        polyjax.Redwood(6, 3),
        density=np.geomspace(0.01, 1, chunks),
        importance=np.geomspace(0.1, 10, LANES // 4),
        restarts=4,
        steps=steps,
        retries=0,
        chunk=LANES,
    )


# --- overhead on chunks that train


def seconds(of: polyjax.Sweep, executor: Executor | None) -> float:
    """Return how long a run into a file takes."""
    with TemporaryDirectory() as folder:
        start = perf_counter()
        polyjax.run_to_file(of, Path(folder) / "r.npz", progress=False, executor=executor)
        return perf_counter() - start


def overhead(chunks: int, steps: int, workers: int, rounds: int) -> None:
    """Print the throughput of worker processes, of the standard library's and of Dask's, beside that of threads here,
    all in turn."""
    of = sweep(chunks, steps)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool, dask.executor(f"local:{workers}") as cluster:
        each = {"threads here": None, f"{workers} processes": pool, f"{workers} Dask workers": cluster}
        for executor in each.values():  # they compile
            seconds(replace(of, density=of.density[: 4 * workers]), executor)  # type: ignore[index]
        times: dict[str, list[float]] = {name: [] for name in each}
        for _ in range(rounds):
            for name, executor in each.items():
                times[name].append(seconds(of, executor))
            print(f"{chunks} chunks: " + ", ".join(f"{name} {t[-1]:.2f} s" for name, t in times.items()), flush=True)
    here, *others = (median(t) for t in times.values())
    print(f"chunks of {here * len(os.sched_getaffinity(0)) / chunks:.2f} s on a core")
    for name, there in zip([*times][1:], others, strict=True):
        print(f"  {name} reach {here / there:.0%} of the throughput of threads here")


# --- a cluster that sleeps


def asleep(work_s: float, arrays: dict[str, tuple[int, ...]], *_: Any) -> Done:
    """Return what training a chunk would, after as long as it would take."""
    sleep(work_s)
    return Done({name: np.ones(shape, np.float32) for name, shape in arrays.items()}, {"device": "none"}, None, "", {})


class Asleep(Executor):
    """The workers of another executor, which sleep in place of training."""

    def __init__(self, inner: Executor, size: int, work_s: float, arrays: dict[str, tuple[int, ...]]) -> None:
        self._inner, self._max_workers, self._answer = inner, size, (work_s, arrays)

    def submit(self, f: Any, /, *arguments: Any, **_: Any) -> Future[Any]:
        return self._inner.submit(asleep, *self._answer, *arguments)


class Measured(NamedTuple):
    """Figures of a stage."""

    wall_s: float
    own_s: float  # of this process, on the CPU
    chunks: int


def stage(chunks: int, size: int, work_s: float, inner: Executor) -> Measured:
    """Run the first stage of a sweep, whose chunks are saved in a folder, on workers that sleep."""
    of = sweep(chunks, steps=2)
    arrays = {"capacity": (1, LANES, 6), "W": (1, LANES, 3, 6), "b": (1, LANES)}
    arrays |= dict.fromkeys(("rank_loss", "loss", "loss_se", "settled"), (1, LANES))
    workers = Elsewhere(Asleep(inner, size, work_s, arrays), Requests())
    with TemporaryDirectory() as folder, Directory(Path(folder) / "r.run", of.describe()) as store:
        store.remember(shape=(1, LANES))
        run = Run(of, "lanes", store, (1, LANES), workers, Requests(), progress=False)
        lanes = Lanes(store, run.grid, rectangles(run.grid, run.shape))
        start, own = perf_counter(), cpu_s()
        attempts.first(run, lanes)
        return Measured(perf_counter() - start, cpu_s() - own, chunks)


def cpu_s() -> float:
    """Return the seconds that this process has been on the CPU."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def simulated(size: int, work_s: float, rounds: int) -> None:
    """Print how busy a cluster is kept that sleeps, and what this process needs for a chunk."""
    for name, inner in inners(size):
        with inner as executor:
            found = stage(size * rounds, size, work_s, executor)
            print(
                f"{size} workers behind {name}, chunks of {work_s:g} s: {busy(found, size, work_s):.0%} busy, "
                f"{1e3 * found.own_s / found.chunks:.1f} ms on the CPU here a chunk",
                flush=True,
            )
            most = stage(size * rounds, size, 0, executor)
            each = most.wall_s / most.chunks
            print(
                f"  with workers that need no time {1e3 * each:.1f} ms a chunk, "
                f"so that one process feeds {work_s / each:.0f} GPUs with chunks of {work_s:g} s",
                flush=True,
            )


def busy(found: Measured, size: int, work_s: float) -> float:
    """Return the fraction of time in which the workers of a cluster were at work."""
    return found.chunks * work_s / (size * found.wall_s)


def inners(size: int) -> Iterator[tuple[str, Any]]:
    """Yield executors of so many threads: of this process, and of two Dask workers."""
    yield "threads", ThreadPoolExecutor(size)
    yield "Dask", dask_threads(size)


@contextmanager
def dask_threads(size: int) -> Iterator[Executor]:
    from distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": size // 2}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        yield client.get_executor(pure=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.executors", description="Measures executors.")
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it runs")
    quick = parser.parse_args().quick
    print(words(machine()), flush=True)
    if quick:
        overhead(chunks=4, steps=50, workers=2, rounds=1)
        simulated(size=10, work_s=0.1, rounds=2)
    else:
        overhead(chunks=200, steps=350, workers=4, rounds=5)
        simulated(WORKERS, CHUNK_S, rounds=6)


if __name__ == "__main__":
    main()
