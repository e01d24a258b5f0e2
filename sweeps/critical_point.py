"""Sweeps around the critical point, k = 3 and V = 1, of the quadratic Redwood model, 6 features in 3 neurons.

python -m sweeps.critical_point [--panel sampled] [--preset quick|paper] [--out results/critical_point] [--restart]

Their axes are k - 3, the `excess`, and `scaled` = (V - 1) / |k - 3|; the density follows from k.
"""

from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import polyjax
from sweeps.scripts import panels_script

MODEL = polyjax.Redwood(n_features=6, n_neurons=3, activation="square")
EXCESS = (-0.3, -0.1, -0.03, -0.01, 0.01, 0.03, 0.1, 0.3)
# Whether networks keep to the function of `scaled`: on samples, then polished on samples; and on the expected loss.
# How many steps they take to settle: plain gradient descent and Adam, at a constant rate, on the expected loss.
PANELS: dict[str, dict[str, Any]] = {
    "sampled": {"batch": 4096, "restarts": 2, "polish": "sampled"},
    "expected": {"objective": "expected", "restarts": 4},
    "descent": {"objective": "expected", "restarts": 4, "optimizer": optax.sgd(0.02), "snapshots": 120},
    "adam": {"objective": "expected", "restarts": 4, "optimizer": optax.adam(0.01), "snapshots": 120},
}
Preset = Literal["quick", "paper"]

# Values of `scaled`, and steps of each panel; where networks settle, values of k - 3.
PRESETS: dict[Preset, dict[str, int]] = {
    "quick": {"values": 4, "settling": 3, "sampled": 200, "expected": 300, "descent": 300, "adam": 300},  # seconds
    "paper": {"values": 16, "settling": 9, "sampled": 16000, "expected": 8000, "descent": 30000, "adam": 30000},
}


def features(excess: Array, scaled: Array) -> polyjax.Features:
    """Features of kurtosis 9 / (5 p) = 3 + excess, the first of importance 1 + |excess| scaled."""
    importance = jnp.ones(MODEL.n_features).at[0].set(1 + abs(excess) * scaled)
    return polyjax.Features(9 / (5 * (3 + excess)), importance)


def sweep(panel: str, preset: Preset = "paper", seed: int = 0) -> polyjax.Sweep:
    """The sweep of a panel; `scaled` is -0.6 to 0.6 without 0, where for k < 3 either of two capacities is the best."""
    size = PRESETS[preset]
    settling = "snapshots" in PANELS[panel]
    excess = np.geomspace(0.003, 1, size["settling"]) if settling else EXCESS
    scaled = (-0.2, -0.1, 0.1, 0.2) if settling else np.linspace(-0.6, 0.6, size["values"])
    axes = {"excess": excess, "scaled": scaled}
    options = {"steps": size[panel], "retries": 0, "seed": seed, **PANELS[panel]}
    if preset == "quick" and panel == "sampled":
        options |= {"batch": 64, "polish": False, "refine": 1}
    return polyjax.Sweep(MODEL, axes=axes, features=features, **options)


def main(argv: Sequence[str] | None = None) -> None:
    panels_script("critical_point", "Train networks around the critical point.", PANELS, Preset, sweep, argv)


if __name__ == "__main__":
    main()
