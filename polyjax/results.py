"""What a sweep returns: labelled arrays, the rule that combines restarts, and one file that outlives the session.

Axes: density P (rows), importance V (columns), restart R, then neuron D and feature N. See `Results`.
"""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FORMAT = 1
RULES = ("best", "mean", "drop_worst", "refined")
_ARRAYS = ("density", "importance", "capacity", "loss", "loss_se", "W", "b", "converged")


class Selection(NamedTuple):
    """A diagram without the restart axis. A cell in which no restart ended finite holds NaN and is not converged."""

    capacity: np.ndarray  # [P, V, N], in [0, 1]
    loss: np.ndarray  # [P, V]
    loss_se: np.ndarray  # [P, V]; of the one loss (best), or the mean of the standard errors (an upper bound)
    converged: np.ndarray  # [P, V], bool: every restart that was used had settled
    W: np.ndarray | None  # [P, V, D, N]; None where the rule averages, since weights have no mean
    b: np.ndarray | None  # [P, V] or [P, V, N]; None where the rule averages


class Refined(NamedTuple):
    """The diagram of the best restarts after its cells were continued from their neighbours (see `refinement`)."""

    capacity: np.ndarray  # [P, V, N]
    loss: np.ndarray  # [P, V]
    loss_se: np.ndarray  # [P, V]
    converged: np.ndarray  # [P, V], bool
    W: np.ndarray  # [P, V, D, N]
    b: np.ndarray  # [P, V] or [P, V, N]
    gain: np.ndarray  # [P, V], >= 0: by how much the loss fell; 0 in the cells that did not change


@dataclass(frozen=True, eq=False)
class Results:
    """The outcome of a sweep, every restart of every cell."""

    density: np.ndarray  # [P], the probability that a feature is non-zero
    importance: np.ndarray  # [V], of feature 0; the other features have importance 1
    capacity: np.ndarray  # [P, V, R, N], in [0, 1] (eq. 3)
    loss: np.ndarray  # [P, V, R], on one large common batch after training
    loss_se: np.ndarray  # [P, V, R], the standard error of `loss`
    W: np.ndarray  # [P, V, R, D, N]
    b: np.ndarray  # [P, V, R] or [P, V, R, N]
    converged: np.ndarray  # [P, V, R], bool: finite and settled
    config: dict[str, Any]  # what was run, JSON-serialisable (see `Sweep.describe`), and its provenance
    refined: Refined | None = None  # where the sweep was told to refine

    def select(self, rule: str = "best") -> Selection:
        """The diagram by one rule over restarts: `best` takes the restart of lowest loss, `mean` averages all, and
        `drop_worst` averages all but the one of highest loss (Elhage et al. 2022), `refined` is `best` after refining.
        Restarts that ended in infinities or NaN are never used."""
        if rule not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}, but is {rule!r}")
        if rule == "refined":
            if self.refined is None:
                raise ValueError("rule must not be refined for results of a sweep that did not refine")
            return Selection(*self.refined[:-1])
        finite = np.isfinite(self.loss) & np.isfinite(self.capacity).all(-1)
        if rule == "best":
            return self._best(finite)
        return self._mean(finite if rule == "mean" else finite & ~_worst(self.loss, finite))

    def _best(self, finite: np.ndarray) -> Selection:
        r = np.where(finite, self.loss, np.inf).argmin(-1)
        found = finite.any(-1)

        def pick(a: np.ndarray) -> np.ndarray:
            """[P, V, R, ...] -> [P, V, ...]"""
            index = r.reshape(*r.shape, *(1,) * (a.ndim - 2))
            chosen = np.take_along_axis(a, index, axis=2)[:, :, 0]
            empty = False if a.dtype == bool else np.nan
            return np.where(found.reshape(*r.shape, *(1,) * (a.ndim - 3)), chosen, empty)

        fields = (self.capacity, self.loss, self.loss_se, self.converged, self.W, self.b)
        return Selection(*map(pick, fields))

    def _mean(self, used: np.ndarray) -> Selection:
        count = used.sum(-1)

        def mean(a: np.ndarray) -> np.ndarray:
            """[P, V, R, ...] -> [P, V, ...], NaN where nothing is used"""
            extra = (1,) * (a.ndim - 3)
            total = np.where(used.reshape(*used.shape, *extra), a, 0).sum(2)
            n = count.reshape(*count.shape, *extra)
            return np.where(n > 0, total / np.maximum(n, 1), np.nan)

        converged = (count > 0) & (self.converged | ~used).all(-1)
        return Selection(mean(self.capacity), mean(self.loss), mean(self.loss_se), converged, None, None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the `.npz` in one step: a reader sees the old file or the whole new one, never a part."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        if self.refined is not None:
            arrays |= {f"refined_{name}": a for name, a in self.refined._asdict().items()}
        config = np.array(json.dumps({"format": FORMAT, **self.config}, sort_keys=True))
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        try:
            with open(temporary, "xb") as file:
                np.savez(file, config=config, **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> Results:
    """Reads a file that `Results.save` wrote. Raises FileNotFoundError, or ValueError where the file is truncated, is
    not a polyjax results file, has another format, or holds arrays whose shapes do not fit together."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            missing = [name for name in (*_ARRAYS, "config") if name not in file]
            if missing:
                raise ValueError(f"it has no {', '.join(missing)}")
            config = json.loads(str(file["config"]))
            if config.pop("format", None) != FORMAT:
                raise ValueError(f"it is not of format {FORMAT}")
            names = [f"refined_{name}" for name in Refined._fields]
            found = Refined(*(file[name] for name in names)) if any(name in file for name in names) else None
            results = Results(**{name: file[name] for name in _ARRAYS}, config=config, refined=found)
        _check_shapes(results)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file can fail in any of the layers that read it
        raise ValueError(f"path must name a whole polyjax results file, but is {os.fspath(path)!r}: {error}") from error
    return results


def _worst(loss: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """[P, V, R] bool: the finite restart of highest loss, where a cell has more than one."""
    r = np.where(finite, loss, -np.inf).argmax(-1)
    worst = np.arange(loss.shape[-1]) == r[..., None]
    return worst & (finite.sum(-1, keepdims=True) > 1)


def _check_shapes(results: Results) -> None:
    cells = (*results.density.shape, *results.importance.shape)
    P, V, R, N = results.capacity.shape
    D = results.W.shape[-2] if results.W.ndim == 5 else None
    expected = {"loss": (P, V, R), "loss_se": (P, V, R), "converged": (P, V, R), "W": (P, V, R, D, N)}
    shapes = {name: getattr(results, name).shape for name in expected}
    if cells != (P, V) or shapes != expected or results.b.shape not in ((P, V, R), (P, V, R, N)):
        raise ValueError("its arrays do not fit together")
    if results.refined is not None:
        best = results.select("best")
        of_best = [a.shape for a in (*best, results.loss[:, :, 0]) if a is not None]
        if [a.shape for a in results.refined] != of_best:
            raise ValueError("its refined arrays do not fit the others")
