"""The blocks of a diagram's embeddings (section 4.6): how many, how large, and what counts as zero between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from polyjax.draw.numbers import MARGIN, superposed
from polyjax.draw.slices import embeddings
from polyjax.embedding import geometry
from polyjax.engine import certificate

if TYPE_CHECKING:
    from polyjax.results import Results
    from polyjax.selection import Selection

TOLERANCE = 0.05  # cosines that count as zero in solutions that are not polished
EFFICIENT = 0.01  # by which the sum of capacities may be less
RANGE = (0.005, 0.05)  # in polished ones, where they follow from the certificates: rounding, and the most that is clear
MOST = 0.9  # of a diagram's cells are as certain as its tolerance says; the rest are the luck of their last attempts


class Shapes(NamedTuple):
    """The blocks of a diagram's embeddings."""

    largest: np.ndarray  # [*axes], features in the largest block
    number: np.ndarray  # [*axes], blocks, those of one feature included
    share: np.ndarray  # [N + 1], of all superposed features of the diagram, by the size of their block
    features: int  # superposed features of the diagram
    several: float  # of the cells with superposed features, the share with two such blocks or more
    efficient: np.ndarray  # [*axes], bool: Theorem 2 holds


def tolerance_of(results: Results, rule: str) -> float:
    """Return what counts as zero in a diagram: of polished cells, twice what the certificates of most cells leave open,
    since a cosine is of two. One for all cells, so that like embeddings have as many blocks."""
    refined = results.refined
    if rule != "refined" or refined is None or refined.excess is None or refined.spectrum is None:
        return TOLERANCE
    found = 2 * certificate.uncertainty(refined.excess, refined.spectrum)
    return float(np.clip(np.quantile(np.nan_to_num(found, nan=np.inf), MOST, method="lower"), *RANGE))


def shapes(selection: Selection, tolerance: float | np.ndarray = TOLERANCE) -> Shapes:
    """Return the blocks among the superposed features, those with 0.03 < C < 0.97, beside which full features are
    blocks of one and ignored ones none: the cosines of an ignored feature's short embedding are noise.

    Raises ValueError for a mean over restarts, which has no embeddings.
    """
    W = embeddings(selection)
    inside = superposed(selection.capacity)
    full = (selection.capacity >= 1 - MARGIN).sum(-1)
    found = geometry.blocks(np.where(inside[..., None, :], W, 0), tolerance)
    sizes = found.sizes  # [*axes, N], by block
    count = np.bincount(sizes.ravel(), weights=sizes.ravel(), minlength=sizes.shape[-1] + 1)
    crowded = (sizes > 1).sum(-1)
    return Shapes(
        np.maximum(sizes.max(-1), full > 0),
        found.n_blocks + full,
        count / max(count.sum(), 1),
        int(count.sum()),
        int((crowded > 1).sum()) / max(int((crowded > 0).sum()), 1),
        is_efficient(selection),
    )


def is_efficient(selection: Selection) -> np.ndarray:
    """Say of every cell whether its capacities add up to as much as they can, [*axes] (see `geometry.is_efficient`)."""
    known = np.isfinite(selection.embedding if selection.embedding is not None else embeddings(selection))
    rows, columns = (known.any(axis).sum(-1) for axis in (-1, -2))
    total = np.nansum(selection.capacity, -1)
    return (rows > 0) & (total >= np.minimum(rows, columns) - EFFICIENT)


class Members(NamedTuple):
    """Which block every feature is in; blocks are numbered from the largest to the smallest, full features last."""

    block: np.ndarray  # [..., N], -1 for ignored features
    rank: np.ndarray  # [..., N], of the feature's block; 0 for ignored features


def members(W: np.ndarray, capacity: np.ndarray, tolerance: float | np.ndarray) -> Members:
    """Return the blocks of the features of embeddings [..., D, N] with these capacities [..., N], as `shapes` counts
    them."""
    found = geometry.blocks(np.where(superposed(capacity)[..., None, :], W, 0), tolerance)
    number = np.argsort(np.argsort(-found.sizes, axis=-1, kind="stable"), axis=-1)  # of every block, by size
    inside, full = np.maximum(found.labels, 0), capacity >= 1 - MARGIN
    alone = found.n_blocks[..., None] + np.cumsum(full, axis=-1) - 1
    crowded = np.where(found.labels >= 0, np.take_along_axis(number, inside, -1), -1)
    rank = np.where(found.labels >= 0, np.take_along_axis(found.dimensions, inside, -1), 0)
    return Members(np.where(full, alone, crowded), np.where(full, 1, rank))
