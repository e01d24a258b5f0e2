"""Where theory holds: the closed-form boundaries of phases, the kurtosis beside the density, and points of a
diagram."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import NullLocator

from polyjax.draw.style import halo
from polyjax.theory.grid import CRITICAL_KURTOSIS, ClosedForm

Points = Mapping[str, tuple[float, float]]  # letter -> (importance, density)


class Boundaries(NamedTuple):
    """Artists that `phase_boundaries` drew; None where it lies outside the densities of the axes."""

    ignored: Line2D | None
    full: Line2D | None
    first_order: Line2D | None
    critical: Line2D | None


def phase_boundaries(ax: Axes, form: ClosedForm, *, upright: bool = True) -> Boundaries:
    """Draw the closed-form boundaries over the axes' densities, which run upwards if `upright`, else to the right.

    Dashed: capacity is continuous across it (k > 3, section 3.5.2). Solid: it jumps from 0 to 1 (k <= 3, V = 1). There
    are none where every feature has a neuron, and is full whatever its importance.
    """
    low, high = ax.get_ylim() if upright else ax.get_xlim()
    low = max(low, 1e-4 * high)  # a linear axis may begin at 0 or below
    if form.n_neurons >= form.n_features:
        return Boundaries(None, None, None, None)
    critical = form.density_at(CRITICAL_KURTOSIS, low, high)

    def line(importance: Any, density: Any, **look: Any) -> Line2D:
        return ax.plot(*((importance, density) if upright else (density, importance)), **look)[0]

    ignored = full = first_order = marker = None
    if low < critical:
        sparse = np.geomspace(low, min(critical, high, 1.0), 300)
        dashed: dict[str, Any] = {"linewidth": 1.1, "linestyle": (0, (3.5, 1.8)), "zorder": 3}
        curves = zip(form.boundaries(sparse), ("white", "black"), strict=True)
        ignored, full = (line(v, sparse, color=color, **dashed) for v, color in curves)
    if critical < high:
        look: dict[str, Any] = {"linewidth": 1.1, "color": "white", "zorder": 3, "path_effects": halo("black", 2.1)}
        first_order = line([1, 1], [max(critical, low), high], **look)
    if low < critical < high:
        dot: dict[str, Any] = {"marker": "o", "color": "white", "markeredgecolor": "black", "markersize": 4.5}
        marker = line([1.0], [critical], **dot, markeredgewidth=0.8, linestyle="none", zorder=5)
    return Boundaries(ignored, full, first_order, marker)


def kurtosis_axis(
    ax: Axes, form: ClosedForm, values: Sequence[float] = (2, 3, 10, 30, 100, 300), label: str = "kurtosis $k$"
) -> Axis:
    """Draw a second y axis on the right, with ticks at the densities of these kurtoses."""
    low, high = ax.get_ylim()
    at = {k: form.density_at(k, low, high) for k in values}
    shown = {k: p for k, p in at.items() if low <= p <= high}
    second = ax.secondary_yaxis("right")
    second.set_yticks(list(shown.values()), [f"{k:g}" for k in shown])
    second.yaxis.set_minor_locator(NullLocator())
    second.set_ylabel(label)
    return second.yaxis


def label_points(ax: Axes, points: Points) -> list[Text]:
    """Mark points by a dot and a letter to its right."""
    texts: list[Text] = []
    for letter, (v, p) in points.items():
        ax.plot(v, p, "o", color="black", markeredgecolor="white", markersize=3.6, markeredgewidth=0.7, zorder=6)
        text = ax.annotate(letter, (v, p), (3.5, 0), textcoords="offset points", va="center_baseline", zorder=7)
        text.set(fontsize=mpl.rcParams["font.size"] + 1, fontweight="bold", path_effects=halo("white"))
        texts.append(text)
    return texts
