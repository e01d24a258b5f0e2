"""One measurement in a process of its own, since the peak of its memory is the process's.

    python -m benchmarks.point '{"model": "Redwood", "activation": "relu"}'

Takes the fields of `plan.Point` and prints one line of JSON. A model-step is one optimiser step of one model. polyjax's
figure includes everything that `polyjax.run` does: drawing samples, training with its schedule, evaluation, capacities;
that of a peer is training alone. Compilation is apart.
"""

import json
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from math import prod
from statistics import median
from time import perf_counter
from typing import Any

import jax
import numpy as np
import optax

import polyjax
from benchmarks.peers import PEERS
from benchmarks.plan import Point
from polyjax.engine import choice

LARGE = 10**8  # model-steps; so many are not run twice only to know what compiling took
OPTIMIZERS = {
    "AdamW": lambda schedule: optax.adamw(schedule, weight_decay=1e-4),
    "SGD": optax.sgd,
}


def seconds(work: Callable[[], Any]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def sweep(point: Point) -> polyjax.Sweep:
    """What is trained, on the ranges of figure 4."""
    P, V, R = point.grid
    model = polyjax.Redwood if point.model == "Redwood" else polyjax.Anthropic
    optimizer = None
    if point.optimizer != "Adam":
        optimizer = OPTIMIZERS[point.optimizer](optax.cosine_decay_schedule(0.02, point.steps))
    return polyjax.Sweep(
        model(point.n_features, point.n_neurons, point.activation),
        density=np.geomspace(0.01, 1, P),
        importance=np.geomspace(0.1, 10, V),
        restarts=R,
        steps=point.steps,
        batch=point.batch,
        sampler=point.sampler,
        optimizer=optimizer,
        chunk=point.chunk,
        retries=0,  # the same work for every point
    )


def of_polyjax(whole: polyjax.Sweep, repeats: int) -> dict[str, Any]:
    """Seconds of every run and of compiling: the first run, of a tenth of the rows where the whole is large, less what
    it takes again."""
    P = whole.shape[0]
    rows = P if prod(whole.shape) * whole.training.steps < LARGE else max(1, P // 10)
    first = replace(whole, density=whole.coordinates["density"][:rows])
    compiled = seconds(lambda: polyjax.run(first, progress=False))
    runs = [seconds(lambda: polyjax.run(whole, progress=False)) for _ in range(repeats)]
    config = whole.describe()
    described = {"sampler": config["sampler"], "engine": choice.with_engine(whole.training).engine}
    return {"compile_s": max(0.0, compiled - median(runs) * rows / P), "runs_s": runs, **described}


def of_peer(who: str, whole: polyjax.Sweep, repeats: int) -> dict[str, Any]:
    """The same; the first run, which touches its memory for the first time, does not count."""
    compiled, train = PEERS[who].compiled(whole)
    train()
    runs = [seconds(train) for _ in range(repeats)]
    return {"compile_s": compiled, "runs_s": runs, "sampler": "iid"}


def measure(point: Point) -> dict[str, Any]:
    """The point's fields and its figures, or the reason why there are none under `missing`."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    cold = cache != "" and not (os.path.isdir(cache) and os.listdir(cache))
    whole = sweep(point)
    if point.who != "polyjax" and (missing := PEERS[point.who].missing(whole.training.one_model)):
        return {**vars(point), "missing": missing}
    found = of_polyjax(whole, point.repeats) if point.who == "polyjax" else of_peer(point.who, whole, point.repeats)
    run = median(found["runs_s"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    rate = point.models * point.steps / run / 1e6
    figures = {"run_s": run, "rate": rate, "peak_mb": peak, "cold": cold, "device": jax.devices()[0].device_kind}
    return {**vars(point), **found, **figures}


if __name__ == "__main__":
    print(json.dumps(measure(Point(**json.loads(sys.argv[1])))))
