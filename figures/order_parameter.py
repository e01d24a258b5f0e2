"""The marginal loss reduction -dL/dC of feature 0 as the order parameter of the phase diagram (section 3.6).

    python -m figures.order_parameter [--results results/figure4.npz] [--out results/order_parameter]

Reads figure 4's results and writes OUT.png and OUT.pdf; trains nothing. Array axes: density P, importance V, feature N.

At V = 1 and k <= 3 feature 0 jumps from ignored to full. There the first bit of capacity would gain (k - 1)^2 / 2, and
the last one does gain 2 (eq. 54), whatever the density; so the jump is 2 - (k - 1)^2 / 2, and vanishes at k = 3.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from figures.drawing import Page, page, panel, results_command
from figures.figure4 import problem
from polyjax import theory
from polyjax.draw import captions
from polyjax.draw.cells import states
from polyjax.draw.scales import plain_log_ticks
from polyjax.draw.style import COLORS, LEVEL, VARIED
from polyjax.embedding.capacity import trained_marginal
from polyjax.results import Results, load
from polyjax.theory.grid import CRITICAL_KURTOSIS, ClosedForm

KURTOSES = (1.8, 2.2, 3.0, 6.0, 18.0)  # of the cuts: two above the critical point, at it, and two below
STATES = ("failed", "are not settled")
SEEN = 0.05  # capacities below are those of ignored features, whose short embeddings tell nothing
WIDTH, TOP, HEIGHT, FOOT = 7.0, 0.24, 2.1, 2.78  # inches
ORDER = r"$-\partial L/\partial C_0$"
_marginal_loss_reduction = jax.jit(theory.marginal_loss_reduction)


class Order(NamedTuple):
    """-dL/dC of feature 0 in every cell, [P, V], by its two estimators; NaN where one does not apply."""

    embedded: np.ndarray  # from W alone, where feature 0 is embedded (eq. 14)
    ignored: np.ndarray  # elsewhere: eq. 54 at the trained capacity, with the best length in place of the trained one


def trained(results: Results, p: ClosedForm, rule: str) -> Order:
    """The order parameter of trained models; raises ValueError for a rule that averages weights away."""
    selection = results.select(rule)
    if selection.W is None:
        raise ValueError(f"rule must choose one restart, best or refined, but is {rule}")
    capacity = selection.capacity[..., 0]
    seen, failed = capacity >= SEEN, ~np.isfinite(capacity)
    from_lengths = np.asarray(trained_marginal(selection.W))[..., 0]
    k = np.asarray(p.kurtosis(results.density))[:, None]
    C = np.where(failed, 0, capacity)[..., None]
    v, kurtosis = (np.broadcast_to(a, capacity.shape) for a in (results.importance, k))
    from_capacity = np.asarray(_marginal_loss_reduction(C, v[..., None], kurtosis))[..., 0]
    return Order(np.where(seen, from_lengths, np.nan), np.where(seen | failed, np.nan, from_capacity))


def optimal(p: ClosedForm, importance: np.ndarray, kurtosis: np.ndarray) -> np.ndarray:
    """The order parameter of the global optimum, [...]; the two arguments have one shape."""
    capacity = p.capacity(importance, kurtosis)[..., :1]
    return np.asarray(_marginal_loss_reduction(capacity, importance[..., None], kurtosis))[..., 0]


def limits(p: ClosedForm, kurtosis: np.ndarray) -> np.ndarray:
    """The optimal order parameter just left and just right of V = 1, [2, ...]; the two differ where k < 3."""
    shared = optimal(p, np.ones_like(kurtosis), np.maximum(kurtosis, 3))
    dense = kurtosis < 3
    return np.stack([np.where(dense, (kurtosis - 1) ** 2 / 2, shared), np.where(dense, 2, shared)])


def at_one(results: Results, p: ClosedForm, order: Order) -> Order:
    """The trained order parameter on both sides of V = 1, [2, P], from the columns next to it.

    They are some percent off V = 1. Each is moved there by the factor by which the optimum differs between the two.
    """
    columns, k = list(sides(results.importance)), np.asarray(p.kurtosis(results.density))
    v, kurtosis = np.broadcast_arrays(results.importance[columns, None], k)
    factor = limits(p, k) / optimal(p, v, kurtosis)
    return Order(*(found[:, columns].T * factor for found in order))


def jumps(found: Order, kurtosis: np.ndarray) -> np.ndarray:
    """Right of V = 1 less left of it, [P], from what `at_one` returns; where k < 3, NaN unless training has ended on
    the two branches: ignored on the left, embedded on the right."""
    left, right = np.fmax(*found)
    branches = np.isfinite(found.ignored[0]) & np.isfinite(found.embedded[1])
    return np.where(branches | (kurtosis >= 3), right - left, np.nan)


def draw(results: Results, rule: str = "best") -> Page:
    """The whole figure, to be called within `style()`. Raises ValueError where the results do not fit it."""
    p = problem(results.config)
    order = trained(results, p, rule)
    found = at_one(results, p, order)
    fig = page(WIDTH, FOOT, *_words(results, rule))
    _cuts(panel(fig, 0.48, TOP, 2.72, HEIGHT, xscale="log", yscale="log"), results, p, order)
    density = np.geomspace(results.density[0], results.density[-1], 300)
    theoretical = limits(p, np.asarray(p.kurtosis(density)))
    both = panel(fig, 3.66, TOP, 1.38, HEIGHT, xscale="log", yscale="log")
    _sides(both, density, theoretical, results.density, found)
    jump = panel(fig, 5.52, TOP, 1.38, HEIGHT, xscale="log", yticks=[0, 0.5, 1, 1.5])
    jump.plot(density, theoretical[1] - theoretical[0], color="black", linewidth=0.9)
    seen = jumps(found, np.asarray(p.kurtosis(results.density)))
    jump.plot(results.density, seen, "o", color="black", markersize=1.6)
    jump.set(title="c  The jump at $V$ = 1", ylabel=f"jump of {ORDER}")
    for ax in (both, jump):
        _density_axis(ax, results, p)
    return fig


def sides(importance: np.ndarray) -> tuple[int, int]:
    """The columns just left and just right of V = 1; one at V = 1 itself, up to rounding, is neither."""
    left, right = np.flatnonzero(importance < 1 - 1e-6), np.flatnonzero(importance > 1 + 1e-6)
    if not (left.size and right.size):
        raise ValueError("results must hold importances on both sides of 1")
    return int(left[-1]), int(right[0])


def _cuts(ax: Axes, results: Results, p: ClosedForm, order: Order) -> None:
    """Against importance, one line a density: theory; dots: the trained cells of that row."""
    k = np.asarray(p.kurtosis(results.density))
    inside = (results.importance > 0.3) & (results.importance < 3.2)
    v = np.geomspace(0.3, 3.2, 400)  # 1 is not among them
    rows = [int(np.argmin(abs(np.log(k / wanted)))) for wanted in KURTOSES]
    for color, row in zip([COLORS[0], COLORS[4], "black", COLORS[1], COLORS[3]], rows, strict=True):
        label = f"{results.density[row]:.2g} ({k[row]:.2g})"
        heights = optimal(p, v, np.full_like(v, k[row]))
        parts = (v < 1, v > 1) if k[row] < 3 else (v > 0,)  # no line is drawn across the jump
        for part in parts:
            ax.plot(v[part], heights[part], color=color, linewidth=0.9, label=label if part is parts[0] else None)
        _dots(ax, results.importance[inside], order, (row, inside), color)
    ax.set(xlim=(0.3, 3.2), xlabel="importance $V$", ylabel=ORDER, title="a  Cuts through the phase diagram")
    ax.legend(title="density $p$ (kurtosis $k$)", title_fontsize=6.5, loc="lower right", handlelength=1.3)
    plain_log_ticks(ax.xaxis)
    plain_log_ticks(ax.yaxis)


def _sides(ax: Axes, density: np.ndarray, theoretical: np.ndarray, rows: np.ndarray, found: Order) -> None:
    """Against density, on the two sides of V = 1: theory [2, ...] at `density`, training [2, P] at `rows`."""
    handles = []
    looks = ((1, COLORS[1], "just above 1", 2.6), (0, VARIED, "just below 1", 1.6))
    for side, color, words, size in looks:
        ax.plot(density, theoretical[side], color=color, linewidth=0.9)
        _dots(ax, rows, found, side, color, size)
        handles.append(Line2D([], [], color=color, linewidth=0.9, label=f"$V$ {words}"))
    ax.set(title="b  The two sides of $V$ = 1", ylabel=ORDER)
    plain_log_ticks(ax.yaxis)
    ax.legend(handles=handles, loc="lower left", handlelength=1.3)


def _density_axis(ax: Axes, results: Results, p: ClosedForm) -> None:
    low, high = results.density[[0, -1]]
    ax.set(xlabel="density $p$", xlim=(low / 1.08, high * 1.08))
    plain_log_ticks(ax.xaxis)
    critical = p.density_at(CRITICAL_KURTOSIS, low, high)
    ax.axvline(critical, color=LEVEL, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0)


def _dots(ax: Axes, x: np.ndarray, order: Order, at: Any, color: str, size: float = 2) -> None:
    """Filled where the estimate is of the weights alone, open where it is of the capacity."""
    style: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": size, "markeredgewidth": 0.5}
    ax.plot(x, order.embedded[at], color=color, **style)
    ax.plot(x, order.ignored[at], color=color, markerfacecolor="white", **style)


def _words(results: Results, rule: str) -> tuple[str, str, str]:
    """The caption, all details and the line of settings."""
    v = results.importance[list(sides(results.importance))]
    selection = results.select(rule)
    model = "{n_features} features in {n_neurons} neurons".format(**results.config["model"])
    caption = (
        f"The gain from capacity of the feature of importance V in the quadratic Redwood model, {model}: lines are the "
        f"closed-form optimum, dots the trained networks, open where the feature is ignored, so that its weights tell "
        f"nothing and the gain is that at its capacity. In b and c the columns V = {v[0]:.3g} and {v[1]:.3g} are moved "
        "to V = 1, where the gain jumps above the critical density (dotted)."
    )
    text = (
        f"Filled dots, C ≥ {SEEN:g}: 2 (n/C)² of the trained weights alone (eq. 14). Open: the gain of eq. 54 at the "
        "trained capacity; these dots verify only that the capacity is the optimal one. b and c: moved by the factor "
        "by which the optimum differs. Below the critical density, at which k = 3, both sides are 2λ²; above it they "
        "are (k - 1)²/2 and 2."
    )
    counts = (f"{cells.sum():,} cells {kind}." for cells, kind in zip(states(selection), STATES, strict=True))
    details = captions.of_panels({"a": results.config}, rule, text, *counts)
    return caption, details, captions.in_a_line([results.config])


def main(argv: Sequence[str] | None = None) -> None:
    draw_file = lambda path, rule: draw(load(path), rule)  # noqa: E731
    results_command("order_parameter", "results/figure4.npz", "results/order_parameter", draw_file, argv)


if __name__ == "__main__":
    main()
