"""Figure 1: two ways in which neurons become polysemantic, as embedding vectors in two dimensions.

    python -m figures.figure1 [--out results/figure1]

Left: orthogonal features, rotated against the neurons. Right: more features than neurons, which cannot be orthogonal.
Writes OUT.png and OUT.pdf. W has shape [D, N] = [2, N]; its rows are the neurons, which are the axes of the page.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from figures import drawing
from polyjax.draw import arrows, style
from polyjax.embedding.geometry import embedding_with_capacities

WIDTH, PANEL, TOP = 3.4, (1.6, 1.08), 0.34  # inches: one column of a page
LIMITS: dict[str, Any] = {"xlim": (-1.1, 1.7), "ylim": (-0.79, 1.1)}  # of the panels: one unit for both axes
ANGLE = 60  # degrees, at which no neuron receives nearly the same of two features
# They add up to the two dimensions. Signs change no capacity; with these there is room for the labels.
CAPACITIES = {"Rotated": np.array([1, 1]), "Non-orthogonal": np.array([0.8, 0.7, 0.5])}
SIGNS = {"Rotated": [1, -1], "Non-orthogonal": [1, -1, -1]}


def embeddings() -> dict[str, np.ndarray]:
    """The embedding [2, N] of each panel: no entry is zero, so that every neuron responds to every feature."""
    turn = drawing.rotation(ANGLE)
    return {name: turn @ embedding_with_capacities(C) * SIGNS[name] for name, C in CAPACITIES.items()}


def draw() -> drawing.Page:
    """The whole figure, to be called within `style()`."""
    found = {name: (W, np.asarray(drawing.capacities(W))) for name, W in embeddings().items()}
    fig = drawing.page(WIDTH, TOP + PANEL[1] + 0.1, *_words(found))
    for column, (name, (W, C)) in enumerate(found.items()):
        ax = drawing.panel(fig, 0.06 + column * (WIDTH - PANEL[0] - 0.12), TOP, *PANEL)
        _panel(ax, W, C)
        ax.set_title(name, pad=12)
    return fig


def _panel(ax: Axes, W: np.ndarray, C: np.ndarray) -> None:
    """The arrows, their capacities, and what each feature contributes to each neuron (dotted)."""
    arrows.plane(ax, **LIMITS)
    ax.plot(LIMITS["xlim"], [0, 0], [0, 0], LIMITS["ylim"], color=style.AXIS, linewidth=0.6, zorder=0)
    colors = style.COLORS[: C.size]
    for (x, y), color in zip(W.T, colors, strict=True):
        ax.plot([x, x, 0], [0, y, y], color=color, linestyle=":", linewidth=0.8, zorder=1)
        ax.plot([x, 0], [0, y], color=color, marker="o", markersize=2.6, linestyle="none", zorder=2)
    arrows.vectors(ax, W, colors)
    arrows.at_tips(ax, W, [f"$C_{i}$ = {c:.2g}" for i, c in enumerate(C)], colors)
    grey: dict[str, Any] = {"color": "0.35", "size": 6.5}
    ax.text(LIMITS["xlim"][1], 0.04, "neuron 0", ha="right", va="bottom", **grey)
    ax.text(0, LIMITS["ylim"][1] + 0.02, "neuron 1", ha="center", va="bottom", **grey)


def _words(found: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[str, str]:
    """The caption; and the capacities and the number of features in each row of W."""
    told = []
    for name, (W, C) in found.items():
        heard = {int(n) for n in (abs(W) > 0.01).sum(1)}
        count = " or ".join(map(str, sorted(heard)))
        told.append(
            f"{name}: capacities {drawing.listed(C)}, and each neuron responds to {count} of {C.size} features."
        )
    caption = (
        "Embedding vectors (arrows) in two dimensions, whose axes are the neurons, and what each feature contributes "
        f"to each neuron (dots). Neurons rotated by {ANGLE}° would be monosemantic on the left, where features are "
        "orthogonal; on the right, where they are more than the neurons, no rotation can make them so."
    )
    return caption, " ".join(told)


def main(argv: Sequence[str] | None = None) -> None:
    """Draws the figure; a path that cannot be written to ends it with one line on stderr and exit code 2."""
    drawing.command("figure1", draw, argv)


if __name__ == "__main__":
    main()
