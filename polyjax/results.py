"""Results of a sweep: labelled arrays, the rule that combines restarts, and one file that outlives the session.

Axes: density P (rows), importance V (columns), restart R, then neuron D and feature N. See `Results`.
"""

import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from polyjax import files

FORMAT = 4  # 1 had no "attempt", 2 no "rank_loss" (`loss` chose the restarts), and 3 called `settled` "converged"
RULES = ("best", "mean", "drop_worst", "refined")
OF_LANES = ("capacity", "rank_loss", "loss", "loss_se", "W", "b", "settled", "attempt")  # [P, V, R, ...]
_ARRAYS = ("density", "importance", *OF_LANES)


class Selection(NamedTuple):
    """A diagram without the restart axis. A cell in which no restart could be used holds NaN and is not settled."""

    capacity: np.ndarray  # [P, V, N], in [0, 1]
    rank_loss: np.ndarray  # [P, V]; by which it was chosen (best), or the mean
    loss: np.ndarray  # [P, V]
    loss_se: np.ndarray  # [P, V]; of the one loss (best), or the mean of the standard errors (an upper bound)
    settled: np.ndarray  # [P, V], bool: every restart that was used had settled
    W: np.ndarray | None  # [P, V, D, N]; None where the rule averages, since weights have no mean
    b: np.ndarray | None  # [P, V] or [P, V, N]; None where the rule averages


class Refined(NamedTuple):
    """The diagram of the best restarts after its cells were continued from their neighbours and polished, as the sweep
    was told (see `refinement` and `polishing`)."""

    capacity: np.ndarray  # [P, V, N]
    rank_loss: np.ndarray  # [P, V]
    loss: np.ndarray  # [P, V]
    loss_se: np.ndarray  # [P, V]
    settled: np.ndarray  # [P, V], bool; of polished cells: a certified minimum (see `certificate`)
    W: np.ndarray  # [P, V, D, N]
    b: np.ndarray  # [P, V] or [P, V, N]
    gain: np.ndarray  # [P, V]: by how much `rank_loss` fell; 0 in the cells that did not change
    excess: np.ndarray | None = None  # [P, V], of polished cells (see `certificate.Certificate`)
    spectrum: np.ndarray | None = None  # [P, V, n], likewise


@dataclass(frozen=True, eq=False)
class Results:
    """The outcome of a sweep, every restart of every cell."""

    density: np.ndarray  # [P], the probability that a feature is non-zero
    importance: np.ndarray  # [V], of feature 0; the other features have importance 1
    capacity: np.ndarray  # [P, V, R, N], in [0, 1] (eq. 3)
    rank_loss: np.ndarray  # [P, V, R], on one large common batch after training: by which restarts are chosen
    loss: np.ndarray  # [P, V, R], on another, independent one
    loss_se: np.ndarray  # [P, V, R], the standard error of `loss`
    W: np.ndarray  # [P, V, R, D, N]
    b: np.ndarray  # [P, V, R] or [P, V, R, N]
    settled: np.ndarray  # [P, V, R], bool: finite and settled
    attempt: np.ndarray  # [P, V, R], uint8: 0, or which retry it was (see `attempts`)
    config: dict[str, Any]  # what was run, JSON-serialisable (see `Sweep.describe`), and its provenance
    refined: Refined | None = None  # where the sweep was told to refine

    def select(self, rule: str = "best") -> Selection:
        """Return the diagram by one rule over restarts: `best` takes the restart of lowest loss, settled or not; `mean`
        averages all that have settled, and `drop_worst` all of these but the one of highest loss (Elhage et al. 2022);
        `refined` is `best` after refining. Restarts that ended in infinities or NaN are never used."""
        if rule not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}, but is {rule!r}")
        if rule == "refined":
            if self.refined is None:
                raise ValueError("rule must not be refined for results of a sweep that did not refine")
            return Selection(**{name: getattr(self.refined, name) for name in Selection._fields})
        finite = np.isfinite(self.loss) & np.isfinite(self.rank_loss) & np.isfinite(self.capacity).all(-1)
        if rule == "best":
            return self._best(finite)
        settled = finite & self.settled
        return self._mean(settled if rule == "mean" else settled & ~_worst(self.rank_loss, settled))

    def _best(self, finite: np.ndarray) -> Selection:
        r = np.where(finite, self.rank_loss, np.inf).argmin(-1)
        found = finite.any(-1)

        def pick(a: np.ndarray) -> np.ndarray:
            """[P, V, R, ...] -> [P, V, ...]"""
            index = r.reshape(*r.shape, *(1,) * (a.ndim - 2))
            chosen = np.take_along_axis(a, index, axis=2)[:, :, 0]
            empty = False if a.dtype == bool else np.nan
            return np.where(found.reshape(*r.shape, *(1,) * (a.ndim - 3)), chosen, empty)

        fields = (self.capacity, self.rank_loss, self.loss, self.loss_se, self.settled, self.W, self.b)
        return Selection(*map(pick, fields))

    def _mean(self, used: np.ndarray) -> Selection:
        count = used.sum(-1)

        def mean(a: np.ndarray) -> np.ndarray:
            """[P, V, R, ...] -> [P, V, ...], NaN where nothing is used"""
            extra = (1,) * (a.ndim - 3)
            total = np.where(used.reshape(*used.shape, *extra), a, 0).sum(2)
            n = count.reshape(*count.shape, *extra)
            return np.where(n > 0, total / np.maximum(n, 1), np.nan)

        means = (mean(a) for a in (self.capacity, self.rank_loss, self.loss, self.loss_se))
        capacity, rank_loss, loss, loss_se = means
        return Selection(capacity, rank_loss, loss, loss_se, count > 0, None, None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the `.npz` in one step: a reader sees the old file or the whole new one, never a part."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: Parts.of(getattr(self, name)) for name in _ARRAYS}
        write(path, self.config, arrays, self.refined)


class Parts(NamedTuple):
    """An array that is written part by part, so that it need not be in memory as a whole."""

    length: int  # of the first axis
    arrays: Iterable[np.ndarray]  # along the first axis, at least one

    @classmethod
    def of(cls, array: np.ndarray) -> "Parts":
        return cls(len(array), [array])


def write(
    path: Path,
    config: Mapping[str, Any],
    arrays: Mapping[str, Parts],
    refined: Refined | None,
    beside: Path | None = None,
) -> None:
    """Writes a results file in one step; `beside` is where it is until it is whole (see `files.write`)."""
    if refined is not None:
        arrays = {**arrays} | {f"refined_{name}": Parts.of(a) for name, a in refined._asdict().items() if a is not None}
    text = np.array(json.dumps({"format": FORMAT, "arrays": [*arrays], **config}, sort_keys=True))

    def content(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            with archive.open("config.npy", "w") as member:
                npy.write_array(member, text, allow_pickle=False)
            for name, parts in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    _write_parts(member, parts)

    files.write(path, content, beside)


def _write_parts(member: IO[bytes], parts: Parts) -> None:
    """Write the `.npy` of an array that is known part by part."""
    for i, part in enumerate(parts.arrays):
        if i == 0:
            header = npy.header_data_from_array_1_0(part) | {"shape": (parts.length, *part.shape[1:])}
            npy.write_array_header_1_0(member, header | {"fortran_order": False})
        member.write(np.ascontiguousarray(part).data)


# Of the arrays in a file; `settled` was "converged" before format 4.
_NAMES = {"config", "converged", "refined_converged", *_ARRAYS, *(f"refined_{name}" for name in Refined._fields)}


def load(path: str | os.PathLike[str]) -> Results:
    """Read a file that `Results.save` wrote. Raises FileNotFoundError, or ValueError where the file is truncated, is
    not a polyjax results file, has another format, or holds arrays whose shapes do not fit together."""
    with _whole(path):
        file = files.arrays(path, _NAMES)
        config = _read_config(file)
        missing = [
            name for name in config.pop("arrays", []) if name in _NAMES and name not in file
        ]  # zip has no checksum of its list
        _update(config.pop("format"), config, file)
        if missing := missing or [name for name in _ARRAYS if name not in file]:
            raise ValueError(f"it has no {', '.join(missing)}")
        arrays = {name: file[name] for name in _ARRAYS}
        of_cells = {name: file[f"refined_{name}"] for name in Refined._fields if f"refined_{name}" in file}
        found = Refined(**of_cells) if of_cells else None
        results = Results(**arrays, config=config, refined=found)
        _check_shapes(results)
    return results


def _update(version: int, config: dict[str, Any], file: dict[str, np.ndarray]) -> None:
    """Bring the content of a file of an earlier format up to the present one."""
    if version < 2 and "loss" in file:
        file["attempt"] = np.zeros(file["loss"].shape, np.uint8)
    for prefix in ("", "refined_"):
        if version < 3 and f"{prefix}loss" in file:
            file[f"{prefix}rank_loss"] = file[f"{prefix}loss"]
        if version < 4 and f"{prefix}converged" in file:
            file[f"{prefix}settled"] = file.pop(f"{prefix}converged")
    if version < 4 and "block" in config:
        config["shape"] = config.pop("block")


def configuration(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the configuration in a results file, without its arrays. Raises the errors of `load`."""
    with _whole(path):
        config = _read_config(files.arrays(path, ["config"]))
    return {key: value for key, value in config.items() if key not in ("format", "arrays")}


@contextmanager
def _whole(path: str | os.PathLike[str]) -> Iterator[None]:
    """A damaged file can fail in any of the layers that read it."""
    try:
        if os.path.exists(path) and not zipfile.is_zipfile(path):
            with open(path, "rb") as file:
                raise ValueError("it is truncated" if file.read(2) == b"PK" else "it is no .npz file")
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"path must name a whole polyjax results file, but is {os.fspath(path)!r}: {error}") from error


def _read_config(file: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the configuration in a results file, with "format" and "arrays". Raises ValueError unless it can be
    read."""
    if "config" not in file:
        raise ValueError("it has no config")
    config = json.loads(str(file["config"]))
    version = config.get("format")
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"it is not of format 1 to {FORMAT}")
    if version > FORMAT:
        raise ValueError(f"it is of format {version}, from a newer polyjax; this one reads up to {FORMAT}")
    return config


def _worst(loss: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """Return [P, V, R] bool: the finite restart of highest loss, where a cell has more than one."""
    r = np.where(finite, loss, -np.inf).argmax(-1)
    worst = np.arange(loss.shape[-1]) == r[..., None]
    return worst & (finite.sum(-1, keepdims=True) > 1)


def _check_shapes(results: Results) -> None:
    cells = (*results.density.shape, *results.importance.shape)
    P, V, R, N = results.capacity.shape
    D = results.W.shape[-2] if results.W.ndim == 5 else None
    expected = dict.fromkeys(("rank_loss", "loss", "loss_se", "settled", "attempt"), (P, V, R)) | {"W": (P, V, R, D, N)}
    shapes = {name: getattr(results, name).shape for name in expected}
    if cells != (P, V) or shapes != expected or results.b.shape[:3] != (P, V, R):
        raise ValueError("its arrays do not fit together")
    if results.refined is not None:
        best = results.select("best")
        of_best = [a.shape for a in (*best, results.loss[:, :, 0]) if a is not None]
        of_refined = [a.shape for a in results.refined[: len(of_best)] if a is not None]
        of_polish = [a.shape[:2] for a in results.refined[len(of_best) :] if a is not None]
        if of_refined != of_best or any(shape != (P, V) for shape in of_polish):
            raise ValueError("its refined arrays do not fit the others")
