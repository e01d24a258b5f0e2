"""Batches: exact weights, the same expectation from every sampler, and what the careful ones gain."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import qmc

from polyjax.theory import expected_loss
from polyjax.toy import sampling
from polyjax.toy.distributions import NORMAL, RADEMACHER, UNIFORM_POSITIVE, UNIFORM_SIGNED
from polyjax.toy.features import Features
from polyjax.toy.models import Redwood
from polyjax.toy.sampling import SAMPLERS, Batch, Sampler, default_sampler, kronecker

EPS = float(np.finfo(np.float32).eps)
N, D, BATCH = 3, 2, 20  # 20 samples are not a multiple of the 2^N = 8 masks
DENSITIES = (0.01, 0.1, 0.45, 1.0)
KEYS = 2000
IMPORTANCE = jnp.array([1.5, 1.0, 1.0])


@lru_cache  # the program of a sampler is compiled once, for every density
def batch_program(sampler, distribution):
    def one(key, density):
        return sampler(sampler.uniforms(key, 7), Features(density, distribution=distribution))

    return jax.jit(jax.vmap(one, (0, None)))


def batches(name, distribution, n, batch, density, n_keys):
    """Batches of one training step under independent keys: x [K, B, N], weight [K, B]."""
    keys = jax.random.split(jax.random.key(11), n_keys)
    found = batch_program(Sampler(name, n, batch), distribution)(keys, jnp.float32(density))
    return Batch(*(np.asarray(a, float) for a in found))


def z_scores(samples, expected):
    """(mean - expected) / standard error, over the first axis."""
    samples = np.asarray(samples, float)
    return (samples.mean(0) - expected) / (samples.std(0, ddof=1) / len(samples) ** 0.5)


@pytest.fixture(scope="module")
def params():
    return Redwood(N, D).init(jax.random.key(5))._replace(b=jnp.float32(0.3))


@pytest.fixture(scope="module")
def gradient(params):
    """The gradient of the quadratic model on a batch, [7]: six weights and the bias."""
    model = Redwood(N, D)

    def loss(params, batch):
        return batch.weight @ jax.vmap(model.loss, (None, 0, None))(params, batch.x, IMPORTANCE)

    def flat(batch):
        g = jax.grad(loss)(params, batch)
        return jnp.append(g.W.ravel(), g.b)

    return flat


@pytest.fixture(scope="module")
def gradients(gradient):
    """By sampler: gradients [K, P, 7] under independent keys."""

    def many(name):
        sampler = Sampler(name, N, BATCH)

        def one(key, density):
            return gradient(sampler(sampler.uniforms(key, 7), Features(density, distribution=UNIFORM_SIGNED)))

        both = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
        keys = jax.random.split(jax.random.key([*SAMPLERS].index(name)), KEYS)
        return np.asarray(both(keys, jnp.array(DENSITIES)), float)

    return {name: many(name) for name in SAMPLERS}


@pytest.fixture(scope="module")
def exact_gradient(params):
    """[P, 7], from eq. 33 in `theory`, which shares no code with the samplers."""

    def loss(params, k):
        return expected_loss(params.W, IMPORTANCE, k, params.b)

    g = jax.vmap(jax.grad(loss), (None, 0))(params, 9 / 5 / jnp.array(DENSITIES))
    return np.concatenate([g.W.reshape(len(DENSITIES), -1), g.b[:, None]], axis=1)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_mean_gradient_is_that_of_the_population(name, gradients, exact_gradient):
    # 3 samplers x 4 densities x 7 components: at 4.5 standard errors one false alarm in 1700. The mean of 2000 batches
    # is close to normal, though at density 0.01 only one iid batch in two holds anything.
    assert np.abs(z_scores(gradients[name], exact_gradient)).max() < 4.5


@pytest.mark.parametrize(("one", "other"), [("enumerated", "iid"), ("stratified", "iid"), ("enumerated", "stratified")])
def test_samplers_estimate_the_same_gradient(one, other, gradients):
    # Independent keys, so that variances add up. 84 comparisons at 4.5 combined standard errors, as above.
    difference = gradients[one].mean(0) - gradients[other].mean(0)
    error = np.sqrt((gradients[one].var(0, ddof=1) + gradients[other].var(0, ddof=1)) / KEYS)
    assert np.abs(difference / error).max() < 4.5


def test_the_enumerated_gradient_has_less_variance_than_the_iid_one(gradients):
    variance = {name: g.var(0).sum(-1) for name, g in gradients.items()}
    sparse = np.array(DENSITIES) < 0.5
    # Measured ratios to iid, from density 0.01 to 0.45: enumerated 0.02 to 0.6, stratified 0.02 to 0.65. Each variance
    # is known to a few per cent.
    assert (variance["enumerated"] < 0.8 * variance["iid"])[sparse].all()
    assert (variance["enumerated"] < 0.1 * variance["iid"])[0]


@pytest.mark.parametrize("batch", [8, 20])
@pytest.mark.parametrize("density", [1e-4, 0.1, 0.5, 1.0])
def test_enumerated_weights_are_the_probabilities_of_the_masks(batch, density):
    found = batches("enumerated", RADEMACHER, N, batch, density, 1)
    active, weight = found.x[0] != 0, found.weight[0]
    np.testing.assert_allclose(weight.sum(), 1, rtol=8 * EPS)  # 8 different masks, a power and a quotient each
    for mask in np.ndindex(*(2,) * N):
        probability = density ** sum(mask) * (1 - density) ** (N - sum(mask))
        total = weight[(active == mask).all(1)].sum()
        # Two powers, a product and a quotient, with a few roundings each.
        np.testing.assert_allclose(total, probability, rtol=16 * EPS)
        assert (active == mask).all(1).any()  # every sample counts: no mask is left out
    np.testing.assert_allclose(weight @ active, density, rtol=8 * EPS)


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_enumerated_masks_with_more_active_features_get_more_samples(density):
    active = batches("enumerated", RADEMACHER, N, BATCH, density, 1).x[0] != 0
    masks = [*np.ndindex(*(2,) * N)]
    copies = np.array([(active == mask).all(1).sum() for mask in masks])
    # One of 20 samples goes to each of the 8 masks, since half of 20 holds them once. The other 12 are a systematic
    # sample in proportion to |m| P(m), so that every count is its share rounded up or down.
    share = [sum(m) * density ** (sum(m) - 1) * (1 - density) ** (N - sum(m)) / N for m in masks]
    assert np.abs(copies - 1 - 12 * np.array(share)).max() < 1.001


@pytest.mark.parametrize(
    ("name", "distribution"), [*((name, NORMAL) for name in SAMPLERS), ("enumerated", UNIFORM_POSITIVE)]
)
def test_weighted_moments_of_the_features(name, distribution):
    density = 0.2
    weight, x = (found := batches(name, distribution, N, BATCH, density, 1000)).weight, found.x
    m1, m2 = (density * m for m in distribution.moments[:2])
    m2 = 1 if distribution.unit_variance else m2
    assert (weight >= 0).all()
    # 4 cases x 7 moments at 4.5 standard errors: one false alarm in 5000.
    assert np.abs(z_scores(np.einsum("kb,kbn->kn", weight, x), m1)).max() < 4.5
    assert np.abs(z_scores(np.einsum("kb,kbn->kn", weight, x**2), m2)).max() < 4.5
    assert abs(z_scores(np.einsum("kb,kb,kb->k", weight, x[..., 0], x[..., 2]), m1**2)) < 4.5
    if name == "stratified":
        assert abs(z_scores(weight.sum(-1), 1)) < 4.5
    else:
        np.testing.assert_allclose(weight.sum(-1), 1, rtol=8 * EPS)


@pytest.mark.parametrize(("n", "density"), [(30, 0.01), (30, 0.3), (30, 1.0), (200, 0.1), (200, 0.5)])
def test_stratified_batches_of_many_features_have_the_exact_moments(n, density):
    found = batches("stratified", RADEMACHER, n, 32, density, 500)
    active = found.x != 0
    count, mean = active.sum(-1), n * density
    moments = [(found.weight * count**i).sum(-1) for i in range(3)]
    moments += [*np.einsum("kb,kbn->nk", found.weight, active)]
    moments += [(found.weight * active[..., 0] * active[..., 1]).sum(-1)]  # positions are exchangeable
    expected = [1, mean, mean**2 + mean * (1 - density), *[density] * n, density**2]
    # 5 cases of n + 4 moments, 510 in all, at 5 standard errors: one false alarm in 3000. The number of active features
    # is stratified, so that sums over it hardly vary, and float32 rounding counts as well: the binomial probabilities
    # are exponentials of logarithms of size log(n!), up to 9 n eps off.
    rounding = 9 * n * EPS
    for samples, exact in zip(moments, expected, strict=True):
        error = samples.std(ddof=1) / len(samples) ** 0.5
        assert abs(samples.mean() - exact) < 5 * error + rounding * exact


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(("n", "batch"), [(1, 2), (3, 20)])
def test_batches_are_finite_at_extreme_densities(name, n, batch):
    for density in (1e-4, 1.0):
        found = batches(name, NORMAL, n, batch, density, 1000)
        assert found.x.shape == (1000, batch, n)
        assert found.weight.shape == (1000, batch)
        assert np.isfinite(found.x).all()
        assert np.isfinite(found.weight).all()
    assert (found.x[found.weight > 0] != 0).all()  # at density 1 all features are active


def test_successive_quasi_random_steps_average_better_than_independent_ones(gradient, exact_gradient):
    sampler, steps, replicates = Sampler("enumerated", N, 64), 256, 32
    rows = [0, 1]  # densities 0.01 and 0.1
    density = jnp.array([DENSITIES[r] for r in rows])

    def average(uniforms):
        one = lambda step, p: gradient(sampler(uniforms(step), Features(p, distribution=UNIFORM_SIGNED)))  # noqa: E731
        return jax.vmap(jax.vmap(one, (0, None)), (None, 0))(jnp.arange(steps), density).mean(1)

    @jax.jit
    @jax.vmap
    def both(key):
        quasi = average(lambda step: sampler.uniforms(key, step))
        return quasi, average(lambda step: sampler.uniforms(jax.random.fold_in(key, step), 0))

    quasi, independent = (
        ((np.asarray(g, float) - exact_gradient[rows]) ** 2).mean(0).sum(-1)
        for g in both(jax.random.split(jax.random.key(2), replicates))
    )
    # Measured ratios of the mean square error: 0.004 and 0.05; those of the stratified sampler, whose masks depend on
    # many of the numbers at once, are 0.6 and 0.64. 32 replicates of 7 components give each error to about 15 %.
    assert (quasi < 0.15 * independent).all()


def test_kronecker_points_are_the_formula():
    shift = np.array([0, 1 << 20, 3 << 30], np.uint32)
    index = np.array([0, 1, 7, 2000, 10**6])
    exact = (shift / 2**32 + index[:, None] * np.sqrt([2, 3, 5])) % 1
    found = kronecker(jnp.asarray(shift)[None], jnp.asarray(index)[:, None])
    # alpha is cut to 2^-32, times the index; the result is rounded to 2^-24.
    apart = np.abs(np.asarray(found, float) - exact)
    assert np.all(np.minimum(apart, 1 - apart) <= index[:, None] * 2.0**-32 + 2.0**-24)


def test_kronecker_numbers_are_strictly_between_0_and_1():
    # The 2^9 shifts next to either end of the unit interval, where float32 could round to it.
    shift = np.concatenate([np.arange(512), 2**32 - 1 - np.arange(512)]).astype(np.uint32)
    u = kronecker(jnp.asarray(shift)[:, None], 0)
    assert u.min() > 0
    assert u.max() < 1
    assert jnp.isfinite(NORMAL.quantile(u)).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_number_of_every_step_is_uniform(name):
    sampler = Sampler(name, 2, 4)
    keys = jax.random.split(jax.random.key(3), 3000)
    u = jax.jit(jax.vmap(jax.vmap(sampler.uniforms, (None, 0)), (0, None)))(keys, jnp.array([0, 1, 1999]))
    u = np.asarray(u, float)
    assert u.shape == (3000, 3, *sampler.shape)
    assert u.min() > 0
    assert u.max() < 1
    # E[u] = 1/2 and E[u^2] = 1/3: for 3 samplers up to 3 x 16 numbers twice at 4.5 standard errors.
    assert np.abs(z_scores(u, 1 / 2)).max() < 4.5
    assert np.abs(z_scores(u**2, 1 / 3)).max() < 4.5


def test_kronecker_points_fill_the_cube_more_evenly_than_random_ones():
    n, d = 1024, 3
    for seed in range(3):
        shift = jax.random.bits(jax.random.key(seed), (d,))
        quasi = np.asarray(kronecker(shift[None], jnp.arange(n)[:, None]), float)
        random = np.random.default_rng(seed).random((n, d))
        # The squared centered discrepancy of random points falls as 1/n; measured here 30 to 120 times less.
        assert qmc.discrepancy(quasi) < qmc.discrepancy(random) / 10


def test_the_default_sampler_enumerates_where_the_batch_has_room():
    cases = [(3, 8), (3, 7), (6, 64), (7, 64), (9, 512), (9, 4096), (10, 4096)]
    expected = ["enumerated", "stratified", "enumerated", "stratified", "enumerated", "enumerated", "stratified"]
    assert [default_sampler(Features(0.5, distribution=NORMAL), n, batch) for n, batch in cases] == expected


@pytest.mark.parametrize(
    ("name", "n", "batch", "message"),
    [
        ("sobol", 3, 8, "sampler must be one of enumerated, stratified, iid, but is 'sobol'"),
        ("enumerated", 3, 7, "batch must be at least 8 for the enumerated sampler, but is 7"),
        ("enumerated", 30, 64, f"batch must be at least {2**30} for the enumerated sampler, but is 64"),
        ("stratified", 3, 1, "batch must be at least 2 for the stratified sampler, but is 1"),
        ("iid", 3, 0, "batch must be at least 1 for the iid sampler, but is 0"),
    ],
)
def test_bad_samplers_are_refused_by_name(name, n, batch, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Sampler(name, n, batch)
    assert str(error.value) == message


@pytest.mark.parametrize("n", [1, 2, 7, 100, 700])
def test_as_many_features_are_chosen_as_asked_for(n):
    u = jax.random.uniform(jax.random.key(0), (50, n)).at[2].set(1 - 2.0**-24).at[3].set(2.0**-24)
    count = jax.random.randint(jax.random.key(1), (50,), 0, n + 1).at[0].set(0).at[1].set(n)
    np.testing.assert_array_equal(sampling._chosen(u, count).sum(1), count)


def test_every_set_of_features_is_as_probable_as_any_other():
    n, count, samples = 5, 2, 40_000
    chosen = sampling._chosen(jax.random.uniform(jax.random.key(0), (samples, n)), jnp.full(samples, count))
    _, times = np.unique(np.asarray(chosen) @ 2 ** np.arange(n), return_counts=True)
    expected = samples / 10  # of 5 over 2 sets
    assert len(times) == 10
    assert ((times - expected) ** 2 / expected).sum() < 27.9  # chi squared with 9 degrees of freedom, one in a thousand
