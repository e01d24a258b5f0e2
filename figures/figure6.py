"""Figure 6: capacities of different embeddings in two dimensions.

    python -m figures.figure6 [--out results/figure6]

Writes OUT.png and OUT.pdf. The capacities are those that `polyjax.capacities` finds in the matrices that are drawn, and
the blocks those of `polyjax.embedding.geometry.blocks`. W has shape [D, N] = [2, N].
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from figures import drawing
from polyjax.draw import arrows, style
from polyjax.embedding import geometry
from polyjax.embedding.geometry import embedding_with_capacities

WIDTH, LEFT, TOP, PANEL, STEP = 7.0, 0.1, 0.22, (1.6, 1.3), (1.73, 1.72)  # inches
COLUMNS = 4
LIMITS: dict[str, Any] = {"xlim": (-1.6, 1.6), "ylim": (-1.3, 1.3)}  # of every panel
EXACT = 1e-6  # tolerance for matrices that no training has blurred


def embeddings() -> dict[str, np.ndarray]:
    """What is drawn, [2, N] each, by title: efficient embeddings, and one that is not."""
    return {
        "Orthogonal": _rays([30, 120], [1, 0.7]),
        "Orthogonal, one ignored": _rays([45, 135, 0], [1, 1, 0]),
        "Antipodal pair + orthogonal": _rays([0, 180, 90]),
        "Two antipodal pairs": _rays([45, 225, 135, 315], [1, 1, 0.6, 0.6]),
        "Triangle": _rays([90, 210, 330]),
        "Pentagon": _rays(18 + 72 * np.arange(5)),
        "One block, unequal": embedding_with_capacities(np.array([0.8, 0.6, 0.4, 0.2])),
        "Inefficient": _rays([15, -15]),
    }


def _rays(degrees: Sequence[float] | np.ndarray, lengths: Sequence[float] | float = 1.0) -> np.ndarray:
    angles = np.radians(degrees)
    return lengths * np.stack([np.cos(angles), np.sin(angles)])


def draw() -> drawing.Page:
    """The whole figure, to be called within `style()`."""
    found = {title: (W, np.asarray(drawing.capacities(W))) for title, W in embeddings().items()}
    rows = -(-len(found) // COLUMNS)
    fig = drawing.page(WIDTH, TOP + rows * STEP[1] - 0.12, *_words(found))
    for i, (title, (W, C)) in enumerate(found.items()):
        row, column = divmod(i, COLUMNS)
        ax = drawing.panel(fig, LEFT + column * STEP[0], TOP + row * STEP[1], *PANEL)
        _panel(ax, W, C)
        ax.set_title(title)
    return fig


def _panel(ax: Axes, W: np.ndarray, C: np.ndarray) -> None:
    """The arrows, coloured by block, their capacities, and the sum of these beside the dimension."""
    arrows.plane(ax, **LIMITS)
    ax.plot(*_rays(np.linspace(0, 360, 181)), color="0.88", linewidth=0.6, zorder=0)
    labels = geometry.blocks(W, EXACT).labels
    colors = np.where(labels < 0, "0.35", style.COLORS[labels])
    arrows.vectors(ax, W, colors)
    arrows.at_tips(ax, W, [f"{c:.2g}" for c in C], colors, rim=2)
    sign = "=" if geometry.is_efficient(W, EXACT) else "<"
    ax.set_xlabel(rf"$\Sigma_i\,C_i = {C.sum():.3g} {sign} D$")


def _words(found: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[str, str]:
    """The caption; and which of the panels are not efficient."""
    inefficient = (float(C.sum()) for W, C in found.values() if not geometry.is_efficient(W, EXACT))
    caption = (
        "Embedding vectors in D = 2 dimensions, with their capacities, coloured by blocks, whose features interfere "
        "with one another and are orthogonal to all others (circles: length 1). Where an embedding is efficient (ΣC = "
        "D) squared length is proportional to capacity within a block, and free between blocks."
    )
    details = f"The inefficient embedding makes use of {drawing.listed(inefficient, '.3g')} dimensions only."
    return caption, details


def main(argv: Sequence[str] | None = None) -> None:
    """Draws the figure; a path that cannot be written to ends it with one line on stderr and exit code 2."""
    drawing.command("figure6", draw, argv)


if __name__ == "__main__":
    main()
