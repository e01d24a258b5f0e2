"""Results of a sweep: labelled arrays, the diagrams that are made of them, and one file that outlives the session.

Axes: those of the grid, by name [*axes], then restart R, neuron D and feature N. See `Results`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polyjax import archive, files, labels, selection, summary
from polyjax.archive import Parts
from polyjax.cell import Cell, features_of
from polyjax.checks import a_path, known, number, one_of, require
from polyjax.selection import OF_LANES, RULES, Refined, Selection, Snapshots, embedding_of, is_parameter, parameter
from polyjax.toy.model import EMBEDDING

if TYPE_CHECKING:
    from polyjax.axes import Axes
    from polyjax.sweep import Sweep
    from polyjax.toy.features import Features


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
    params: Mapping[str, np.ndarray]  # by name, [*axes, R, ...], such as W [*axes, R, D, N], and the "embedding" if
    # that is none of them
    config: dict[str, Any]  # what was run, JSON-serialisable (see `Sweep.describe`), and its provenance
    refined: Refined | None = None  # where the sweep was told to refine
    snapshots: Snapshots | None = None  # where the sweep was told to take some

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
    ) -> Results:
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
    ) -> Results:
        """Return the results whose `arrays` these are."""
        own = {name: arrays[name] for name in OF_LANES}
        params = {name: a for name, a in arrays.items() if is_parameter(name)}
        looks = Snapshots.of((config.get("snapshots") or {}).get("steps", []), arrays)
        return cls(axes, **own, params=params, config=config, refined=refined, snapshots=looks)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays of networks by name, those of parameters and snapshots too."""
        looks = self.snapshots.arrays() if self.snapshots else {}
        return {name: getattr(self, name) for name in OF_LANES} | {**self.params} | looks

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
            number(name, coordinates[name])
        return tuple(int(np.argmin(abs(values - coordinates[name]))) for name, values in self.axes.items())

    def sel(self, /, **coordinates: float) -> Cell:
        """Return the cell that is nearest to the coordinates, such as `sel(density=0.1, decay=0.7)`; its own are in its
        `coordinates`. Raises the errors of `nearest`."""
        return Cell.of(self, self.nearest(**coordinates))

    def features(self, cell: Cell, sweep: Sweep | None = None) -> Features:
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
        one_of("rule", rule, RULES)
        if rule == "refined":
            if self.refined is None:
                raise ValueError("rule must not be refined for results of a sweep that did not refine")
            return Selection(**{name: getattr(self.refined, name) for name in Selection._fields})
        arrays = self.arrays()
        return selection.best(arrays) if rule == "best" else selection.mean(arrays, drop_worst=rule == "drop_worst")

    def by_step(self) -> Results:
        """Return the networks on their way, with "step" as one more axis, the last: capacities, losses and, where they
        were kept, embeddings after the steps of every snapshot. What is known of the end alone is the same at all
        steps: by which loss restarts are chosen, whether they settled, and which attempt they are. A snapshot's loss
        has no standard error.

        Raises ValueError where there are no snapshots, or an axis has that name.
        """
        looks, cells = Snapshots.needed(self.snapshots), len(self.axes)
        require("step" not in self.axes, "axes", "name none of them step, which is to be another", [*self.axes])
        steps = len(looks.steps)

        def along(a: np.ndarray) -> np.ndarray:
            """[*axes, R, K, ...] -> [*axes, K, R, ...]"""
            return np.moveaxis(a, cells + 1, cells)

        arrays = {name: along(np.repeat(getattr(self, name)[..., None], steps, -1)) for name in OF_LANES[1:]}
        arrays |= {"capacity": along(looks.capacity), "loss": along(looks.loss)}
        arrays["loss_se"] = np.full_like(arrays["loss"], np.nan)
        if looks.embedding is not None:
            arrays[EMBEDDING if EMBEDDING in self.params else "W"] = along(looks.embedding)
        config = {name: value for name, value in self.config.items() if name != "snapshots"}
        return Results.of({**self.axes, "step": looks.steps.astype(float)}, arrays, config, None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the `.npz` in one step: a reader sees the old file or the whole new one, never a part."""
        path = a_path(path)
        files.make_folder(path.parent)
        arrays = {name: Parts.of(a) for name, a in self.arrays().items()}
        archive.write(path, self.config, self.axes, [*self.axes], arrays, self.refined)


def load(path: str | os.PathLike[str]) -> Results:
    """Read a file that `Results.save` wrote. Raises FileNotFoundError, or ValueError where the file is truncated, is
    not a polyjax results file, has another format, or holds arrays whose shapes do not fit together."""
    return Results.of(*archive.read(path))
