"""The peers that need PyTorch, and occhio. Axis letters as in `peers`."""

import io
from contextlib import redirect_stderr
from math import sqrt
from typing import Any

import torch
from torch import Tensor

import polyjax
from benchmarks.peers import grid, lanes
from polyjax.toy.model import Model, n_neurons
from polyjax.toy.models import Params

ACTIVATIONS = {
    "square": torch.square,
    "relu": torch.relu,
    "gelu": lambda z: torch.nn.functional.gelu(z, approximate="tanh"),
}


def batch_loss(model: Model, W: Tensor, b: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """Every model's mean loss [M] on a batch of its own: W [M, D, N], b [M] or [M, N], x [M, B, N], v [M, N]."""
    f, hidden = ACTIVATIONS[model.activation], x @ W.mT  # type: ignore[attr-defined]
    if isinstance(model, polyjax.Redwood):
        target = (f(x) @ v[:, :, None]).squeeze(-1)
        return ((f(hidden).sum(-1) + b[:, None] - target) ** 2).mean(-1)
    output = f(torch.baddbmm(b[:, None], hidden, W))
    return (((output - x) ** 2).mean(1) * v).sum(-1)


def samples(model: Model, density: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """[M, B, N], independent for every model: uniform on [0, 1], or signed and of unit variance, where active."""
    p, shape = density[:, None, None], (len(density), batch, model.n_features)
    value = torch.rand(shape, generator=generator)
    if model.distribution.unit_variance:
        value = (value - 0.5) * torch.sqrt(12 / p)
    return torch.where(torch.rand(shape, generator=generator) < p, value, 0)


def train_batched(sweep: polyjax.Sweep) -> Params:
    """All models in one tensor, as replications of Elhage et al. 2022 do it, with autograd."""
    model, generator = sweep.training.one_model, torch.Generator().manual_seed(sweep.seed)
    density, v = map(torch.as_tensor, lanes(sweep))
    M, N, D = len(density), model.n_features, n_neurons(model)
    W = torch.nn.Parameter(torch.randn(M, D, N, generator=generator) / sqrt(N))
    b = torch.nn.Parameter(torch.zeros((M,) if isinstance(model, polyjax.Redwood) else (M, N)))
    optimizer = torch.optim.AdamW([W, b], lr=sweep.rate, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, sweep.steps)
    for _ in range(sweep.training.steps):
        optimizer.zero_grad()
        batch_loss(model, W, b, samples(model, density, sweep.training.sampler.batch, generator), v).sum().backward()
        optimizer.step()
        schedule.step()
    return grid(sweep, W.detach().numpy(), b.detach().numpy())


def occhio_grid(sweep: polyjax.Sweep) -> Any:
    """occhio's grid of the sweep's models. Importances share their samples, which is its default."""
    from occhio.autoencoder import TiedLinearRelu
    from occhio.distributions.sparse import SparseUniform
    from occhio.model_grid import Axis, ModelGrid
    from occhio.toy_model import ToyModel

    model = sweep.training.one_model
    N, D = model.n_features, n_neurons(model)

    def create_model(params: dict[str, Any]) -> Any:
        generator = torch.Generator().manual_seed(int(params["restart"]))
        features = SparseUniform(N, p_active=params["density"], generator=generator)
        v = torch.ones(N)
        v[0] = params["importance"]
        return ToyModel(features, TiedLinearRelu(N, D, generator=generator), importances=v)

    axes = sweep.coordinates | {"restart": tuple(range(sweep.restarts))}
    return ModelGrid(create_model, [Axis(label, [*map(float, values)]) for label, values in axes.items()])


def train_occhio(models: Any, sweep: polyjax.Sweep) -> Params:
    """`ModelGrid.fit`, with its constant learning rate."""
    with redirect_stderr(io.StringIO()):  # its progress bar
        models.fit(sweep.steps, batch_size=sweep.batch, learning_rate=sweep.rate, weight_decay=0)
    W, b = (
        torch.stack([getattr(one.ae, name).detach() for one in models.models.ravel()]).numpy() for name in ("W", "b")
    )
    return grid(sweep, W, b)
