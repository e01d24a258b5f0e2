"""A fixed batch of quasi-random samples at one density, for objectives that are minimised to the end.

Every activity mask has a lattice of its own, in as many dimensions as it has active features and with as many points as
it is worth. The gradient's error then falls faster with the number of samples than that of independent ones, most where
the loss is smooth, so that there is less that an optimiser could fit and the batch gets wrong.

A batch comes in tiles, each of which is a lattice by itself, and any power of two of them one lattice together. So one
compiled program minimises on batches of any size, in the memory of a tile.

Axis letters: M masks, K kinds of masks, N features, B samples of a tile, T trial scales.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from polyjax.toy.distributions import Batch
from polyjax.toy.sampling import sequence

if TYPE_CHECKING:
    from polyjax.toy.features import Features

MULTIPLIER = 17797  # of an extensible Korobov lattice (Hickernell, Hong, L'Ecuyer and Lemieux, 2000)
TILE = 4096  # samples
LEAST = 1  # points of a mask in a tile, however improbable
PAIRS_FIRST = (
    0.3  # what a mask of one active feature is worth beside others of its probability: it is easy to integrate
)
TRIALS = 256


class Layout(NamedTuple):
    """What the samples of every tile have in common, so that many tiles are drawn for the price of one."""

    point: Array  # [B], its number among its mask's in the first tile
    points: Array  # [B], of the mask in a tile
    generator: Array  # uint32 [B, N], of the mask's lattice
    shift: Array  # [B, N], likewise
    side: Array  # [B, N]: 0 where a feature is not active, else the sign that its value is to have, or 2 for either
    weight: Array  # [B]


def layout(features: Features, n: int, key: Array) -> Layout | Array:
    """Return how a batch's samples of n features are laid out; where masks cannot be enumerated, the shift [2 N] of a
    Kronecker sequence. Another key gives an independent batch."""
    if not features.have_few_masks(n):
        return jax.random.bits(key, (2 * n,))
    # Where there are too many patterns of signs for a tile, the values of a mask have both signs.
    sides = 2 if features.are_symmetric and LEAST * 3**n <= TILE else 1
    pattern = _patterns(n, sides)
    active, rank = pattern > 0, np.cumsum(pattern > 0, axis=1) - 1
    points = _points(features, active, sides, TILE)
    end = jnp.cumsum(points)
    index = jnp.arange(TILE)
    mask = jnp.minimum(jnp.searchsorted(end, index, side="right"), len(active) - 1)
    mirrored = np.minimum(np.arange(len(pattern)), _mirrored(pattern)) if sides == 2 else np.arange(len(pattern))
    side = np.where(active, np.where(pattern == 2, 1, -1) if sides == 2 else 2, 0)
    probability = features.mask_probability(active) / np.float32(sides) ** active.sum(1)
    generator = np.array([pow(MULTIPLIER, k, 2**32) for k in range(n)], np.uint32)[np.maximum(rank, 0)]
    return Layout(
        index - (end - points)[mask],
        jnp.maximum(points, 1)[mask],  # what fills the tile up has the last mask, which may have no points
        jnp.asarray(generator)[mask],
        jax.random.uniform(key, rank.shape)[jnp.asarray(mirrored)[mask]],
        jnp.asarray(side, jnp.float32)[mask],
        jnp.where(index < end[-1], (probability / jnp.maximum(points, 1))[mask], 0),
    )


def tile(features: Features, n: int, laid_out: Layout | Array, number: Array, of: Array) -> Batch:
    """Return a tile of a batch of so many tiles, a power of two: x [B, N] of n features.

    The weights of a tile add up to 1. Where masks cannot be enumerated, points of a Kronecker sequence.
    """
    if not isinstance(laid_out, Layout):
        return sequence(features, n, laid_out, number * TILE + jnp.arange(TILE))
    u, side = _lattice(laid_out, number, of), laid_out.side
    # Signs are the halves of the interval, each filled from the middle, so that mirror images are that.
    u = jnp.where(abs(side) == 1, (1 + u * side) / 2, u)
    return Batch(jnp.where(side == 0, 0, features.active_value(u)), laid_out.weight)


def _patterns(n: int, sides: int) -> np.ndarray:
    """Return all patterns of what features are, [M, N]: 0 where not active, else 1, or 2 for the other sign."""
    pattern = np.arange((sides + 1) ** n)[:, None] // (sides + 1) ** np.arange(n) % (sides + 1)
    return pattern[np.argsort((pattern > 0).sum(1), kind="stable")]


def _mirrored(pattern: np.ndarray) -> np.ndarray:
    """Return the index of the pattern with all signs reversed, [M]: what is odd in x cancels between the two."""
    reverse = np.where(pattern > 0, 3 - pattern, 0)
    place = {row.tobytes(): i for i, row in enumerate(pattern)}
    return np.array([place[row.tobytes()] for row in reverse])


def _points(features: Features, active: np.ndarray, sides: int, samples: int) -> Array:
    """Return how many points each mask has, [M], powers of two that together fit.

    The error of a mask's lattice is about P(m) / points; their sum is least for points in proportion to P(m)^(1/2).
    Where features are alike, masks of as many active features have as many points.
    """
    n, size = active.shape[1], active.sum(1)
    if features.are_alike:
        density, of_size = jnp.asarray(features.density, jnp.float32), np.arange(n + 1)
        probability = (density / sides) ** of_size * (1 - density) ** (n - of_size)
        return _allotted(probability, of_size, np.bincount(size, minlength=n + 1), samples)[size]
    return _allotted(features.mask_probability(active) / np.float32(sides) ** size, size, np.ones_like(size), samples)


def _allotted(probability: Array, size: np.ndarray, count: np.ndarray, samples: int) -> Array:
    """Return the points [K] of each mask of K kinds, of which there are so many [K] with so many active features
    [K]."""
    easier = np.where(size == 0, 0, np.where(size == 1, PAIRS_FIRST, 1)).astype(np.float32)
    worth = easier * jnp.sqrt(probability)
    scales = np.geomspace(1, samples, TRIALS, dtype=np.float32)
    wanted = jnp.maximum(scales[:, None] * (worth / jnp.max(worth))[None], LEAST)
    points = 1 << jnp.floor(jnp.log2(wanted) + 1e-6).astype(jnp.int32)
    points = jnp.where((probability > 0)[None], jnp.where(size == 0, 1, points), 0)  # none for masks that never occur
    total = (points * count[None]).sum(1)
    return points[jnp.argmax(jnp.where(total <= samples, total, 0))]


def _lattice(laid_out: Layout, number: Array, of: Array) -> Array:
    """Return the uniform numbers [B, N] of a tile's points in their masks' lattices, randomly shifted.

    They are folded at 1/2, so that they are continuous across the ends of the interval, and kept inside it, so far that
    (1 + u) / 2 is below 1 as well.
    """
    index, points = laid_out.point * of + number, (laid_out.points * of)[:, None]
    product = index.astype(jnp.uint32)[:, None] * laid_out.generator  # modulo 2^32, as the points divide it
    place = (product & (points - 1).astype(jnp.uint32)).astype(jnp.float32) / points
    u = (place + laid_out.shift) % 1
    return jnp.clip(1 - jnp.abs(2 * u - 1), 2.0**-23, 1 - 2.0**-23)
