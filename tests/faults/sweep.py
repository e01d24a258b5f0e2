"""A sweep of a second in many chunks, with a retry and a round of refining, run as a user would run one."""

from pathlib import Path

import numpy as np

import polyjax
from polyjax.cli.sweeps import SweepParser, results_path


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


def main() -> None:
    parser = SweepParser("python -m sweep", "Trains a small phase diagram in many chunks.")
    parser.add_argument("--steps", type=int, default=200, help="of training (default: 200)")
    parser.add_argument("--out", type=results_path, default=Path("grid.npz"), help="the results file to write")
    arguments = parser.parse_args()
    parser.run(arguments, {arguments.out: lambda: sweep(arguments.seed, arguments.steps)})


if __name__ == "__main__":
    main()
