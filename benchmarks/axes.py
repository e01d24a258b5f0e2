"""What an axis costs: the same number of networks with the learning rate as an axis, and with one rate for all.

    python -m benchmarks.axes

Both grids have 20 densities x 20 importances; one has eight learning rates, the other eight restarts. They are trained
in turn, after a run that compiles each; CPU seconds count, of all threads, since machines are shared.
"""

from collections.abc import Callable
from functools import partial
from statistics import median
from time import process_time

import numpy as np
import optax

import polyjax
from benchmarks.machine import machine, words

SIDE, MANY, STEPS, REPEATS = 20, 8, 1000, 7


def sweeps(model: polyjax.Model) -> tuple[polyjax.Sweep, polyjax.Sweep]:
    """Return the sweep with one learning rate, and that with an axis of rates."""
    paper = {"density": np.geomspace(0.01, 1, SIDE), "importance": np.geomspace(0.1, 10, SIDE)}
    rates = {"rate": np.geomspace(0.01, 0.04, MANY)}

    def decaying(rate: float) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(rate, STEPS))

    common = {"steps": STEPS, "retries": 0}
    alone = polyjax.Sweep(model, **paper, restarts=MANY, optimizer=decaying(0.02), **common)  # type: ignore[arg-type]
    by_rate = polyjax.Sweep(model, **paper, axes=rates, restarts=1, optimizer=decaying, **common)  # type: ignore[arg-type]
    return alone, by_rate


def seconds(run: Callable[[], object]) -> float:
    """Return the CPU seconds of a run."""
    begin = process_time()
    run()
    return process_time() - begin


def main() -> None:
    print(words(machine()))
    for model in (polyjax.Redwood(6, 3, "square"), polyjax.Anthropic(6, 3, "relu")):
        alone, by_rate = sweeps(model)
        for sweep in (alone, by_rate):
            polyjax.run(sweep, progress=False)
        pairs = [[seconds(partial(polyjax.run, s, progress=False)) for s in (alone, by_rate)] for _ in range(REPEATS)]
        one, axis = (median(times) for times in zip(*pairs, strict=True))
        ratio = median(b / a for a, b in pairs)
        print(f"{model}: one rate {one:.2f} CPU s, a rate an axis {axis:.2f} CPU s, {ratio:.2f} times as long")


if __name__ == "__main__":
    main()
