"""What a diagram colours: one number a cell, with its name, its colours and its ticks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap, LogNorm, Normalize

from polyjax.checks import one_of, place
from polyjax.draw import shapes
from polyjax.draw.optimum import form_of
from polyjax.draw.slices import default_rule
from polyjax.draw.style import CAPACITY_MAP, CAPACITY_NORM, ERROR_MAP, ERROR_NORM, integers
from polyjax.selection import best_restart
from polyjax.theory import grid

if TYPE_CHECKING:
    from polyjax.results import Results
    from polyjax.selection import Selection
    from polyjax.sweep import Sweep


Form = grid.ClosedForm | grid.OfFeatures


class Quantity(NamedTuple):
    """A number of every cell."""

    value: np.ndarray  # [*axes]; NaN where there is none
    label: str
    cmap: str | Colormap
    norm: Normalize
    ticks: Any = None  # of the colour bar; None: matplotlib's
    is_trained: bool = True  # and not of theory alone


def quantity(results: Results, name: str, rule: str | None, feature: int, sweep: Sweep | None = None) -> Quantity:
    """Return a quantity by its name, a key of `TRAINED` or `OF_THEORY`; the sweep is needed for those of theory where
    features are the user's. Raises ValueError where there is none of that name, or the results do not have it."""
    one_of("color", name, TRAINED | OF_THEORY)
    feature = place("feature", feature, results.capacity.shape[-1], "features")
    rule = default_rule(results, rule)
    if name in OF_THEORY:
        return OF_THEORY[name](results, results.select(rule), feature, form_of(results, sweep))
    return TRAINED[name](results, results.select(rule), rule, feature)


def _capacity(results: Results, selection: Selection, rule: str, feature: int) -> Quantity:
    return _of_capacity(results, selection.capacity[..., feature], feature, "")


def _optimum(results: Results, selection: Selection, feature: int, form: Form) -> Quantity:
    found = grid.capacity(form, results.axes)[..., feature]
    return _of_capacity(results, found, feature, "optimal ")._replace(is_trained=False)


def _of_capacity(results: Results, value: np.ndarray, feature: int, kind: str) -> Quantity:
    swept = feature == 0 and "importance" in results.axes and grid.is_of_paper(results.config)
    label = f"{kind}capacity $C_{{{feature}}}$" + (" of the feature of importance $V$" if swept else "")
    return Quantity(value, label, CAPACITY_MAP, CAPACITY_NORM, np.linspace(0, 1, 5))


def _loss(results: Results, selection: Selection, rule: str, feature: int) -> Quantity:
    norm = _spread(selection.loss)
    return Quantity(selection.loss, "loss", "viridis", norm, _plain_ticks(norm))


def _spread(value: np.ndarray) -> Normalize:
    """Return a logarithmic norm where the values allow one."""
    finite = value[np.isfinite(value)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 1)
    return LogNorm(low, high) if low > 0 and high > 1.5 * low else Normalize(low, high)


def _plain_ticks(norm: Normalize) -> np.ndarray | None:
    """Return ticks such as 0.1, 0.2, 0.5 of a logarithmic norm, only whole decades where it spans more than two."""
    if not isinstance(norm, LogNorm) or norm.vmin is None or norm.vmax is None:
        return None
    low, high = np.log10(norm.vmin), np.log10(norm.vmax)
    steps = [1, 2, 5] if high - low < 2 else [1]
    ticks = np.outer(10.0 ** np.arange(np.floor(low), np.ceil(high) + 1), steps).ravel()
    return ticks[(ticks >= norm.vmin) & (ticks <= norm.vmax)]


def _excess(results: Results, selection: Selection, feature: int, form: Form) -> Quantity:
    with np.errstate(divide="ignore", invalid="ignore"):
        above = selection.loss / grid.loss(form, results.axes) - 1
    return Quantity(above, "loss above the optimum, as a fraction", ERROR_MAP, ERROR_NORM, 10.0 ** np.arange(-3, 1))


def _blocks(results: Results, selection: Selection, rule: str, feature: int) -> Quantity:
    return _count(shapes.shapes(selection, shapes.tolerance_of(results, rule)).number, "number of blocks")


def _largest(results: Results, selection: Selection, rule: str, feature: int) -> Quantity:
    found = shapes.shapes(selection, shapes.tolerance_of(results, rule)).largest
    return _count(found, "largest block: features")


def _count(value: np.ndarray, label: str) -> Quantity:
    most = max(int(value.max()), 1)
    shown = np.where(value > 0, value, np.nan)  # blank where there is no block
    return Quantity(shown, label, *integers(most), np.arange(1, most + 1))


def _settled(results: Results, selection: Selection, rule: str, feature: int) -> Quantity:
    norm = BoundaryNorm([-0.5, 0.5, 1.5], 2)
    return Quantity(selection.settled.astype(float), "settled (1) or not (0)", ListedColormap(_TWO), norm, [0, 1])


_TWO = ["#d55e00", "#a9c4d8"]


def _attempt(results: Results, selection: Selection, rule: str, feature: int) -> Quantity:
    """Of the restart of lowest loss, also where it was refined."""
    best, _ = best_restart(results.arrays())
    value = np.take_along_axis(results.attempt, best[..., None], -1)[..., 0].astype(float)
    most = int(value.max())
    colors, _ = integers(most + 1)
    return Quantity(value, "attempt", colors, BoundaryNorm(np.arange(most + 2) - 0.5, most + 1), np.arange(most + 1))


OF_THEORY: dict[str, Callable[[Results, Selection, int, Form], Quantity]] = {"optimum": _optimum, "excess": _excess}
TRAINED: dict[str, Callable[[Results, Selection, str, int], Quantity]] = {
    "capacity": _capacity,
    "loss": _loss,
    "blocks": _blocks,
    "largest": _largest,
    "settled": _settled,
    "attempt": _attempt,
}
