"""The closed form of results, whose features may be the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyjax.differences import check_same
from polyjax.theory import grid

if TYPE_CHECKING:
    from polyjax.results import Results
    from polyjax.sweep import Sweep


def form_of(results: Results, sweep: Sweep | None) -> grid.ClosedForm | grid.OfFeatures:
    """Return the closed form of results; the sweep that they were made of is needed where its features are the user's.
    Raises ValueError where there is none, or the sweep is another."""
    if sweep is None:
        return grid.closed_form(results.config)
    check_same(results.config, sweep)
    if grid.is_of_paper(results.config):
        return grid.closed_form(results.config)
    return grid.of_features(results.config, sweep.training.features_at)


def any_form(results: Results, sweep: Sweep | None) -> grid.ClosedForm | grid.OfFeatures | None:
    """Return what `form_of` does, and None where it finds none."""
    try:
        return form_of(results, sweep)
    except ValueError:
        return None
