"""Results at a glance, as a notebook shows them: two small diagrams over any two axes.

Cells are drawn in the order of their axes, all of one size, and the ticks say their values: so axes may be of one value
only, logarithmic or not, and in any order. Axis letters: Y rows and X columns of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from polyjax.draw.style import CAPACITY_MAP, CAPACITY_NORM, ERROR_MAP, style

if TYPE_CHECKING:
    from polyjax.results import Results

TICKS = 5
INCHES, DPI = (6.4, 2.7), 120


def png(results: Results) -> bytes:
    """Return a picture of the diagram: the capacity of feature 0, and the loss. The axes are the first two of more than
    one value; of the others a middle value is shown."""
    selection = results.select("best" if results.refined is None else "refined")
    names, index = _shown(results)
    file = BytesIO()
    with style():
        figure = Figure(INCHES, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        loss = selection.loss[index].reshape(_shape(results, names))
        capacity = selection.capacity[..., 0][index].reshape(loss.shape)
        _panel(left, results, names, capacity, CAPACITY_MAP, CAPACITY_NORM, "capacity of feature 0")
        _panel(right, results, names, loss, ERROR_MAP, _norm(loss), "loss")
        if others := [name for name in results.axes if name not in names]:
            at = zip(others, (index[[*results.axes].index(name)] for name in others), strict=True)
            figure.suptitle("at " + ", ".join(f"{name} = {results.axes[name][i]:.3g}" for name, i in at))
        figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def _shown(results: Results) -> tuple[list[str], tuple[int | slice, ...]]:
    """Return the names of the axes that are shown, upwards and to the right, and the index of the cells."""
    several = [name for name, values in results.axes.items() if len(values) > 1]
    chosen = (several + [name for name in results.axes if name not in several])[:2]
    names = [name for name in results.axes if name in chosen]
    index = tuple(slice(None) if name in names else len(values) // 2 for name, values in results.axes.items())
    return names, index


def _shape(results: Results, names: Sequence[str]) -> tuple[int, int]:
    """Return [Y, X]; one axis is that of columns."""
    *rows, columns = (len(results.axes[name]) for name in names)
    return (rows or [1])[0], columns


def _norm(loss: np.ndarray) -> Normalize:
    """Return a logarithmic scale where it can be one, from the least to the largest loss."""
    finite = loss[np.isfinite(loss)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return LogNorm(low, high) if 0 < low < high else Normalize(low, high if high > low else low + 1)


def _panel(
    ax: Axes, results: Results, names: Sequence[str], value: np.ndarray, cmap: str, norm: Normalize, title: str
) -> None:
    """Draw values [Y, X]; cells without a finite one are grey."""
    ax.set(title=title, facecolor="0.8", xlabel=names[-1].replace("_", " "))
    image = ax.imshow(np.ma.masked_invalid(value), origin="lower", aspect="auto", cmap=cmap, norm=norm)
    bar = ax.figure.colorbar(image, ax=ax)
    marks = np.asarray(norm.inverse(np.linspace(0, 1, TICKS))).tolist()
    bar.set_ticks(marks, labels=[f"{mark:.3g}" for mark in marks])
    bar.minorticks_off()
    _ticks(ax.xaxis, results.axes[names[-1]])
    if len(names) > 1:
        ax.set_ylabel(names[0].replace("_", " "))
        _ticks(ax.yaxis, results.axes[names[0]])
    else:
        ax.set_yticks([])


def _ticks(axis: Axis, values: np.ndarray) -> None:
    places = np.unique(np.linspace(0, len(values) - 1, TICKS).round().astype(int))
    axis.set_ticks(places.tolist(), [f"{values[i]:.3g}" for i in places])
