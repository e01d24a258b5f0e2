"""A sweep of a second in many chunks, with a retry and a round of refining, run as a user would run one."""

from pathlib import Path

import numpy as np

import polyjax
from polyjax.cli.command import script
from polyjax.cli.sweeping import Options


def sweep(seed: int, steps: int) -> polyjax.Sweep:
    return polyjax.Sweep(
        polyjax.Redwood(n_features=4, n_neurons=2, activation="square"),
        density=np.geomspace(0.02, 1, 16),
        importance=np.geomspace(0.1, 10, 16),
        restarts=2,
        steps=steps,
        retries=1,
        refine=1,
        seed=seed,
        chunk=32,
    )


def train(*, steps: int = 200, out: Path = Path("grid.npz"), options: Options = Options()) -> None:
    """Train a small phase diagram in many chunks.

    Args:
        steps: Of training.
        out: The results file to write.
    """
    options.run({out: lambda: sweep(options.seed, steps)})


def main() -> None:
    script("python -m sweep", train)


if __name__ == "__main__":
    main()
