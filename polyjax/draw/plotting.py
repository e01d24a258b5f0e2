"""Drawing phase diagrams: every function draws on an Axes that it is given and returns the artists.

No figure is created, no file read and no model trained here, and pyplot is never imported. Axes of the arrays:
density P (rows), importance V (columns). On the page both are logarithmic; density runs upwards, so that dense is at
the top as in figures 4 and 7 of the paper. `style()` holds every setting that is not local to one artist.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, cast

import jax
import matplotlib as mpl
import numpy as np
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from polyjax import theory
from polyjax.results import Selection

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that a figure looks the same on every machine
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.titlepad": 4,
    "axes.labelpad": 2,
    "text.hinting": "none",  # the same widths at every resolution
    "lines.linewidth": 1.2,
    "hatch.linewidth": 0.4,
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3
    "savefig.dpi": 300,
} | {
    f"{axis}tick.{name}": value
    for axis in "xy"
    for name, value in {"labelsize": 6.5, "major.width": 0.6, "major.size": 2.5, "major.pad": 2}.items()
}

# cividis is perceptually uniform, the same to colour-blind eyes and monotonic in grey; it puts 0 at blue, 1/2 at a
# neutral grey and 1 at yellow, the three capacities that matter.
CAPACITY_MAP, CAPACITY_NORM = "cividis", Normalize(0, 1)
# Errors spread over decades: a linear scale would show the few cells at phase boundaries and nothing else.
ERROR_MAP, ERROR_NORM = "magma_r", LogNorm(1e-3, 1, clip=True)
VARIED, CONSTANT, LEVEL, UNCONVERGED = "#0072b2", "black", "0.5", "#d55e00"
# A line crosses every cell whose width and height add up to 24 / (number of slashes) points: here even those of a
# 100 x 100 panel two inches wide. Where a whole region is hatched, most of the colour beneath is still to be seen.
FAILED_LOOK: dict[str, Any] = {"facecolor": "0.85", "edgecolor": "0.2", "hatch": "/" * 12}
UNSETTLED_LOOK: dict[str, Any] = {"facecolor": "none", "edgecolor": UNCONVERGED, "hatch": "\\" * 16}
CRITICAL_KURTOSIS = 3.0

# Compiled whole: a drawing needs few values, and compiling operation by operation would take most of its time.
_boundaries = jax.jit(theory.boundaries, static_argnums=(1, 2))
_marginal_loss_reduction = jax.jit(theory.marginal_loss_reduction)

Kurtosis = Callable[[Any], Any]  # density -> kurtosis, elementwise, falling


class Diagram(NamedTuple):
    """Artists that `phase_diagram` drew."""

    mesh: QuadMesh
    failed: PathPatch | None  # all of these cells as one patch
    unsettled: PathPatch | None


class Boundaries(NamedTuple):
    """Artists that `phase_boundaries` drew; None where it lies outside the densities of the axes."""

    ignored: Line2D | None
    full: Line2D | None
    first_order: Line2D | None
    critical: Line2D | None


def style() -> AbstractContextManager[None]:
    """Context manager: the settings under which to create, draw and save a figure."""
    return mpl.rc_context(STYLE)


def cell_edges(centres: np.ndarray) -> np.ndarray:
    """[n] rising positive values -> [n + 1] edges, the geometric means of neighbours: on a logarithmic axis the values
    of a geometric grid are in the middle of their cells."""
    centres = np.asarray(centres, float)
    if centres.ndim != 1 or centres.size < 2 or not (centres > 0).all() or not (np.diff(centres) > 0).all():
        raise ValueError(f"a logarithmic axis must have two or more rising positive values, but has {centres}")
    log = np.log(centres)
    middle = (log[1:] + log[:-1]) / 2
    return np.exp(np.concatenate([[2 * log[0] - middle[0]], middle, [2 * log[-1] - middle[-1]]]))


def cell_states(selection: Selection) -> tuple[np.ndarray, np.ndarray]:
    """([P, V], [P, V]) bool: the cells that failed (no restart could be used), and those that are finite but not
    settled."""
    failed = ~(np.isfinite(selection.loss) & np.isfinite(selection.capacity).all(-1))
    return failed, ~selection.settled & ~failed


def phase_diagram(
    ax: Axes,
    density: np.ndarray,
    importance: np.ndarray,
    value: np.ndarray,
    *,
    failed: np.ndarray | None = None,
    unsettled: np.ndarray | None = None,
    cmap: str | Colormap = CAPACITY_MAP,
    norm: Normalize = CAPACITY_NORM,
) -> Diagram:
    """Colours the cells by `value` [P, V] (a capacity in [0, 1] unless a norm says otherwise) and sets both scales.

    Cells of `failed` (default: NaN) are grey and hatched, cells of `unsettled` are hatched in orange over their
    colour, and other NaN are blank.
    """
    x, y = cell_edges(importance), cell_edges(density)
    value = np.ma.masked_invalid(value)
    failed = np.ma.getmaskarray(value) if failed is None else failed
    ax.set(xscale="log", yscale="log", xlim=x[[0, -1]], ylim=y[[0, -1]])
    plain_log_ticks(ax.xaxis)
    plain_log_ticks(ax.yaxis)
    mesh = ax.pcolormesh(x, y, value, cmap=cmap, norm=norm, shading="flat", rasterized=True)
    return Diagram(
        mesh,
        _hatch(ax, x, y, failed, FAILED_LOOK),
        None if unsettled is None else _hatch(ax, x, y, unsettled, UNSETTLED_LOOK),
    )


def capacity_contours(
    ax: Axes,
    density: np.ndarray,
    importance: np.ndarray,
    capacity: np.ndarray,
    levels: Sequence[float] = (0.25, 0.5, 0.75),
    *,
    labelled: bool = True,
) -> QuadContourSet:
    """Contours of `capacity` [P, V], labelled where there is room; the axes' place, scales and limits must be set."""
    capacity = np.ma.masked_invalid(capacity)
    colors = ["white" if level < 0.4 else "black" for level in levels]
    contours = ax.contour(importance, density, capacity, levels=levels, colors=colors, linewidths=0.6)
    if not labelled:
        return contours
    spots = _apart(ax, [spot for level in levels if (spot := _crossing(density, importance, capacity, level))])
    labels = contours.clabel(manual=spots, fmt="%g", fontsize=6.5, inline_spacing=1) if spots else []
    for text in labels:
        text.set_rotation((text.get_rotation() + 60) % 180 - 60)  # steep ones read upwards, all of them
    return contours


def phase_boundaries(
    ax: Axes, kurtosis: Kurtosis, n_features: int, n_neurons: int, *, critical_marker: bool = True
) -> Boundaries:
    """Draw the closed-form boundaries over the axes' densities, where feature 0 has importance V and the others 1.

    Dashed: capacity is continuous across it (k > 3, section 3.5.2). Solid: it jumps from 0 to 1 (k <= 3, V = 1).
    """
    low, high = ax.get_ylim()
    critical = density_at(kurtosis, CRITICAL_KURTOSIS, low, high)
    ignored = full = first_order = marker = None
    if n_neurons >= n_features:
        return Boundaries(None, None, None, None)  # every feature is full, whatever its importance
    if low < critical:
        sparse = np.geomspace(low, min(critical, high, 1.0), 300)
        curves = _boundaries(kurtosis(sparse), n_features, n_neurons)
        ignored, full = (
            ax.plot(np.asarray(v), sparse, color=color, linewidth=1.1, linestyle=(0, (3.5, 1.8)), zorder=3)[0]
            for v, color in zip(curves, ("white", "black"), strict=True)
        )
    if critical < high:
        (first_order,) = ax.plot([1, 1], [max(critical, low), high], color="white", linewidth=1.1, zorder=3)
        first_order.set_path_effects(_halo("black", 2.1))
    if critical_marker and low < critical < high:
        dot: dict[str, Any] = {
            "marker": "o",
            "color": "white",
            "markeredgecolor": "black",
            "markersize": 4.5,
            "markeredgewidth": 0.8,
        }
        (marker,) = ax.plot(1.0, critical, **dot, linestyle="none", zorder=5)
    return Boundaries(ignored, full, first_order, marker)


def kurtosis_axis(
    ax: Axes, kurtosis: Kurtosis, values: Sequence[float] = (2, 3, 10, 30, 100, 300), label: str = "kurtosis $k$"
) -> Axis:
    """A second y axis on the right, ticks at the densities of these kurtoses."""
    low, high = ax.get_ylim()
    at = {k: density_at(kurtosis, k, low, high) for k in values}
    shown = {k: p for k, p in at.items() if low <= p <= high}
    second = ax.secondary_yaxis("right")
    second.set_yticks(list(shown.values()), [f"{k:g}" for k in shown])
    second.yaxis.set_minor_locator(NullLocator())
    second.set_ylabel(label)
    return second.yaxis


def marginal_loss_curves(
    ax: Axes, importance: np.ndarray, kurtosis: float, capacity: np.ndarray, *, named: bool = True
) -> list[Artist]:
    """-dL/dC against C for feature 0 (blue) and one of the others, which are alike (black), with a dot at each optimal
    capacity and a thin line at 2 lambda^2, the common height of the features that are neither ignored nor full.

    `importance` and `capacity` are [N]. Where everything is degenerate (k = 3, equal importances) open dots say so.
    """
    c, n = np.linspace(0, 1, 101), len(capacity)
    # One call for both curves and the optima: the theory takes any number of features.
    v = np.concatenate([importance, *(np.full_like(c, importance[i]) for i in (0, 1))])
    everywhere = np.asarray(_marginal_loss_reduction(np.concatenate([capacity, c, c]), v, kurtosis))
    height, curves = everywhere[:n], everywhere[n:].reshape(2, -1)
    degenerate = np.isclose(kurtosis, CRITICAL_KURTOSIS, rtol=1e-5) and np.ptp(importance) == 0
    inside = (capacity > 0) & (capacity < 1)
    artists: list[Artist] = []
    if inside.any() and not degenerate:
        artists.append(ax.axhline(height[inside].mean(), color=LEVEL, linewidth=0.7, linestyle=(0, (4, 2)), zorder=1))
    for i, color in ((1, CONSTANT), (0, VARIED)):
        dashes = (0, (3, 3)) if degenerate and i == 0 else "solid"
        artists += ax.plot(c, curves[i], color=color, linestyle=dashes)
    if degenerate:
        row = np.linspace(0, 1, 9)
        dots: dict[str, Any] = {
            "facecolor": "white",
            "edgecolor": CONSTANT,
            "s": 11,
            "linewidth": 0.8,
            "clip_on": False,
            "zorder": 4,
        }
        artists.append(ax.scatter(row, np.full_like(row, height[0]), **dots))
    else:
        artists += _optimal_dots(ax, capacity[1:], height[1:], CONSTANT, counted=named)
        artists += _optimal_dots(ax, capacity[:1], height[:1], VARIED, counted=False)
    return artists


def label_points(ax: Axes, points: Mapping[str, tuple[float, float]]) -> list[Text]:
    """Marks points (importance, density) by a dot and a letter to its right."""
    texts: list[Text] = []
    for letter, (v, p) in points.items():
        ax.plot(v, p, "o", color="black", markeredgecolor="white", markersize=3.6, markeredgewidth=0.7, zorder=6)
        text = ax.annotate(letter, (v, p), (3.5, 0), textcoords="offset points", va="center_baseline", zorder=7)
        text.set(fontsize=8, fontweight="bold", path_effects=_halo("white"))
        texts.append(text)
    return texts


def plain_log_ticks(axis: Axis) -> None:
    """Ticks such as 0.1, 0.3, 1 in place of powers of ten; only whole decades where the view spans more than 2.5."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 3) if high / low < 10**2.5 else (1,), numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_locator(NullLocator())


def density_at(kurtosis: Kurtosis, value: float, low: float, high: float) -> float:
    """Return the density at which the kurtosis is `value`; infinity or 0 where it is less or more at every density in
    [low, min(high, 1)]."""
    p = np.geomspace(low, min(high, 1.0), 300)
    log_k = np.log(np.asarray(kurtosis(p), float))
    # Logarithms, in which the interpolation is exact for features of zero mean: their kurtosis is a power of density.
    found = np.interp(np.log(value), log_k[::-1], np.log(p[::-1]), left=np.inf, right=-np.inf)
    return float(np.exp(found))


def _hatch(ax: Axes, x: np.ndarray, y: np.ndarray, cells: np.ndarray, look: Mapping[str, Any]) -> PathPatch | None:
    """One patch of all `cells` [P, V] between the edges x and y; None if there are none. A path for each cell would be
    slow to draw and large in a file, and antialiasing would show the seams within a region."""
    if not cells.any():
        return None
    patch = PathPatch(_rectangles(x, y, cells), linewidth=0, snap=False, **look)
    ax.add_artist(patch)  # add_patch would go through all vertices in Python to update limits that are already set
    return patch


def _rectangles(x: np.ndarray, y: np.ndarray, cells: np.ndarray) -> Path:
    """A rectangle for each run of neighbouring `cells` in a row."""
    change = np.diff(np.pad(cells.astype(int), ((0, 0), (1, 1))))
    rows, first = np.nonzero(change > 0)
    end = np.nonzero(change < 0)[1]
    left, right, bottom, top = x[first], x[end], y[rows], y[rows + 1]
    corners = np.array([[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]])
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return Path(corners.transpose(2, 0, 1).reshape(-1, 2), np.tile(codes, len(rows)))


def _crossing(
    density: np.ndarray, importance: np.ndarray, capacity: np.ma.MaskedArray, level: float
) -> tuple[float, float] | None:
    """Return where to label a contour: an (importance, density) on it, in the row nearest to a tenth of the height that
    has one; None if no row has."""
    filled = capacity.filled(np.nan)
    for row in np.argsort(abs(np.arange(len(density)) - 0.1 * len(density))):
        up = np.flatnonzero((filled[row, :-1] < level) & (filled[row, 1:] >= level))
        if up.size:
            return float(importance[up[0]]), float(density[row])
    return None


def _apart(ax: Axes, spots: list[tuple[float, float]], points: float = 10) -> list[tuple[float, float]]:
    """Without those that are nearer than `points` to an earlier one."""
    kept: list[tuple[float, float]] = []
    for spot in spots:
        away = [np.hypot(*(ax.transData.transform(spot) - ax.transData.transform(other))) for other in kept]
        if min(away, default=np.inf) > points / 72 * cast(Figure, ax.get_figure(root=True)).dpi:
            kept.append(spot)
    return kept


def _optimal_dots(ax: Axes, capacity: np.ndarray, height: np.ndarray, color: str, *, counted: bool) -> list[Artist]:
    """One dot for each distinct optimum among features that are alike; where there are several, how many have each."""
    _, first, count = np.unique(capacity.round(4), return_index=True, return_counts=True)
    dots: list[Artist] = [
        ax.scatter(capacity[first], height[first], s=14, c=color, linewidths=0, clip_on=False, zorder=4)
    ]
    for c, y, n in zip(capacity[first], height[first], count, strict=True):
        if counted and len(first) > 1:
            side: dict[str, Any] = {"ha": "left", "xytext": (4, 3)} if c < 0.5 else {"ha": "right", "xytext": (-4, -3)}
            va = "bottom" if c < 0.5 else "top"
            dots.append(ax.annotate(f"{n} of {count.sum()}", (c, y), textcoords="offset points", va=va, **side))
    return dots


def _halo(color: str, width: float = 1.8) -> list[patheffects.AbstractPathEffect]:
    return [patheffects.withStroke(linewidth=width, foreground=color)]
