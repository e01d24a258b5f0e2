"""One diagram out of all restarts: the rules that combine them, and the diagram that was refined.

Axes: those of the grid, by name [*axes], then restart R, neuron D and feature N.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from polyjax.toy.model import EMBEDDING, SNAPSHOT

Rule = Literal["best", "mean", "drop_worst", "refined"]
RULES: tuple[Rule, ...] = get_args(Rule)
OF_LANES = ("capacity", "rank_loss", "loss", "loss_se", "settled", "attempt")  # [*axes, R, ...]


def parameter(params: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return a parameter by name. Raises AttributeError, with the names of those that are there, for another one."""
    if name not in params:
        raise AttributeError(f"these networks have no parameter {name}, but {', '.join(params)}")
    return params[name]


def embedding_of(params: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the embeddings [..., D, N] among parameters: the parameter W, unless the model has others."""
    return parameter(params, EMBEDDING if EMBEDDING in params else "W")


def is_parameter(name: str) -> bool:
    """Say whether an array of results is one of the model's parameters, or their embedding."""
    return name not in OF_LANES and not name.startswith(SNAPSHOT)


class Snapshots(NamedTuple):
    """Networks on their way: what was looked at after some steps of training."""

    steps: np.ndarray  # [K], from 0 to all
    capacity: np.ndarray  # [*axes, R, K, N], in [0, 1]
    loss: np.ndarray  # [*axes, R, K], on as many samples as some steps take, the same for all restarts and steps
    embedding: np.ndarray | None = None  # [*axes, R, K, D, N], where the sweep was told to keep it

    @classmethod
    def of(cls, steps: Sequence[int], arrays: Mapping[str, np.ndarray]) -> Snapshots | None:
        """Return the snapshots among the arrays of results, if there are any."""
        found = {name.removeprefix(SNAPSHOT): a for name, a in arrays.items() if name.startswith(SNAPSHOT)}
        return cls(np.asarray(steps, int), **found) if found else None

    @classmethod
    def needed(cls, found: Snapshots | None) -> Snapshots:
        """Return the snapshots that results have. Raises ValueError where they have none."""
        if found is None:
            raise ValueError("results must have snapshots, which Sweep(snapshots=20) takes, but have none")
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """Return their arrays by the names that these have among those of results."""
        return {f"{SNAPSHOT}{name}": a for name, a in self._asdict().items() if name != "steps" and a is not None}

    def each(self, f: Callable[[np.ndarray], np.ndarray]) -> Snapshots:
        """Return the same with `f` of every array."""
        embedding = None if self.embedding is None else f(self.embedding)
        return Snapshots(self.steps, f(self.capacity), f(self.loss), embedding)


class Selection(NamedTuple):
    """A diagram without the restart axis. A cell in which no restart could be used holds NaN and is not settled."""

    capacity: np.ndarray  # [*axes, N], in [0, 1]
    rank_loss: np.ndarray  # [*axes]; by which it was chosen (best), or the mean
    loss: np.ndarray  # [*axes]
    loss_se: np.ndarray  # [*axes]; of the one loss (best), or the mean of the standard errors (an upper bound)
    settled: np.ndarray  # [*axes], bool: every restart that was used had settled
    params: dict[str, np.ndarray] | None  # by name, [*axes, ...]; None where the rule averages: weights have no mean

    @property
    def W(self) -> np.ndarray | None:
        """The parameter of this name, [*axes, D, N] in the paper's models."""
        return None if self.params is None else parameter(self.params, "W")

    @property
    def b(self) -> np.ndarray | None:
        """The parameter of this name, the bias, [*axes] or [*axes, N] in the paper's models."""
        return None if self.params is None else parameter(self.params, "b")

    @property
    def embedding(self) -> np.ndarray | None:
        """The embedding of every network, [*axes, D, N]; W in the paper's models."""
        return None if self.params is None else embedding_of(self.params)


class Refined(NamedTuple):
    """The diagram of the best restarts after its cells were continued from their neighbours and polished, as the sweep
    was told (see `refinement` and `polishing`)."""

    capacity: np.ndarray  # [*axes, N]
    rank_loss: np.ndarray  # [*axes]
    loss: np.ndarray  # [*axes]
    loss_se: np.ndarray  # [*axes]
    settled: np.ndarray  # [*axes], bool; of polished cells: a certified minimum (see `certificate`)
    params: dict[str, np.ndarray]  # by name, [*axes, ...]
    gain: np.ndarray  # [*axes]: by how much `rank_loss` fell; 0 in the cells that did not change
    excess: np.ndarray | None = None  # [*axes], of polished cells (see `certificate.Certificate`)
    spectrum: np.ndarray | None = None  # [*axes, n], likewise

    @property
    def W(self) -> np.ndarray:
        """The parameter of this name, [*axes, D, N] in the paper's models."""
        return parameter(self.params, "W")

    @property
    def b(self) -> np.ndarray:
        """The parameter of this name, the bias, [*axes] or [*axes, N] in the paper's models."""
        return parameter(self.params, "b")

    @property
    def embedding(self) -> np.ndarray:
        """The embedding of every network, [*axes, D, N]; W in the paper's models."""
        return embedding_of(self.params)

    def each(self, f: Callable[[np.ndarray], np.ndarray]) -> Refined:
        """Return the same with `f` of every array."""
        return Refined.of({name: f(a) for name, a in self.arrays().items()})

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays that are known by name, those of parameters too."""
        own = self._asdict()
        return {name: a for name, a in (own | own.pop("params")).items() if a is not None}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Refined:
        """Return the diagram whose `arrays` these are."""
        own = {name: a for name, a in arrays.items() if name in cls._fields}
        return cls(**own, params={name: a for name, a in arrays.items() if name not in own})


def best_restart(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return which restart of every cell is `best`, [*axes], and whether there is one, bool."""
    finite = _finite(arrays)
    return np.where(finite, arrays["rank_loss"], np.inf).argmin(-1), np.asarray(finite.any(-1))


def best(arrays: Mapping[str, np.ndarray]) -> Selection:
    """Return the restart of lowest loss in every cell, settled or not, from the `arrays` of results, [*axes, R, ...]
    each. Restarts that ended in infinities or NaN are not used."""
    r, found = best_restart(arrays)

    def pick(a: np.ndarray) -> np.ndarray:
        """[*axes, R, ...] -> [*axes, ...]"""
        index = r.reshape(*r.shape, *(1,) * (a.ndim - r.ndim))
        chosen = np.take_along_axis(a, index, axis=r.ndim).squeeze(r.ndim)
        empty = False if a.dtype == bool else np.nan
        return np.where(found.reshape(*r.shape, *(1,) * (chosen.ndim - r.ndim)), chosen, empty)

    of_networks = {name: pick(arrays[name]) for name in Selection._fields if name != "params"}
    return Selection(**of_networks, params={name: pick(a) for name, a in arrays.items() if is_parameter(name)})


def mean(arrays: Mapping[str, np.ndarray], drop_worst: bool = False) -> Selection:
    """Return the mean over the restarts of every cell that have settled, or over all of these but the one of highest
    loss; see `best`."""
    used = _finite(arrays) & arrays["settled"]
    if drop_worst:
        used &= ~_worst(arrays["rank_loss"], used)
    count = used.sum(-1)

    def of_used(a: np.ndarray) -> np.ndarray:
        """[*axes, R, ...] -> [*axes, ...], NaN where nothing is used"""
        extra = (1,) * (a.ndim - used.ndim)
        total = np.where(used.reshape(*used.shape, *extra), a, 0).sum(used.ndim - 1)
        n = count.reshape(*count.shape, *extra)
        return np.where(n > 0, total / np.maximum(n, 1), np.nan)

    means = (of_used(arrays[name]) for name in ("capacity", "rank_loss", "loss", "loss_se"))
    capacity, rank_loss, loss, loss_se = means
    return Selection(capacity, rank_loss, loss, loss_se, count > 0, None)


def _finite(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return [*axes, R] bool: which restarts can be used. Of capacities all are NaN or none, and where there are sizes
    only feature 0 is in every network."""
    return np.isfinite(arrays["loss"]) & np.isfinite(arrays["rank_loss"]) & np.isfinite(arrays["capacity"][..., 0])


def _worst(loss: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """Return [*axes, R] bool: the finite restart of highest loss, where a cell has more than one."""
    r = np.where(finite, loss, -np.inf).argmax(-1)
    worst = np.arange(loss.shape[-1]) == r[..., None]
    return worst & (finite.sum(-1, keepdims=True) > 1)
