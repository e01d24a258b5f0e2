"""Colours of the quantities that a page can show, over all panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from bokeh.models import BasicTicker, ColorBar, ColorMapper, FixedTicker, LinearColorMapper, LogColorMapper, Ticker
from matplotlib.colors import to_hex

from polyjax.draw.style import CAPACITY_MAP, ERROR_MAP, integers

if TYPE_CHECKING:
    from polyjax.results import Results

SETTLED = ["#d55e00", "#a9c4d8"]  # not, settled
MISSING = "#dddddd"


def mappers(panels: Sequence[Results], rules: Sequence[str]) -> dict[str, ColorMapper]:
    """Return the colours of every quantity of page.js, by name."""
    n_features = max(results.capacity.shape[-1] for results in panels)
    attempts = max(int(results.attempt.max()) for results in panels)
    found = {
        "capacity": _linear(_palette(CAPACITY_MAP), 0, 1),
        "loss": _of_losses(np.concatenate([r.select(s).loss.ravel() for r, s in zip(panels, rules, strict=True)])),
        "excess": LogColorMapper(palette=_palette(ERROR_MAP), low=1e-3, high=1, nan_color=MISSING),
        "blocks": _counts(1, n_features),
        "largest": _counts(1, n_features),
        "settled": _linear(SETTLED, -0.5, 1.5),
        "attempt": _counts(0, attempts),
    }
    return found


def _palette(name: str) -> list[str]:
    return [to_hex(color) for color in mpl.colormaps[name](np.linspace(0, 1, 256))]


def _linear(palette: list[str], low: float, high: float) -> ColorMapper:
    return LinearColorMapper(palette=palette, low=low, high=high, nan_color=MISSING)


def _of_losses(losses: np.ndarray) -> ColorMapper:
    """Return a logarithmic scale where the losses allow one."""
    finite = losses[np.isfinite(losses)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    kind: Any = LogColorMapper if 0 < low < high else LinearColorMapper
    return kind(palette=_palette("viridis"), low=low, high=high if high > low else low + 1, nan_color=MISSING)


def _counts(least: int, most: int) -> ColorMapper:
    """Return a colour for each whole number."""
    colors, _ = integers(most - least + 1)
    return _linear([to_hex(color) for color in np.asarray(colors.colors)], least - 0.5, most + 0.5)


def bar(name: str, mapper: ColorMapper) -> ColorBar:
    """Return the colour bar of a quantity; the page shows one at a time."""
    whole = name in ("blocks", "largest", "settled", "attempt")
    ticker: Ticker = FixedTicker(ticks=[*range(12)]) if whole else BasicTicker()
    options: dict[str, Any] = {"ticker": ticker} if whole or isinstance(mapper, LinearColorMapper) else {}
    return ColorBar(color_mapper=mapper, visible=name == "capacity", width=12, label_standoff=4, **options)
