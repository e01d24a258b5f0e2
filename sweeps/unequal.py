"""Features that differ in density: the quadratic Redwood model, 6 features in 3 neurons.

python -m sweeps.unequal [--preset quick|paper] [--out results/unequal.npz] [--restart]

Features 0 to 2 have the density of the axis, features 3 to 5 another one; feature 0 has the importance of the axis.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

import polyjax
from polyjax.cli.sweeps import SweepParser, results_path

MODEL = polyjax.Redwood(n_features=6, n_neurons=3, activation="square")
OTHERS = 0.3  # the density of features 3 to 5, whose kurtosis is 6

# cells a side, restarts, steps, samples a step, most rounds of refining
PRESETS = {
    "quick": (8, 2, 200, 64, 0),  # for tests: seconds
    "paper": (48, 8, 2000, 128, 4),  # the default: 18,432 models
}


def features(density: Array, importance: Array) -> polyjax.Features:
    """The first half of one density and feature 0 of one importance; the other half is the same everywhere."""
    half = MODEL.n_features // 2
    p = jnp.concatenate([jnp.full(half, density), jnp.full(half, OTHERS)])
    return polyjax.Features(p, jnp.ones(MODEL.n_features).at[0].set(importance))


def sweep(preset: str = "paper", seed: int = 0) -> polyjax.Sweep:
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
    parser = SweepParser("python -m sweeps.unequal", "Trains features that differ in density.")
    parser.add_argument("--preset", choices=PRESETS, default="paper", help="size of the grid (default: paper)")
    parser.add_argument("--out", type=results_path, default="results/unequal.npz", help="the results file to write")
    arguments = parser.parse_args(argv)
    parser.run(arguments, {arguments.out: lambda: sweep(arguments.preset, arguments.seed)})


if __name__ == "__main__":
    main()
