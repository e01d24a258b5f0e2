"""The experiments of Elhage et al. 2022, "Toy Models of Superposition", as sweeps.

python -m sweeps.elhage [--panel features-400in30] [--preset quick|paper] [--out results/elhage] [--restart]
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import polyjax
from polyjax import Anthropic, Features, activity
from sweeps.scripts import panels_script

Preset = Literal["quick", "paper"]

PAIRS = ((0, 1), (2, 3))  # of correlated or anticorrelated features
MASKS = (np.arange(16)[:, None] >> np.arange(4) & 1).astype(bool)  # [16, 4], in the order of `activity.ByMask`
BLOCKS = {2: 1, 3: 2, 4: 3, 5: 2, 8: 3}  # features: neurons, of pairs, triangles, tetrahedra, pentagons, antiprisms
DECAY = 0.8  # of the importances of the features whose absolute values are computed
SIGNED = polyjax.distributions.Distribution("uniform on [-1, 1]", lambda u: 2 * u - 1, (0, 1 / 3, 0, 1 / 5), False)


class Layers(NamedTuple):
    inner: jax.Array  # [D, N]
    outer: jax.Array  # [N, D]
    bias: jax.Array  # [N]


@dataclass(frozen=True)
class Absolute(polyjax.Model):
    """Two layers that compute |x| with a hidden layer of ReLUs ("Computation in superposition")."""

    n_features: int
    n_neurons: int
    distribution = SIGNED

    def init(self, key: jax.Array) -> Layers:
        inner, outer = jax.random.normal(key, (2, self.n_neurons, self.n_features)) / self.n_features**0.5
        return Layers(inner, outer.T, jnp.zeros(self.n_features))

    def loss(self, params: Layers, x: jax.Array, importance: jax.Array) -> jax.Array:
        hidden = jax.nn.relu(params.inner @ x)
        return importance @ (jax.nn.relu(params.outer @ hidden + params.bias) - jnp.abs(x)) ** 2

    def embedding(self, params: Layers) -> jax.Array:
        return params.inner


def correlated(density: jax.Array, correlation: jax.Array) -> Features:
    """Two pairs of features that are active together in a share `correlation` of all cases and independent in the
    others; below 0, that are never active together in a share of -`correlation`."""

    def probability(p: jax.Array) -> jax.Array:
        alone = (1 - abs(correlation)) * activity.Independent().probability(MASKS, p)
        together = jnp.maximum(correlation, 0) * activity.Together(PAIRS).probability(MASKS, p)
        return alone + together + jnp.maximum(-correlation, 0) * activity.Exclusive(PAIRS).probability(MASKS, p)

    return Features(density, activity=activity.ByMask(probability))


def phases(n_features: int, preset: Preset, seed: int) -> polyjax.Sweep:
    """One neuron fewer than features; feature 0 has the importance of the axis, the others 1."""
    cells, restarts, steps, rounds = {"quick": (6, 2, 200, 1), "paper": (64, 8, 1500, 2)}[preset]
    return polyjax.Sweep(
        model=Anthropic(n_features, n_features - 1),
        density=np.geomspace(0.01, 1, cells),
        importance=np.geomspace(0.1, 10, cells),
        restarts=restarts,
        steps=steps,
        refine=rounds,
        polish=True,
        retries=0,
        seed=seed,
    )


def dimensions(n_features: int, n_neurons: int, most: float, preset: Preset, seed: int) -> polyjax.Sweep:
    """Features that are all alike, over 1 / density from 1 to `most`."""
    cells, restarts, steps, batch = {"quick": (4, 1, 60, 64), "paper": (16, 2, 4000, 512)}[preset]
    return polyjax.Sweep(
        model=Anthropic(n_features, n_neurons),
        axes={"density": 1 / np.geomspace(1, most, cells)},
        features=lambda density: Features(density),
        restarts=restarts,
        steps=steps,
        batch=batch,
        learning_rate=0.01,
        retries=0,
        seed=seed,
    )


def blocks(preset: Preset, seed: int) -> polyjax.Sweep:
    """Small networks, of which copies side by side make a network of 400 in 30, at the densities of those."""
    cells, restarts, steps = {"quick": (4, 1, 60), "paper": (16, 8, 3000)}[preset]
    return polyjax.Sweep(
        model=lambda n_features: Anthropic(int(n_features), BLOCKS[int(n_features)]),
        axes={"n_features": [*BLOCKS], "density": 1 / np.geomspace(1, 50, cells)},
        features=lambda density: Features(density),
        restarts=restarts,
        steps=steps,
        batch=256,
        retries=0,
        seed=seed,
    )


def pairs(preset: Preset, seed: int) -> polyjax.Sweep:
    """Two pairs of features in two neurons, from exclusive to independent to together."""
    densities, correlations, restarts, steps = {"quick": (3, 3, 8, 1000), "paper": (33, 41, 8, 3000)}[preset]
    return polyjax.Sweep(
        model=Anthropic(4, 2),
        axes={"density": np.geomspace(0.01, 0.5, densities), "correlation": np.linspace(-1, 1, correlations)},
        features=correlated,
        restarts=restarts,
        steps=steps,
        refine=2,
        retries=0,
        seed=seed,
    )


def absolute(preset: Preset, seed: int) -> polyjax.Sweep:
    """Features whose importances fall geometrically, over 1 / density from 1 to 100."""
    cells, restarts, steps, batch = {"quick": (3, 1, 60, 64), "paper": (12, 2, 4000, 256)}[preset]
    return polyjax.Sweep(
        model=Absolute(100, 40),
        axes={"density": 1 / np.geomspace(1, 100, cells)},
        features=lambda density: Features(density, DECAY ** jnp.arange(100)),
        restarts=restarts,
        steps=steps,
        batch=batch,
        learning_rate=0.003,  # larger steps leave outputs that are never active
        refine=8,  # sparse networks end in minima far above the continuation of denser ones
        retries=0,
        seed=seed,
    )


PANELS: dict[str, Callable[[Preset, int], polyjax.Sweep]] = {
    "phases-2in1": partial(phases, 2),
    "phases-3in2": partial(phases, 3),
    "features-80in20": partial(dimensions, 80, 20, 100),
    "features-400in30": partial(dimensions, 400, 30, 50),
    "blocks": blocks,
    "pairs-4in2": pairs,
    "absolute-100in40": absolute,
}


def sweep(panel: str, preset: Preset = "paper", seed: int = 0) -> polyjax.Sweep:
    """One of the experiments."""
    return PANELS[panel](preset, seed)


def main(argv: Sequence[str] | None = None) -> None:
    panels_script("elhage", "Train the experiments of Elhage et al. 2022.", PANELS, Preset, sweep, argv)


if __name__ == "__main__":
    main()
