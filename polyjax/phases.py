"""Phases of a feature in trained networks, and where they meet: ignored, shared or full, by its capacity.

A boundary of two phases lies between two cells of the grid. Where the capacity leaves 0 or reaches 1 continuously, as
it does for k > 3 in the paper's model (section 3.5), the curve through the cells beside it says where more closely;
where it jumps, as for k < 3, nothing does. The definitions here are ours. Axis letters: Y cuts, X cells along each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from polyjax.checks import is_number, place, require
from polyjax.draw import slices
from polyjax.embedding.capacity import MARGIN, phases

if TYPE_CHECKING:
    from polyjax.draw.scales import Scale
    from polyjax.results import Results

NEAR = 0.3  # capacity up to which cells are fitted, of at least FEWEST
FEWEST = 4  # cells through which a curve is drawn, in a transition that is called continuous
UNFITTED = 0.1  # of a capacity from the other end, where the curve ends, too


class Boundary(NamedTuple):
    """Where one phase of a feature ends along an axis, for every cut."""

    position: np.ndarray  # [Y], on the axis; NaN where the cut has no such boundary
    error: np.ndarray  # [Y], of the position: in decades where the axis is logarithmic, else in its units
    kind: np.ndarray  # [Y], "continuous", "jump", "unresolved" or "none"


class Boundaries(NamedTuple):
    """The boundaries of the shared phase, which are the same where there is none."""

    along: str  # the axis
    across: str  # the other axis
    values: np.ndarray  # [Y], of the other axis, ascending
    ignored: Boundary  # below, the feature is ignored
    full: Boundary  # above, it has a dimension of its own


def boundaries_from(
    results: Results,
    *,
    feature: int = 0,
    along: str = "importance",
    rule: str | None = None,
    margin: float = MARGIN,
    **fixed: float,
) -> Boundaries:
    """Return the boundaries of a feature's phases in trained networks.

    Args:
        results: of two axes or more; cells that were not trained may be missing (NaN).
        feature: whose capacity, from 0; it is to rise along the axis.
        along: the axis along which each cut is searched; the other one says which cut.
        rule: over restarts (see `Results.select`); None: refined where there is such a diagram, else best.
        margin: within which a capacity counts as 0 or 1, above 0 and below 0.25.
        **fixed: values of further axes, by name; the nearest is taken.

    Raises ValueError for axes and features that do not exist, and unless two axes are left.
    """
    require(is_number(margin) and 0 < margin < 0.25, "margin", "be above 0 and below 0.25", margin)
    plane = slices.plane(results, along, fixed)
    selection = results.select(slices.default_rule(results, rule))
    feature = place("feature", feature, selection.capacity.shape[-1], "features")
    c = plane.of(selection.capacity[..., feature])
    ignored, full = (_boundary(plane.x, c, margin, full=which) for which in (False, True))
    return Boundaries(plane.x.name, plane.y.name, plane.y.centres, ignored, full)


def decades(found: Boundary, expected: np.ndarray) -> np.ndarray:
    """Return how far positions [Y] on a logarithmic axis are from those expected, in decades; NaN where either has
    none."""
    return np.log10(found.position) - np.log10(expected)


def _boundary(scale: Scale, c: np.ndarray, margin: float, *, full: bool) -> Boundary:
    """Return where capacities [Y, X] leave 0, or reach 1, along a scale."""
    x = -scale.centres[::-1] if full else scale.centres
    found = [_of_cut(x, row, margin) for row in (1 - c[:, ::-1] if full else c)]
    position, error, kind = map(np.array, zip(*found, strict=True))
    position = -position if full else position
    if scale.is_geometric:
        error = error / (position * np.log(10))
    return Boundary(position, error, kind)


def _of_cut(x: np.ndarray, c: np.ndarray, margin: float) -> tuple[float, float, str]:
    """Return where capacities [X] leave 0 along x [X], the error of that, and how they do."""
    known = ~np.isnan(c)
    x, c = x[known], c[known]
    last, wrong = _split(phases(c, margin) == 0)
    if last in (-1, len(c) - 1):  # none is ignored, or all are
        return np.nan, np.nan, "none"
    middle, half = (x[last] + x[last + 1]) / 2, (x[last + 1] - x[last]) * (0.5 + wrong)
    beyond = c[last + 1 :]
    shared = int(np.argmax(np.append(beyond > 1 - margin, True)))  # cells before the first that is full
    if shared == 0:
        return middle, half, "jump"
    near = max(FEWEST, int(np.argmax(np.append(beyond > NEAR, True))))
    inside = beyond[: min(shared, near)] < 1 - UNFITTED
    if inside.sum() < FEWEST:
        return middle, half * max(1, shared), "unresolved"
    fitted = np.s_[last + 1 : last + 1 + len(inside)]
    return *_leaving_0(x[fitted][inside], c[fitted][inside]), "continuous"


def _split(ignored: np.ndarray) -> tuple[int, int]:
    """Return the place of the last cell before the split that most cells agree with, before it ignored and after it
    not, -1 where it is before the first; and how many cells do not agree. So a cell that ended in another minimum moves
    no boundary, but widens its error."""
    wrong = np.concatenate([[0], np.cumsum(~ignored)]) + np.concatenate([np.cumsum(ignored[::-1])[::-1], [0]])
    return int(np.argmin(wrong)) - 1, int(wrong.min())


def _leaving_0(x: np.ndarray, c: np.ndarray) -> tuple[float, float]:
    """Return where a curve through capacities leaves 0: the root of a fitted parabola that is nearest to the first
    cell. Its error is that of the fit, and a quarter of how far a line's root is from it."""
    parabola, covariance = np.polyfit(x - x[0], c, 2, cov=True)
    line = np.polyfit(x - x[0], c, 1)
    roots = np.roots(parabola)
    real = roots.real[abs(roots.imag) < 1e-9]
    straight = -line[1] / line[0]
    root = real[np.argmin(abs(real))] if real.size else straight
    powers = root ** np.array([2, 1, 0])
    of_fit = np.sqrt(powers @ covariance @ powers) / abs(np.polyval(np.polyder(parabola), root))
    return float(x[0] + root), float(np.hypot(of_fit, (root - straight) / 4))
