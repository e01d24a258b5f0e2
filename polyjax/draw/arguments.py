"""What every picture is given alike, checked before anything is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from polyjax.checks import require, switch

if TYPE_CHECKING:
    from polyjax.results import Results


def check(ax: Axes | None, results: Results, name: str = "results", **switches: bool) -> None:
    """Raise ValueError unless a picture is asked for on an Axes or None, of results, the argument of that name, with
    switches that are True or False."""
    require(isinstance(ax, Axes | None), "ax", "be an Axes of matplotlib, or None", ax)
    known = all(hasattr(results, part) for part in ("axes", "capacity", "config", "select"))
    require(known, name, "be Results, such as polyjax.load returns", results)
    switch(**switches)
