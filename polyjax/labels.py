"""Results as labelled arrays of xarray."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from polyjax.results import Results

Names = tuple[str, ...]

# Axes after those of the grid and the restart.
OF_NETWORK: dict[str, Names] = {
    "capacity": ("feature",),
    "embedding": ("neuron", "feature"),
    "spectrum": ("parameter",),
    "snapshot_capacity": ("step", "feature"),
    "snapshot_loss": ("step",),
    "snapshot_embedding": ("step", "neuron", "feature"),
}


def to_xarray(results: Results) -> Any:
    """Return an `xarray.Dataset` of results (see `Results.to_xarray`)."""
    try:
        import xarray
    except ImportError as error:
        raise ImportError("to_xarray needs xarray: pip install 'polyjax[xarray]'") from error
    axes = tuple(results.axes)
    arrays = {name: _labelled(results, name, (*axes, "restart"), a) for name, a in results.arrays().items()}
    if results.refined is not None:
        of_cells = results.refined.arrays().items()
        arrays |= {f"refined_{name}": _labelled(results, name, axes, a) for name, a in of_cells}
    coordinates = {name: np.asarray(values) for name, values in results.axes.items()}
    if results.snapshots is not None:
        coordinates["step"] = results.snapshots.steps
    return xarray.Dataset(arrays, coordinates, {"config": json.dumps(results.config)})


def _labelled(results: Results, name: str, before: Names, a: np.ndarray) -> tuple[Names, np.ndarray]:
    """Return the names of an array's axes, and the array."""
    after = OF_NETWORK.get(name, ())
    if name in results.params and name != "embedding":
        *_, N = results.capacity.shape
        *_, D, _ = results.embedding.shape
        axes = a.shape[len(before) :]
        known = {(D,): ("neuron",), (N,): ("feature",), (N, D): ("feature", "neuron"), (D, N): ("neuron", "feature")}
        after = known.get(axes) or tuple(f"{name}_{i}" for i in range(len(axes)))
    return (*before, *after), a
