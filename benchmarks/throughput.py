"""Training throughput inside the real sweep, beside the usual formulation, in one run.

    python -m benchmarks.throughput

A model-step is one optimiser step of one model. polyjax's figure includes everything that `polyjax.run` does: drawing
samples, Adam with its schedule, evaluation, capacities, progress, chunks. Only compilation is apart: every sweep runs
once to compile and then several times, of which the median counts.
"""

import platform
from collections.abc import Callable
from importlib.metadata import version
from statistics import median
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

import polyjax

REPEATS = 5
LANES = 512  # models on the device at once
ACTIVATIONS = ("square", "relu", "gelu")


def seconds(work: Callable[[], Any]) -> tuple[float, float]:
    """Of the first run, which compiles, and the median of the others."""
    times = []
    for _ in range(1 + REPEATS):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return times[0], median(times[1:])


def sweep_rate(activation: str, batch: int, lanes: int = LANES) -> tuple[float, float]:
    """Million model-steps a second of a Redwood 6 in 3 sweep, `lanes` at once, and the seconds that compiling took."""
    grid = polyjax.Sweep(
        polyjax.Redwood(6, 3, activation),
        density=np.geomspace(0.01, 1, 16),
        importance=np.geomspace(0.1, 10, lanes // 8),
        restarts=8,
        steps=1000,
        batch=batch,
        chunk=lanes,
    )
    first, again = seconds(lambda: polyjax.run(grid, progress=False))
    return int(np.prod(grid.shape)) * grid.steps / again / 1e6, first - again


def usual_rate(activation: str, batch: int) -> tuple[float, float]:
    """The same for the form in which such grids are usually written: `vmap` over models, each of which draws its own
    independent batch, with matrix products."""
    model, steps = polyjax.Redwood(6, 3, activation), 50
    optimizer = optax.adam(1e-3)

    def loss(params: Any, x: Array, v: Array) -> Array:
        return jax.vmap(model.loss, (None, 0, None))(params, x, v).mean()

    def train(key: Array, v: Array, density: Array) -> Any:
        def step(carry: Any, key: Array) -> Any:
            params, state = carry
            active, values = jax.random.split(key)
            mask = jax.random.bernoulli(active, density, (batch, 6))
            x = mask * jax.random.uniform(values, (batch, 6), minval=-1, maxval=1) * jnp.sqrt(3 / density)
            updates, state = optimizer.update(jax.grad(loss)(params, x, v), state)
            return (optax.apply_updates(params, updates), state), None

        params = model.init(key)
        return lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, steps))[0][0]

    keys = jax.random.split(jax.random.key(0), LANES)
    v = jnp.ones((LANES, 6)).at[:, 0].set(jnp.geomspace(0.1, 10, LANES))
    density = jnp.geomspace(0.01, 1, LANES)
    grid = jax.jit(jax.vmap(train))
    first, again = seconds(lambda: jax.block_until_ready(grid(keys, v, density)))
    return LANES * steps / again / 1e6, first - again


def main() -> None:
    versions = ", ".join(f"{name} {version(name)}" for name in ("polyjax", "jax", "jaxlib", "optax"))
    device = jax.devices()[0].device_kind
    print(f"{versions}, Python {platform.python_version()}, {device}, {len(jax.devices())} device(s)")
    print("Redwood 6 in 3, 512 lanes; million model-steps a second, and seconds to compile")
    print(f"{'activation':<12}{'samples':>8}{'polyjax':>10}{'compile':>9}{'usual':>10}{'compile':>9}{'ratio':>8}")
    for activation in ACTIVATIONS:
        for batch in (64, 256):
            (ours, our_compile), (usual, usual_compile) = sweep_rate(activation, batch), usual_rate(activation, batch)
            row = f"{ours:>10.2f}{our_compile:>9.1f}{usual:>10.4f}{usual_compile:>9.1f}{ours / usual:>8.0f}"
            print(f"{activation:<12}{batch:>8}{row}", flush=True)
    print("\nsquare, 64 samples: lanes at once, million model-steps a second")
    for lanes in (128, 512, 1600, 4096):
        print(f"{lanes:>8}{sweep_rate('square', 64, lanes)[0]:>10.2f}", flush=True)


if __name__ == "__main__":
    main()
