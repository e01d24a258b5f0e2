"""Figure 3: the two toy models side by side, inputs at the bottom and outputs at the top.

    python -m figures.figure3 [--out results/figure3]

Left: the Anthropic model, an autoencoder that compresses N features into D dimensions and recovers them. Right: the
Redwood model, whose D neurons imitate the sum that N monosemantic neurons compute. Writes OUT.png and OUT.pdf.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from figures import drawing

N, D = 6, 3
WIDTH, HEIGHT, SPLIT = 7.0, 3.12, 2.95  # inches, as are all coordinates; the Anthropic model has the first SPLIT
INPUTS, HIDDEN, OUTPUTS, EQUATIONS, LOSS = 0.42, 1.17, 1.92, 2.31, 2.69  # heights
STEP = 0.27  # between the nodes of a row
EDGE, LINEAR, NEURON = "0.6", "white", "#cfe5f5"  # nodes are white if linear, blue if they apply f
Row = np.ndarray  # [nodes, 2], the places of a row of nodes


def draw() -> drawing.Page:
    """The whole figure, to be called within `style()`."""
    fig = drawing.page(WIDTH, HEIGHT, _caption())
    left = drawing.canvas(fig, 0, 0, SPLIT, HEIGHT)
    right = drawing.canvas(fig, SPLIT, 0, WIDTH - SPLIT, HEIGHT)
    right.plot([0, 0], [0.1, HEIGHT - 0.05], color="0.8", linewidth=0.6)
    left.set_title("Anthropic basic toy model", y=1, pad=-10, weight="bold")
    right.set_title("Redwood toy model", y=1, pad=-10, weight="bold")
    _autoencoder(left, SPLIT / 2)
    _target(right, 1.0)
    _neurons(right, 3.0)
    _text(right, 2.0, LOSS, r"loss  $(\tilde{y} - y)^2$", size=8)
    return fig


def _autoencoder(ax: Axes, x: float) -> None:
    """x -> W x -> f(W^T W x + b), centred at x."""
    inputs, hidden, outputs = _row(x, INPUTS, N), _row(x, HIDDEN, D), _row(x, OUTPUTS, N)
    _edges(ax, inputs, hidden)
    _edges(ax, hidden, outputs)
    _nodes(ax, inputs, _inputs())
    _nodes(ax, hidden, [""] * D)
    _nodes(ax, outputs, ["$f$"] * N, NEURON)
    _between(ax, inputs, hidden, "$W$")
    _between(ax, hidden, outputs, r"$W^\mathrm{T}$")
    _text(ax, x, INPUTS - 0.27, f"$N$ = {N} features $x$")
    _text(ax, x + STEP * (D + 0.5) / 2, HIDDEN, f"$h = Wx$,  $D$ = {D}", ha="left")
    _text(ax, x, EQUATIONS, r"$\tilde{x} = f(W^\mathrm{T} h + b)$", size=8)
    _text(ax, x, LOSS, r"loss  $\sum_i v_i (\tilde{x}_i - x_i)^2$", size=8)


def _target(ax: Axes, x: float) -> None:
    """x_i -> f(x_i) -> sum_i v_i f(x_i), centred at x."""
    inputs, hidden, output = _row(x, INPUTS, N), _row(x, HIDDEN, N), _row(x, OUTPUTS, 1)
    for one, other in zip(inputs, hidden, strict=True):
        _edges(ax, one[None], other[None])
    _edges(ax, hidden, output)
    _nodes(ax, inputs, _inputs())
    _nodes(ax, hidden, ["$f$"] * N, NEURON)
    _nodes(ax, output, [r"$\Sigma$"])
    _between(ax, hidden, output, "$v$")
    _text(ax, x, INPUTS - 0.27, f"target: $N$ = {N} monosemantic neurons")
    _text(ax, x, EQUATIONS, r"$y = \sum_i v_i f(x_i)$", size=8)


def _neurons(ax: Axes, x: float) -> None:
    """x -> f(W x) -> sum_d f((W x)_d) + b, centred at x."""
    inputs, hidden, output = _row(x, INPUTS, N), _row(x, HIDDEN, D), _row(x, OUTPUTS, 1)
    _edges(ax, inputs, hidden)
    _edges(ax, hidden, output)
    _edges(ax, output, output + np.array([0.3, 0]))
    _nodes(ax, inputs, _inputs())
    _nodes(ax, hidden, ["$f$"] * D, NEURON)
    _nodes(ax, output, [r"$\Sigma$"])
    _between(ax, inputs, hidden, "$W$")
    _text(ax, x + 0.33, OUTPUTS, "$b$", ha="left")
    _text(ax, x, INPUTS - 0.27, f"model: $D$ = {D} polysemantic neurons")
    _text(ax, x, EQUATIONS, r"$\tilde{y} = \sum_d f((Wx)_d) + b$", size=8)


def _row(middle: float, height: float, count: int) -> Row:
    """Places of `count` nodes, centred at `middle`."""
    x = middle + STEP * (np.arange(count) - (count - 1) / 2)
    return np.column_stack([x, np.full(count, height)])


def _edges(ax: Axes, lower: Row, upper: Row) -> None:
    """Lines from every node of a row to every node of another."""
    ends = [np.array([a, b]) for a in lower for b in upper]
    ax.add_collection(LineCollection(ends, colors=EDGE, linewidths=0.7, zorder=1))


def _nodes(ax: Axes, places: Row, symbols: Iterable[str], color: str = LINEAR) -> None:
    """Circles, each with its symbol inside."""
    ax.scatter(places[:, 0], places[:, 1], s=15**2, c=color, edgecolors="black", linewidths=0.7, zorder=2)
    for (x, y), symbol in zip(places, symbols, strict=True):
        _text(ax, x, y, symbol)


def _between(ax: Axes, lower: Row, upper: Row, symbol: str) -> None:
    """The name of the weights between two rows, to the right of their edges."""
    x, y = (lower[-1] + upper[-1]) / 2
    _text(ax, x + 0.12, y, symbol, ha="left", size=8)


def _text(ax: Axes, x: float, y: float, text: str, ha: str = "center", size: float = 7) -> None:
    ax.text(x, y, text, ha=ha, va="center_baseline", size=size, zorder=3)


def _inputs() -> list[str]:
    return [f"$x_{i}$" for i in range(N)]


def _caption() -> str:
    return (
        f"Both models embed N = {N} features x of importances v by a matrix W in D = {D} dimensions; blue nodes apply "
        "the activation f. The Anthropic model is to recover the features from its linear hidden units, a task of "
        "compression; the Redwood model is to imitate what N neurons with one feature each compute, a task of "
        "computation."
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Draws the figure; a path that cannot be written to ends it with one line on stderr and exit code 2."""
    drawing.command("figure3", draw, argv)


if __name__ == "__main__":
    main()
