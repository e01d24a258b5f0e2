"""How near the training of large models comes to the machine's own matrix product.

    python -m benchmarks.large [--case redwood-100in20] [--peers]

Trains 100 networks, or as many as the name says, by `polyjax.run` at two lengths, whose difference is training alone;
what is left is the fixed cost of a run, mostly evaluation. A sample costs 4 N D operations (Redwood) or 10 N D
(Anthropic). Beside it, before and after, a product of two 1024 x 1024 matrices. Peers (see `peers`) take turns with
polyjax at four sizes, on the same networks and samples a step; of polyjax, too, the figure is training alone.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import polyjax
from benchmarks.machine import machine, words
from benchmarks.peers import PEERS
from benchmarks.point import seconds
from polyjax import Anthropic, Redwood

OPERATIONS = 3e11  # of the difference, a few seconds
SIDE = 1024
Case = tuple[Redwood | Anthropic, tuple[int, int, int], int]  # model; densities, importances, restarts; samples a step
CASES: dict[str, Case] = {
    "redwood-100in20": (Redwood(100, 20, "relu"), (5, 5, 4), 64),
    "redwood-100in20-256": (Redwood(100, 20, "relu"), (5, 5, 4), 256),
    "redwood-400in30-256": (Redwood(400, 30, "relu"), (5, 5, 4), 256),
    "anthropic-100in20": (Anthropic(100, 20, "relu"), (5, 5, 4), 64),
    "anthropic-40in10": (Anthropic(40, 10, "relu"), (5, 5, 4), 64),
    "anthropic-20in10": (Anthropic(20, 10, "relu"), (8, 8, 8), 64),
    "elhage-80in20-256": (Anthropic(80, 20, "relu"), (5, 1, 4), 256),
    "one-80in20-1024": (Anthropic(80, 20, "relu"), (1, 1, 1), 1024),
}

# Anthropic ReLU, the one model that all peers have, at 256 samples.
SIZES = ((20, 5), (40, 10), (80, 20), (400, 30))
PEER_OPERATIONS = 3e10  # of a peer's run: a second or several
ROUNDS = 3


def matrix_product() -> float:
    """Return the operations a second of a matrix product here."""
    a = jax.random.normal(jax.random.key(0), (SIDE, SIDE))
    product = jax.jit(jnp.matmul)
    times = [seconds(lambda: jax.block_until_ready(product(a, a))) for _ in range(16)]
    return 2 * SIDE**3 / median(times[1:])  # the first compiles


def sweep(case: Case, steps: int) -> polyjax.Sweep:
    """Return a case as a sweep of so many steps."""
    model, (P, V, R), batch = case
    axes: Any = {"density": np.geomspace(0.01, 1, P), "importance": np.geomspace(0.1, 10, V)}
    return polyjax.Sweep(model, **axes, restarts=R, batch=batch, steps=steps, retries=0)


def operations(case: Case) -> int:
    """Return those of one step of all networks."""
    model, shape, batch = case
    return (4 if isinstance(model, Redwood) else 10) * model.n_features * model.n_neurons * prod(shape) * batch


def compiled(case: Case) -> Callable[[], tuple[float, float]]:
    """Return what measures the seconds of a step, and those that a run takes besides, by runs of two lengths."""
    short = max(100, round(OPERATIONS / 2 / operations(case) / 50) * 50)  # blocks of 50 steps
    runs = [partial(polyjax.run, sweep(case, steps), progress=False) for steps in (short, 3 * short)]
    for run in runs:
        run()

    def measured() -> tuple[float, float]:
        first, second = map(seconds, runs)
        each = (second - first) / (2 * short)
        return each, first - short * each

    return measured


def line(name: str) -> str:
    """Return the figures of a case."""
    case = CASES[name]
    ours = compiled(case)
    before = matrix_product()
    each, fixed = ours()
    peak, rate = (before + matrix_product()) / 2, operations(case) / each
    return (
        f"{name:20} {1e3 * each:8.2f} ms a step {prod(case[1]) / each / 1e6:8.3f} M model-steps/s "
        f"{rate / 1e9:6.1f} of {peak / 1e9:4.0f} GFLOP/s, {rate / peak:4.0%}; fixed {fixed:.2f} s"
    )


def beside_peers(size: tuple[int, int]) -> Iterator[str]:
    """Yield the figures of polyjax and its peers at a size, medians of rounds in which they take turns."""
    case: Case = Anthropic(*size, "relu"), (5, 5, 4), 256
    steps = max(3, round(PEER_OPERATIONS / operations(case)))
    whole = sweep(case, steps)
    found: dict[str, list[float]] = {}
    missing = {name: peer.missing(case[0]) for name, peer in PEERS.items()}
    trains = {name: peer.compiled(whole)[1] for name, peer in PEERS.items() if missing[name] is None}
    for train in trains.values():
        train()  # touches its memory for the first time
    measured = compiled(case)
    for _ in range(ROUNDS):
        found.setdefault("matrix product", []).append(operations(case) / matrix_product())
        found.setdefault("polyjax", []).append(measured()[0])
        for name, train in trains.items():
            found.setdefault(name, []).append(seconds(train) / steps)
    least, ours = median(found.pop("matrix product")), median(found["polyjax"])
    for name, times in found.items():
        each = median(times)
        share, slower = f"{least / each:6.1%} of the matrix product", f"{each / ours:6.1f} times polyjax's"
        yield f"{size[0]:4} in {size[1]:<3} {name:10} {1e3 * each:9.2f} ms a step, {share}, {slower}"
    yield from (f"{size[0]:4} in {size[1]:<3} {name:10} {why}" for name, why in missing.items() if why)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description="Measures large models.")
    parser.add_argument("--case", choices=CASES, action="append", help="measure this one alone; may be repeated")
    parser.add_argument("--peers", action="store_true", help="then compare with peers, as far as they are installed")
    arguments = parser.parse_args()
    print(words(machine()), flush=True)
    for name in arguments.case or CASES:
        print(line(name), flush=True)
    for size in SIZES if arguments.peers else ():
        for text in beside_peers(size):
            print(text, flush=True)


if __name__ == "__main__":
    main()
