"""How pictures look: sizes in print, colour maps that colour-blind eyes tell apart, hatches, and new figures."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm, Normalize

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
SIGNED_MAP = "PRGn"  # diverging, and safe for colour-blind eyes
VARIED, CONSTANT, LEVEL, UNCONVERGED = "#0072b2", "black", "0.5", "#d55e00"
COLORS = np.array([VARIED, UNCONVERGED, "#009e73", "#cc79a7", "#56b4e9"])  # Okabe and Ito's
AXIS = "0.65"  # grey of lines that carry no data
# A line crosses every cell whose width and height add up to 24 / (number of slashes) points: here even those of a
# 100 x 100 panel two inches wide. Where a whole region is hatched, most of the colour beneath is still to be seen.
FAILED_LOOK: dict[str, Any] = {"facecolor": "0.85", "edgecolor": "0.2", "hatch": "/" * 12}
UNSETTLED_LOOK: dict[str, Any] = {"facecolor": "none", "edgecolor": UNCONVERGED, "hatch": "\\" * 16}
MARGINS = 0.52, 0.75, 0.42, 0.28  # inches of a new figure beside its axes: left, right, below, above
DOTS_PER_INCH = 200  # of a new figure on a screen, where the size of print would be too small to read


def style() -> AbstractContextManager[None]:
    """Return a context manager of the settings under which to create, draw and save a figure."""
    return mpl.rc_context(STYLE)


@contextmanager
def on(ax: Axes | None, width: float = 2.1, height: float = 2.1, right: float = MARGINS[1]) -> Iterator[Axes]:
    """Yield the Axes to draw on: the one that is given, under the caller's settings, or those of a new figure of
    pyplot, `width` x `height` inches, in the style of the figures."""
    if ax is not None:
        yield ax
        return
    from matplotlib import pyplot

    # A notebook's backend makes pyplot interactive when it is loaded. Within the style it would be so until the style
    # ends, and later pictures would not be shown.
    pyplot.draw_if_interactive()
    left, _, below, above = MARGINS
    w, h = left + width + right, below + height + above
    with style():
        fig = pyplot.figure(figsize=(w, h), dpi=DOTS_PER_INCH)
        new = fig.add_axes((left / w, below / h, width / w, height / h))
        yield new
        for each in fig.axes:  # ticks are made when the figure is drawn, which may be after the style
            each.tick_params(**_ticks())


def _ticks() -> dict[str, Any]:
    names = {"labelsize": "labelsize", "width": "major.width", "length": "major.size", "pad": "major.pad"}
    return {name: STYLE[f"xtick.{key}"] for name, key in names.items()}


def integers(most: int) -> tuple[ListedColormap, BoundaryNorm]:
    """Return a colour for each of 1 to `most`, on which hatching in orange shows, and in white: not the palest."""
    colors = mpl.colormaps["viridis"](np.linspace(0.05, 0.92, max(most, 2)))[:most]
    return ListedColormap(colors), BoundaryNorm(np.arange(most + 1) + 0.5, most)


def halo(color: str, width: float = 1.8) -> list[patheffects.AbstractPathEffect]:
    """Return a rim of text or lines."""
    return [patheffects.withStroke(linewidth=width, foreground=color)]
