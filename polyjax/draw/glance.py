"""Results at a glance, as a notebook shows them: the capacity of feature 0 and the loss over two axes, or all
capacities along one."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from polyjax.draw.curves import cut
from polyjax.draw.diagrams import diagram
from polyjax.draw.style import style

if TYPE_CHECKING:
    from polyjax.results import Results

INCHES, DPI = (6.4, 2.5), 120
PLACES = ((0.1, 0.19, 0.29, 0.69), (0.61, 0.19, 0.29, 0.69))  # of two diagrams: left, bottom, width, height
MIDDLE = (0.25, 0.19, 0.5, 0.68)  # of a curve


def png(results: Results) -> bytes:
    """Return a picture of the results. The axes are the first two of more than one value; of the others a middle value
    is shown."""
    names, fixed = shown(results)
    file = BytesIO()
    with style():
        figure = Figure(INCHES, dpi=DPI)
        FigureCanvasAgg(figure)
        if len(names) == 2:
            for place, color in zip(PLACES, ("capacity", "loss"), strict=True):
                diagram(results, color, ax=figure.add_axes(place), **fixed)
        else:
            cut(results, names[0], ax=figure.add_axes(MIDDLE), **fixed)
        figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def shown(results: Results) -> tuple[list[str], dict[str, Any]]:
    """Return the names of the axes that are shown, at most two, and the values of the others."""
    several = [name for name, values in results.axes.items() if len(values) > 1]
    names = (several + [name for name in results.axes if name not in several])[:2]
    fixed = {name: values[len(values) // 2] for name, values in results.axes.items() if name not in names}
    return names, fixed
