"""Features that differ in density: the quadratic Redwood model, 6 features in 3 neurons.

python -m sweeps.unequal [--preset quick|paper] [--out results/unequal.npz] [--restart]

Features 0 to 2 have the density of the axis, features 3 to 5 another one; feature 0 has the importance of the axis.
"""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array

import polyjax
from sweeps.scripts import sweep_script

MODEL = polyjax.Redwood(n_features=6, n_neurons=3, activation="square")
OTHERS = 0.3  # the density of features 3 to 5, whose kurtosis is 6

Preset = Literal["quick", "paper"]

# cells a side, restarts, steps, samples a step, most rounds of refining
PRESETS: dict[Preset, tuple[int, int, int, int, int]] = {
    "quick": (8, 2, 200, 64, 0),  # for tests: seconds
    "paper": (48, 8, 2000, 128, 4),  # the default: 18,432 models
}


def features(density: Array, importance: Array) -> polyjax.Features:
    """The first half of one density and feature 0 of one importance; the other half is the same everywhere."""
    half = MODEL.n_features // 2
    p = jnp.concatenate([jnp.full(half, density), jnp.full(half, OTHERS)])
    return polyjax.Features(p, jnp.ones(MODEL.n_features).at[0].set(importance))


def sweep(preset: Preset = "paper", seed: int = 0) -> polyjax.Sweep:
    """Density 0.03 to 1 and importance 0.2 to 5, both geometric."""
    cells, restarts, steps, batch, rounds = PRESETS[preset]
    return polyjax.Sweep(
        MODEL,
        density=np.geomspace(0.03, 1, cells),
        importance=np.geomspace(0.2, 5, cells),
        features=features,
        restarts=restarts,
        steps=steps,
        batch=batch,
        refine=rounds,
        seed=seed,
    )


def main(argv: Sequence[str] | None = None) -> None:
    sweep_script("unequal", "Train features that differ in density.", Preset, sweep, argv)


if __name__ == "__main__":
    main()
