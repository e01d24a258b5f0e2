"""The closed-form optimum against hand values, exact rational arithmetic, generic optimisers and Monte Carlo."""

from fractions import Fraction

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
# k = 9 / (5 p) for the densities p of the tables: on both sides of k = 3, at it, next to it, and far from it.
KURTOSES = [1.0, 1.8, 2.9, 3.0, 3.0 + 2 * EPS, 3.00001, 3.1, 6.0, 18.0, 180.0, 1e5]


def some_property(n_examples):
    return hypothesis.settings(deadline=None, max_examples=n_examples, derandomize=True)


def random_importance(rng, n_features, size=()):
    """Spreads from none at all to 1e-6..1e6, some features equal to the first and some of importance zero."""
    v = 10 ** (rng.uniform(-6, 6, (*size, n_features)) * rng.choice([0, 1e-7, 0.01, 0.2, 1], (*size, 1)))
    v = np.where(rng.random(v.shape) < 0.2, v[..., :1], v)
    return np.where(rng.random(v.shape) < 0.1, 0, v).astype(np.float32)


def random_kurtosis(rng, size=()):
    return np.where(rng.random(size) < 0.2, 3, rng.choice(KURTOSES, size)).astype(np.float32)


def exact_optimum(importance, kurtosis, n_neurons):
    """Eq. 15 for k > 3 in rational arithmetic: the one consistent choice of full, shared and ignored features."""
    v, k = [Fraction(float(x)) for x in importance], Fraction(float(kurtosis))
    order = sorted(range(len(v)), key=lambda i: -v[i])
    positive = sum(x > 0 for x in v)
    if positive <= n_neurons:
        return [Fraction(int(x > 0)) for x in v]
    for full in range(n_neurons + 1):
        for last in range(full + 1, positive + 1):
            shared = order[full:last]
            inverse = (n_neurons - full + 2 * len(shared) / (k - 3)) * (k - 3) / (k - 1) / sum(v[i] for i in shared)
            raw = [(k - 1) / (k - 3) * x * inverse - 2 / (k - 3) for x in v]
            C = [min(max(c, Fraction(0)), Fraction(1)) for c in raw]
            if sum(C) == n_neurons:
                return C
    raise AssertionError("no consistent choice")


# Boundaries of section 3.5.2, worked by hand with k = 9 / (5 p): the exact fractions behind the table of figure 4's
# grid, (p, D, ignored, full) for N = 6.
BOUNDARIES = [
    (0.3, 3, 10 / 19, 25 / 16),
    (0.1, 3, 2 / 11, 17 / 8),
    (0.01, 3, 10 / 541, 895 / 364),
    (0.3, 5, 2 / 5, 25 / 22),
    (0.1, 5, 2 / 17, 85 / 70),
    (0.01, 5, 2 / 179, 895 / 718),
    (0.6, 3, 1, 1),
    (1.0, 5, 1, 1),
]


@pytest.mark.parametrize(("density", "n_neurons", "ignored", "full"), BOUNDARIES)
def test_boundaries_by_hand(density, n_neurons, ignored, full):
    found = theory.boundaries(9 / (5 * density), 6, n_neurons)
    # A few roundings; k itself is off by one, which 1 / (k - 3) enlarges by no more than 2 here.
    np.testing.assert_allclose([found.ignored, found.full], [ignored, full], rtol=10 * EPS)


def test_boundary_limits():
    found = theory.boundaries(1e7, 6, 3)
    # Section 3.5.2: as k grows the full boundary tends to (N-1)/(D-1) and the ignored one to 2 (N-1)/(k D); both are
    # off by O(1/k), with a factor of at most (N-1)/(D-1) + 2.
    np.testing.assert_allclose([found.full, found.ignored * 1e7], [5 / 2, 10 / 3], rtol=1e-6)
    # D = 1: full means that the others, which enter at (k-1)/2 times their importance, are ignored: V = (k-1)/2.
    assert theory.boundaries(9.0, 6, 1).full == 4
    for n_features, n_neurons in [(1, 1), (3, 3), (3, 7)]:
        assert theory.boundaries([2.0, 9.0], n_features, n_neurons).full.tolist() == [0, 0]


def test_boundaries_are_where_the_phase_of_feature_0_changes():
    cases = [(2, 1), (6, 1), (6, 2), (6, 3), (6, 5)]
    kurtosis = np.array([1.0, 2.9, 3.0, 3.1, 6.0, 180.0])
    nudge = np.array([1 - 1e-5, 1 + 1e-5])[:, None]  # far above rounding, 1e-7
    for n, d in cases:
        found = theory.boundaries(kurtosis, n, d)
        for boundary, below, above in [
            (found.ignored, Phase.IGNORED, np.where(kurtosis > 3, Phase.SHARED, Phase.FULL)),
            (found.full, np.where(kurtosis > 3, Phase.SHARED, Phase.IGNORED), Phase.FULL),
        ]:
            V = np.asarray(boundary) * nudge
            v = np.concatenate([V[..., None], np.ones((*V.shape, n - 1))], axis=-1)
            phases = np.asarray(theory.phase(v, kurtosis, d)[..., 0])
            assert (phases[0] == below).all(), (n, d)
            assert (phases[1] == above).all(), (n, d)


def test_capacity_by_hand():
    # Section 3.5.2 with k = 6, N = 6, D = 3, V = 1.2: C_0 = (3*3 + 12) 1.2 / (3 * 6.2) - 2/3 = 64/93, the others share
    # the rest, and lambda = 5 * 6.2 / 21.
    v = np.array([1.2, 1, 1, 1, 1, 1])
    C = theory.optimal_capacity(v, 6.0, 3)
    np.testing.assert_allclose(C, [64 / 93] + [215 / 465] * 5, rtol=4 * EPS)  # of order one, a few roundings
    np.testing.assert_allclose(theory.multiplier(v, 6.0, 3), 31 / 21, rtol=4 * EPS)
    # Eq. 58: n = 5/3 v - 2/3 lambda while shared.
    np.testing.assert_allclose(theory.optimal_squared_norm(v, 6.0, 3), 5 / 3 * v - 62 / 63, rtol=8 * EPS)
    # The points A and B of figure 4, k < 3, and V in the full phase for k = 6 (above 25/16), with D - 1 left over.
    for V, k, expected in [(0.9, 2.0, [0, 1, 1, 1, 0, 0]), (1.1, 2.0, [1, 1, 1, 0, 0, 0]), (2, 6.0, [1] + [0.4] * 5)]:
        C = theory.optimal_capacity(np.array([V, 1, 1, 1, 1, 1]), k, 3)
        np.testing.assert_allclose(C, expected, rtol=4 * EPS)


@pytest.mark.parametrize(("n_features", "n_neurons"), [(6, 3), (6, 5), (49, 10)])
def test_equal_importances_share_equally_at_any_kurtosis(n_features, n_neurons):
    kurtosis = np.float32([3, 3 + 2 * EPS, 3.00001, 3.1, 6, 1e5])
    for scale in [0.1, 1, 7e5]:
        v = np.full((1, n_features), scale, np.float32)
        C = theory.optimal_capacity(v, kurtosis, n_neurons)
        np.testing.assert_allclose(C, n_neurons / n_features, rtol=2 * EPS)  # C_0 = D/N at V = 1; two roundings
        assert (theory.phase(v, kurtosis, n_neurons) == Phase.SHARED).all()


@pytest.mark.parametrize("n_neurons", [1, 2, 3, 7])
def test_zero_importances_and_enough_neurons(n_neurons):
    for k in KURTOSES:
        few = theory.optimal_capacity([0.0, 2.0, 0.0, 1e-6, 5.0, 0.0], k, n_neurons)
        assert few[jnp.array([0, 2, 5])].tolist() == [0, 0, 0]  # no capacity where it gains nothing
        # min(D, positive importances); three values of order one add up with their roundings.
        np.testing.assert_allclose(few.sum(), min(n_neurons, 3), rtol=4 * EPS)
        assert theory.optimal_capacity(np.zeros(3), k, n_neurons).tolist() == [0, 0, 0]
        assert (theory.multiplier(np.zeros(3), k, n_neurons), theory.optimal_loss(np.zeros(3), k, n_neurons)) == (0, 0)
    if n_neurons >= 3:
        assert few.tolist() == [0, 1, 0, 1, 1, 0]
        assert theory.multiplier([2.0, 1e-6, 5.0], 6.0, n_neurons) == 0


def test_ties_below_at_and_above_the_critical_point():
    v = np.array([1.0, 2.0, 1.0, 1.0, 0.5])
    C = theory.optimal_capacity(v, np.array([2.0, 3.0, 3.0 + 2 * EPS]), 2)
    assert C[0].tolist() == [1, 1, 0, 0, 0]  # lowest index
    # The limit from above: an equal share of what feature 1 leaves; two roundings.
    np.testing.assert_allclose(C[1:], [[1 / 3, 1, 1 / 3, 1 / 3, 0]] * 2, rtol=2 * EPS)
    # Which of them it is makes no difference to the loss, which is continuous through k = 3: dL/dk < sum v^2 < 8.
    losses = theory.optimal_loss(v, np.array([3 - 1e-5, 3.0, 3 + 1e-5]), 2)
    np.testing.assert_allclose(losses, losses[1], atol=8e-5 + 8 * EPS)


@some_property(25)
@hypothesis.given(SEEDS)
def test_float32_is_exact_up_to_rounding(seed):
    rng = np.random.default_rng(seed)
    v, k = random_importance(rng, 6, (8,)), rng.choice([3 + 2 * EPS, 3.00001, 3.1, 6, 180, 1e5], 8).astype(np.float32)
    for n_neurons in (1, 3, 5):
        C = theory.optimal_capacity(v, k, n_neurons)
        exact = [[float(c) for c in exact_optimum(*case, n_neurons)] for case in zip(v, k, strict=True)]
        # About ten operations on numbers up to N, however close k is to 3.
        np.testing.assert_allclose(C, exact, rtol=0, atol=16 * EPS)


def test_loss_where_every_capacity_is_nearly_0_or_1():
    v, k = np.float32([188.8749, 0.0248377]), 1e6
    np.testing.assert_allclose(theory.optimal_loss(v, k, 1), exact_loss(v, k, 1), rtol=8 * EPS)
    # By hand, 2 (k-1) / (k+1) (2 v_0 v_1 - 2 / (k-3) (v_0 - v_1)^2): 1 - C_0 = C_1 = 1.3e-4.
    np.testing.assert_allclose(exact_loss(v, k, 1), 18.6222, atol=5e-5)
    # Feature 1 has a share too small for float32 to tell 1 - C_1 from 1: C_1 = 1.5e-8.
    v, k = np.float32([1, 3.5e-8]), 1e8
    np.testing.assert_allclose(theory.optimal_loss(v, k, 1), exact_loss(v, k, 1), rtol=8 * EPS)


def exact_loss(v, k, n_neurons):
    """Eq. 13 at the capacities of `exact_optimum` and the lengths of eq. 52, in rational arithmetic."""
    v, k, C = [Fraction(float(x)) for x in v], Fraction(float(k)), exact_optimum(v, k, n_neurons)
    return float(sum(2 * (1 - c) * (k - 1) * x**2 / ((k - 3) * c + 2) for x, c in zip(v, C, strict=True)))


def wide(rng, n_neurons):
    """Importances [64, 6] and kurtoses [64] that also put capacities within 1e-8 of 0 or 1: `n_neurons` features about
    1, the others about 2 / (k - 1), where they enter."""
    k = np.where(rng.random(64) < 0.3, random_kurtosis(rng, (64,)), 3 + 10 ** rng.uniform(-6, 8, 64))
    entering = 10 ** rng.uniform(-1, 1, (64, 6)) * 2 / np.maximum(k - 1, 1)[:, None]
    about_one = 1 + 10 ** rng.uniform(-8, 0, (64, 6))
    nearly = np.where(np.arange(6) < n_neurons, about_one, entering)
    return np.where(rng.random((64, 1)) < 0.5, nearly, random_importance(rng, 6, (64,))).astype(np.float32), k


@some_property(40)
@hypothesis.given(SEEDS)
def test_float32_keeps_the_digits_of_the_loss(seed):
    rng = np.random.default_rng(seed)
    n_neurons = int(rng.integers(1, 7))
    v, k = wide(rng, n_neurons)
    k = k.astype(np.float32)
    found = theory.optimal_loss(v, k, n_neurons)
    with jax.enable_x64(True):
        expected = np.asarray(theory.optimal_loss(v.astype(float), k.astype(float), n_neurons))
    # The loss is no worse conditioned than v^2 (k-1), since 0 <= dL/dv_i and sum_i v_i dL/dv_i = 2 L: three roundings,
    # and about as many again of the sums. Measured over 10^5 cases: 3 EPS.
    np.testing.assert_allclose(found, expected, rtol=8 * EPS)


@some_property(5)
@hypothesis.given(SEEDS)
def test_float64_keeps_the_digits_of_the_loss(seed):
    rng = np.random.default_rng(seed)
    v, k = wide(rng, 3)
    v, k = v[k > 3][:16].astype(float), k[k > 3][:16]
    with jax.enable_x64(True):
        found = theory.optimal_loss(v, k, 3)
    exact = [exact_loss(*case, 3) for case in zip(v, k, strict=True)]
    np.testing.assert_allclose(found, exact, rtol=8 * EPS64)  # as in float32


@some_property(40)
@hypothesis.given(SEEDS)
def test_optimality_conditions(seed):
    """Eqs. 6 to 8 with the multiplier 2 lambda^2, and the sum of the capacities."""
    rng = np.random.default_rng(seed)
    v, k = random_importance(rng, 6, (32,)), random_kurtosis(rng, (32,))
    n_neurons = int(rng.integers(1, 8))
    with jax.enable_x64(True):
        v, k = v.astype(float), k.astype(float)
        C = np.asarray(theory.optimal_capacity(v, k, n_neurons))
        gain = np.asarray(theory.marginal_loss_reduction(C, v, k))
        price = 2 * np.asarray(theory.multiplier(v, k, n_neurons))[:, None] ** 2
        phases = np.asarray(theory.phase(v, k, n_neurons))
    shared, full, ignored = (phases == p for p in (Phase.SHARED, Phase.FULL, Phase.IGNORED))
    assert ((C >= 0) & (C <= 1)).all()
    assert (C[full] == 1).all()
    assert (C[ignored] == 0).all()
    np.testing.assert_allclose(C.sum(-1), np.minimum(n_neurons, (v > 0).sum(-1)), rtol=8 * EPS64)  # six roundings
    # An error of 16 EPS64 in C moves the gain by up to 16 EPS64 (k-3), relatively; gain and price have their own
    # roundings.
    slack = 32 * EPS64 * (1 + np.maximum(k[:, None] - 3, 0)) * price
    assert (np.abs(gain - price) <= slack)[shared].all()
    assert (gain >= price - slack)[full].all()
    assert (gain <= price + slack)[ignored].all()


@some_property(20)
@hypothesis.given(SEEDS)
def test_symmetries_and_monotonicity(seed):
    rng = np.random.default_rng(seed)
    v, k = random_importance(rng, 6, (32,)), random_kurtosis(rng, (32,))
    n_neurons = int(rng.integers(1, 7))
    C = np.asarray(theory.optimal_capacity(v, k, n_neurons))
    rounding = 32 * EPS  # 16 for each side, as in the test against rational arithmetic

    # Times a power of two, so that the scaled importances are exact.
    np.testing.assert_allclose(theory.optimal_capacity(v * 64, k, n_neurons), C, rtol=0, atol=rounding)

    order = rng.permutation(6)
    permuted = np.asarray(theory.optimal_capacity(v[:, order], k, n_neurons))
    as_before = k >= 3  # below, ties go to the lowest index
    np.testing.assert_allclose(permuted[as_before], C[:, order][as_before], rtol=0, atol=rounding)

    more = theory.optimal_capacity(v * np.float32([1.5, 1, 1, 1, 1, 1]), k, n_neurons)
    assert (more[:, 0] >= C[:, 0] - rounding).all()
    assert (more[:, 1:] <= C[:, 1:] + rounding).all()
    with_another = theory.optimal_loss(v, k, n_neurons + 1)
    assert (with_another <= theory.optimal_loss(v, k, n_neurons) * (1 + rounding)).all()


@some_property(20)
@hypothesis.given(SEEDS)
def test_unequal_importances_pass_through_the_critical_kurtosis(seed):
    rng = np.random.default_rng(seed)
    v, n_neurons = rng.uniform(0.5, 2, 6), int(rng.integers(1, 7))
    # Sharing takes v_i < (k-1)/2 v_j (section 3.5.1): at v <= 2, a gap between importances of at most k - 3.
    kurtosis = 3 + np.diff(np.sort(v)).min() / 2 * np.array([-1, 0, 1])
    C = np.asarray(theory.optimal_capacity(v, kurtosis, n_neurons))
    assert C.tolist() == [(v >= np.sort(v)[-n_neurons]).tolist()] * 3


def minimise_over_capacities(v, k, n_neurons, rng):
    """Eq. 13 at its least over (C, r) with n = C r, in which it is a polynomial; SLSQP from random starts."""

    def loss(x):
        C, r = x.reshape(2, -1)
        error = (k - 1) * (C * r - v)
        by_C = 2 * error * r + 2 * r**2 * (1 - 2 * C)
        by_r = 2 * error * C + 4 * r * C * (1 - C)
        return error @ (C * r - v) + 2 * r**2 @ (C * (1 - C)), np.concatenate([by_C, by_r])

    n = v.size
    slope = np.concatenate([-np.ones(n), np.zeros(n)])
    runs = [
        optimize.minimize(
            loss,
            np.concatenate([rng.dirichlet(np.ones(n)) * min(n_neurons, n) / 2, v]),
            jac=True,
            method="SLSQP",
            bounds=[(0, 1)] * n + [(0, None)] * n,
            constraints={"type": "ineq", "fun": lambda x: n_neurons - x[:n].sum(), "jac": lambda x: slope},
            options={"ftol": 1e-13, "maxiter": 500},
        )
        for _ in range(20 if k < 3 else 3)  # below k = 3 every corner is a local minimum
    ]
    best = min(runs, key=lambda run: run.fun)
    return best.fun, best.x[:n]


def minimise_over_embeddings(v, k, n_neurons, rng):
    """Eq. 12 at its least over W, with no notion of capacity; L-BFGS from random starts. The loss and capacities."""
    runs = [
        optimize.minimize(
            quadratic_loss(v, k, n_neurons),
            rng.normal(size=n_neurons * v.size),
            jac=True,
            method="L-BFGS-B",
            options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000, "maxfun": 5000},
        )
        for _ in range(20 if k < 3 else 3)
    ]
    best = min(runs, key=lambda run: run.fun)
    return best.fun, np.asarray(capacities(best.x.reshape(n_neurons, -1)))


@pytest.mark.parametrize("minimise", [minimise_over_capacities, minimise_over_embeddings])
@pytest.mark.parametrize(("n_features", "n_neurons"), [(3, 1), (6, 3), (6, 5), (3, 3)])
@pytest.mark.parametrize("k", [2.0, 2.7, 4.0, 12.0])
def test_a_generic_optimiser_finds_the_same_optimum(minimise, n_features, n_neurons, k):
    rng = np.random.default_rng([n_features, n_neurons, int(10 * k)])
    v = rng.uniform(0.3, 2, n_features)
    loss, C = minimise(v, k, n_neurons, rng)
    # A few float32 roundings; with D = N the loss is zero, up to where the optimisers stop.
    np.testing.assert_allclose(loss, theory.optimal_loss(v, k, n_neurons), rtol=8 * EPS, atol=1e-12)
    # It stops where the loss changes by 1e-13, relatively, and the loss is quadratic in C: 3e-7, times the condition.
    np.testing.assert_allclose(C, theory.optimal_capacity(v, k, n_neurons), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("n_features", "n_neurons"), [(4, 2), (3, 5)])
def test_loss_in_capacities_is_that_of_any_embedding(n_features, n_neurons):
    rng = np.random.default_rng(0)
    W, v = rng.normal(size=(50, n_neurons, n_features)), rng.uniform(0, 2, (50, n_features))
    W[:10, :, 0] = 0
    k = rng.uniform(1, 20, 50)
    both = jax.jit(
        lambda W, v, k: (
            theory.loss_from_capacity(capacities(W), (W**2).sum(-2), v, k),
            theory.expected_loss(W, v, k),
        )
    )
    with jax.enable_x64(True):
        in_capacities, in_embedding = both(W, v, k)
    # An identity; both sides round at the size of their largest terms, at most (k+2) (sum n + sum v)^2 < 2e4.
    np.testing.assert_allclose(in_capacities, in_embedding, rtol=0, atol=8 * EPS64 * 2e4)


def test_squared_norm_minimises_the_loss_and_gives_the_optimal_one():
    rng = np.random.default_rng(0)
    C, v, k = rng.uniform(0, 1, (100, 4)), rng.uniform(0.1, 2, (100, 4)), rng.uniform(1, 20, 100)
    C[:20, 0], C[20:40, 0], k[::10] = 0, 1, 1
    with jax.enable_x64(True):
        n = theory.squared_norm(C, v, k)
        least = theory.loss_from_capacity(C, n, v, k)
        for factor in (0.99, 1.01):  # any nearby length; -1e-12 is rounding at losses up to 1e2
            assert (theory.loss_from_capacity(C, n * factor, v, k) - least > -1e-12).all()
        for n_neurons in (1, 3):
            C, n = (f(v, k, n_neurons) for f in (theory.optimal_capacity, theory.optimal_squared_norm))
            loss = theory.loss_from_capacity(C, n, v, k)
            # Two formulas of one number: it differs by roundings of terms up to 1e2, 2e-14.
            np.testing.assert_allclose(theory.optimal_loss(v, k, n_neurons), loss, rtol=0, atol=1e-12)
    assert theory.squared_norm([0.0, 1.0], [3.0, 3.0], [1.0, 2.0, 9.0]).tolist() == [[0, 3]] * 3  # eq. 58
    assert theory.loss_from_capacity([0.0], [0.1], [1.0], 2.0) == np.inf


def test_marginal_loss_reduction_is_the_slope_of_the_loss():
    """Eqs. 14 and 54, along n*(C), for k on both sides of 3: it falls with C above 3 and rises below."""
    C, v = np.linspace(0.1, 0.9, 9)[:, None], np.array([1.3])
    with jax.enable_x64(True):
        for k in (1.5, 3.0, 9.0):
            step = 1e-5
            losses = [theory.loss_from_capacity(c, theory.squared_norm(c, v, k), v, k) for c in (C - step, C + step)]
            gain = theory.marginal_loss_reduction(C, v, k)[:, 0]
            # Central differences: step^2 times the third derivative, below 1e3, and rounding 1e-15 / step.
            np.testing.assert_allclose((losses[0] - losses[1]) / (2 * step), gain, rtol=1e-6)
            assert (np.sign(np.diff(gain)) == np.sign(3 - k)).all() or k == 3


def rademacher(rng, shape):
    return rng.choice([-1.0, 1.0], shape)


def sparse_uniform(rng, shape):
    return rng.uniform(-1, 1, shape) * np.sqrt(3 / 0.3) * (rng.random(shape) < 0.3)


# Kurtosis by hand: E[x^4] = 1; 3 for a Gaussian; 9 / (5 p) with p = 0.3.
DISTRIBUTIONS = [(rademacher, 1), (np.random.Generator.standard_normal, 3), (sparse_uniform, 6)]


@pytest.mark.parametrize(("sample", "k"), DISTRIBUTIONS)
def test_expected_loss_is_the_mean_of_the_models_loss(sample, k):
    rng = np.random.default_rng(1)
    W, v = rng.normal(size=(2, 4)), np.array([0.5, 1, 1, 2])
    x = sample(rng, (200_000, 4))
    for b in (None, 0.7):
        bias = v.sum() - (W**2).sum() if b is None else b
        losses = (((x @ W.T) ** 2).sum(-1) + bias - x**2 @ v) ** 2  # eqs. 9 to 11
        error = losses.std() / np.sqrt(len(x))
        # Five standard errors: a chance of 6e-7, and the seed is fixed.
        assert abs(losses.mean() - theory.expected_loss(W, v, k, b)) < 5 * error


def test_bias_of_eq_12_is_the_best():
    rng = np.random.default_rng(0)
    W, v = rng.normal(size=(5, 2, 4)), rng.uniform(0, 2, (5, 4))
    best = v.sum(-1) - (W**2).sum((-2, -1))
    with jax.enable_x64(True):
        least = theory.expected_loss(W, v, 5.0)
        # The quadratic in b of eq. 33; roundings of losses up to 1e3.
        np.testing.assert_allclose(theory.expected_loss(W, v, 5.0, best), least, rtol=1e-13)
        np.testing.assert_allclose(theory.expected_loss(W, v, 5.0, best + 3), least + 9, rtol=1e-13)


def closed_forms(v, k, n_neurons):
    forms = theory.optimal_capacity, theory.optimal_squared_norm, theory.optimal_loss, theory.multiplier
    return [form(v, k, n_neurons) for form in forms]


@pytest.mark.parametrize("n_neurons", [1, 3, 6])
def test_gradients_are_finite_everywhere(n_neurons):
    ones = np.ones(6)
    edges = [ones, ones * 1e-6, ones * 1e6, 0 * ones, np.eye(6)[0], 10.0 ** np.arange(-6, 6, 2), [1, 1, 1, 2, 2, 0]]
    v = np.repeat(np.float32(edges), len(KURTOSES), axis=0)
    k = np.tile(np.float32(KURTOSES), len(edges))
    gradient = jax.jit(jax.grad(lambda v, k: sum(form.sum() for form in closed_forms(v, k, n_neurons)), (0, 1)))
    assert all(np.isfinite(g).all() for g in gradient(v, k))


def test_gradients_of_capacities_and_losses_at_their_edges_are_finite():
    C, n = jnp.array([0.0, 0.0, 1.0, 1.0, 0.5]), jnp.array([0.0, 0.0, 0.0, 1.0, 1.0])
    v, W = jnp.array([0.0, 1.0, 0.0, 1.0, 1.0]), jnp.zeros((2, 5))

    def total(C, n, v, k, W):
        losses = theory.loss_from_capacity(C, n, v, k) + theory.expected_loss(W, v, k)
        return losses + theory.squared_norm(C, v, k).sum() + theory.marginal_loss_reduction(C, v, k).sum()

    gradient = jax.jit(jax.grad(total, range(5)))
    for k in (1.0, 3.0, 9.0):
        assert all(np.isfinite(g).all() for g in gradient(C, n, v, k, W))


def test_gradients_are_slopes():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        at = jnp.array(rng.uniform(0.3, 3, (40, 6))), jnp.array(rng.uniform(1, 12, 40))
        along = jnp.array(rng.normal(size=(40, 6))), jnp.array(rng.normal(size=40))
        slopes = jax.jit(lambda at, along: jax.jvp(lambda v, k: closed_forms(v, k, 3), at, along)[1])(at, along)
        step = 1e-6
        after, before = (
            closed_forms(*(x + sign * step * dx for x, dx in zip(at, along, strict=True)), 3) for sign in (1, -1)
        )
        for slope, high, low in zip(slopes, after, before, strict=True):
            # Central differences: step^2 = 1e-12 times third derivatives, and rounding 1e-14 / step.
            np.testing.assert_allclose(slope, (high - low) / (2 * step), rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_batches_equal_loops_with_and_without_transforms():
    rng = np.random.default_rng(0)
    v, k = random_importance(rng, 6, (5, 1)), random_kurtosis(rng, (7,))

    def forms(v, k):
        return [*closed_forms(v, k, 3), theory.phase(v, k, 3)]

    one = jax.jit(forms)
    cells = [one(v[i, 0], k[j]) for i in range(5) for j in range(7)]
    loop = [np.reshape(cell, (5, 7, *np.shape(cell)[1:])) for cell in map(np.array, zip(*cells, strict=True))]
    mapped = jax.jit(jax.vmap(jax.vmap(forms, (None, 0)), (0, None)))(v[:, 0], k)
    for batch, *others in zip(forms(v, k), loop, mapped, jax.jit(forms)(v, k), strict=True):
        for other in others:
            # One formula compiled in four ways: a few roundings, of capacities up to 1, or relative to the rest.
            np.testing.assert_allclose(batch, other, rtol=8 * EPS, atol=8 * EPS)


def test_leading_axes_of_the_losses_broadcast():
    rng = np.random.default_rng(0)
    W, v, k, b = rng.normal(size=(2, 1, 2, 4)), rng.uniform(0, 2, (3, 4)), np.array([2.0, 5.0, 9.0]), np.ones((2, 1))
    one = jax.jit(theory.expected_loss)
    loop = [[one(W[i, 0], v[j], k[j], 1.0) for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(theory.expected_loss(W, v, k, b), loop, rtol=8 * EPS)  # sums of the same positive terms
    C, n = capacities(W), (W**2).sum(-2)
    for function in (theory.marginal_loss_reduction, theory.squared_norm):
        assert function(C, v, k).shape == (2, 3, 4)
    assert theory.loss_from_capacity(C, n, v, k).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("kurtosis", lambda: theory.optimal_capacity([1.0, 1.0], [2.0, 0.9], 1)),
        ("kurtosis", lambda: theory.boundaries(np.nan, 6, 3)),
        ("kurtosis", lambda: theory.expected_loss(np.eye(2), [1.0, 1.0], np.inf)),
        ("importance", lambda: theory.multiplier([1.0, -1.0], 4.0, 1)),
        ("importance", lambda: theory.phase([1.0, np.nan], 4.0, 1)),
        ("importance", lambda: theory.optimal_loss(1.0, 4.0, 1)),
        ("n_neurons", lambda: theory.optimal_capacity([1.0, 1.0], 4.0, 0)),
        ("n_neurons", lambda: theory.boundaries(4.0, 6, 2.5)),
        ("n_features", lambda: theory.boundaries(4.0, 0, 2)),
        ("capacity", lambda: theory.squared_norm([1.1], [1.0], 4.0)),
        ("squared_norm", lambda: theory.loss_from_capacity([0.5], [-1.0], [1.0], 4.0)),
        ("W", lambda: theory.expected_loss(np.eye(3), [1.0, 1.0], 4.0)),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=f"^{name} must "):
        call()


V, K = np.float32([1, 2, 1]), np.float32([4, 6, 8])
FORMS = [
    lambda v, k: theory.expected_loss(np.ones((2, 3)), v, k),
    lambda v, k: theory.expected_loss(np.ones((2, 3)), v, k, 0.0),
    lambda v, k: theory.loss_from_capacity(V / 2, V, v, k),
    lambda v, k: theory.squared_norm(V / 2, v, k),
    lambda v, k: theory.marginal_loss_reduction(V / 2, v, k),
    lambda v, k: theory.optimal_capacity(v, k, 2),
    lambda v, k: theory.optimal_squared_norm(v, k, 2),
    lambda v, k: theory.optimal_loss(v, k, 2),
    lambda v, k: theory.multiplier(v, k, 2),
    lambda v, k: theory.phase(v, k, 2),
]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_kurtosis_is_one_a_feature_only_where_it_has_as_many_axes_as_importance(form):
    one = [np.asarray(form(V, k)) for k in K]
    np.testing.assert_allclose(form(V[None], K), one, rtol=4 * EPS)  # three models; a formula compiled in two ways
    np.testing.assert_allclose(form(V, K[:2]), one[:2], rtol=4 * EPS)  # no axis of three
    np.testing.assert_allclose(form(V, K[:, None])[:, 0], one, rtol=4 * EPS)
    np.testing.assert_allclose(jax.vmap(form, (None, 0))(V, K), one, rtol=4 * EPS)
    shape = one[0].shape
    for v, k, models in [(V, K, ()), (V[None], K[None], (1,)), (V, np.stack([K, K]), (2,)), (V[None, None], K, (1, 3))]:
        for call in (form, jax.jit(form)):
            assert call(v, k).shape == (*models, *shape)
