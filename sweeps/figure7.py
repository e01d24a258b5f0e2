"""Figure 7's sweeps: Redwood 6 in 3, Anthropic 6 in 3 and Anthropic 6 in 5, each with square, ReLU and GELU.

python -m sweeps.figure7 [--panel anthropic-relu-6in5] [--preset quick|paper|full] [--out results/figure7] [--restart]
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

import polyjax
from sweeps.scripts import panels_script

ROWS = ((polyjax.Redwood, 3), (polyjax.Anthropic, 3), (polyjax.Anthropic, 5))
ACTIVATIONS = ("square", "relu", "gelu")
PANELS = {
    f"{model.__name__.lower()}-{activation}-6in{n_neurons}": model(6, n_neurons, activation)
    for model, n_neurons in ROWS
    for activation in ACTIVATIONS
}

Preset = Literal["quick", "paper", "full"]

# cells a side, restarts, steps, samples a step, most rounds of refining, which polishing goes on with
PRESETS: dict[Preset, tuple[int, ...]] = {
    "quick": (8, 2, 200, 64, 1),  # for tests: seconds
    "paper": (64, 8, 1500, 64, 2),  # the default: 32,768 models a panel
    "full": (500, 8, 4000, 64, 2),  # for accelerators: 2,000,000 models a panel
}


def sweep(panel: str, preset: Preset = "paper", seed: int = 0) -> polyjax.Sweep:
    """Importance 0.01 to 100 and density 0.01 to 1, both geometric."""
    cells, restarts, steps, batch, rounds = PRESETS[preset]
    return polyjax.Sweep(
        model=PANELS[panel],
        density=np.geomspace(0.01, 1, cells),
        importance=np.geomspace(0.01, 100, cells),
        restarts=restarts,
        steps=steps,
        batch=batch,
        retries=0,  # what has not settled is polished
        refine=rounds,
        polish=True,
        seed=seed,
    )


def main(argv: Sequence[str] | None = None) -> None:
    panels_script("figure7", "Train figure 7's phase diagrams.", PANELS, Preset, sweep, argv)


if __name__ == "__main__":
    main()
