"""How near the training of large models comes to the machine's own matrix product.

    python -m benchmarks.large [--case redwood-100in20]

Trains 100 networks, or as many as the name says, by `polyjax.run` at two lengths, whose difference is training alone;
what is left is the fixed cost of a run, mostly evaluation. A sample costs 4 N D operations (Redwood) or 10 N D
(Anthropic). Beside it, before and after, a product of two 1024 x 1024 matrices.
"""

import argparse
from math import prod
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import polyjax
from benchmarks.machine import machine, words
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


def matrix_product() -> float:
    """Return the operations a second of a matrix product here."""
    a = jax.random.normal(jax.random.key(0), (SIDE, SIDE))
    product = jax.jit(jnp.matmul)
    times = [seconds(lambda: jax.block_until_ready(product(a, a))) for _ in range(16)]
    return 2 * SIDE**3 / median(times[1:])  # the first compiles


def run_seconds(case: Case, steps: int) -> float:
    """Return how long a run takes, of so many steps."""
    model, (P, V, R), batch = case
    axes: Any = {"density": np.geomspace(0.01, 1, P), "importance": np.geomspace(0.1, 10, V)}
    sweep = polyjax.Sweep(model, **axes, restarts=R, batch=batch, steps=steps, retries=0)
    return seconds(lambda: polyjax.run(sweep, progress=False))


def line(name: str) -> str:
    """Return the figures of a case."""
    model, shape, batch = CASES[name]
    step = (4 if isinstance(model, Redwood) else 10) * model.n_features * model.n_neurons * prod(shape) * batch
    short = max(100, round(OPERATIONS / 2 / step / 50) * 50)  # blocks of 50 steps
    for steps in (short, 3 * short):
        run_seconds(CASES[name], steps)  # compiles
    before = matrix_product()
    first, second = (run_seconds(CASES[name], steps) for steps in (short, 3 * short))
    peak, each = (before + matrix_product()) / 2, (second - first) / (2 * short)
    rate, fixed = step / each, first - short * each
    return (
        f"{name:20} {1e3 * each:8.2f} ms a step {prod(shape) / each / 1e6:8.3f} M model-steps/s "
        f"{rate / 1e9:6.1f} of {peak / 1e9:4.0f} GFLOP/s, {rate / peak:4.0%}; fixed {fixed:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description="Measures large models.")
    parser.add_argument("--case", choices=CASES, action="append", help="measure this one alone; may be repeated")
    names = parser.parse_args().case
    print(words(machine()), flush=True)
    for name in names or CASES:
        print(line(name), flush=True)


if __name__ == "__main__":
    main()
