"""How long training takes until the phase diagram is right: wall time against mean |C - C_theory| on figure 4's ranges.

    python -m benchmarks.accuracy [--peers] [--quick] [--out results/accuracy.json]

Every setting of polyjax trains a 32 x 32 grid with three seeds, after a run that compiles it; medians count. `--peers`
trains a 16 x 16 grid in the ways of `peers` as well, which takes half an hour or so: with more and more steps,
until it is as accurate. Times are compared per cell.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import jax
import numpy as np

import polyjax
from benchmarks.machine import machine, words
from benchmarks.peers import PEERS
from polyjax.draw.distances import distance
from polyjax.theory import grid as cells
from polyjax.theory.grid import closed_form
from polyjax.toy.models import Params

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when PyTorch is imported; PyTorch at its best, see `plan`
GOALS = (0.005, 0.0035)  # of mean |C - C_theory|
SEEDS = (0, 1, 2)
SIDE, PEER_SIDE = 32, 16  # cells
PEER_STEPS = (1000, 2000, 4000)
Row = dict[str, Any]
FIELDS = ("sampler", "batch", "learning_rate", "steps", "restarts")
FORMATS = {"who": "<10", "sampler": "<12", "batch": ">7", "learning_rate": ">6", "steps": ">7", "restarts": ">9"}
_capacities = jax.jit(polyjax.capacities)
_exact_loss = jax.jit(polyjax.theory.expected_loss)


def grid(side: int, **fields: Any) -> polyjax.Sweep:
    """Figure 4's ranges with `side` x `side` cells."""
    model = polyjax.Redwood(n_features=6, n_neurons=3, activation="square")
    return polyjax.Sweep(
        model, density=np.geomspace(0.01, 1, side), importance=np.geomspace(0.1, 10, side), retries=0, **fields
    )


def _settings() -> Iterator[dict[str, Any]]:
    """What is compared: steps, rates and batches of the default sampler, then restarts, then the other samplers."""
    base = {"sampler": "enumerated", "batch": 64, "learning_rate": 0.02, "steps": 2000, "restarts": 4}
    for batch in (64, 128):
        for rate in (0.02, 0.05, 0.1):
            for steps in (250, 500, 1000, 2000):
                yield base | {"batch": batch, "learning_rate": rate, "steps": steps}
    for restarts in (1, 2, 8):
        for steps in (500, 1000, 2000):
            yield base | {"restarts": restarts, "steps": steps}
    for sampler in ("stratified", "iid"):
        for batch in (64, 256):
            for steps in (1000, 4000):
                yield base | {"sampler": sampler, "batch": batch, "steps": steps}


SETTINGS = tuple(_settings())


def error(sweep: polyjax.Sweep, capacity: np.ndarray) -> float:
    """Mean |C - C_theory| of feature 0, as figure 4 reports it, of capacities [P, V, N]."""
    problem = closed_form(sweep.describe())
    axes = {name: np.asarray(values) for name, values in sweep.coordinates.items()}
    expected, ties = (f(problem, axes)[..., 0] for f in (cells.capacity, cells.ties))
    return float(distance(np.asarray(capacity)[..., 0], expected, ties).mean)


def best(sweep: polyjax.Sweep, params: Params) -> np.ndarray:
    """The capacities [P, V, N] of each cell's restart of least exact loss."""
    problem = closed_form(sweep.describe())
    density, importance = map(np.asarray, sweep.coordinates.values())
    v = problem.importances(importance)[:, None]
    k = np.asarray(problem.kurtosis(density))[:, None, None]
    chosen = np.asarray(_exact_loss(params.W, v, k, params.b)).argmin(-1)
    return np.take_along_axis(np.asarray(_capacities(params.W)), chosen[..., None, None], 2)[:, :, 0]


def of_polyjax(sweep: polyjax.Sweep, seeds: Sequence[int] = SEEDS) -> Row:
    """Seconds of compiling and of a run, and the error, medians over seeds."""
    compiled, _ = _timed(sweep)
    times, found = zip(*(_timed(replace(sweep, seed=seed)) for seed in seeds), strict=True)
    errors = [error(sweep, results.select("best").capacity) for results in found]
    return _row("polyjax", sweep, max(0.0, compiled - median(times)), median(times), median(errors))


def of_peer(who: str, sweep: polyjax.Sweep) -> Row:
    """The same from one run, without a first one: there is only the first seed, since a run takes minutes."""
    compiled, train = PEERS[who].compiled(sweep)
    start = perf_counter()
    params = train()
    return _row(who, sweep, compiled, perf_counter() - start, error(sweep, best(sweep, params)))


def _timed(sweep: polyjax.Sweep) -> tuple[float, polyjax.Results]:
    start = perf_counter()
    results = polyjax.run(sweep, progress=False)
    return perf_counter() - start, results


def _row(who: str, sweep: polyjax.Sweep, compiled: float, seconds: float, error: float) -> Row:
    fields = {name: getattr(sweep, name) for name in FIELDS}
    times = {"compile_s": compiled, "run_s": seconds, "ms_per_cell": 1e3 * seconds / prod(sweep.shape[:2])}
    return {"who": who, **fields, **times, "error": error}


def front(rows: Sequence[Row]) -> list[Row]:
    """The rows in the order of time, those that are more accurate than every faster one marked `pareto`."""
    least, found = np.inf, []
    for row in sorted(rows, key=lambda row: row["ms_per_cell"]):
        found.append({**row, "pareto": row["error"] < least})
        least = min(least, row["error"])
    return found


def first(rows: Sequence[Row], goal: float) -> Row | None:
    """The fastest row that is as accurate as the goal."""
    return min((row for row in rows if row["error"] <= goal), key=lambda row: row["ms_per_cell"], default=None)


def line(row: Row) -> str:
    fields = "".join(f"{row[name] if row[name] is not None else '':{width}}" for name, width in FORMATS.items())
    figures = f"{row['compile_s']:>10.1f}{row['run_s']:>9.2f}{row['ms_per_cell']:>9.2f}{row['error']:>9.4f}"
    return fields + figures + ("  *" if row.get("pareto") else "")


def heading(title: str) -> str:
    named = "".join(f"{name.replace('learning_', ''):{width}}" for name, width in FORMATS.items())
    return f"\n{title}\n{named}{'compile s':>10}{'run s':>9}{'ms/cell':>9}{'error':>9}"


def show(row: Row) -> Row:
    print(line(row), flush=True)
    return row


def settings_of_polyjax(side: int = SIDE, compared: Sequence[dict[str, Any]] = SETTINGS) -> list[Row]:
    """Every setting, in the order of time."""
    print(heading(f"polyjax, {side} x {side} cells"), flush=True)
    rows = front([show(of_polyjax(grid(side, **fields))) for fields in compared])
    print(heading("The same in the order of time; * nothing faster is as accurate"), *map(line, rows), sep="\n")
    return rows


def peers(side: int = PEER_SIDE, steps: Sequence[int] = PEER_STEPS) -> list[Row]:
    """JAX vmap and PyTorch at two batch sizes, with more and more steps until the first goal is reached."""
    rows: list[Row] = []
    print(heading(f"Peers, {side} x {side} cells, until the error is {GOALS[0]}"), flush=True)
    for who in ("JAX vmap", "PyTorch"):
        for batch in (256, 1024):
            for count in steps:
                sweep = grid(side, sampler="iid", batch=batch, learning_rate=0.02, steps=count)
                if missing := PEERS[who].missing(sweep.training.one_model):
                    print(f"{who:<10}{missing}")
                    break
                rows.append(show(of_peer(who, sweep)))
                if rows[-1]["error"] <= GOALS[0]:
                    break
    return rows


def summary(ours: Sequence[Row], theirs: Sequence[Row]) -> list[str]:
    """The first setting that reaches each goal, and how many times longer the peers take to the first one."""
    found = []
    for goal in GOALS:
        row = first(ours, goal)
        found.append(f"first to reach {goal}: " + (", ".join(f"{n} {row[n]}" for n in FIELDS) if row else "none"))
    fastest = first(ours, GOALS[0])
    for who in dict.fromkeys(row["who"] for row in theirs):
        other = first([row for row in theirs if row["who"] == who], GOALS[0])
        ratio = other["ms_per_cell"] / fastest["ms_per_cell"] if fastest and other else None
        told = f"takes {ratio:,.0f} times as long to {GOALS[0]}" if ratio else f"or polyjax does not reach {GOALS[0]}"
        found.append(f"{who} {told}")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description="Measures time to accuracy.")
    parser.add_argument("--peers", action="store_true", help="also train in the ways of others, for many minutes")
    parser.add_argument("--quick", action="store_true", help="two settings on a small grid, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("results/accuracy.json"), help="the file to write")
    arguments = parser.parse_args(argv)
    about = machine()
    print(words(about), flush=True)
    ours = settings_of_polyjax(4, [{"steps": 10}, {"steps": 20}]) if arguments.quick else settings_of_polyjax()
    theirs = peers(*((4, (10,)) if arguments.quick else ())) if arguments.peers else []
    told = summary(ours, theirs)
    print("", *told, sep="\n")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    found = {"machine": about, "polyjax": ours, "peers": theirs, "summary": told}
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
