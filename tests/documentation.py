"""The pages of README.md and docs/, and how tests run their code: as it is printed, but quickly.

Sweeps of more than some hundred cells are cut to their corners before they train, and none trains for long, so that all
is run and nothing is learnt.
"""

import sys
from dataclasses import replace
from functools import cache
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import pytest
from dask.distributed import LocalCluster
from matplotlib import pyplot
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser

import polyjax

ROOT = Path(__file__).parents[1]
PAGES = {
    path.name: path for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
}
MOST_CELLS, STEPS = 600, 6
SYBIL = Sybil(parsers=[PythonCodeBlockParser()])


def blocks(name):
    return list(SYBIL.parse(PAGES[name]).examples())


def small(sweep):
    """The sweep as the tests train it."""
    axes, steps = sweep.coordinates, {} if callable(sweep.steps) else {"steps": STEPS}
    if prod(map(len, axes.values())) > MOST_CELLS:
        axes = {name: (values[0], values[-1]) for name, values in axes.items()}
    by_itself = {name: axes[name] for name in ("density", "importance") if getattr(sweep, name) is not None}
    others = {name: values for name, values in axes.items() if name not in by_itself} or None
    few = {"restarts": min(sweep.restarts, 2), "retries": 0, "refine": min(sweep.refine, 1)}
    return replace(sweep, **by_itself, axes=others, **few, **steps)


class Cluster(LocalCluster):
    """Stands in for a cluster of dask-jobqueue, whose workers are jobs."""

    def __init__(self, **options):
        super().__init__(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None)

    def scale(self, jobs):
        assert jobs > 0


@cache
def sweeps_of(name):
    """Run all blocks of a page, in a folder of its own. Return the sweeps that each one makes but does not run, by the
    number of its line."""
    made: dict[int, list[polyjax.Sweep]] = {}
    examples = blocks(name)

    def of_page(*arguments, **options):
        sweep = polyjax_sweep(*arguments, **options)
        made[line].append(sweep)
        return sweep

    def trained(run):
        def run_small(sweep, *arguments, **options):
            made[line] = [each for each in made[line] if each is not sweep]
            return run(small(sweep), *arguments, **options | {"progress": False})

        return run_small

    polyjax_sweep, job_queues = polyjax.Sweep, ModuleType("dask_jobqueue")
    job_queues.SLURMCluster = Cluster
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.chdir(folder)
        patch.setattr(polyjax, "Sweep", of_page)
        patch.setattr(polyjax, "run", trained(polyjax.run))
        patch.setattr(polyjax, "run_to_file", trained(polyjax.run_to_file))
        patch.setitem(sys.modules, "dask_jobqueue", job_queues)
        for example in examples:
            line = example.line
            made[line] = []
            example.namespace["__name__"] = "__main__"
            example.evaluate()
            pyplot.close("all")
    return made
