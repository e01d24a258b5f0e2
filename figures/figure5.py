"""Figure 5: an embedding matrix with two blocks, as a matrix, as connections and as vectors.

    python -m figures.figure5 [--out results/figure5]

Block 0 holds three features in two dimensions, block 1 an antipodal pair in one (the tegum product of section 4.3).
Writes OUT.png and OUT.pdf. W has shape [D, N] = [3, 5]; its rows, the neurons, are its principal components, since
W W^T is diagonal.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_hex
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from figures import drawing
from polyjax.draw import arrows, style
from polyjax.embedding import geometry
from polyjax.embedding.geometry import Blocks, embedding_with_capacities, tegum_product

CAPACITIES = np.array([0.8, 0.7, 0.5]), np.array([0.5, 0.5])  # of the two blocks
SCALES = np.array([1.0, 1.6])  # mu_k: squared length is mu_k C_i
ANGLE = 20  # degrees, of block 0 against its neurons: no entry in the block is near zero
AZIMUTH, ELEVATION = np.radians([-18, 24])  # of the view of the right panel
MAP, NORM = mpl.colormaps["PRGn"], Normalize(-1, 1)  # diverging, and safe for colour-blind eyes
POSITIVE, NEGATIVE = to_hex(MAP(0.85)), to_hex(MAP(0.15))
OUTLINE: dict[str, Any] = {"linewidth": 1.5, "clip_on": False, "zorder": 4}
MINUS = "\N{MINUS SIGN}"
EXACT = 1e-6  # tolerance for a matrix that no training has blurred
WIDTH, TOP, HEIGHT, CELL = 7.0, 0.3, 1.7, 0.36  # inches
LEFT = {"matrix": 0.6, "graph": 2.55, "vectors": 4.6}  # inches
GRAPH, NODES, FIRST, STEP = 2.1, {"neuron": 1.4, "feature": 0.45}, 0.7, 0.31  # inches: width, heights, features' places
SPACE: dict[str, Any] = {"xlim": (-1.2, 1.75), "ylim": (-1.05, 1.05)}  # what is seen of it in the right panel


class Embedding(NamedTuple):
    """What is drawn."""

    W: np.ndarray  # [D, N]
    capacity: np.ndarray  # [N]
    blocks: Blocks

    @property
    def labels(self) -> dict[str, np.ndarray]:
        """The block of each neuron, [D], and of each feature, [N]."""
        features = self.blocks.labels
        return {"neuron": features[abs(self.W).argmax(1)], "feature": features}

    def members(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """The features and the neurons of a block."""
        labels = self.labels
        return np.flatnonzero(labels["feature"] == block), np.flatnonzero(labels["neuron"] == block)


def embedding() -> Embedding:
    """The matrix, with the capacities and the blocks that the library finds in it."""
    first, second = (embedding_with_capacities(C) for C in CAPACITIES)
    W = tegum_product([drawing.rotation(ANGLE) @ first, second], SCALES)
    return Embedding(W, np.asarray(drawing.capacities(W)), geometry.blocks(W, EXACT))


def draw() -> drawing.Page:
    """The whole figure, to be called within `style()`."""
    found = embedding()
    fig = drawing.page(WIDTH, TOP + HEIGHT + 0.1, *_words(found))
    D, N = found.W.shape
    _matrix(drawing.panel(fig, LEFT["matrix"], TOP + 0.12, N * CELL, D * CELL), found)
    _graph(drawing.canvas(fig, LEFT["graph"], TOP, GRAPH, HEIGHT), found)
    _vectors(drawing.panel(fig, LEFT["vectors"], TOP, WIDTH - LEFT["vectors"], HEIGHT), found)
    left, right = SPACE["xlim"]
    origin = (WIDTH - LEFT["vectors"]) * left / (left - right)
    titles = {LEFT["matrix"] + CELL * N / 2: "Embedding matrix $W$", LEFT["vectors"] + origin: "Embedding vectors"}
    titles[LEFT["graph"] + FIRST + STEP * (N - 1) / 2] = "Features and neurons"
    for x, title in titles.items():
        fig.text(x / WIDTH, 1 - 0.18 / fig.get_figheight(), title, ha="center", size=7.5)
    return fig


def _matrix(ax: Axes, found: Embedding) -> None:
    """The entries, the outlines of the blocks, and the capacity of each column."""
    ax.imshow(found.W, cmap=MAP, norm=NORM, aspect="auto")
    for (d, i), w in np.ndenumerate(found.W):
        text = f"{w:.2f}".replace("-", MINUS) if w else "0"
        ax.text(i, d, text, ha="center", va="center_baseline", color="white" if abs(w) > 0.6 else "black")
    for block in range(found.blocks.n_blocks):
        (i, *columns), (d, *rows) = found.members(block)
        size = len(columns) + 1, len(rows) + 1
        ax.add_patch(Rectangle((i - 0.5, d - 0.5), *size, fill=False, edgecolor=style.COLORS[block], **OUTLINE))
    _matrix_labels(ax, found)


def _matrix_labels(ax: Axes, found: Embedding) -> None:
    lines: dict[str, Any] = {"linespacing": 1.5, "size": 6.5}
    ax.set_xticks(range(found.capacity.size), [f"{i}\n{c:.2g}" for i, c in enumerate(found.capacity)], **lines)
    ax.set_yticks(range(len(found.W)), [f"neuron {d}" for d in range(len(found.W))])
    ax.tick_params(length=0, pad=4)
    ax.spines[:].set_visible(False)
    corner: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "va": "top"}
    ax.annotate("feature\ncapacity", (0, 0), (-4, -4), **corner, **lines)


def _graph(ax: Axes, found: Embedding) -> None:
    """An edge for every weight, as wide as it is large; each neuron stands above the features of its block."""
    x = {"neuron": FIRST + STEP * _above(found), "feature": FIRST + STEP * np.arange(found.capacity.size)}
    for (d, i), w in np.ndenumerate(found.W):
        if w:
            ends = [x["neuron"][d], x["feature"][i]], list(NODES.values())
            color = POSITIVE if w > 0 else NEGATIVE
            ax.plot(*ends, color=color, linewidth=3.5 * abs(w), solid_capstyle="butt", zorder=1)
    for (kind, y), marker in zip(NODES.items(), "so", strict=True):
        edges: Any = style.COLORS[found.labels[kind]]
        ax.scatter(x[kind], np.full(x[kind].size, y), s=13**2, marker=marker, c="white", edgecolors=edges, zorder=2)
        ax.text(0.45, y, f"{kind}s", ha="right", va="center_baseline")
        for number, place in enumerate(x[kind]):
            ax.text(place, y, f"{number}", ha="center", va="center_baseline")
    _sign_legend(ax, float(x["feature"].mean()) / GRAPH)


def _sign_legend(ax: Axes, middle: float) -> None:
    signs = {"$W_{di} > 0$": POSITIVE, "$W_{di} < 0$": NEGATIVE}
    handles = [Line2D([], [], color=color, linewidth=2, label=label) for label, color in signs.items()]
    ax.legend(handles=handles, ncols=2, loc="lower center", bbox_to_anchor=(middle, -0.03), borderpad=0)


def _above(found: Embedding) -> np.ndarray:
    """Where the neurons stand, [D], in units of the distance between features: evenly over those of their block."""
    places = np.empty(len(found.W))
    for block in range(found.blocks.n_blocks):
        features, neurons = found.members(block)
        edges = np.linspace(features[0] - 0.5, features[-1] + 0.5, neurons.size + 1)
        places[neurons] = (edges[1:] + edges[:-1]) / 2
    return places


def _vectors(ax: Axes, found: Embedding) -> None:
    """The arrows in three dimensions, with the plane of block 0, seen from the side and above."""
    arrows.plane(ax, **SPACE)
    circle = np.linspace(0, 2 * np.pi, 181)
    disc = projected(np.stack([np.cos(circle), np.sin(circle), 0 * circle]))
    ax.fill(*disc, color=style.COLORS[0], alpha=0.1, linewidth=0, zorder=0)
    ax.text(0.1, 0.55, "along neuron 2", color=style.COLORS[1])
    ax.text(0.45, -0.45, "in the plane of\nneurons 0 and 1", color=style.COLORS[0], va="top")
    W, colors = projected(found.W), style.COLORS[found.blocks.labels]
    arrows.vectors(ax, W, colors)
    arrows.at_tips(ax, W, [f"$C_{i}$ = {c:.2g}" for i, c in enumerate(found.capacity)], colors)


def projected(points: np.ndarray) -> np.ndarray:
    """[3, n] -> [2, n], parallel to the direction of view."""
    x = np.cos(AZIMUTH) * points[0] - np.sin(AZIMUTH) * points[1]
    depth = np.sin(AZIMUTH) * points[0] + np.cos(AZIMUTH) * points[1]
    return np.stack([x, np.sin(ELEVATION) * depth + np.cos(ELEVATION) * points[2]])


def _words(found: Embedding) -> tuple[str, str]:
    """The caption; and the blocks that were found, with their capacities and scales."""
    told = []
    for block in range(found.blocks.n_blocks):
        features, _ = found.members(block)
        C, rank = found.capacity[features], found.blocks.dimensions[block]
        told.append(
            f"{features.size} features in {rank} dimension{'s' if rank > 1 else ''}, capacities {drawing.listed(C)}, "
            f"which add up to {C.sum():.3g}, scale μ = {found.blocks.scales[block]:.3g}"
        )
    caption = (
        f"An efficient embedding with {found.blocks.n_blocks} blocks (outlined; of one colour in all panels): its "
        "matrix, whose rows are its principal components, the entries as connections, as wide as they are large, and "
        "the columns as vectors. Features interfere within a block, where squared length is μ times capacity, and not "
        "with those of another."
    )
    return caption, f"Blocks: {'; and '.join(told)}."


def main(argv: Sequence[str] | None = None) -> None:
    """Draws the figure; a path that cannot be written to ends it with one line on stderr and exit code 2."""
    drawing.command("figure5", draw, argv)


if __name__ == "__main__":
    main()
