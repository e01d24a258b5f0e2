"""The optimum of features of unequal kurtosis against a generic optimiser on W, conditions of optimality, the closed
form for equal ones, and Monte Carlo."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from reference import quadratic_loss
from scipy import optimize

from polyjax import theory
from polyjax.embedding.capacity import capacities
from polyjax.theory import Phase

EPS, EPS64 = float(np.finfo(np.float32).eps), float(np.finfo(np.float64).eps)
SEEDS = st.integers(0, 2**32 - 1)
N = 5  # most features; others have importance 0, so that all problems are compiled once
# Of kurtosis: around 3; next to 3 on both sides; anything; a few values, so that some tie.
KURTOSES = [
    lambda rng: 3 + rng.normal(0, 1, N),
    lambda rng: 3 + rng.choice([-1, 1], N) * 10 ** rng.uniform(-3, 0.3, N),
    lambda rng: rng.uniform(1, 6, N),
    lambda rng: rng.choice([1, 1.8, 2.5, 3, 3.5, 6], N),
]
IMPORTANCES = [
    lambda rng: rng.uniform(0.5, 1.5, N),
    lambda rng: rng.choice([0.5, 1, 2], N),
    lambda rng: 1 + rng.normal(0, 0.05, N),
]


def problem(seed):
    """Importances and kurtoses [N] of 2 to N features, and the neurons, fewer than these."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, N + 1))
    k = np.maximum(KURTOSES[rng.integers(len(KURTOSES))](rng), 1)
    v = IMPORTANCES[rng.integers(len(IMPORTANCES))](rng)
    return np.where(np.arange(N) < n, v, 0), k, int(rng.integers(1, n))


def least_loss(v, k, n_neurons, rng, starts=20):
    """Eq. 12, with a kurtosis for every feature, at its least over W: L-BFGS from random starts. The loss and W."""
    runs = [
        optimize.minimize(
            quadratic_loss(v, k, n_neurons),
            rng.choice([0.1, 0.7, 1]) * rng.normal(size=n_neurons * v.size),
            jac=True,
            method="L-BFGS-B",
            options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000, "maxfun": 6000},
        )
        for _ in range(starts)
    ]
    best = min(runs, key=lambda run: run.fun)
    return best.fun, best.x.reshape(n_neurons, -1)


def assert_least(v, k, n_neurons):
    some = v > 0
    least, _ = least_loss(v[some], k[some], n_neurons, np.random.default_rng(0))
    least += ((k - 1) * v**2)[~some].sum()
    with jax.enable_x64(True):
        exact = theory.optimal_loss(v, k, n_neurons)
        np.testing.assert_allclose(exact, least, rtol=1e-6, atol=1e-12, err_msg=str((v, k, n_neurons)))
    # The same, of numbers rounded to float32: k - 1 and v^2 have a relative error of EPS each.
    np.testing.assert_allclose(theory.optimal_loss(v, k, n_neurons), exact, rtol=16 * EPS, atol=16 * EPS)


@pytest.mark.parametrize("seed", range(8))
def test_no_embedding_is_better_and_one_is_as_good(seed):
    assert_least(*problem(seed))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_no_embedding_is_better_and_one_is_as_good_in_500_problems(part):
    for seed in range(50 * part, 50 * part + 50):
        assert_least(*problem(seed))


def test_of_two_concave_features_that_may_share_the_better_one_does():
    v = np.array([1.06620155, 1.06014212, 0.98289974, 0.91534212, 1.0170299])
    k = np.array([2.9083548, 2.99785688, 3.11297285, 3.43733584, 2.99213362])
    assert_least(v, k, 2)
    assert theory.phase(v, k, 2).tolist() == [1, 2, 0, 1, 0]  # exchanging the first two costs 5e-5 more


@pytest.mark.slow
def test_a_concave_feature_may_share_with_a_convex_one():
    v, k = np.array([0.996, 0.963, 0.717, 0.927]), np.array([3.117, 1.888, 3.793, 2.793])
    with jax.enable_x64(True):
        C, n = theory.optimal_capacity(v, k, 2), theory.optimal_squared_norm(v, k, 2)
        least, price = theory.optimal_loss(v, k, 2), theory.multiplier(v, k, 2)
        # Eq. 15 of features 2 and 3 for C_2 + C_3 = 1, by hand: 1 / lambda = (1 + 2/.793 - 2/.207) / (...).
        inverse = (1 + 2 / 0.793 - 2 / 0.207) / (2.793 * 0.717 / 0.793 - 1.793 * 0.927 / 0.207)
        by_hand = 2.793 / 0.793 * 0.717 * inverse - 2 / 0.793
        np.testing.assert_allclose(C, [1, 0, by_hand, 1 - by_hand], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(1 / price, inverse, rtol=1e-12)
        np.testing.assert_allclose((n / C)[2:], price, rtol=1e-12)
        found, W = least_loss(v, k, 2, np.random.default_rng(0))
        np.testing.assert_allclose(found, least, rtol=1e-12)
        np.testing.assert_allclose(capacities(W), C, atol=1e-6)  # the loss is quadratic in C, and rounded to 1e-15
        # It is better than both features being ignored or full.
        for full in ([0, 1], [0, 2], [0, 3]):
            assert ((k - 1) * v**2).sum() - ((k - 1) * v**2)[full].sum() > least * 1.005
    assert theory.phase(v, k, 2).tolist() == [Phase.FULL, Phase.IGNORED, Phase.SHARED, Phase.SHARED]


def random_problems(rng, size, spread=6):
    """Importances and kurtoses [size, 6] that are near to each other and to 3 by 1e-6 to 1."""
    v = abs(1 + rng.normal(size=(size, 6)) * 10 ** rng.uniform(-spread, -0.5, (size, 1)))
    k = 3 + rng.choice([-1, 1], (size, 6)) * 10 ** rng.uniform(-spread, 1, (size, 6))
    return np.where(rng.random((size, 6)) < 0.1, 0, v), np.maximum(np.where(rng.random((size, 6)) < 0.1, 3, k), 1)


def some_property(n_examples):
    return hypothesis.settings(deadline=None, max_examples=n_examples, derandomize=True)


@some_property(20)
@hypothesis.given(SEEDS)
def test_conditions_of_optimality(seed):
    """Eqs. 6 to 8, the sum of the capacities, and at most one shared feature of k < 3, which gives more than the others
    take."""
    rng = np.random.default_rng(seed)
    v, k = random_problems(rng, 64, spread=3)
    n_neurons = int(rng.integers(1, 6))
    with jax.enable_x64(True):
        C = np.asarray(theory.optimal_capacity(v, k, n_neurons))
        gain = np.asarray(theory.marginal_loss_reduction(C, v, k))
        price = 2 * np.asarray(theory.multiplier(v, k, n_neurons))[:, None] ** 2
        phases = np.asarray(theory.phase(v, k, n_neurons))
    shared, full, ignored = (phases == p for p in (Phase.SHARED, Phase.FULL, Phase.IGNORED))
    assert (C[full] == 1).all()
    assert (C[ignored] == 0).all()
    np.testing.assert_allclose(C.sum(-1), np.minimum(n_neurons, (v > 0).sum(-1)), rtol=1e-12)
    # C has an error of about EPS64 over the least |k - 3|, 1e-3, and where lines nearly cancel some more.
    assert (abs(gain - price) <= 1e-9 * price)[shared].all()
    assert (gain >= price * (1 - 1e-9))[full].all()
    assert (gain <= price * (1 + 1e-9))[ignored].all()
    concave = shared & (k < 3)
    assert concave.sum(-1).max() <= 1
    slopes = np.divide((k - 1) * v, k - 3, out=np.full_like(v, np.inf), where=k != 3)
    assert (np.sum(slopes, axis=-1, where=shared) <= 0)[concave.any(-1)].all()


@some_property(10)
@hypothesis.given(SEEDS)
def test_equal_kurtosis_is_as_before(seed):
    rng = np.random.default_rng(seed)
    v = np.float32(rng.choice([10 ** rng.uniform(-1, 1, 6), rng.choice([0, 0.5, 1, 2], 6)], 64))
    k = np.float32(rng.choice([1, 1.8, 2.9, 3, 3 + 2 * EPS, 3.00001, 3.1, 6, 18, 180, 1e5], 64))
    n_neurons = int(rng.integers(1, 8))
    of_each = np.repeat(k[:, None], 6, axis=1)
    for form in (theory.optimal_capacity, theory.optimal_squared_norm, theory.optimal_loss, theory.multiplier):
        # Each is exact to a few roundings, of capacities up to 1, or relative to the rest.
        np.testing.assert_allclose(form(v, of_each, n_neurons), form(v, k, n_neurons), rtol=16 * EPS, atol=8 * EPS)
    np.testing.assert_array_equal(theory.phase(v, of_each, n_neurons), theory.phase(v, k, n_neurons))


@some_property(10)
@hypothesis.given(SEEDS)
def test_float32_keeps_the_digits_of_the_loss(seed):
    """Also next to k = 3, where capacities that are equally good may differ."""
    rng = np.random.default_rng(seed)
    v, k = (a.astype(np.float32) for a in random_problems(rng, 64))
    n_neurons = int(rng.integers(1, 6))
    found = theory.optimal_loss(v, k, n_neurons)
    with jax.enable_x64(True):
        expected = np.asarray(theory.optimal_loss(v.astype(float), k.astype(float), n_neurons))
    np.testing.assert_allclose(found, expected, rtol=12 * EPS, atol=1e-30)  # measured: 6 EPS


@some_property(10)
@hypothesis.given(SEEDS)
def test_neither_the_order_of_features_nor_the_unit_of_importance_matters(seed):
    rng = np.random.default_rng(seed)
    v, k = random_problems(rng, 64, spread=3)
    n_neurons, order = int(rng.integers(1, 6)), rng.permutation(6)
    with jax.enable_x64(True):
        least = theory.optimal_loss(v, k, n_neurons)
        np.testing.assert_allclose(theory.optimal_loss(v[:, order], k[:, order], n_neurons), least, rtol=1e-13)
        np.testing.assert_allclose(theory.optimal_loss(8 * v, k, n_neurons), 64 * least, rtol=1e-13)
        assert (theory.optimal_loss(v, k, n_neurons + 1) <= least * (1 + 1e-13)).all()


@pytest.mark.slow
def test_gradients_are_slopes_and_finite_at_ties():
    rng = np.random.default_rng(0)

    def forms(v, k):
        return [f(v, k, 3) for f in (theory.optimal_capacity, theory.optimal_loss, theory.multiplier)]

    with jax.enable_x64(True):
        at = jnp.array(rng.uniform(0.3, 3, (40, 6))), jnp.array(rng.uniform(1, 8, (40, 6)))
        along = tuple(jnp.array(rng.normal(size=(40, 6))) for _ in range(2))
        slopes = jax.jit(lambda at, along: jax.jvp(forms, at, along)[1])(at, along)
        step = 1e-6
        after, before = (forms(*(x + s * step * dx for x, dx in zip(at, along, strict=True))) for s in (1, -1))
        for slope, high, low in zip(slopes, after, before, strict=True):
            # Central differences: step^2 = 1e-12 times third derivatives, and rounding 1e-14 / step.
            np.testing.assert_allclose(slope, (high - low) / (2 * step), rtol=1e-5, atol=1e-6)
    v = np.float32([np.ones(6), np.zeros(6), np.eye(6)[0], [1, 1, 1, 2, 2, 0]]).repeat(3, 0)
    k = np.tile(np.float32([[3, 3, 3, 3, 3, 3], [1, 1, 3, 3, 6, 6], [1, 1.8, 3, 3 + 2 * EPS, 6, 1e5]]), (4, 1))
    gradient = jax.jit(jax.grad(lambda v, k: sum(form.sum() for form in forms(v, k)), (0, 1)))
    assert all(np.isfinite(g).all() for g in gradient(v, k))


@pytest.mark.slow
def test_leading_axes_broadcast_and_map():
    rng = np.random.default_rng(0)
    v, k = np.float32(rng.uniform(0.5, 1.5, (4, 1, 6))), np.float32(rng.uniform(1.5, 6, (1, 3, 6)))
    found = theory.optimal_capacity(v, k, 3)
    one = [[theory.optimal_capacity(v[i, 0], k[0, j], 3) for j in range(3)] for i in range(4)]
    np.testing.assert_allclose(found, one, atol=8 * EPS)
    mapped = jax.vmap(jax.vmap(lambda v, k: theory.optimal_capacity(v, k, 3), (None, 0)), (0, None))(v[:, 0], k[0])
    np.testing.assert_allclose(found, mapped, atol=8 * EPS)


def test_expected_loss_is_the_mean_over_independent_features_of_any_kurtosis():
    rng = np.random.default_rng(1)
    W, v = rng.normal(size=(2, 4)), np.array([0.5, 1, 1, 2])
    density = np.array([1, 0.6, 0.3, 0.1])
    x = rng.uniform(-1, 1, (400_000, 4)) * np.sqrt(3 / density) * (rng.random((400_000, 4)) < density)
    for b in (None, 0.7):
        bias = v.sum() - (W**2).sum() if b is None else b
        losses = (((x @ W.T) ** 2).sum(-1) + bias - x**2 @ v) ** 2  # eqs. 9 to 11
        error = losses.std() / np.sqrt(len(x))
        # Five standard errors: a chance of 6e-7, and the seed is fixed.
        assert abs(losses.mean() - theory.expected_loss(W, v, 9 / (5 * density), b)) < 5 * error


def test_formulas_of_a_capacity_take_each_feature_by_itself():
    rng = np.random.default_rng(0)
    C, v, k = rng.uniform(0, 1, 4), rng.uniform(0.1, 2, 4), rng.uniform(1, 8, 4)
    for form in (theory.squared_norm, theory.marginal_loss_reduction):
        each = [form(C[i : i + 1], v[i : i + 1], k[i])[0] for i in range(4)]
        np.testing.assert_allclose(form(C, v, k), each, rtol=4 * EPS)
    n = theory.squared_norm(C, v, k)
    each = [theory.loss_from_capacity(C[i : i + 1], n[i : i + 1], v[i : i + 1], k[i]) for i in range(4)]
    np.testing.assert_allclose(theory.loss_from_capacity(C, n, v, k), sum(each), rtol=8 * EPS)
