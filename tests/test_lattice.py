"""The fixed batch of quasi-random samples that polishing minimises on: its weights, its moments, what cancels exactly,
and that tiles make one lattice together."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyjax.engine.lattice import LEAST, TILE, _patterns, _points, layout, tile
from polyjax.toy.distributions import NORMAL, RADEMACHER, UNIFORM_POSITIVE, UNIFORM_SIGNED
from polyjax.toy.features import Features

EPS = float(np.finfo(np.float32).eps)
DENSITY = np.float32([0.01, 0.1, 0.5, 0.9, 1.0])
KEYS = 8
MANY = 12  # features, whose masks are not enumerated
CASES = {UNIFORM_SIGNED: (1, 3, 6), UNIFORM_POSITIVE: (2, 4, 5, MANY), NORMAL: (2, 6, 8, MANY), RADEMACHER: (4,)}
ENUMERATED = 7  # features of which the patterns of signs have room, so that every one has samples of its own


def of_density(distribution, n, key, density, number, of):
    features = Features(density, distribution=distribution)
    return tile(features, n, layout(features, n, key), number, of)


@cache
def compiled(distribution, n):
    one = partial(of_density, distribution, n)
    over_densities = jax.vmap(one, (None, 0, None, None))
    return jax.jit(jax.vmap(over_densities, (0, None, None, None)))


@cache
def batches(distribution, n, number=0, of=1):
    """x [K, P, B, N] and weight [K, P, B] under K keys."""
    found = compiled(distribution, n)(jax.random.split(jax.random.key(n), KEYS), DENSITY, number, of)
    return tuple(np.asarray(a) for a in found)


def moment(distribution, density, order):
    """E[x^order] of the sparse feature, in double precision."""
    scale = density**-0.5 if distribution.unit_variance else 1
    return density * scale**order * distribution.moments[order - 1]


def cases(where=lambda distribution, n: True):
    chosen = [(d, n) for d, numbers in CASES.items() for n in numbers if where(d, n)]
    return pytest.mark.parametrize(("distribution", "n"), chosen, ids=lambda a: getattr(a, "name", a))


@cases()
def test_the_weights_of_a_tile_add_up_to_1_and_the_samples_are_finite(distribution, n):
    x, weight = (a.astype(float) for a in batches(distribution, n))
    assert x.shape == (KEYS, len(DENSITY), TILE, n)
    assert np.isfinite(x).all()
    assert (weight >= 0).all()
    # A mask's probability is a product of n rounded numbers. Where masks are drawn, each count of active features k is
    # off by a sample at most, which weighs n p / k of 1 / B.
    drawn = n * DENSITY * sum(1 / k for k in range(1, n + 1)) / (TILE - 1) if n == MANY else 0
    assert np.all(np.abs(weight.sum(-1) - 1) < 4 * n * EPS + drawn)


@cases()
def test_the_moments_are_those_of_the_features(distribution, n):
    x, weight = (a.astype(float) for a in batches(distribution, n))
    p = np.asarray(DENSITY, float)
    found, exact = [], []
    for order in (1, 2, 3, 4):
        found.append(np.einsum("kpb,kpbn->kp", weight, x**order) / n)  # the mean of all features
        exact.append(moment(distribution, p, order))
    if n > 1:
        pairs = np.einsum("kpb,kpbi,kpbj->kpij", weight, x, x)[..., ~np.eye(n, dtype=bool)].mean(-1)
        found.append(pairs)
        exact.append(moment(distribution, p, 1) ** 2)
    for values, expected in zip(found, exact, strict=True):
        error = values.std(0, ddof=1) / KEYS**0.5
        size = np.maximum(abs(expected), moment(distribution, p, 2))
        # Ten standard errors with 7 degrees of freedom: a false alarm in 5 10^4. What cancels has only rounding,
        # as have weights and values: a few times 1e-6 of the fourth power.
        assert np.all(np.abs(values.mean(0) - expected) < 10 * error + 4 * n * EPS * size + 1e-5 * abs(expected))


@cases(lambda distribution, n: distribution.is_symmetric and n < ENUMERATED)
def test_what_is_odd_in_symmetric_features_cancels_exactly(distribution, n):
    x, weight = (a.astype(float) for a in batches(distribution, n))
    for odd in (x, x**3, x * x[..., :1] ** 2, x[..., :1] * x[..., n // 2 :][..., :1] * x[..., n - 1 :]):
        total = np.einsum("kpb,kpbn->kpn", weight, odd)
        size = np.einsum("kpb,kpbn->kpn", weight, abs(odd))
        assert np.all(np.abs(total) <= 1e-12 * size)  # a sum of 4096 numbers in double precision


def test_mirror_images_are_in_the_batch_together():
    x, weight = batches(NORMAL, 2)
    for k, p in np.ndindex(weight.shape[:2]):
        samples = np.c_[x[k, p], weight[k, p]][weight[k, p] > 0]
        mirrored = samples * [-1, -1, 1]
        order = lambda a: a[np.lexsort((a + 0.0).T)] + 0.0  # noqa: E731  (-0 is 0)
        np.testing.assert_array_equal(order(samples), order(mirrored))


@pytest.mark.parametrize("distribution", [UNIFORM_SIGNED, UNIFORM_POSITIVE], ids=lambda d: d.name)
def test_masks_have_a_power_of_two_of_points_that_fit_and_use_half_of_the_samples(distribution):
    for n in range(1, 10):
        sides = 2 if distribution.is_symmetric and n < ENUMERATED else 1
        active, features = _patterns(n, sides) > 0, partial(Features, distribution=distribution)
        of_density = jax.jit(lambda p, active=active, sides=sides: _points(features(p), active, sides, TILE))  # noqa: B023
        for p in (1e-6, 0.01, 0.3, 0.9, 1.0):
            points = np.asarray(of_density(np.float32(p)))
            assert points[0] == (p < 1)  # there is only one empty sample
            there = points[points > 0]
            assert (there & (there - 1) == 0).all()
            assert (points[1:][points[1:] > 0] >= LEAST).all()
            assert TILE / 4 < points.sum() <= TILE  # of powers of two


def test_at_density_1_all_features_are_active_in_every_sample_and_below_1_every_mask_occurs():
    for distribution, n in ((UNIFORM_SIGNED, 6), (UNIFORM_POSITIVE, 4)):
        x, weight = batches(distribution, n)
        for p, density in enumerate(DENSITY):
            used = x[0, p][weight[0, p] > 0]
            assert len(np.unique(used != 0, axis=0)) == (1 if density == 1 else 2**n)
        assert (x[:, -1][weight[:, -1] > 0] != 0).all()


def test_independent_keys_give_other_samples_and_the_same_key_the_same():
    x, _ = batches(UNIFORM_POSITIVE, 4)
    again, _ = compiled(UNIFORM_POSITIVE, 4)(jax.random.split(jax.random.key(4), KEYS), DENSITY, 0, 1)
    np.testing.assert_array_equal(x, again)
    for p in range(len(DENSITY)):
        values = [set(of_key[of_key > 0].tolist()) for of_key in x[:, p]]
        # Of numbers on a grid of 2^-22 the odd one is in two sets by chance.
        assert len(set.union(*values)) > 0.9 * sum(map(len, values))


KINKED = {
    # E[relu(x_0 + x_1 - 1)] = p^2 / 6 for values on [0, 1], as the sum of two is beyond 1 by 1/6 on average.
    UNIFORM_POSITIVE: (lambda x: jnp.maximum(x[..., 0] + x[..., 1] - 1, 0), lambda p: p**2 / 6),
    # E|x_0 + x_1| for x = a z, a = (3 / p)^(1/2): 2 p (1 - p) a / 2 where one is active, p^2 2 a / 3 where both are.
    UNIFORM_SIGNED: (
        lambda x: jnp.abs(x[..., 0] + x[..., 1]),
        lambda p: (3 / p) ** 0.5 * (p * (1 - p) + 2 * p**2 / 3),
    ),
}


@pytest.mark.parametrize("distribution", KINKED, ids=lambda d: d.name)
def test_tiles_together_are_one_lattice_that_is_better_than_its_tiles(distribution):
    f, exact = KINKED[distribution]
    keys = jax.random.split(jax.random.key(7), 16)
    one = partial(of_density, distribution, 3)

    @jax.jit
    def means(density, of):
        def mean(key):
            def add(number, total):
                batch = one(key, density, number, of)
                return total + batch.weight @ f(batch.x) / of

            return jax.lax.fori_loop(0, of, add, 0.0)

        return jax.vmap(mean)(keys)

    for p in np.float32([0.1, 0.5]):
        errors = [np.asarray(means(p, of), float) / exact(float(p)) - 1 for of in (1, 16)]
        one_tile, sixteen = (np.sqrt((error**2).mean()) for error in errors)
        # Independent samples would have 1e-2 or more, and a 4 times smaller error at 16 times as many. Measured 1e-5 to
        # 3e-5, and 80 to 210 times smaller, which is rounding.
        assert one_tile < 1e-4
        assert sixteen < one_tile / 40
