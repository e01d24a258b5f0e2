"""Which features are active together: laws of the activity mask, at given densities.

A law has the probability of a mask, by which masks are enumerated, and makes a mask of uniform numbers, by which masks
are drawn. The density of a feature is the probability that it is active, whatever the law. Axis letters: M masks,
B samples, N features, G groups.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from polyjax.checks import is_sequence, is_whole, require

Groups = tuple[tuple[int, ...], ...]  # features by their numbers; those that are in no group are independent


class Activity(Protocol):
    """A law of the activity mask; hashable, so that equal laws are compiled once."""

    def probability(self, masks: np.ndarray, density: Array) -> Array | None:
        """Return the probability [M] of masks [M, N] at densities [] or [N]; None where it is not known."""

    def mask(self, u: Array, density: Array) -> Array:
        """Return masks [B, N], bool, from uniform numbers u [B, N] in (0, 1)."""

    def kinds(self, n: int) -> list[int]:
        """Return a number for each of n features; features of the same number may change places, if all else about
        them is the same."""


@dataclass(frozen=True)
class Independent:
    """Every feature is active on its own, as in the paper."""

    def probability(self, masks: np.ndarray, density: Array) -> Array:
        p = along(density, masks.shape)
        return jnp.prod(jnp.where(masks, p, 1 - p), axis=1)

    def mask(self, u: Array, density: Array) -> Array:
        return u < along(density, u.shape)

    def kinds(self, n: int) -> list[int]:
        return [0] * n


INDEPENDENT = Independent()


@dataclass(frozen=True)
class Together:
    """The features of a group are active together or not at all ("correlated" in Elhage et al. 2022).

    All features of a group must have the same density.
    """

    groups: Groups

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", _groups(self.groups))

    def probability(self, masks: np.ndarray, density: Array) -> Array:
        leaders, p = _leaders(self.groups, masks.shape[1]), each(density, masks.shape[1])
        alike = (masks == masks[:, leaders]).all(1)
        alone = np.flatnonzero(leaders == np.arange(len(leaders)))
        return jnp.where(alike, INDEPENDENT.probability(masks[:, alone], p[alone]), 0)

    def mask(self, u: Array, density: Array) -> Array:
        leaders = _leaders(self.groups, u.shape[1])
        return INDEPENDENT.mask(u, density)[:, leaders]

    def kinds(self, n: int) -> list[int]:
        return _leaders(self.groups, n).tolist()


@dataclass(frozen=True)
class Exclusive:
    """At most one feature of a group is active ("anticorrelated" in Elhage et al. 2022).

    Exactly one is active where the densities of the group add up to 1. They must not add up to more.
    """

    groups: Groups

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", _groups(self.groups))

    def probability(self, masks: np.ndarray, density: Array) -> Array:
        n = masks.shape[1]
        p, alone = each(density, n), np.setdiff1d(np.arange(n), sum(self.groups, ()))
        product = INDEPENDENT.probability(masks[:, alone], p[alone])
        for group in map(np.array, self.groups):
            one, count = masks[:, group] @ p[group], masks[:, group].sum(1)
            none = jnp.maximum(1 - p[group].sum(), 0)
            product = product * jnp.where(count == 1, one, jnp.where(count == 0, none, 0))
        return product

    def mask(self, u: Array, density: Array) -> Array:
        p = each(density, u.shape[1])
        active = INDEPENDENT.mask(u, density)
        for group in map(np.array, self.groups):
            end = jnp.cumsum(p[group])
            which = jnp.searchsorted(end, u[:, group[0]], side="right")  # one number decides for the group
            active = active.at[:, group].set(which[:, None] == np.arange(len(group))[None])
        return active

    def kinds(self, n: int) -> list[int]:
        return _leaders(self.groups, n).tolist()


@dataclass(frozen=True)
class Hierarchy:
    """A feature is active only where its parent is. `parents` has the number of each feature's parent, None for a
    feature without one. A parent stands before its children and must be at least as dense."""

    parents: tuple[int | None, ...]  # [N]

    def __post_init__(self) -> None:
        must = "be the number of each feature's parent, or None, such as [None, 0, 0]"
        require(is_sequence(self.parents), "parents", must, self.parents)
        object.__setattr__(self, "parents", tuple(self.parents))
        for i, parent in enumerate(self.parents):
            before = parent is None or (is_whole(parent) and 0 <= parent < i)
            require(before, "parents", f"have None or a number below {i} at {i}", parent)

    def _given_parent(self, density: Array) -> Array:
        """Return the probability [N] that a feature is active where its parent is."""
        p = each(density, len(self.parents))
        of_parent = jnp.stack([jnp.ones(()) if i is None else p[i] for i in self.parents])
        return jnp.minimum(p / of_parent, 1)

    def probability(self, masks: np.ndarray, density: Array) -> Array:
        free = np.stack([np.ones(len(masks), bool) if i is None else masks[:, i] for i in self.parents], 1)
        q = self._given_parent(density)
        q = along(q, masks.shape)
        each = jnp.where(free, jnp.where(masks, q, 1 - q), jnp.where(masks, 0, 1))
        return jnp.prod(each, axis=1)

    def mask(self, u: Array, density: Array) -> Array:
        q = self._given_parent(density)
        active: list[Array] = []
        for i, parent in enumerate(self.parents):
            own = u[:, i] < q[i]
            active.append(own if parent is None else own & active[parent])
        return jnp.stack(active, axis=1)

    def kinds(self, n: int) -> list[int]:
        """Siblings without children may change places."""
        inner = set(self.parents)
        return [n + i if i in inner else -1 if p is None else p for i, p in enumerate(self.parents)]


@dataclass(frozen=True)
class ByMask:
    """Any law of few features: `masks_probability(density)` is the probability [2^N] of every mask, in the order of
    binary numbers whose lowest digit is feature 0. The densities that `Features` is given must be those that follow."""

    masks_probability: Callable[[Array], Array]

    def __post_init__(self) -> None:
        must = "be a function of densities"
        require(callable(self.masks_probability), "masks_probability", must, self.masks_probability)

    def probability(self, masks: np.ndarray, density: Array) -> Array:
        of_all, n = self.masks_probability(density), 2 ** masks.shape[1]
        require(np.shape(of_all) == (n,), "masks_probability", f"return {n} numbers, one a mask", np.shape(of_all))
        return of_all[masks @ (1 << np.arange(masks.shape[1]))]

    def mask(self, u: Array, density: Array) -> Array:
        end = jnp.cumsum(self.masks_probability(density))
        number = jnp.searchsorted(end[:-1], u[:, 0] * end[-1], side="right")
        return (number[:, None] >> np.arange(u.shape[1])[None]) & 1 == 1

    def kinds(self, n: int) -> list[int]:
        return list(range(n))


@dataclass(frozen=True)
class Drawn:
    """Any law of any number of features: `draw(u, density)` makes one mask [N], bool, of uniform numbers u [N] in
    (0, 1). The densities that `Features` is given must be those that follow."""

    draw: Callable[[Array, Array], Array]

    def __post_init__(self) -> None:
        require(callable(self.draw), "draw", "be a function of uniform numbers and densities", self.draw)

    def probability(self, masks: np.ndarray, density: Array) -> None:
        return None

    def mask(self, u: Array, density: Array) -> Array:
        return jax.vmap(self.draw, (0, None))(u, density)

    def kinds(self, n: int) -> list[int]:
        return list(range(n))


def _groups(groups: Sequence[Sequence[int]]) -> Groups:
    must = "be groups of features by their numbers, such as [(0, 1), (2, 3)]"
    require(is_sequence(groups) and all(is_sequence(group) and len(group) for group in groups), "groups", must, groups)
    require(all(is_whole(i) for group in groups for i in group), "groups", must, groups)
    found = tuple(tuple(int(i) for i in group) for group in groups)
    members = [i for group in found for i in group]
    require(
        len(members) == len(set(members)) and min(members, default=0) >= 0, "groups", "have every feature once", groups
    )
    return found


def _leaders(groups: Groups, n: int) -> np.ndarray:
    """Return the first feature [N] of each feature's group, itself where it is in none."""
    largest = max((i for group in groups for i in group), default=0)
    require(largest < n, "groups", f"hold features below {n}", largest)
    leaders = np.arange(n)
    for group in groups:
        leaders[list(group)] = group[0]
    return leaders


def each(density: Array, n: int) -> Array:
    """Return densities [N] of [] or [N]."""
    return jnp.broadcast_to(density, (n,))


def along(density: Array, shape: tuple[int, ...]) -> Array:
    """Return densities [] or [N] as they are broadcast to a shape [..., N]: one number stays one."""
    return density if density.ndim == 0 else jnp.broadcast_to(density, shape)
