"""Networks on their way: the curves of one cell over the steps of training, and the film of a diagram that forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import animation
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from polyjax.checks import a_path, number, place, require
from polyjax.draw import slices
from polyjax.draw.arguments import check
from polyjax.draw.diagrams import diagram
from polyjax.draw.scales import plain_log_ticks
from polyjax.draw.style import AXIS, CONSTANT, VARIED, on, style
from polyjax.selection import Snapshots

if TYPE_CHECKING:
    from polyjax.results import Results

HELD = 1.5  # seconds for which the last picture of a film stays
WRITERS = {".gif": "pillow", ".mp4": "ffmpeg"}  # of films, by suffix


def history(results: Results, *, restart: int | None = None, ax: Axes | None = None, **cell: float) -> Axes:
    """Draw the capacities of all features of a network over the steps of training, feature 0 in blue, and its loss in
    grey, on an axis to the right.

    Steps are logarithmic, but for 0, the start. The loss is that on as many samples as some steps take, the same for
    all steps.

    Args:
        results: of a sweep with snapshots.
        restart: which of the cell's, from 0; None: the one of lowest loss.
        ax: what to draw on; None: a new figure.
        **cell: the coordinates of the cell; the nearest one is taken.

    Returns:
        The Axes of the capacities. Raises ValueError where there are no snapshots, and for a restart that does not
        exist.
    """
    check(ax, results)
    looks, found = Snapshots.needed(results.snapshots), slices.cell(results, cell)
    rank_loss = results.rank_loss[found.place]
    best = int(np.argmin(np.where(np.isfinite(rank_loss), rank_loss, np.inf)))
    restart = best if restart is None else place("restart", restart, len(rank_loss), "restarts")
    capacity, loss = (a[found.place][restart] for a in (looks.capacity, looks.loss))
    with on(ax, width=3.0, right=0.6) as ax:
        beside = ax.twinx()
        beside.plot(looks.steps, loss, color=AXIS, linestyle="--", linewidth=0.9)
        beside.set(ylabel="loss (dashed)", yscale="log" if (loss > 0).all() else "linear")
        if beside.get_yscale() == "log":
            plain_log_ticks(beside.yaxis)
        ax.set_zorder(beside.get_zorder() + 1)  # capacities are in front
        ax.patch.set_visible(False)
        for i in reversed(range(capacity.shape[-1])):
            color = VARIED if i == 0 else CONSTANT
            ax.plot(looks.steps, capacity[:, i], "o-", color=color, markersize=1.8, linewidth=0.9)
        _steps(ax, looks.steps)
        words = ", ".join(filter(None, (found.words, f"restart {restart}")))
        ax.set(ylim=(-0.03, 1.03), ylabel="capacity $C_i$ (feature 0 in blue)", title=words)
    return ax


def _steps(ax: Axes, steps: np.ndarray) -> None:
    """Make the x axis that of the steps: logarithmic from the first after the start on."""
    first = int(steps[steps > 0][0])
    ax.set_xscale("symlog", linthresh=first, linscale=0.3)
    ax.set_xlim(0, steps[-1])
    ax.set_xlabel("steps of training")
    ticks = [0, *(t for t in LogLocator().tick_values(first, steps[-1]) if first <= t <= steps[-1])]
    ax.set_xticks(ticks)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.xaxis.set_minor_locator(NullLocator())


def film(
    results: Results,
    path: str | PathLike[str],
    *,
    feature: int = 0,
    seconds: float = 8.0,
    x: str | None = None,
    **fixed: float,
) -> None:
    """Write a film of a phase diagram that forms: the capacity of a feature after the steps of every snapshot, in the
    restart whose loss is the lowest in the end.

    Args:
        results: of a sweep with snapshots, of two axes or more.
        path: of the film, which ends in .gif or .mp4; the latter needs ffmpeg.
        feature: whose capacity, from 0.
        seconds: how long it takes, before the last picture stays.
        x: the axis to be drawn horizontally; None: the later one.
        **fixed: values of the other axes, by name.

    Raises ValueError where there are no snapshots, for another suffix, and where what writes the film is missing.
    """
    from matplotlib import pyplot

    check(None, results)
    looks, path = Snapshots.needed(results.snapshots), a_path(path)
    require(path.suffix in WRITERS, "path", f"end in {' or '.join(WRITERS)}", str(path))
    require(0.1 <= number("seconds", seconds) <= 3600, "seconds", "be from 0.1 to 3600", seconds)
    writer = WRITERS[path.suffix]
    missing = f"end in .gif, since {writer}, which writes {path.suffix}, is not installed here"
    require(animation.writers.is_available(writer), "path", missing, str(path))
    options: dict[str, Any] = {"feature": feature, "rule": "best", "x": x, "levels": (), **fixed}
    rate, last = max(1, round(len(looks.steps) / seconds)), len(looks.steps) - 1
    made: animation.AbstractMovieWriter = animation.writers[writer](fps=rate)
    with style(), on(None) as ax:
        figure = ax.get_figure(root=True)
        assert figure is not None
        try:
            draw = _picture(ax, results, looks, options)
            draw(0)  # which says what is wrong, before there is a file
            with made.saving(figure, str(path), dpi=figure.dpi):
                for look in [*range(last), *[last] * (1 + round(HELD * rate))]:
                    draw(look)
                    made.grab_frame()
        finally:
            pyplot.close(figure)


def _picture(ax: Axes, results: Results, looks: Snapshots, options: dict[str, Any]) -> Callable[[int], None]:
    """Return what draws a snapshot of this number."""

    def draw(number: int) -> None:
        ax.clear()
        now = replace(results, capacity=looks.capacity[..., number, :], refined=None, snapshots=None)
        diagram(now, ax=ax, **options)
        title = ", ".join(filter(None, (ax.get_title(), f"{looks.steps[number]:,} steps")))
        ax.set_title(title)

    return draw
