"""The boundaries of figure 4's phases on a grid of 1000 x 1000 cells, of which the few near them are trained.

python -m sweeps.boundaries [--preset quick|paper] [--out results/boundaries.npz]
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

import polyjax
from polyjax.cli.command import script
from polyjax.cli.sweeping import check_results_path
from sweeps import figure4

Preset = Literal["quick", "paper"]

# cells a side, restarts, steps
PRESETS: dict[Preset, tuple[int, int, int]] = {
    "quick": (64, 2, 1000),  # for tests: seconds
    "paper": (1000, 8, 2000),  # the default: a few minutes on two cores
}


def sweep(preset: Preset = "paper", seed: int = 0) -> polyjax.Sweep:
    """Figure 4's, trained on the expected loss, without the noise of samples."""
    cells, restarts, steps = PRESETS[preset]
    return replace(
        figure4.sweep(seed=seed),
        density=np.geomspace(0.01, 1, cells),
        importance=np.geomspace(0.1, 10, cells),
        restarts=restarts,
        steps=steps,
        objective="expected",
        retries=0,
        polish=False,
    )


def train(*, preset: Preset = "paper", out: Path = Path("results/boundaries.npz"), seed: int = 0) -> None:
    """Train the cells of figure 4 that are near the boundaries of its phases.

    Args:
        preset: Size of the grid.
        out: The results file to write.
        seed: Of the initialisations.
    """
    check_results_path(out)
    polyjax.run_adaptively(sweep(preset, seed)).save(out)


def main(argv: Sequence[str] | None = None) -> None:
    script("python -m sweeps.boundaries", train, argv)


if __name__ == "__main__":
    main()
