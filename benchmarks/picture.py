"""The picture of a benchmark: throughput over the number of models, with the peers, over samples and over the models'
size, and memory.

    python -m benchmarks.picture [--data results/bench.json] [--out results/bench]

Reads what `throughput` wrote and nothing else. Rates are in million model-steps a second.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogFormatterMathtext, LogLocator, NullLocator

from benchmarks.machine import words
from figures.drawing import Page, page, panel, save
from polyjax.cli.command import script
from polyjax.draw.scales import plain_log_ticks
from polyjax.draw.style import style

WIDTH, LEFT, THROUGHPUT_HEIGHT = 7.0, 0.46, 2.05  # inches
# Colours that the colour-blind tell apart (Okabe and Ito's, Tol's): cold for polyjax, warm and grey for the peers.
OURS = (("#0072b2", "o"), ("#009e73", "s"), ("#332288", "^"))
PEERS = {"JAX vmap": ("#d55e00", "D"), "PyTorch": ("#aa4499", "v"), "occhio": ("0.35", "P")}
NAMES = {"relu": "ReLU", "gelu": "GELU"}
Row = dict[str, Any]


class Series(NamedTuple):
    """One trainer and one model, over the number of models."""

    label: str
    color: str
    marker: str
    rows: list[Row]


def draw(data: dict[str, Any]) -> Page:
    """The whole figure, to be called within `style()`."""
    sections = {name: [row for row in rows if "missing" not in row] for name, rows in data["sections"].items()}
    lines = series(sections["number of models"])
    fig = page(WIDTH, 4.5, caption(data["machine"], sections))
    _throughput(panel(fig, LEFT, 0.22, WIDTH - LEFT - 1.42, THROUGHPUT_HEIGHT), lines)
    lower = [panel(fig, left, 2.84, 1.72, 1.25) for left in (LEFT, 2.64, WIDTH - 1.84)]
    _samples(lower[0], sections["samples"])
    _size(lower[1], sections["size"])
    _memory(lower[2], lines)
    return fig


def caption(about: dict[str, Any], sections: dict[str, list[Row]]) -> str:
    """What was measured, on what. One paragraph, not wrapped."""
    ratios = [
        f"{row['ratio']:{',.0f' if row['ratio'] >= 10 else '.2g'}} times as fast as {row['who']} ({name(row)})"
        for row in sections["peers"]
        if "ratio" in row and (row["passive"] or row["who"] == "JAX vmap")
    ]
    turns = f" Taking turns on the same models, polyjax was {', '.join(ratios)}." if ratios else ""
    return (
        f"a: {_common(sections['number of models'])}; polyjax with all that its run does (sampling, evaluation, "
        f"capacities), the others training alone; compilation apart.{turns} b: {_common(sections['samples'])}; dashed: "
        f"in inverse proportion to the samples. c: {_common(sections['size'])}. d: the process's peak memory in a. "
        f"Measured on {words(about)}."
    )


def series(rows: list[Row]) -> list[Series]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["models"]):
        groups.setdefault((row["who"], name(row)), []).append(row)
    marks = iter(OURS)
    styles = {(who, model): PEERS.get(who) or next(marks) for who, model in sorted(groups, key=_given(rows))}
    return [Series(f"{who}, {model}", *styles[who, model], found) for (who, model), found in groups.items()]


def name(row: Row) -> str:
    return f"{row['model']} {NAMES.get(row['activation'], row['activation'])}"


def _given(rows: list[Row]) -> Any:
    """A key that sorts (who, model) in the order of the benchmark."""
    order = [(row["who"], name(row)) for row in rows]
    return order.index


def _common(rows: list[Row]) -> str:
    """What all of a section's rows share, such as "Redwood ReLU, 6 in 3, 64 samples a step"."""
    words = (
        {name(row) for row in rows},
        {f"{row['n_features']} in {row['n_neurons']}" for row in rows},
        {f"{row['batch']} samples a step" for row in rows},
    )
    return ", ".join(one for found in words if len(found) == 1 for one in found)


def _throughput(ax: Axes, lines: list[Series]) -> None:
    ends = []
    for label, color, marker, rows in lines:
        x, y = _values(rows, "models"), _values(rows, "rate")
        ax.plot(x, y, color=color, marker=marker, markersize=4)
        ends.append((label, color, x[-1], y[-1]))
    _title(ax, "a", "Throughput", "models in the sweep", "million model-steps a second")
    _view(ax.yaxis, _values([row for line in lines for row in line.rows], "rate"))
    _powers(ax.xaxis)
    _label(ax, ends)


def _label(ax: Axes, ends: list[tuple[str, str, float, float]]) -> None:
    """The lines' names to the right of their last points, moved down where they would meet the one above."""
    low, high = np.log(ax.get_ylim())
    apart = 0.11 * (high - low) / THROUGHPUT_HEIGHT  # a line of text
    above = np.inf
    for label, color, x, y in sorted(ends, key=lambda end: -end[3]):
        above = min(np.log(y), above - apart)
        place: dict[str, Any] = {"textcoords": "offset points", "va": "center_baseline"}
        ax.annotate(label, (x, np.exp(above)), (6, 0), color=color, annotation_clip=False, **place)


def _samples(ax: Axes, rows: list[Row]) -> None:
    x, y = _values(rows, "batch"), _values(rows, "rate")
    ax.plot(x, y[0] * x[0] / x, color="0.6", linestyle=(0, (4, 2)), linewidth=0.7)
    ax.plot(x, y, color=OURS[0][0], marker="o", markersize=3)
    _title(ax, "b", "Samples", "samples a step", "million model-steps a second")
    _view(ax.yaxis, y)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(x[::2], [f"{n:g}" for n in x[::2]])


def _size(ax: Axes, rows: list[Row]) -> None:
    x, y = _values(rows, "n_features") * _values(rows, "n_neurons"), _values(rows, "rate")
    ax.plot(x, y, color=OURS[0][0], linewidth=0.7)
    for plain, face in ((False, OURS[0][0]), (True, "white")):
        chosen = [(row["engine"] == "arrays") == plain for row in rows]
        ax.plot(x[chosen], y[chosen], "o", color=OURS[0][0], markerfacecolor=face, markersize=3.5)
    _title(ax, "c", "Size (open: ordinary arrays)", "weights (features times neurons)", "")
    _view(ax.yaxis, y)
    _view(ax.xaxis, np.array([x.min() / 2, *x]))  # room for a name on the left
    for i, row in enumerate(rows):  # by turns above and below the falling line; the last has no room above
        below = i % 2 or i == len(rows) - 1
        side: dict[str, Any] = {"ha": "right", "xytext": (-3, -6)} if below else {"ha": "left", "xytext": (3, 2)}
        text = f"{row['n_features']} in {row['n_neurons']}"
        ax.annotate(text, (x[i], y[i]), textcoords="offset points", size=6.5, **side)


def _memory(ax: Axes, lines: list[Series]) -> None:
    for _, color, marker, rows in lines:
        ax.plot(_values(rows, "models"), _values(rows, "peak_mb"), color=color, marker=marker, markersize=3)
    _title(ax, "d", "Peak memory (marks as in a)", "models in the sweep", "MB")
    _view(ax.yaxis, np.array([100, 1000, *(row["peak_mb"] for line in lines for row in line.rows)]))
    _powers(ax.xaxis)


def _values(rows: list[Row], key: str) -> np.ndarray:
    return np.array([row[key] for row in rows], float)


def _title(ax: Axes, letter: str, title: str, x: str, y: str) -> None:
    ax.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    ax.set_title(f"$\\bf{{{letter}}}$   {title}", loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="0.92", linewidth=0.5)
    ax.set_axisbelow(True)


def _view(axis: Axis, values: np.ndarray) -> None:
    """Plain ticks on a view with some room around the values."""
    room = max(1.5, (values.max() / values.min()) ** 0.1)
    axis.axes.set(**{f"{axis.axis_name}lim": (values.min() / room, values.max() * room)})  # type: ignore[attr-defined]
    plain_log_ticks(axis)


def _powers(axis: Axis) -> None:
    """Whole decades, as powers of ten."""
    axis.set_major_locator(LogLocator(numticks=20))
    axis.set_major_formatter(LogFormatterMathtext())
    axis.set_minor_locator(NullLocator())


def work(*, data: Path = Path("results/bench.json"), out: Path = Path("results/bench")) -> None:
    """Draw what benchmarks.throughput measured.

    Args:
        data: What it wrote.
        out: Path of the images, without suffix.
    """
    with style():
        save(draw(json.loads(data.read_text())), out)


def main(argv: Sequence[str] | None = None) -> None:
    script("python -m benchmarks.picture", work, argv)


if __name__ == "__main__":
    main()
