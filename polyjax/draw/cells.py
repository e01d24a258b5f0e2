"""Cells of a diagram: their colours, their hatches, contours through them and the colour bar beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, Normalize
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from polyjax.draw.style import CAPACITY_MAP, CAPACITY_NORM, FAILED_LOOK, STYLE, UNSETTLED_LOOK

if TYPE_CHECKING:
    from polyjax.draw.scales import Scale
    from polyjax.selection import Selection


class Cells(NamedTuple):
    """Artists that `colour` drew."""

    mesh: QuadMesh
    failed: PathPatch | None  # all of these cells as one patch
    unsettled: PathPatch | None


def states(selection: Selection) -> tuple[np.ndarray, np.ndarray]:
    """Return, [*axes] bool each, the cells that failed (no restart could be used), and those that are finite but not
    settled."""
    failed = ~(np.isfinite(selection.loss) & np.isfinite(selection.capacity[..., 0]))
    return failed, ~selection.settled & ~failed


def colour(
    ax: Axes,
    x: Scale,
    y: Scale,
    value: np.ndarray,
    *,
    failed: np.ndarray | None = None,
    unsettled: np.ndarray | None = None,
    cmap: str | Colormap = CAPACITY_MAP,
    norm: Normalize = CAPACITY_NORM,
) -> Cells:
    """Colour the cells by `value` [y, x], in ascending order of both, and set scales, limits, ticks and labels.

    Cells of `failed` [y, x] (default: NaN) are grey and hatched, cells of `unsettled` are hatched in orange over their
    colour, and other NaN are blank.
    """
    value = np.ma.masked_invalid(value)
    failed = np.ma.getmaskarray(value) if failed is None else failed
    x.set_x(ax)
    y.set_y(ax)
    mesh = ax.pcolormesh(x.edges, y.edges, value, cmap=cmap, norm=norm, shading="flat", rasterized=True)
    hatched = (_hatch(ax, x, y, cells, look) for cells, look in ((failed, FAILED_LOOK), (unsettled, UNSETTLED_LOOK)))
    return Cells(mesh, *hatched)


def _hatch(ax: Axes, x: Scale, y: Scale, cells: np.ndarray | None, look: Mapping[str, Any]) -> PathPatch | None:
    """Draw one patch of all `cells` [y, x]; None if there are none. A path for each cell would be slow to draw and
    large in a file, and antialiasing would show the seams within a region."""
    if cells is None or not cells.any():
        return None
    thin: dict[str, Any] = {"hatch_linewidth": STYLE["hatch.linewidth"]}
    patch = PathPatch(_rectangles(x.edges, y.edges, cells), linewidth=0, snap=False, **thin, **look)
    ax.add_artist(patch)  # add_patch would go through all vertices in Python to update limits that are already set
    return patch


def _rectangles(x: np.ndarray, y: np.ndarray, cells: np.ndarray) -> Path:
    """Return a rectangle for each run of neighbouring `cells` in a row."""
    change = np.diff(np.pad(cells.astype(int), ((0, 0), (1, 1))))
    rows, first = np.nonzero(change > 0)
    end = np.nonzero(change < 0)[1]
    left, right, bottom, top = x[first], x[end], y[rows], y[rows + 1]
    corners = np.array([[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]])
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return Path(corners.transpose(2, 0, 1).reshape(-1, 2), np.tile(codes, len(rows)))


def region(ax: Axes, x: Scale, y: Scale, cells: np.ndarray, hatch: str, color: str) -> None:
    """Hatch `cells` [y, x] as regions with sparse lines: a patch of every row would show as many of them."""
    if not cells.any():
        return
    if min(cells.shape) < 2:
        _hatch(ax, x, y, cells, {"facecolor": "none", "edgecolor": color, "hatch": hatch})
        return
    drawn = ax.contourf(x.centres, y.centres, cells.astype(float), levels=[0.5, 1.5], colors="none", hatches=[hatch])
    drawn.set(edgecolor=color, linewidth=0)


def contours(
    ax: Axes, x: Scale, y: Scale, value: np.ndarray, levels: Sequence[float], *, labelled: bool = True
) -> QuadContourSet | None:
    """Draw contours of `value` [y, x], labelled where there is room; the axes' place, scales and limits must be set.
    None where a grid of one row or column has no room for any."""
    if min(value.shape) < 2 or not len(levels):
        return None
    value = np.ma.masked_invalid(value)
    colors = ["white" if level < 0.4 else "black" for level in levels]
    drawn = ax.contour(x.centres, y.centres, value, levels=levels, colors=colors, linewidths=0.6)
    if not labelled:
        return drawn
    spots = _apart(ax, [spot for level in levels if (spot := _crossing(x, y, value, level))])
    size = mpl.rcParams["legend.fontsize"]
    labels = drawn.clabel(manual=spots, fmt="%g", fontsize=size, inline_spacing=1) if spots else []
    for text in labels:
        text.set_rotation((text.get_rotation() + 60) % 180 - 60)  # steep ones read upwards, all of them
    return drawn


def _crossing(x: Scale, y: Scale, value: np.ma.MaskedArray, level: float) -> tuple[float, float] | None:
    """Return where to label a contour: a place (x, y) on it, in the row nearest to a tenth of the height that has one;
    None if no row has."""
    filled = value.filled(np.nan)
    for row in np.argsort(abs(np.arange(len(filled)) - 0.1 * len(filled))):
        up = np.flatnonzero((filled[row, :-1] < level) & (filled[row, 1:] >= level))
        if up.size:
            return float(x.centres[up[0]]), float(y.centres[row])
    return None


def _apart(ax: Axes, spots: list[tuple[float, float]], points: float = 10) -> list[tuple[float, float]]:
    """Return the spots without those that are nearer than `points` to an earlier one."""
    kept: list[tuple[float, float]] = []
    for spot in spots:
        away = [np.hypot(*(ax.transData.transform(spot) - ax.transData.transform(other))) for other in kept]
        if min(away, default=np.inf) > points / 72 * cast(Figure, ax.get_figure(root=True)).dpi:
            kept.append(spot)
    return kept


def bar(mesh: QuadMesh, ax: Axes, label: str, ticks: Sequence[float] | np.ndarray | None, **options: Any) -> Colorbar:
    """Draw a colour bar in the axes `ax`."""
    drawn = cast(Figure, ax.get_figure()).colorbar(mesh, cax=ax, ticks=ticks, format="{x:g}", **options)
    ax.minorticks_off()
    drawn.outline.set_linewidth(STYLE["axes.linewidth"])  # type: ignore[operator]
    drawn.set_label(label)
    return drawn


def beside(ax: Axes) -> Axes:
    """Return axes for a colour bar to the right of others."""
    return ax.inset_axes((1.05, 0, 0.05, 1))
