"""What sets the size of blocks: the activation's exponent, the density, and the numbers of features and neurons.

    python -m figures.blocks [--results results/blocks] [--out results/block_sizes]

Reads the folder of results of `sweeps.blocks` and writes OUT.png and OUT.pdf; trains nothing. Array axes: density P,
exponent Q, restart R, neuron D, feature N.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from figures import sparse_limit
from figures.drawing import Page, load_panel, page, panel, results_command
from polyjax import embedding, plot
from polyjax.draw import captions, cells
from polyjax.draw.slices import embeddings
from polyjax.draw.style import AXIS, integers
from polyjax.results import Results
from sweeps.blocks import DENSITY, EXPONENTS, PANELS

TITLES = {
    "redwood-abs": "Redwood, $|z|^q$",
    "redwood-relu": r"Redwood, $\mathrm{relu}(z)^q$",
    "anthropic-abs": "Anthropic, $|z|^q$",
    "anthropic-relu": r"Anthropic, $\mathrm{relu}(z)^q$",
    "anthropic-square-sizes": "Anthropic, square",
    "anthropic-relu-sizes": "Anthropic, ReLU",
}
SPARSE = ("redwood-abs", "anthropic-abs")  # whose losses are compared with those of the sparse limit
MOST = 6  # features of the diagrams of exponents
TOLERANCE = 0.05  # cosines that count as zero
WIDTH, LEFT, TOP, SIDE, HEIGHT, GAP = 7.0, 0.48, 0.24, 1.41, 1.3, 0.12  # inches
LOWER, BELOW, FOOT = 2.2, 1.4, 4.04  # inches: the top and the height of the lower row, and the caption's top


def draw(panels: Mapping[str, Results]) -> Page:
    """The whole figure, to be called within `style()`."""
    fig = page(WIDTH, FOOT, *_words(panels))
    maps = [_map(fig, i, panels[name]) for i, name in enumerate(EXPONENTS)]
    bar = panel(fig, LEFT + 4 * SIDE + 3.6 * GAP, TOP, 0.09, HEIGHT)
    cells.bar(maps[0].collections[0], bar, "largest block: features", np.arange(1, MOST + 1))  # type: ignore[arg-type]
    for i, name in enumerate(SPARSE):
        ax = panel(fig, LEFT + i * 2.0, LOWER, 1.5, BELOW, xscale="log")
        _losses(ax, name, panels[name])
        ax.set_title(f"{'ef'[i]}  {TITLES[name]}, $p$ = {panels[name].axes['density'][0]:g}")
    for i, name in enumerate(PANELS[len(EXPONENTS) :]):
        _sizes(panel(fig, 4.5 + i * 1.26, LOWER, 1.18, BELOW), panels[name], labelled=i == 0)
        fig.axes[-1].set_title(f"{'gh'[i]}  {TITLES[name]}")
    return fig


def _map(fig: Figure, column: int, results: Results) -> Axes:
    """The largest block over exponent and density."""
    name = EXPONENTS[column]
    ax = panel(fig, LEFT + column * (SIDE + GAP), TOP, SIDE, HEIGHT)
    plot.blocks(results, colorbar=False, ax=ax)
    cmap, norm = integers(MOST)
    ax.collections[0].set(cmap=cmap, norm=norm)
    ax.set(title=f"{'abcd'[column]}  {TITLES[name]}", xlabel="exponent $q$")
    _exponents(ax)
    if column > 0:
        ax.tick_params(labelleft=False)
        ax.set_ylabel("")
    return ax


def _exponents(ax: Axes) -> None:
    ax.set_xticks([1, 2, 4], ["1", "2", "4"])
    ax.set_xticks([], minor=True)


def relative_loss(name: str, results: Results) -> np.ndarray:
    """The losses of all networks of the sparsest row over that of pairs in the sparse limit, [Q, R]: of Redwood models
    what the limit has for their embeddings, of Anthropic ones what was trained, with biases."""
    p, q = results.axes["density"][0], results.axes["q"]
    pairs = sparse_limit.pairs(results.W.shape[-2])
    if name == "redwood-abs":
        of_limit = sparse_limit.redwood_loss
        return np.array(
            [[of_limit(W, a) / of_limit(pairs, a) for W in row] for row, a in zip(results.W[0], q, strict=True)]
        )
    return results.rank_loss[0] / p / [[sparse_limit.anthropic_loss(pairs, each)] for each in q]


def largest(results: Results) -> np.ndarray:
    """The largest block of every network, [*axes, R]."""
    return embedding.blocks(results.W, TOLERANCE).sizes.max(-1)


def _losses(ax: Axes, name: str, results: Results) -> None:
    """The loss of all restarts in the sparsest row, over that of pairs in the sparse limit."""
    q, (cmap, norm) = results.axes["q"], integers(MOST)
    loss, size = relative_loss(name, results), largest(results)[0]
    x = q[:, None] * np.geomspace(0.97, 1.03, loss.shape[1])
    order = np.argsort(-size.ravel(), kind="stable")
    ax.scatter(x.ravel()[order], loss.ravel()[order], 4, size.ravel()[order], cmap=cmap, norm=norm, linewidths=0)
    ax.axhline(1, color="black", linewidth=0.8)
    fine = np.geomspace(q[0], q[-1], 200)
    handles = [Line2D([], [], color="black", linewidth=0.8, label="pairs")]
    if name == "anthropic-abs":
        lines, pairs = sparse_limit.equiangular_lines(), sparse_limit.pairs(3)
        ratio = [sparse_limit.anthropic_loss(lines, each) / sparse_limit.anthropic_loss(pairs, each) for each in fine]
        (drawn,) = ax.plot(fine, ratio, color=cmap(5), linewidth=0.8, linestyle=(0, (4, 2)), label="equiangular lines")
        handles.append(drawn)
    ax.set(xlim=(q[0] / 1.06, q[-1] * 1.06), xlabel="exponent $q$")
    _exponents(ax)
    ax.set_ylabel("limit of the loss / pairs'" if name == SPARSE[0] else "loss / pairs'")
    ax.axvline({"redwood-abs": 2, "anthropic-abs": 1}[name], color=AXIS, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0)
    ax.legend(handles=handles, loc="lower right" if name == SPARSE[0] else "upper right", handlelength=1.6)


def _sizes(ax: Axes, results: Results, *, labelled: bool) -> None:
    """The features in each block of the best network of every size."""
    W, (cmap, norm) = embeddings(results.select("best"))[0], integers(MOST)
    n, d = (results.axes[name].astype(int) for name in ("n_features", "n_neurons"))
    for i, j in np.ndindex(len(n), len(d)):
        sizes = block_sizes(W[i, j][: d[j], : n[i]])
        color = cmap(norm(min(sizes[0], MOST)))
        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=color, edgecolor="white", linewidth=0.8))
        dark = np.dot(color[:3], (0.3, 0.6, 0.1)) < 0.5
        ax.text(j, i, _shown(sizes), ha="center", va="center", size=6.5, color="white" if dark else "black")
    ax.set(xlim=(-0.5, len(d) - 0.5), ylim=(-0.5, len(n) - 0.5), xlabel="neurons $D$")
    ax.set_xticks(range(len(d)), [str(each) for each in d])
    ax.set_yticks(range(len(n)), [str(each) for each in n] if labelled else [""] * len(n))
    ax.tick_params(length=0)
    if labelled:
        ax.set_ylabel("features $N$")


def block_sizes(W: np.ndarray) -> list[int]:
    """The features in each block of an embedding [D, N], from the largest block on."""
    sizes = embedding.blocks(W, TOLERANCE).sizes
    return sorted((int(size) for size in sizes if size > 0), reverse=True)


def _shown(sizes: Sequence[int]) -> str:
    """Such as "3 x 2" for three pairs, "6", or "2 1 1"."""
    if len(sizes) > 1 and len({*sizes}) == 1:
        return f"{len(sizes)} x {sizes[0]}"
    return " ".join(str(size) for size in sizes)


def _words(panels: Mapping[str, Results]) -> tuple[str, str, str]:
    """The caption, all details and the line of settings."""
    caption = (
        "Blocks of trained embeddings whose features all have importance 1. a to d: features in the largest block, 6 "
        "in 3, over density and the exponent of the activation; white hatches: the embedding is not efficient. All "
        "restarts of the sparsest row, coloured by their largest block, e: the loss of their embeddings in the limit "
        "of sparse features, f: their loss, each over that of three pairs in this limit without biases (line; dashed: "
        "six equiangular lines, one block); dotted: the exponent at which blocks of all sizes tie there. g, h: the "
        f"features in each block of the best restart at density {DENSITY:g}; 3 x 2 are three pairs, and ignored "
        "features are in none."
    )
    letters = dict(zip("abcdgh", PANELS, strict=True))
    configs = {letter: panels[name].config for letter, name in letters.items()}
    text = (
        f"Blocks: features linked by cosines above {TOLERANCE:g}; in a to d among those with 0.03 < C < 0.97, beside "
        f"which features of higher capacity are blocks of one. e and f: {_closest(panels)}."
    )
    return caption, captions.of_panels(configs, "refined", text), captions.in_a_line([*configs.values()])


def _closest(panels: Mapping[str, Results]) -> str:
    """The least relative loss at every exponent, in words."""
    told = []
    for name in SPARSE:
        least = relative_loss(name, panels[name]).min(1)
        pairs = zip(panels[name].axes["q"], least, strict=True)
        told.append(f"least of {name} " + ", ".join(f"{loss:.3f} (q = {q:.3g})" for q, loss in pairs))
    return "; ".join(told)


def main(argv: Sequence[str] | None = None) -> None:
    draw_folder = lambda path, _: draw({name: load_panel(path, name) for name in PANELS})  # noqa: E731
    results_command("blocks", "results/blocks", "results/block_sizes", draw_folder, argv, rule=None)


if __name__ == "__main__":
    main()
