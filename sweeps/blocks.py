"""What sets the size of blocks: both models over the exponent of their activation and density, and over their sizes.

python -m sweeps.blocks [--panel anthropic-abs] [--preset quick|paper] [--out results/blocks] [--restart]

All features have importance 1, as in section 4.6. The exponent q is that of the activation |z|^q (abs) or relu(z)^q
(relu); the sizes are those of Anthropic models with square or ReLU.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import Array

import polyjax
from sweeps.scripts import panels_script


def absolute_power(q: float) -> Callable[[Array], Array]:
    """|z|^q, whose gradient at 0 is 0 for every q, below 1 too."""
    return lambda z: jnp.where(z == 0, 0, jnp.abs(jnp.where(z == 0, 1, z)) ** q)


def positive_power(q: float) -> Callable[[Array], Array]:
    """relu(z)^q, likewise."""
    return lambda z: jnp.where(z > 0, jnp.where(z > 0, z, 1) ** q, 0)


MODELS = {"redwood": polyjax.Redwood, "anthropic": polyjax.Anthropic}
POWERS = {"abs": absolute_power, "relu": positive_power}
SIZES = ("square", "relu")
DENSITY = 0.03  # of the panels of sizes
EXPONENTS = [f"{model}-{power}" for model in MODELS for power in POWERS]
PANELS = EXPONENTS + [f"anthropic-{activation}-sizes" for activation in SIZES]

Preset = Literal["quick", "paper"]

# densities, exponents between 2^(-1/2) and 4, restarts, steps, the sizes N and D
PRESETS: dict[Preset, tuple[int, int, int, int, list[int], list[int]]] = {
    "quick": (3, 4, 2, 200, [4, 5], [2, 3]),  # for tests: seconds
    "paper": (12, 11, 8, 2000, [4, 6, 8], [2, 3, 4]),  # the default; 1 and 2 are among the exponents
}


def sweep(panel: str, preset: Preset = "paper", seed: int = 0) -> polyjax.Sweep:
    """Density 0.01 to 1 and the exponent, both geometric, of 6 features in 3 neurons; or the sizes at one density."""
    densities, exponents, restarts, steps, n_features, n_neurons = PRESETS[preset]
    name, activation = panel.split("-")[:2]
    model = MODELS[name]
    asked: dict[str, Any] = {}
    if panel in EXPONENTS:
        power = POWERS[activation]
        q, density = np.geomspace(2**-0.5, 4, exponents), np.geomspace(0.01, 1, densities)
        asked |= {"model": lambda q: model(6, 3, power(q)), "axes": {"density": density, "q": q}}
        asked |= {"batch": 64, "refine": 2}
    else:
        asked |= {"model": lambda n_features, n_neurons: model(n_features, n_neurons, activation)}
        asked |= {"axes": {"density": [DENSITY], "n_features": n_features, "n_neurons": n_neurons}}
        asked |= {"batch": 2 ** max(n_features)}
    alike = lambda density: polyjax.Features(density)  # noqa: E731
    return polyjax.Sweep(**asked, features=alike, restarts=restarts, steps=steps, seed=seed)


def main(argv: Sequence[str] | None = None) -> None:
    panels_script("blocks", "Train the networks whose blocks are counted.", PANELS, Preset, sweep, argv)


if __name__ == "__main__":
    main()
