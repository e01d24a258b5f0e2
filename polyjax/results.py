"""Results of a sweep: labelled arrays, the rule that combines restarts, and one file that outlives the session.

Axes: those of the grid, by name [*axes], then restart R, neuron D and feature N. See `Results`.
"""

import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import ArrayLike

from polyjax import files, labels, summary
from polyjax.axes import Axes
from polyjax.cell import Cell, features_of
from polyjax.checks import a_path, is_number, known, require
from polyjax.toy.features import Features
from polyjax.toy.model import EMBEDDING

if TYPE_CHECKING:
    from polyjax.sweep import Sweep

# 1 had no "attempt", 2 no "rank_loss" (`loss` chose the restarts), 3 called `settled` "converged", and all of them had
# the axes density and importance alone.
FORMAT = 5
RULES = ("best", "mean", "drop_worst", "refined")
OF_LANES = ("capacity", "rank_loss", "loss", "loss_se", "settled", "attempt")  # [*axes, R, ...]
AXIS, REFINED = "axis_", "refined_"  # before the names of axes and of the refined diagram's arrays, in a file


def parameter(params: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return a parameter by name. Raises AttributeError, with the names of those that are there, for another one."""
    if name not in params:
        raise AttributeError(f"these networks have no parameter {name}, but {', '.join(params)}")
    return params[name]


def embedding_of(params: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the embeddings [..., D, N] among parameters: the parameter W, unless the model has others."""
    return parameter(params, EMBEDDING if EMBEDDING in params else "W")


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

    def each(self, f: Callable[[np.ndarray], np.ndarray]) -> "Refined":
        """Return the same with `f` of every array."""
        return Refined.of({name: f(a) for name, a in self.arrays().items()})

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays that are known by name, those of parameters too."""
        own = self._asdict()
        return {name: a for name, a in (own | own.pop("params")).items() if a is not None}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> "Refined":
        """Return the diagram whose `arrays` these are."""
        own = {name: a for name, a in arrays.items() if name in cls._fields}
        return cls(**own, params={name: a for name, a in arrays.items() if name not in own})


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """The outcome of a sweep, every restart of every cell."""

    axes: Mapping[str, np.ndarray]  # the values of every axis, by name, in the order of the arrays' axes
    capacity: np.ndarray  # [*axes, R, N], in [0, 1] (eq. 3)
    rank_loss: np.ndarray  # [*axes, R], on one large common batch after training: by which restarts are chosen
    loss: np.ndarray  # [*axes, R], on another, independent one
    loss_se: np.ndarray  # [*axes, R], the standard error of `loss`
    settled: np.ndarray  # [*axes, R], bool: finite and settled
    attempt: np.ndarray  # [*axes, R], uint8: 0, or which retry it was (see `attempts`)
    # The model's parameters by name, [*axes, R, ...], such as W [*axes, R, D, N], and the "embedding" if that is none.
    params: Mapping[str, np.ndarray]
    config: dict[str, Any]  # what was run, JSON-serialisable (see `Sweep.describe`), and its provenance
    refined: Refined | None = None  # where the sweep was told to refine

    @property
    def W(self) -> np.ndarray:
        """The parameter of this name, [*axes, R, D, N] in the paper's models."""
        return parameter(self.params, "W")

    @property
    def b(self) -> np.ndarray:
        """The parameter of this name, the bias, [*axes, R] or [*axes, R, N] in the paper's models."""
        return parameter(self.params, "b")

    @property
    def embedding(self) -> np.ndarray:
        """The embedding of every network, [*axes, R, D, N]; W in the paper's models."""
        return embedding_of(self.params)

    @classmethod
    def of_run(
        cls, axes: Axes, arrays: Mapping[str, np.ndarray], config: dict[str, Any], refined: Refined | None
    ) -> "Results":
        """Return the results of a run whose arrays are [P, V, ...], row by row and column by column."""
        values = {name: np.asarray(value, np.float64) for name, value in axes.values.items()}
        unfolded = {name: axes.unfolded(a) for name, a in arrays.items()}
        return cls.of(values, unfolded, config, refined and refined.each(axes.unfolded))

    @classmethod
    def of(
        cls,
        axes: Mapping[str, np.ndarray],
        arrays: Mapping[str, np.ndarray],
        config: dict[str, Any],
        refined: Refined | None,
    ) -> "Results":
        """Return the results whose `arrays` these are."""
        own = {name: arrays[name] for name in OF_LANES}
        params = {name: a for name, a in arrays.items() if name not in own}
        return cls(axes, **own, params=params, config=config, refined=refined)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays of networks by name, those of parameters too."""
        return {name: getattr(self, name) for name in OF_LANES} | {**self.params}

    @property
    def density(self) -> np.ndarray:
        """The values of the axis of this name: the probability that a feature is non-zero."""
        return self._axis("density")

    @property
    def importance(self) -> np.ndarray:
        """The values of the axis of this name; in the paper's grid the importance of feature 0."""
        return self._axis("importance")

    def _axis(self, name: str) -> np.ndarray:
        if name not in self.axes:
            raise AttributeError(f"these results have no axis {name}, but {', '.join(self.axes)}")
        return self.axes[name]

    def __repr__(self) -> str:
        return summary.line("Results", summary.of_results(self))

    def _repr_png_(self) -> bytes:
        """Return a diagram for notebooks."""
        from polyjax.draw import glance  # which loads matplotlib

        return glance.png(self)

    def _repr_html_(self) -> str:
        """Return a table and the diagram for notebooks, most of which show one representation alone."""
        return summary.html("Results", summary.of_results(self), self._repr_png_())

    def to_xarray(self) -> Any:
        """Return the arrays as an `xarray.Dataset` (extra `xarray`): dimensions are the axes by name, "restart",
        "neuron" and "feature"; the refined diagram's arrays begin with "refined_". Raises ImportError without
        xarray."""
        return labels.to_xarray(self)

    def nearest(self, /, **coordinates: float) -> tuple[int, ...]:
        """Return the place of the cell that is nearest to the coordinates, one for every axis. Raises ValueError where
        an axis is left out, or there is none of that name."""
        known(coordinates, [*self.axes], {}, "results")
        for name in self.axes:
            require(name in coordinates, name, "be given, as every axis", None)
            value = coordinates[name]
            require(is_number(value) and np.isfinite(value), name, "be a finite number", value)
        return tuple(int(np.argmin(abs(values - coordinates[name]))) for name, values in self.axes.items())

    def sel(self, /, **coordinates: float) -> Cell:
        """Return the cell that is nearest to the coordinates, such as `sel(density=0.1, decay=0.7)`; its own are in its
        `coordinates`. Raises the errors of `nearest`."""
        return Cell.of(self, self.nearest(**coordinates))

    def features(self, cell: Cell, sweep: "Sweep | None" = None) -> Features:
        """Return the features of a cell: their importance and density ([] where they have it in common, else [N]),
        distribution and activity.

        The sweep that the results were made of is needed where its features or distribution are the user's own. Raises
        ValueError where it is left out then, or is another.
        """
        require(isinstance(cell, Cell), "cell", "be a cell of these results, such as sel returns", cell)
        return features_of(cell, self.config, sweep)

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
        # Of capacities all are NaN or none, and where there are sizes only feature 0 is in every network.
        finite = np.isfinite(self.loss) & np.isfinite(self.rank_loss) & np.isfinite(self.capacity[..., 0])
        if rule == "best":
            return self._best(finite)
        settled = finite & self.settled
        return self._mean(settled if rule == "mean" else settled & ~_worst(self.rank_loss, settled))

    def _best(self, finite: np.ndarray) -> Selection:
        r = np.where(finite, self.rank_loss, np.inf).argmin(-1)
        found = finite.any(-1)

        def pick(a: np.ndarray) -> np.ndarray:
            """[*axes, R, ...] -> [*axes, ...]"""
            index = r.reshape(*r.shape, *(1,) * (a.ndim - r.ndim))
            chosen = np.take_along_axis(a, index, axis=r.ndim).squeeze(r.ndim)
            empty = False if a.dtype == bool else np.nan
            return np.where(found.reshape(*r.shape, *(1,) * (chosen.ndim - r.ndim)), chosen, empty)

        of_networks = {name: pick(getattr(self, name)) for name in Selection._fields if name != "params"}
        return Selection(**of_networks, params={name: pick(a) for name, a in self.params.items()})

    def _mean(self, used: np.ndarray) -> Selection:
        count = used.sum(-1)

        def mean(a: np.ndarray) -> np.ndarray:
            """[*axes, R, ...] -> [*axes, ...], NaN where nothing is used"""
            extra = (1,) * (a.ndim - used.ndim)
            total = np.where(used.reshape(*used.shape, *extra), a, 0).sum(used.ndim - 1)
            n = count.reshape(*count.shape, *extra)
            return np.where(n > 0, total / np.maximum(n, 1), np.nan)

        means = (mean(a) for a in (self.capacity, self.rank_loss, self.loss, self.loss_se))
        capacity, rank_loss, loss, loss_se = means
        return Selection(capacity, rank_loss, loss, loss_se, count > 0, None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the `.npz` in one step: a reader sees the old file or the whole new one, never a part."""
        path = a_path(path)
        files.make_folder(path.parent)
        arrays = {name: Parts.of(a) for name, a in self.arrays().items()}
        write(path, self.config, self.axes, [*self.axes], arrays, self.refined)


class Parts(NamedTuple):
    """An array that is written part by part, so that it need not be in memory as a whole."""

    arrays: Iterable[np.ndarray]  # along the first axis, at least one
    axes: tuple[int, ...] = ()  # the lengths that the whole has in place of the first `replaced` axes
    replaced: int = 0

    @classmethod
    def of(cls, array: np.ndarray) -> "Parts":
        return cls([array])


def write(
    path: Path,
    config: Mapping[str, Any],
    axes: Mapping[str, ArrayLike],
    stored: Sequence[str],
    arrays: Mapping[str, Parts],
    refined: Refined | None,
    beside: Path | None = None,
) -> None:
    """Write a results file in one step. The axes of all arrays are in the order `stored`; `beside` is where the file is
    until it is whole (see `files.write`)."""
    params = [name for name in arrays if name not in OF_LANES]
    values = {f"{AXIS}{name}": Parts.of(np.asarray(a, np.float64)) for name, a in axes.items()}
    arrays = values | {**arrays}
    if refined is not None:
        arrays |= {f"{REFINED}{name}": Parts.of(a) for name, a in refined.arrays().items()}
    order = {"format": FORMAT, "arrays": [*arrays], "order": [*axes], "stored": [*stored], "parameters": params}
    text = np.array(json.dumps(order | {**config}, sort_keys=True))

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
            shape = *parts.axes, *part.shape[parts.replaced :]
            header = npy.header_data_from_array_1_0(part) | {"shape": shape}
            npy.write_array_header_1_0(member, header | {"fortran_order": False})
        member.write(np.ascontiguousarray(part).data)


# Of the arrays in a file beside the axes; `settled` was "converged" before format 4, and two axes had their names.
_BEFORE = {"converged", "refined_converged", "density", "importance"}


def load(path: str | os.PathLike[str]) -> Results:
    """Read a file that `Results.save` wrote. Raises FileNotFoundError, or ValueError where the file is truncated, is
    not a polyjax results file, has another format, or holds arrays whose shapes do not fit together."""
    with _whole(path):
        config = _read_config(files.arrays(path, ["config"]))
        order = [str(name) for name in config.get("order", [])]
        stored, params = ([str(name) for name in config.pop(key, [])] for key in ("stored", "parameters"))
        params = params or ["W", "b"]  # of the paper's models, whose were the only ones
        of_cells = [*(name for name in Refined._fields if name != "params"), *params]
        names = {*_BEFORE, *OF_LANES, *params, *(f"{REFINED}{name}" for name in of_cells)}
        file = files.arrays(path, [*names, *(f"{AXIS}{name}" for name in order)])
        # zip has no checksum of its list
        missing = [name for name in config.pop("arrays", []) if name in names and name not in file]
        version = config.pop("format")
        _update(version, config, file)
        if version < 5:
            order = stored = config["order"]
        needed = [*(f"{AXIS}{name}" for name in order), *OF_LANES, *params]
        if missing := missing or [name for name in needed if name not in file]:
            raise ValueError(f"it has no {', '.join(missing)}")
        results = _in_order(order, stored, params, config, file)
        _check_shapes(results)
    return results


def _in_order(
    order: list[str], stored: list[str], params: list[str], config: dict[str, Any], file: dict[str, np.ndarray]
) -> Results:
    """Return the results in a file, with the axes of its arrays in their order."""
    if sorted(order) != sorted(stored) or not order:
        raise ValueError("its axes do not fit together")

    def moved(a: np.ndarray) -> np.ndarray:
        return np.moveaxis(a, range(len(order)), [order.index(name) for name in stored])

    arrays = {name: moved(file[name]) for name in (*OF_LANES, *params)}
    of_cells = {name.removeprefix(REFINED): moved(a) for name, a in file.items() if name.startswith(REFINED)}
    axes = {name: file[f"{AXIS}{name}"] for name in order}
    return Results.of(axes, arrays, config, Refined.of(of_cells) if of_cells else None)


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
    if version < 5:
        both = ("density", "importance")
        file |= {f"{AXIS}{name}": file.pop(name) for name in both if name in file}
        if all(name in config for name in both):
            config["axes"] = {name: config.pop(name) for name in both}
        config["order"] = [*both]


def configuration(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the configuration in a results file, without its arrays. Raises the errors of `load`."""
    with _whole(path):
        config = _read_config(files.arrays(path, ["config"]))
    _update(config["format"], config, {})
    return {key: value for key, value in config.items() if key not in ("format", "arrays", "stored", "parameters")}


@contextmanager
def _whole(path: str | os.PathLike[str]) -> Iterator[None]:
    """A damaged file can fail in any of the layers that read it."""
    path = a_path(path)
    try:
        if path.is_dir():
            raise ValueError("it is a folder")
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
    """Return [*axes, R] bool: the finite restart of highest loss, where a cell has more than one."""
    r = np.where(finite, loss, -np.inf).argmax(-1)
    worst = np.arange(loss.shape[-1]) == r[..., None]
    return worst & (finite.sum(-1, keepdims=True) > 1)


def _check_shapes(results: Results) -> None:
    cells = tuple(n for values in results.axes.values() for n in values.shape)
    *_, R, N = results.capacity.shape
    lanes, W = (*cells, R), results.embedding
    expected = dict.fromkeys(("rank_loss", "loss", "loss_se", "settled", "attempt"), lanes) | {"capacity": (*lanes, N)}
    fit = all(getattr(results, name).shape == shape for name, shape in expected.items())
    fit &= W is not None and W.ndim == len(lanes) + 2 and W.shape[-1] == N
    if not fit or any(a.shape[: len(lanes)] != lanes for a in results.params.values()):
        raise ValueError("its arrays do not fit together")
    if results.refined is not None:
        best = results.select("best")
        expected = {name: a.shape for name, a in (best._asdict() | (best.params or {})).items() if name != "params"}
        expected |= {"gain": cells}
        shapes = {name: a.shape for name, a in results.refined.arrays().items()}
        of_polish = [shapes.pop(name)[: len(cells)] for name in ("excess", "spectrum") if name in shapes]
        if shapes != expected or any(shape != cells for shape in of_polish):
            raise ValueError("its refined arrays do not fit the others")
