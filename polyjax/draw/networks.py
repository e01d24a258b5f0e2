"""The networks of one cell: the embedding of the one that is shown, its Gram matrix, and all restarts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from polyjax.checks import place, require
from polyjax.draw import shapes, slices
from polyjax.draw.arguments import check
from polyjax.draw.arrows import at_tips, plane, polygon, projected, vectors
from polyjax.draw.cells import bar, beside
from polyjax.draw.style import AXIS, COLORS, CONSTANT, SIGNED_MAP, UNCONVERGED, VARIED, on

if TYPE_CHECKING:
    from polyjax.results import Results

WRITTEN = 8  # features, up to which the entries of a matrix are written into it
MINUS = "\N{MINUS SIGN}"


class Network(NamedTuple):
    """One network of a cell."""

    W: np.ndarray  # [D, N]
    capacity: np.ndarray  # [N]
    tolerance: float  # what counts as zero between its features
    words: str  # which it is

    @classmethod
    def of(cls, results: Results, rule: str | None, restart: int | None, coordinates: Mapping[str, float]) -> Network:
        """Return the network that a rule chooses in the cell nearest to the coordinates, or one restart. Raises
        ValueError for a rule that averages, and where it is not finite."""
        cell = slices.cell(results, coordinates)
        if restart is None:
            rule = slices.default_rule(results, rule)
            selection = results.select(rule)
            W, C = slices.embeddings(selection)[cell.place], selection.capacity[cell.place]
            tolerance, words = shapes.tolerance_of(results, rule), cell.words
        else:
            restart = place("restart", restart, results.loss.shape[-1], "restarts")
            W, C = (a[(*cell.place, restart)] for a in (slices.filled(results.embedding), results.capacity))
            tolerance, words = shapes.TOLERANCE, f"{cell.words}, restart {restart}"
        require(np.isfinite(W).all(), "the cell", "hold a network whose weights are finite", cell.words)
        return cls(W, np.nan_to_num(C), tolerance, words)


def embedding(
    results: Results,
    *,
    rule: str | None = None,
    restart: int | None = None,
    ax: Axes | None = None,
    **cell: float,
) -> Axes:
    """Draw a network's embedding: an arrow a feature, with its number and its capacity, coloured by blocks, and the
    polygon around the arrows of a block.

    In two dimensions they are drawn as they are. Otherwise every block has a plane of its own, that of its two largest
    principal axes, in which a block of one dimension is a line; ignored features are left out.

    Args:
        results: of any axes.
        rule: over restarts (see `Results.select`); None: refined where there is such a diagram, else best.
        restart: draw this one, from 0, and not what the rule chooses.
        ax: what to draw on; None: a new figure.
        **cell: a value of every axis, by name; the cell that is nearest is drawn, and named in the title.

    Returns:
        The Axes. Raises ValueError where an axis is left out, for a rule that averages, and for a network that is not
        finite.
    """
    check(ax, results)
    found = Network.of(results, rule, restart, cell)
    label, rank = shapes.members(found.W, found.capacity, found.tolerance)
    blocks = [np.flatnonzero(label == block) for block in range(label.max() + 1)]
    flat = len(found.W) <= 2
    planes = [np.arange(found.capacity.size)] if flat else blocks or [np.arange(found.capacity.size)]
    size = 1.35 * float(np.linalg.norm(found.W, axis=0).max() or 1)
    places = np.concatenate([[0], np.cumsum([2 * size if len(p) > 2 else 1.3 * size for p in planes[1:]])])
    with on(ax, width=max(1.9, 1.1 + 0.65 * places[-1] / size), height=1.7, right=0.3) as ax:
        plane(ax, (-size, places[-1] + size), (-1.3 * size if not flat else -size, size))
        colors = _colors(found.capacity.size, blocks)
        for x, shown in zip(places, planes, strict=True):
            _plane(ax, found, shown, colors, x)
            if flat:
                ax.plot([-size, size, 0, 0, 0], [0, 0, 0, -size, size], color=AXIS, linewidth=0.5, zorder=0)
            else:
                words: dict[str, Any] = {"ha": "center", "va": "bottom", "size": mpl.rcParams["legend.fontsize"]}
                ax.text(x, -1.3 * size, f"{shown.size} in {rank[shown[0]]}", **words)
            for block in blocks if flat else [shown]:
                polygon(ax, projected(found.W, _in(shown, found))[:, block], colors[block[0]], x)
        ax.set_title(found.words)
    return ax


def _colors(n: int, blocks: list[np.ndarray]) -> np.ndarray:
    """Return a colour [N] for each feature, that of its block; grey where it is in none."""
    colors = np.full(n, "0.5", dtype="<U7")
    for i, block in enumerate(blocks):
        colors[block] = COLORS[i % len(COLORS)]
    return colors


def _in(features: np.ndarray, found: Network) -> np.ndarray:
    """Return which features of a network these are, bool [N]."""
    return np.isin(np.arange(found.capacity.size), features)


def _plane(ax: Axes, found: Network, shown: np.ndarray, colors: np.ndarray, x: float) -> None:
    """Draw the features of a plane whose origin is at (x, 0)."""
    W = projected(found.W, _in(shown, found))[:, shown]
    vectors(ax, W, colors[shown], x)
    texts = [f"{i}: {c:.2g}" for i, c in zip(shown, found.capacity[shown], strict=True)]
    at_tips(ax, W, texts, colors[shown], rim=1.5, x=x)


def gram(
    results: Results,
    *,
    rule: str | None = None,
    restart: int | None = None,
    colorbar: bool = True,
    ax: Axes | None = None,
    **cell: float,
) -> Axes:
    """Draw W^T W of a network: squared lengths on the diagonal, and beside it what features share, which is their
    interference. Entries are written where there are at most 8 features.

    The arguments are those of `embedding`.
    """
    check(ax, results, colorbar=colorbar)
    found = Network.of(results, rule, restart, cell)
    G = found.W.T @ found.W
    with on(ax) as ax:
        most = float(abs(G).max()) or 1.0
        mesh = ax.pcolormesh(G, cmap=SIGNED_MAP, norm=Normalize(-most, most), rasterized=True)
        ax.set_aspect("equal")
        ax.set_xlim(0, len(G))
        ax.set_ylim(len(G), 0)
        _feature_ticks(ax, len(G))
        if len(G) <= WRITTEN:
            for (i, j), value in np.ndenumerate(G):
                text = f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", MINUS)
                color = "white" if abs(value) > 0.65 * most else "black"
                ax.text(j + 0.5, i + 0.5, text, color=color, ha="center", va="center_baseline", size=5.5)
        ax.set_title(found.words)
        if colorbar:
            bar(mesh, beside(ax), r"$w_i \cdot w_j$", None)
    return ax


def _feature_ticks(ax: Axes, n: int) -> None:
    step = -(-n // 10)
    places = np.arange(0, n, step)
    ax.set_xticks(places + 0.5, [f"{i}" for i in places])
    ax.set_yticks(places + 0.5, [f"{i}" for i in places])
    ax.set(xlabel="feature $j$", ylabel="feature $i$")


def restarts(results: Results, *, ax: Axes | None = None, **cell: float) -> Axes:
    """Draw the capacities of all features in every restart of a cell, the restart of lowest loss first, with the loss
    of the first and by how much the others are above it.

    Feature 0 is blue, the others black; restarts that are not settled have open dots, and those that failed none. The
    arguments are those of `embedding`.
    """
    check(ax, results)
    found = slices.cell(results, cell)
    loss, capacity, settled = (a[found.place] for a in (results.loss, results.capacity, results.settled))
    order = np.argsort(np.where(np.isfinite(results.rank_loss[found.place]), results.rank_loss[found.place], np.inf))
    with on(ax, width=max(2.6, 0.42 * len(order)), right=0.2) as ax:
        for place, r in enumerate(order):
            _dots(ax, place, capacity[r], bool(settled[r]))
        lowest = loss[order[0]]
        labels = [f"{r}\n{_above(loss[r], lowest, first=place == 0)}" for place, r in enumerate(order)]
        ax.set_xticks(range(len(order)), labels)
        ax.set(xlim=(-0.6, len(order) - 0.4), ylim=(-0.04, 1.04), ylabel="capacity $C_i$", title=found.words)
        ax.set_xlabel("restart, and its loss above the lowest")
        ax.grid(axis="x", color="0.9", linewidth=0.5)
        ax.set_axisbelow(True)
    return ax


def _dots(ax: Axes, x: float, capacity: np.ndarray, settled: bool) -> None:
    """Draw the capacities of a restart, side by side where they coincide."""
    n = len(capacity)
    offset = np.linspace(-0.25, 0.25, n) if n > 1 else np.zeros(1)
    for i, (dx, c) in enumerate(zip(offset, capacity, strict=True)):
        color = VARIED if i == 0 else CONSTANT
        look: dict[str, Any] = {"markersize": 2.8, "markeredgewidth": 0.7, "linestyle": "none"}
        ax.plot(x + dx, c, "o", color=color, markerfacecolor=color if settled else "white", clip_on=False, **look)
    if not settled and np.isfinite(capacity).all():
        ax.axvspan(x - 0.4, x + 0.4, facecolor="none", edgecolor=UNCONVERGED, hatch="\\" * 6, linewidth=0, zorder=0)


def _above(loss: float, lowest: float, *, first: bool) -> str:
    if not np.isfinite(loss):
        return "failed"
    if first:
        return f"{loss:.3g}"
    above = 100 * (loss / lowest - 1) if lowest else np.inf
    return "0%" if abs(above) < 0.05 else f"{above:+.1f}%".replace("-", MINUS)
