"""The outcome of training: arrays of every lane.

Axis letters: P rows, L lanes a row, N features, D neurons.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from polyjax.toy.model import EMBEDDING, Model, Parameters, embeds_by_parameter, one_model


class Outcome(NamedTuple):
    """Lanes after training, [P, L, ...]."""

    capacity: np.ndarray  # [P, L, N]
    rank_loss: np.ndarray  # [P, L], by which restarts and solutions of a cell are chosen
    loss: np.ndarray  # [P, L], on independent samples
    loss_se: np.ndarray  # [P, L]
    settled: np.ndarray  # [P, L], bool: finite and settled
    # The model's parameters by name, each [P, L, ...]; and EMBEDDING [P, L, D, N], unless that is the parameter W.
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


def parameter_names(model: Model) -> tuple[str, ...]:
    """Return the names of `Outcome.params`."""
    return *one_model(model)._fields, *(() if embeds_by_parameter(model) else (EMBEDDING,))


def array_names(model: Model) -> tuple[str, ...]:
    """Return the names of `Outcome.arrays`."""
    return *Outcome._fields[:-1], *parameter_names(model)


def by_name(params: Parameters, embedding: Any | None = None) -> dict[str, Any]:
    """Return parameters by name, with the embedding beside them where it is given."""
    return params._asdict() | ({} if embedding is None else {EMBEDDING: embedding})


def of_names(params: Mapping[str, Any], one: Parameters) -> Parameters:
    """Return parameters by name as the model's NamedTuple, as `one` network has it."""
    return one._replace(**{name: params[name] for name in one._fields})
