"""Figure 2: where the optimum puts capacity. The marginal loss reduction of several features of the quadratic Redwood
model against their capacity, and the optimal capacities for several numbers of neurons.

    python -m figures.figure2 [--out results/figure2]

Writes OUT.png and OUT.pdf. Everything drawn comes from `polyjax.theory`. Array axes: number of neurons D, feature N.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import drawing
from polyjax import theory
from polyjax.draw import scales, style
from polyjax.toy.distributions import UNIFORM_SIGNED

IMPORTANCE = np.array([1, 0.65, 0.45, 0.2, 0.1, 0.05])  # at each D the phases are clear of their limits
DENSITY = 0.2  # k = 9: the gain from capacity falls by (k - 1)^2 / 4 = 16 between C = 0 and 1
NEURONS = (1, 2, 3, 4)
WIDTH, LEFT, PANEL, GAP, TOP = 7.0, 0.5, (1.36, 1.75), 0.15, 0.24  # inches
_marginal = jax.jit(theory.marginal_loss_reduction)  # one compilation, not one an operation


class Optimum(NamedTuple):
    """The optimum for one number of neurons."""

    capacity: np.ndarray  # [N]
    height: np.ndarray  # [N], -dL/dC there
    level: float  # 2 lambda^2, the height of every shared feature
    phase: np.ndarray  # [N], of `theory.Phase`


def kurtosis() -> float:
    """k of the features, above 3, so that returns diminish."""
    return float(UNIFORM_SIGNED.kurtosis(DENSITY))


def optimum(n_neurons: int) -> Optimum:
    """The dots and the line of one panel."""
    v, k = IMPORTANCE, kurtosis()
    C = theory.optimal_capacity(v, k, n_neurons)
    level = 2 * float(theory.multiplier(v, k, n_neurons)) ** 2
    return Optimum(np.asarray(C), np.asarray(_marginal(C, v, k)), level, np.asarray(theory.phase(v, k, n_neurons)))


def draw() -> drawing.Page:
    """The whole figure, to be called within `style()`."""
    optima = {D: optimum(D) for D in NEURONS}
    fig = drawing.page(WIDTH, TOP + PANEL[1] + 0.58, *_words(optima))
    c = np.linspace(0, 1, 101)
    curves = np.asarray(_marginal(c[:, None], IMPORTANCE, kurtosis()))  # [c, N]
    first: Axes | None = None
    for column, (D, found) in enumerate(optima.items()):
        ax = drawing.panel(fig, LEFT + column * (PANEL[0] + GAP), TOP, *PANEL, sharey=first)
        _panel(ax, c, curves, found)
        ax.set_title(f"$D$ = {D}")
        ax.tick_params(labelleft=first is None)
        first = first or ax
    _labels(fig, curves)
    return fig


def _panel(ax: Axes, c: np.ndarray, curves: np.ndarray, found: Optimum) -> None:
    """The curves, -dL/dC at `c`, [c, N], the level of the shared features, and a dot for each optimal capacity."""
    ax.set(yscale="log", xlim=(0, 1), xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"], xlabel="capacity $C_i$")
    ax.axhline(found.level, color=style.LEVEL, linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
    for curve, color in zip(curves.T, _colors(), strict=True):
        ax.plot(c, curve, color=color)
    edge: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.6}
    ax.scatter(found.capacity, found.height, s=20, c=_colors(), clip_on=False, zorder=4, **edge)


def _labels(fig: Figure, curves: np.ndarray) -> None:
    """The y axis, the importance of each curve to the right of the last panel, and the legend."""
    first, last = fig.axes[0], fig.axes[-1]
    first.set_ylabel(r"marginal loss reduction $-\partial L/\partial C_i$")
    scales.plain_log_ticks(first.yaxis)
    for v, y, color in zip(IMPORTANCE, curves[-1], _colors(), strict=True):
        last.annotate(f"$v$ = {v:g}", (1, y), (6, 0), textcoords="offset points", va="center", color=color)
    dot: dict[str, Any] = {"marker": "o", "markersize": 4.5, "markeredgewidth": 0.6, "linestyle": "none"}
    dot |= {"markerfacecolor": "0.6", "markeredgecolor": "black"}
    handles = [
        Line2D([], [], label="optimal capacity", **dot),
        Line2D([], [], color=style.LEVEL, linewidth=0.7, linestyle=(0, (4, 2)), label=r"$2\lambda^2$"),
    ]
    x = (LEFT + 2 * PANEL[0] + 1.5 * GAP) / WIDTH
    y = 1 - (TOP + PANEL[1] + 0.42) / fig.get_figheight()
    fig.legend(handles=handles, ncols=2, loc="center", bbox_to_anchor=(x, y), borderpad=0)


def _colors() -> list[str]:
    """From dark to light as importance falls, but not so light as to be hard to see on white."""
    return [to_hex(color) for color in mpl.colormaps["viridis"](np.linspace(0, 0.75, IMPORTANCE.size))]


def _words(optima: dict[int, Optimum]) -> tuple[str, str]:
    """The caption; and what the optimum does with how many features at each D."""
    counts = []
    for D, found in optima.items():
        full, shared, ignored = (int((found.phase == p).sum()) for p in reversed(theory.Phase))
        counts.append(f"D = {D}: {full} full, {shared} shared, {ignored} ignored")
    caption = (
        f"What more capacity gains for {IMPORTANCE.size} features of importances v in D neurons, and the optimal "
        f"capacities, in the quadratic Redwood model of density {DENSITY:g} and kurtosis k = {kurtosis():.3g}. "
        "Capacity goes to every feature until its gain has fallen to the common level 2λ²: features whose curve is "
        "above it everywhere are full, those below it everywhere are ignored, and the others share dimensions."
    )
    return caption, f"{'; '.join(counts)}."


def main(argv: Sequence[str] | None = None) -> None:
    """Draws the figure; a path that cannot be written to ends it with one line on stderr and exit code 2."""
    drawing.command("figure2", draw, argv)


if __name__ == "__main__":
    main()
