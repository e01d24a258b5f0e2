"""The outcome of training: arrays of every lane.

Axis letters: P rows, L lanes a row, N features, D neurons.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from polyjax.embedding.capacity import capacities
from polyjax.engine import cells
from polyjax.engine.cells import Coordinates, OfAxes, at, names_of
from polyjax.engine.training import SETTLED
from polyjax.toy.model import EMBEDDING, SNAPSHOT, Model, Parameters, embeds_by_parameter, one_model

if TYPE_CHECKING:
    from polyjax.engine.evaluation import Evaluated
    from polyjax.engine.training import Trained, Training


class Outcome(NamedTuple):
    """Lanes after training, [P, L, ...]."""

    capacity: np.ndarray  # [P, L, N]
    rank_loss: np.ndarray  # [P, L], by which restarts and solutions of a cell are chosen
    loss: np.ndarray  # [P, L], on independent samples
    loss_se: np.ndarray  # [P, L]
    settled: np.ndarray  # [P, L], bool: finite and settled
    # The model's parameters by name, each [P, L, ...]; EMBEDDING [P, L, D, N], unless that is the parameter W; and the
    # arrays of `snapshot_names`, each [P, L, K, ...], where lanes were trained with snapshots.
    params: dict[str, Any]

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Outcome:
        """Return the outcome whose `arrays` these are."""
        own = {name: arrays[name] for name in cls._fields[:-1]}
        return cls(**own, params={name: a for name, a in arrays.items() if name not in own})

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by name, those of parameters too."""
        own = self._asdict()
        return own | own.pop("params")


def embeddings(model: Model | OfAxes, params: Parameters, lane: Coordinates) -> Array:
    """Return the embeddings [P, L, D, N] of parameters [P, L, ...] at the coordinates [P, L] of lanes."""
    if embeds_by_parameter(cells.example(model)):
        return params.W
    return _embedded(model, params, {name: lane[name] for name in names_of(model)})


@partial(jax.jit, static_argnums=0)
def _embedded(model: Model | OfAxes, params: Parameters, lane: Coordinates) -> Array:
    return jax.vmap(jax.vmap(lambda params, lane: at(model, lane).embedding(params)))(params, lane)


@partial(jax.jit, static_argnums=0)
def measure(model: Model | OfAxes, trained: Trained, lane: Coordinates) -> tuple[Array, Array]:
    """Return capacities [P, L, N], and whether a lane is finite and has settled: in the second half of training no
    capacity moved by more than SETTLED, and the length of the whole embedding by no more than that, relatively."""
    both = [embeddings(model, params, lane) for params in trained[:2]]
    end, half_way = map(capacities, both)
    length, before = (jnp.sqrt((W**2).sum((-2, -1))) for W in both)
    longest = jnp.maximum(length, before)
    stretched = jnp.where(longest > 0, jnp.abs(length - before) / longest, 0)  # a model may do best with no weights
    moved = jnp.maximum(jnp.abs(end - half_way).max(-1), stretched)
    finite = [jnp.isfinite(a).reshape(*a.shape[:2], -1).all(-1) for a in (end, *trained.end)]
    return end, jnp.stack(finite).all(0) & (moved <= SETTLED)


def outcome_of(
    fixed: Training,
    end: Parameters,
    lane: Coordinates,
    evaluated: Evaluated,
    settled: ArrayLike = True,
    capacity: Array | None = None,
    snapshots: Mapping[str, Array] | None = None,
) -> Outcome:
    """Return the outcome of parameters [P, L, ...] that were evaluated, on the host; their capacity is computed unless
    it is given. Lanes whose loss is not finite have not settled."""
    W = embeddings(fixed.model, end, lane)
    params = by_name(end, None if embeds_by_parameter(fixed.one_model) else W) | {**(snapshots or {})}
    capacity = capacities(W) if capacity is None else capacity
    found = Outcome(*jax.device_get((capacity, *evaluated, settled, params)))
    return found._replace(settled=found.settled & np.isfinite(found.loss) & np.isfinite(found.rank_loss))


def parameter_names(model: Model) -> tuple[str, ...]:
    """Return the names of `Outcome.params`."""
    return *one_model(model)._fields, *(() if embeds_by_parameter(model) else (EMBEDDING,))


def array_names(model: Model) -> tuple[str, ...]:
    """Return the names of `Outcome.arrays`."""
    return *Outcome._fields[:-1], *parameter_names(model)


def snapshot_names(weights: bool) -> tuple[str, ...]:
    """Return the names of the arrays of snapshots."""
    return (*(f"{SNAPSHOT}{name}" for name in ("capacity", "loss", *(["embedding"] if weights else []))),)


def by_name(params: Parameters, embedding: Any | None = None) -> dict[str, Any]:
    """Return parameters by name, with the embedding beside them where it is given."""
    return params._asdict() | ({} if embedding is None else {EMBEDDING: embedding})


def of_names(params: Mapping[str, Any], one: Parameters) -> Parameters:
    """Return parameters by name as the model's NamedTuple, as `one` network has it."""
    return one._replace(**{name: params[name] for name in one._fields})
