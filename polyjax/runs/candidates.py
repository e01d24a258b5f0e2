"""Solutions that may be better in a cell than its own, once they are polished there, beside those of its neighbours.

Axis letters: P densities, V importances, R restarts, S solutions, J jobs, N features, D neurons.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from polyjax.engine.outcome import Outcome
from polyjax.engine.training import Training
from polyjax.runs.jobs import Jobs, Solutions, differ

ALIKE = 1.5  # features whose importances differ by a larger factor do not change places

Bands = Callable[[str], Iterator[np.ndarray]]  # an array of all restarts, [rows, V, R, ...] at a time


def rivals(
    trained: Outcome, now: Outcome, importance: np.ndarray, restarts: Bands, near_by: float
) -> tuple[Solutions, Jobs]:
    """Return the solutions of other restarts that may be better than their cell's once polished, and their jobs.

    They differ from it, and their loss is above what the cell's was by no more than what polishing it gained, or a
    fraction `near_by`.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        most = trained.rank_loss * np.maximum(trained.rank_loss / now.rank_loss, 1 + near_by)
    parts, first = [], 0
    for W, b, capacity, loss in zip(*map(restarts, ("W", "b", "capacity", "rank_loss")), strict=True):
        rows = slice(first, first := first + len(loss))
        other = differ(np.broadcast_to(now.capacity[rows][:, :, None], capacity.shape), capacity)
        which = np.nonzero(other & (loss <= most[rows][..., None]))
        v = importance[which[1]]
        parts.append((which[0] + rows.start, which[1], W[which], b[which], capacity[which], v, loss[which]))
    row, column, *of_solutions, loss = map(np.concatenate, zip(*parts, strict=True))
    others, jobs = Solutions(*of_solutions), Jobs(row, column, np.arange(row.size))
    return others, unlike(jobs, loss, others)


def exchanged(now: Outcome, importance: np.ndarray, fixed: Training) -> tuple[Solutions, Jobs]:
    """Return the solutions of cells near V = 1 in which feature 0 and another one change places, and their jobs.

    Near V = 1 it hardly matters which feature has which place, so that training may not find out.
    """
    near_1, n = np.flatnonzero((importance > 1 / ALIKE) & (importance < ALIKE)), now.capacity.shape[-1]
    other, row, column = (
        a.ravel() for a in np.meshgrid(np.arange(1, n), np.arange(len(now.loss)), near_1, indexing="ij")
    )
    order = np.tile(np.arange(n), (other.size, 1))  # [S, N]
    order[:, 0], order[np.arange(other.size), other] = other, 0

    def placed(a: np.ndarray) -> np.ndarray:
        """Return columns [S, ..., N] in their new places."""
        return np.take_along_axis(a, order.reshape(len(order), *(1,) * (a.ndim - 2), n), -1)

    scale = np.asarray(jax.vmap(fixed.scale)(jnp.asarray(importance)))[column]
    W, b, capacity = (a[row, column] for a in (now.W, now.b, now.capacity))
    swapped = Solutions(
        placed(W) * (scale / placed(scale))[:, None],
        placed(b) if b.shape[1:] == (n,) else b,
        placed(capacity),
        importance[column],
    )
    return swapped, Jobs(row, column, np.arange(row.size))


def unlike(jobs: Jobs, loss: np.ndarray, given: Solutions) -> Jobs:
    """Return, of the jobs of a cell whose solutions are alike, the one of the lowest loss [J]."""
    jobs = jobs.take(np.lexsort((loss, jobs.column, jobs.row)))
    new, most = np.ones(jobs.row.size, bool), np.unique(jobs.row * 2**32 + jobs.column, return_counts=True)[1]
    for before in range(1, max(most, default=0)):
        a, b = (jobs.take(where) for where in (slice(None, -before), slice(before, None)))
        same_cell = (a.row == b.row) & (a.column == b.column)
        new[before:] &= ~same_cell | differ(given.capacity[a.origin], given.capacity[b.origin])
    return jobs.take(new)
