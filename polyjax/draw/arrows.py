"""Embedding vectors as arrows. Embeddings W that are drawn have shape [2, N]: column i is the arrow of feature i."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.quiver import Quiver
from matplotlib.text import Annotation

from polyjax.draw.style import AXIS, halo


def projected(W: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return all embeddings [..., 2, N] of W [..., D, N] in the plane of some features, bool [..., N], in which these
    are longest, the first principal axis upright, so that there is room for the names of pairs side by side; as they
    are for D <= 2."""
    D = W.shape[-2]
    if D <= 2:
        return np.pad(W, [(0, 0)] * (W.ndim - 2) + [(0, 2 - D), (0, 0)])
    axes = np.linalg.svd(np.where(features[..., None, :], W, 0))[0][..., 1::-1]
    return np.swapaxes(axes, -1, -2) @ W


def plane(ax: Axes, xlim: tuple[float, float], ylim: tuple[float, float]) -> None:
    """Make the axes a part of the plane, with one unit for both directions and no frame."""
    ax.set(xlim=xlim, ylim=ylim, aspect="equal", xticks=[], yticks=[], frame_on=False)


def vectors(ax: Axes, W: np.ndarray, colors: Sequence[str] | np.ndarray, x: float = 0) -> Quiver:
    """Draw arrows from the origin, which is at (x, 0), to the columns of W [2, N], the longer ones behind; a dot for a
    column of zeros."""
    order = np.argsort(-np.hypot(*W))
    if not W.any(0).all():
        ax.plot(x, 0, "o", color=AXIS, markersize=3, zorder=4)
    head: dict[str, Any] = {"headwidth": 4, "headlength": 5, "headaxislength": 4.5, "minlength": 0}
    units: dict[str, Any] = {"units": "inches", "width": 0.02, "angles": "xy", "scale_units": "xy", "scale": 1}
    origin = np.zeros(W.shape[1])
    return ax.quiver(origin + x, origin, *W[:, order], color=np.array(colors)[order], zorder=3, **units, **head)


def at_tips(
    ax: Axes, W: np.ndarray, texts: Iterable[str], colors: Iterable[str], rim: float = 0, x: float = 0
) -> list[Annotation]:
    """Write one text beyond the tip of each arrow, with a white rim (in points) where it may meet a line."""
    effects = halo("white", rim) if rim else None
    written = []
    for tip, text, color in zip(W.T, texts, colors, strict=True):
        cosine, sine = tip / np.hypot(*tip) if tip.any() else (0, -1)
        ha = "center" if abs(cosine) < 0.35 else "left" if cosine > 0 else "right"
        va = "center_baseline" if abs(sine) < 0.35 else "bottom" if sine > 0 else "top"
        place: dict[str, Any] = {"ha": ha, "va": va, "xytext": (3 * cosine, 3 * sine), "textcoords": "offset points"}
        at = (tip[0] + x, tip[1])
        written.append(ax.annotate(text, at, color=color, zorder=2.5, path_effects=effects, **place))
    return written


def polygon(ax: Axes, W: np.ndarray, color: str, x: float = 0) -> list[Line2D]:
    """Draw the lines that join the tips of arrows [2, N] in order of their angles; none for fewer than two."""
    if W.shape[1] < 2:
        return []
    around = W[:, np.argsort(np.arctan2(W[1], W[0]))]
    around = np.concatenate([around, around[:, :1]], axis=1)
    return ax.plot(around[0] + x, around[1], color=color, linewidth=0.5, linestyle=(0, (3, 2)), zorder=1)
