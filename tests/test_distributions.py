"""Features: their moments and kurtosis by hand, by quadrature and by Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyjax import distributions
from polyjax.toy.distributions import NORMAL, RADEMACHER, UNIFORM_POSITIVE, UNIFORM_SIGNED

EPS = float(np.finfo(np.float32).eps)
ALL = [UNIFORM_SIGNED, UNIFORM_POSITIVE, NORMAL, RADEMACHER]
SIGNED = [UNIFORM_SIGNED, NORMAL, RADEMACHER]
DENSITIES = [0.01, 0.1, 0.5, 1.0]
# k = E[z^4] / (p E[z^2]^2) for a base of mean zero (eq. 59): 9/5, 3 and 1 over p.
HAND_VALUES = [
    (UNIFORM_SIGNED, 1.0, 9 / 5),
    (UNIFORM_SIGNED, 0.6, 3),  # the critical point of figure 4
    (UNIFORM_SIGNED, 0.01, 180),
    (NORMAL, 1.0, 3),
    (NORMAL, 0.1, 30),
    (RADEMACHER, 1.0, 1),
    (RADEMACHER, 0.25, 4),
    # U(0, 1) keeps the kurtosis 9/5 of any uniform variable. At p = 1/2 the raw moments are 1/4, 1/6, 1/8, 1/10, so the
    # variance is 5/48 and the fourth central moment 33/1280.
    (UNIFORM_POSITIVE, 1.0, 9 / 5),
    (UNIFORM_POSITIVE, 0.5, (33 / 1280) / (5 / 48) ** 2),
]


def quadrature(f):
    """int_0^1 f(u) du by the tanh-sinh rule on each half, in double precision; exact to about 1e-12."""
    t = np.arange(-3, 3, 1 / 64)
    node = 0.5 * (1 + np.tanh(np.pi / 2 * np.sinh(t)))
    weight = np.pi / 4 * np.cosh(t) / np.cosh(np.pi / 2 * np.sinh(t)) ** 2 / 64
    return sum(float(np.sum(weight * f((half + node) / 2))) / 2 for half in (0, 1))


@pytest.mark.parametrize("distribution", ALL, ids=lambda d: d.name)
def test_moments_are_those_of_the_quantile_function(distribution):
    with jax.enable_x64(True):
        found = [quadrature(lambda u, n=n: np.asarray(distribution.quantile(jnp.asarray(u))) ** n) for n in range(1, 5)]
    np.testing.assert_allclose(found, distribution.moments, atol=1e-10)  # the rule, and the inverse's own 1e-12


@pytest.mark.parametrize(("distribution", "density", "expected"), HAND_VALUES)
def test_kurtosis_by_hand(distribution, density, expected):
    # A handful of roundings; the subtraction of the squared mean loses at most a factor 4 for U(0, 1).
    np.testing.assert_allclose(distribution.kurtosis(density), expected, rtol=32 * EPS)


@pytest.mark.parametrize("distribution", ALL, ids=lambda d: d.name)
@pytest.mark.parametrize("density", DENSITIES)
def test_kurtosis_against_monte_carlo(distribution, density):
    n = 200_000
    rng = np.random.default_rng(0)
    u = rng.uniform(2**-24, 1 - 2**-24, n).astype(np.float32)
    active = np.asarray(distribution.active_value(u, density), float)
    d = np.where(rng.random(n) < density, active, 0)
    d -= d.mean()
    m2, m3, m4 = (np.mean(d**i) for i in (2, 3, 4))
    # The delta method: the estimate is an average of these influences, up to O(1/n).
    influence = (d**4 - m4 - 4 * m3 * d) / m2**2 - 2 * m4 * (d**2 - m2) / m2**3
    error = influence.std() / n**0.5
    # 16 cases at 4.5 standard errors: one false alarm in 10^4. Rademacher at p = 1 has no spread, only rounding.
    assert abs(m4 / m2**2 - distribution.kurtosis(density)) < 4.5 * error + 1e-5


@pytest.mark.parametrize("distribution", SIGNED, ids=lambda d: d.name)
@pytest.mark.parametrize("density", DENSITIES)
def test_signed_features_have_mean_zero_and_variance_one(distribution, density):
    with jax.enable_x64(True):
        value = lambda u: np.asarray(distribution.active_value(jnp.asarray(u), density))  # noqa: E731
        mean, square = quadrature(value), quadrature(lambda u: value(u) ** 2)
    # E[x] = p E[value] and E[x^2] = p E[value^2]; the tolerance is that of the rule, over sqrt(p).
    np.testing.assert_allclose([density * mean, density * square], [0, 1], atol=1e-10)
    assert distribution.unit_variance


def test_uniform_values_fill_their_range():
    u = np.float32([2**-25, 0.5, 1 - 2**-24])
    # U(-a, a) with a = sqrt(3/p) (appendix D.2), and U(0, 1) whatever the density; one rounding each.
    np.testing.assert_allclose(UNIFORM_SIGNED.active_value(u, 0.12), [-5, 0, 5], rtol=4 * EPS, atol=1e-12)
    assert UNIFORM_POSITIVE.active_value(u, 0.12).tolist() == u.tolist()


def test_kurtosis_of_an_array_is_that_of_its_elements_also_when_traced():
    p = jnp.array([[0.01, 0.3], [0.6, 1.0]])
    expected = [[float(UNIFORM_SIGNED.kurtosis(float(x))) for x in row] for row in p]
    # Constants are folded under jit and divisions reordered: a rounding or two.
    np.testing.assert_allclose(UNIFORM_SIGNED.kurtosis(p), expected, rtol=4 * EPS)
    np.testing.assert_allclose(jax.jit(jax.vmap(UNIFORM_SIGNED.kurtosis))(p), expected, rtol=4 * EPS)


@pytest.mark.parametrize("distribution", ALL, ids=lambda d: d.name)
@pytest.mark.parametrize("bad", [0, -0.1, 1.1, float("nan"), float("inf")])
def test_a_density_out_of_range_has_no_kurtosis(distribution, bad):
    assert np.isnan(distribution.kurtosis(bad))
    assert np.isnan(distribution.kurtosis([0.5, bad])).tolist() == [False, True]


def test_distributions_are_found_by_name_and_unknown_names_are_refused():
    assert [distributions.by_name(d.name) for d in ALL] == ALL
    with pytest.raises(ValueError, match=r"^the name of a distribution must be one of .*, but is 'cauchy'$"):
        distributions.by_name("cauchy")


@pytest.mark.parametrize("distribution", ALL, ids=lambda d: d.name)
@pytest.mark.parametrize("density", DENSITIES)
def test_cumulants_of_the_sparse_feature_are_those_of_its_values(distribution, density):
    with jax.enable_x64(True):
        value = lambda u: np.asarray(distribution.active_value(jnp.asarray(u), density))  # noqa: E731
        mean = density * quadrature(value)
        centred = [
            (1 - density) * (-mean) ** n + density * quadrature(lambda u, n=n: (value(u) - mean) ** n)
            for n in (2, 3, 4)
        ]
        found = distribution.sparse_moments(jnp.asarray(density))
    expected = [mean, centred[0], centred[1], centred[2] - 3 * centred[0] ** 2]
    # The rule's 1e-10 or better, of values up to 1 / sqrt(p) and their fourth power.
    np.testing.assert_allclose(found, expected, atol=1e-10 / density**2)
