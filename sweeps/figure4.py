"""Figure 4's sweep: the quadratic Redwood model, 6 features in 3 neurons, over importance and density.

python -m sweeps.figure4 [--preset quick|film|paper|full] [--out results/figure4.npz] [--restart]
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

import polyjax
from sweeps.scripts import sweep_script

Preset = Literal["quick", "film", "paper", "full"]

# cells a side, restarts, steps, samples a step
PRESETS: dict[Preset, tuple[int, int, int, int]] = {
    "quick": (12, 2, 300, 64),  # for tests: seconds
    "film": (64, 4, 2000, 64),  # with --snapshots 60, see `make film`
    "paper": (100, 8, 2000, 128),  # the default: 80,000 models, under a minute on two cores
    "full": (1000, 4, 2000, 64),  # for accelerators: 4,000,000 models
}


def sweep(preset: Preset = "paper", seed: int = 0) -> polyjax.Sweep:
    """Importance 0.1 to 10 and density 0.01 to 1, both geometric."""
    cells, restarts, steps, batch = PRESETS[preset]
    return polyjax.Sweep(
        model=polyjax.Redwood(n_features=6, n_neurons=3, activation="square"),
        density=np.geomspace(0.01, 1, cells),
        importance=np.geomspace(0.1, 10, cells),
        restarts=restarts,
        steps=steps,
        batch=batch,
        # For a number under the figure, which stays trained on samples alone.
        polish="sampled" if preset == "paper" else False,
        seed=seed,
    )


def main(argv: Sequence[str] | None = None) -> None:
    sweep_script("figure4", "Train figure 4's phase diagram.", Preset, sweep, argv)


if __name__ == "__main__":
    main()
