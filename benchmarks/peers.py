"""How grids of toy models are trained elsewhere today, each in the form that its users write, behind one interface.

A `Peer` trains what a `polyjax.Sweep` describes, with the same model, grid, restarts, batch size, steps and learning
rate, on independent samples. The optimiser is AdamW without weight decay, which is Adam: the theory knows no decay.

Axis letters: P densities, V importances, R restarts, M = P V R models, B samples, D neurons, N features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

import polyjax
from polyjax.toy.model import Model
from polyjax.toy.models import Params

INSTALL = "not installed (pip install 'polyjax[peers]')"
Train = Callable[[], Params]  # trains; leaves W [P, V, R, D, N] and b [P, V, R] or [P, V, R, N]


@dataclass(frozen=True)
class Peer:
    """One way to train the grid. `prepare` compiles or builds what it takes, so that what it returns only trains."""

    name: str
    packages: tuple[str, ...]  # that must be installed
    prepare: Callable[[polyjax.Sweep], Train]
    supports: Callable[[Model], bool] = lambda model: True

    def missing(self, model: Model) -> str | None:
        """What to show instead of figures; None where the peer can train the model."""
        if not all(map(find_spec, self.packages)):
            return INSTALL
        return None if self.supports(model) else "has no such model"

    def compiled(self, sweep: polyjax.Sweep) -> tuple[float, Train]:
        """The seconds that preparing took, without importing the packages, and what trains."""
        for package in self.packages:
            import_module(package)
        start = perf_counter()
        train = self.prepare(sweep)
        return perf_counter() - start, train


def lanes(sweep: polyjax.Sweep) -> tuple[np.ndarray, np.ndarray]:
    """Every model's density [M] and importances [M, N], restarts innermost."""
    P, V, R = sweep.shape
    axes = {name: np.asarray(values, np.float32) for name, values in sweep.coordinates.items()}
    density = np.repeat(axes["density"], V * R)
    v = np.ones((P * V * R, sweep.training.one_model.n_features), np.float32)
    v[:, 0] = np.tile(np.repeat(axes["importance"], R), P)
    return density, v


def grid(sweep: polyjax.Sweep, W: np.ndarray, b: np.ndarray) -> Params:
    """Parameters [M, ...] in the shape of the sweep."""
    W, b = (a.reshape(*sweep.shape, *a.shape[1:]) for a in (W, b))
    return Params(W, b)  # type: ignore[arg-type]


def jax_vmap(sweep: polyjax.Sweep) -> Train:
    """`vmap` over models, each of which draws a batch of its own, with matrix products."""
    model, batch = sweep.training.one_model, sweep.training.sampler.batch
    optimizer = optax.adam(optax.cosine_decay_schedule(sweep.rate, sweep.steps))

    def loss(params: Params, x: Array, v: Array) -> Array:
        return jax.vmap(model.loss, (None, 0, None))(params, x, v).mean()

    def train(key: Array, density: Array, v: Array) -> Params:
        def step(carry: tuple[Params, optax.OptState], key: Array) -> tuple[tuple[Params, optax.OptState], None]:
            params, state = carry
            active, values = jax.random.split(key)
            value = model.distribution.active_value(jax.random.uniform(values, (batch, model.n_features)), density)
            x = jax.random.bernoulli(active, density, value.shape) * value
            updates, state = optimizer.update(jax.grad(loss)(params, x, v), state)
            return (optax.apply_updates(params, updates), state), None  # type: ignore[return-value]

        params = model.init(key)
        return lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, sweep.training.steps))[0][0]

    density, v = map(jnp.asarray, lanes(sweep))
    arguments = jax.random.split(jax.random.key(sweep.seed), len(density)), density, v
    compiled = jax.jit(jax.vmap(train)).lower(*arguments).compile()
    return lambda: grid(sweep, *jax.device_get(compiled(*arguments)))


def pytorch(sweep: polyjax.Sweep) -> Train:
    """Batched matrix products over models."""
    from benchmarks import torch_peers  # PyTorch is optional

    return lambda: torch_peers.train_batched(sweep)


def occhio(sweep: polyjax.Sweep) -> Train:
    """occhio's `ModelGrid`; trained a second time it goes on from where it was."""
    from benchmarks import torch_peers  # PyTorch is optional

    models = torch_peers.occhio_grid(sweep)
    return lambda: torch_peers.train_occhio(models, sweep)


def _autoencoder(model: Model) -> bool:
    """Whether it is the one toy model that occhio has."""
    return isinstance(model, polyjax.Anthropic) and model.activation == "relu"


PEERS = {
    peer.name: peer
    for peer in (
        Peer("JAX vmap", ("jax",), jax_vmap),
        Peer("PyTorch", ("torch",), pytorch),
        Peer("occhio", ("torch", "occhio"), occhio, _autoencoder),
    )
}
