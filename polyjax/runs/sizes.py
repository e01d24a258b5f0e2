"""Results of sweeps of several sizes as one, and the other way round.

Arrays are filled up with NaN where a cell's networks have fewer features or neurons than the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from polyjax.selection import Refined

if TYPE_CHECKING:
    from polyjax.results import Results
    from polyjax.sweep import Sweep

Arrays = dict[str, np.ndarray]


def by_size(sweep: Sweep, train: Callable[[dict[str, float], Sweep], Results]) -> Results:
    """Return the results of a sweep with sizes, from those that `train` returns for each of its sweeps of one size."""
    return merged(sweep, [train(values, part) for values, part in sweep.by_size])


def merged(sweep: Sweep, found: list[Results]) -> Results:
    """Return the results of a sweep with sizes, from those of its sweeps of one size, in their order."""
    axes = {name: np.asarray(values, np.float64) for name, values in sweep.coordinates.items()}
    others = [name for name in axes if name not in sweep.sizes]
    order, lengths = [*sweep.sizes, *others], [len(axes[name]) for name in sweep.sizes]

    def together(*arrays: np.ndarray) -> np.ndarray:
        whole = _filled([*arrays]).reshape(*lengths, *_largest(arrays))
        return np.moveaxis(whole, [order.index(name) for name in axes], range(len(axes)))

    def of_all(arrays: list[Arrays]) -> Arrays:
        return {name: together(*(a[name] for a in arrays)) for name in arrays[0]}

    refined = [results.refined.arrays() for results in found if results.refined is not None]
    config = (
        sweep.describe()
        | ({"source": sweep.sources} if sweep.sources else {})
        | {"made": [_made(results) for results in found]}
    )
    config |= {name: found[0].config[name] for name in ("engine", "provenance")}
    whole = of_all([results.arrays() for results in found])
    return type(found[0]).of(axes, whole, config, Refined.of(of_all(refined)) if refined else None)


def _largest(arrays: tuple[np.ndarray, ...]) -> tuple[int, ...]:
    return tuple(max(lengths) for lengths in zip(*(a.shape for a in arrays), strict=True))


def _filled(arrays: list[np.ndarray]) -> np.ndarray:
    """Return arrays of one number of axes side by side, filled up with NaN, [S, ...]."""
    shape, kind = _largest(tuple(arrays)), arrays[0].dtype
    whole = np.full((len(arrays), *shape), np.nan if kind.kind == "f" else 0, kind)
    for place, a in zip(whole, arrays, strict=True):
        place[tuple(map(slice, a.shape))] = a
    return whole


def _made(results: Results) -> dict[str, Any]:
    """Return how the results of one size were made, and the shape that each array of a network has there."""
    axes = len(results.axes)
    shapes = {name: [*a.shape[axes + 1 :]] for name, a in results.arrays().items()}
    made = {name: results.config[name] for name in ("engine", "shape", "room", "provenance")}
    n = None if results.refined is None or results.refined.spectrum is None else results.refined.spectrum.shape[-1]
    return made | {"shapes": shapes | ({} if n is None else {"spectrum": [n]})}


def parts(results: Results) -> Iterator[tuple[dict[str, float], Results]]:
    """Yield the results of every size by themselves, without what they were filled up with, and their sizes: the
    results themselves where there are no sizes."""
    sizes, config = results.config.get("sizes") or [], dict(results.config)
    if not sizes:
        yield {}, results
        return
    others = {name: values for name, values in results.axes.items() if name not in sizes}
    lengths = [len(results.axes[name]) for name in sizes]
    for number, (part, made) in enumerate(zip(config["parts"], config["made"], strict=True)):
        index = dict(zip(sizes, np.unravel_index(number, lengths), strict=True))
        cells, shapes = tuple(index.get(name, slice(None)) for name in results.axes), made["shapes"]
        arrays = _cut(results.arrays(), cells, shapes)
        refined = None if results.refined is None else Refined.of(_cut(results.refined.arrays(), cells, shapes))
        of_part = part | {name: value for name, value in made.items() if name != "shapes"}
        values = {name: float(results.axes[name][i]) for name, i in index.items()}
        yield values, type(results).of(others, arrays, of_part, refined)


def _cut(arrays: Arrays, cells: tuple[Any, ...], shapes: dict[str, list[int]]) -> Arrays:
    """Return arrays of some cells, each network's without what it was filled up with."""
    return {name: a[cells][(..., *map(slice, shapes.get(name, [])))] for name, a in arrays.items()}
