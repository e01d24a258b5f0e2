"""The marginal loss reduction -dL/dC of the quadratic Redwood model against capacity (section 3.2)."""

from typing import Any

import jax
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from polyjax.draw.style import CONSTANT, LEVEL, VARIED
from polyjax.theory.grid import CRITICAL_KURTOSIS
from polyjax.theory.quadratic import marginal_loss_reduction

_marginal_loss_reduction = jax.jit(marginal_loss_reduction)  # one compilation, not one an operation


def marginal_loss_curves(
    ax: Axes, importance: np.ndarray, kurtosis: float, capacity: np.ndarray, *, named: bool = True
) -> list[Artist]:
    """Draw -dL/dC against C for feature 0 (blue) and one of the others, which are alike (black), with a dot at each
    optimal capacity and a thin line at 2 lambda^2, the common height of the features that are neither ignored nor full.

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
