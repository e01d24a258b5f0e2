"""Solutions that may be better in a cell than its own, once they are polished there, beside those of its neighbours.

Axis letters: P rows and V columns of the grid, R restarts, S solutions, J jobs, C pairs of a cell and two features, N
features, D neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from polyjax.runs.jobs import Jobs, Solutions, differ, joined

if TYPE_CHECKING:
    from polyjax.engine.outcome import Outcome
    from polyjax.runs.features import FeaturesOfCells

STRIDE = 8  # of the rows and columns in which embeddings are reversed
ALIKE = 1.5  # features whose importances differ by a larger factor do not change places

Bands = Callable[[str], Iterator[np.ndarray]]  # an array of all restarts, [rows, V, R, ...] at a time


def rivals(
    trained: Outcome, now: Outcome, kinds: np.ndarray, restarts: Bands, near_by: float
) -> tuple[Solutions, Jobs]:
    """Return the solutions of other restarts that may be better than their cell's once polished, and their jobs.

    They differ from it, and their loss is above what the cell's was by no more than what polishing it gained, or a
    fraction `near_by`.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        most = trained.rank_loss * np.maximum(trained.rank_loss / now.rank_loss, 1 + near_by)
    parts, first = [], 0
    for capacity, loss, *params in zip(*map(restarts, ("capacity", "rank_loss", *now.params)), strict=True):
        rows = slice(first, first := first + len(loss))
        other = differ(np.broadcast_to(now.capacity[rows][:, :, None], capacity.shape), capacity, kinds)
        which = np.nonzero(other & (loss <= most[rows][..., None]))
        parts.append((which[0] + rows.start, which[1], *(a[which] for a in (capacity, loss, *params))))
    row, column, capacity, loss, *of_names = map(np.concatenate, zip(*parts, strict=True))
    others = Solutions(dict(zip(now.params, of_names, strict=True)), capacity, row, column)
    return others, unlike(jobs_of(others), loss, others, kinds)


def jobs_of(given: Solutions) -> Jobs:
    """Return a job for every solution, in its own cell."""
    return Jobs(given.row, given.column, np.arange(given.row.size))


def exchanged(now: Outcome, features: FeaturesOfCells) -> tuple[Solutions, Jobs]:
    """Return the solutions in which two features that are nearly alike change places, and their jobs.

    Where features differ little in importance and in nothing else, it hardly matters which of them has which place, so
    that training may not find out.
    """
    n = now.capacity.shape[-1]
    first, other, row, column = _nearly_alike(features, now.loss.shape)
    order = np.tile(np.arange(n), (other.size, 1))  # [S, N]
    every = np.arange(other.size)
    order[every, first], order[every, other] = other, first

    def placed(a: np.ndarray) -> np.ndarray:
        """Return columns [S, ..., N] in their new places."""
        return np.take_along_axis(a, order.reshape(len(order), *(1,) * (a.ndim - 2), n), -1)

    scale = np.broadcast_to(features.scale, (*now.loss.shape, n))[row, column]
    W, b, capacity = (a[row, column] for a in (now.params["W"], now.params["b"], now.capacity))
    W = placed(W) * (scale / np.where(placed(scale) > 0, placed(scale), 1))[:, None]
    b = placed(b) if b.shape[1:] == (n,) else b
    swapped = Solutions({"W": W, "b": b}, placed(capacity), row, column)
    return swapped, jobs_of(swapped)


def _nearly_alike(features: FeaturesOfCells, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Return pairs of features of different kinds whose importances are close and whose densities are equal, with the
    rows and columns of the cells where they are: first, other, row and column, each [C]."""
    v, p, kinds = features.importance, features.density, features.kinds
    found = []
    for i, j in combinations(range(len(kinds)), 2):
        if kinds[i] == kinds[j] or features.values[i] != features.values[j]:
            continue
        close = (v[..., i] < ALIKE * v[..., j]) & (v[..., j] < ALIKE * v[..., i]) & (p[..., i] == p[..., j])
        row, column = np.nonzero(np.broadcast_to(close, shape))
        found.append(np.stack([np.full_like(row, i), np.full_like(row, j), row, column]))
    return tuple(np.concatenate(found, axis=1)) if found else (np.empty(0, int),) * 4


def reversed_embeddings(now: Outcome) -> tuple[Solutions, Jobs]:
    """Return the solutions in which one feature's embedding and bias have the other sign, and their jobs, in every
    `STRIDE`-th row and column from the last on; neighbours spread what they find.

    Where features are dense and positive, training often ends with the signs of a few embeddings reversed, which no
    small step mends.
    """
    n, (P, V) = now.capacity.shape[-1], now.loss.shape
    some = np.arange(n), np.arange(P - 1, -1, -STRIDE), np.arange(V - 1, -1, -STRIDE)
    feature, row, column = (a.ravel() for a in np.meshgrid(*some, indexing="ij"))
    sign = np.where(np.arange(n) == feature[:, None], -1, 1).astype(np.float32)  # [S, N]
    W, b, capacity = (a[row, column] for a in (now.params["W"], now.params["b"], now.capacity))
    params = {"W": W * sign[:, None], "b": b * sign if b.shape[1:] == (n,) else b}
    given = Solutions(params, capacity, row, column)
    return given, jobs_of(given)


def contenders(
    now: Outcome, tried: Sequence[tuple[Solutions, np.ndarray]], close: float, kinds: np.ndarray
) -> tuple[Solutions, Jobs]:
    """Return the solutions that were tried in a cell and differ from its own, but whose ranking loss [S] is above its
    own by less than a fraction, and their jobs."""
    given, loss = joined(*(solutions for solutions, _ in tried)), np.concatenate([loss for _, loss in tried])
    cell = given.row, given.column
    near = (loss < now.rank_loss[cell] * (1 + close)) & differ(now.capacity[cell], given.capacity, kinds)
    jobs = Jobs(given.row, given.column, np.arange(given.row.size)).take(near)
    return given, unlike(jobs, loss[near], given, kinds)


def unlike(jobs: Jobs, loss: np.ndarray, given: Solutions, kinds: np.ndarray) -> Jobs:
    """Return, of the jobs of a cell whose solutions are alike, the one of the lowest loss [J]."""
    jobs = jobs.take(np.lexsort((loss, jobs.column, jobs.row)))
    new, most = np.ones(jobs.row.size, bool), np.unique(jobs.row * 2**32 + jobs.column, return_counts=True)[1]
    for before in range(1, max(most, default=0)):
        a, b = (jobs.take(where) for where in (slice(None, -before), slice(before, None)))
        same_cell = (a.row == b.row) & (a.column == b.column)
        new[before:] &= ~same_cell | differ(given.capacity[a.origin], given.capacity[b.origin], kinds)
    return jobs.take(new)
