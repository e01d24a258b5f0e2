"""The scaling functions of the critical point against the closed form next to it, and their exponents."""

import jax
import numpy as np
import pytest

from polyjax import theory

SIZES = [(6, 3), (6, 5), (6, 1), (2, 1), (40, 7)]
X = np.linspace(-1.5, 1.5, 121)


def exact(form, excess, x, n_features, n_neurons):
    """A closed form at k = 3 + excess and V = 1 + |excess| x, in double precision."""
    v = np.ones((x.size, n_features))
    v[:, 0] = 1 + abs(excess) * x
    with jax.enable_x64(True):
        return np.asarray(form(v, np.full(x.size, 3 + excess), n_neurons))


@pytest.mark.parametrize(("n_features", "n_neurons"), SIZES)
def test_capacity_loss_and_gain_tend_to_functions_of_the_scaled_importance_alone(n_features, n_neurons):
    sizes = n_features, n_neurons
    for excess in (1e-2, 1e-4):
        C = exact(theory.optimal_capacity, excess, X, *sizes)
        L = exact(theory.optimal_loss, excess, X, *sizes)
        v = np.ones_like(C)
        v[:, 0] += excess * X
        with jax.enable_x64(True):
            gain = np.asarray(theory.marginal_loss_reduction(C, v, 3 + excess))[:, 0]
            capacity, loss, slope = (
                np.asarray(form(X, *sizes))
                for form in (theory.critical_capacity, theory.critical_loss, theory.critical_gain)
            )
        # The next order: of C, x (D N - 2 (N-1)) e / N^2 ..., below 3 e in size here; of the others, a few times N.
        np.testing.assert_allclose(C[:, 0], capacity, atol=3 * excess)
        np.testing.assert_allclose((L - 2 * (n_features - n_neurons)) / excess, loss, atol=20 * n_features * excess)
        np.testing.assert_allclose((gain - 2) / excess, slope, atol=40 * excess)


@pytest.mark.parametrize(("n_features", "n_neurons"), SIZES)
def test_the_exact_capacity_where_it_is_shared(n_features, n_neurons):
    for e in (0.01, 0.1, 0.6):
        C = exact(theory.optimal_capacity, e, X, n_features, n_neurons)
        shared = (C[:, 0] > 0) & (C[:, 0] < 1)
        expected = (n_neurons + 2 * (n_features - 1) * X + e * n_neurons * X) / (n_features + e * X)
        np.testing.assert_allclose(C[shared, 0], expected[shared], rtol=0, atol=1e-12)
        assert shared.any()


def test_below_the_critical_point_capacity_and_gain_jump():
    for excess in (-0.3, -0.01):
        x = np.array([-1e-9, 1e-9])
        C = exact(theory.optimal_capacity, excess, x, 6, 3)
        assert C[:, 0].tolist() == [0, 1]
        v = np.ones_like(C)
        with jax.enable_x64(True):
            gain = np.asarray(theory.marginal_loss_reduction(C, v, 3 + excess))[:, 0]
        # 2 - (k-1)^2 / 2 = 2 (3-k) - (3-k)^2 / 2, by hand.
        assert gain[1] - gain[0] == pytest.approx(-2 * excess - excess**2 / 2, rel=1e-12)


@pytest.mark.parametrize(("n_features", "n_neurons"), SIZES)
def test_the_exponents_of_the_capacity_and_the_loss(n_features, n_neurons):
    """gamma = 1: dC/dV = 2 (N-1)/N / (k-3). beta = 0: a jump by 1 whatever k < 3. alpha = 1: dL/dk jumps at k = 3."""
    sizes = n_features, n_neurons
    with jax.enable_x64(True):
        for e in (1e-2, 1e-3):
            v = np.ones(n_features)
            slope = jax.jacobian(lambda v, e=e: theory.optimal_capacity(v, 3 + e, n_neurons)[0])(v)[0]
            # (2 (N-1) + e D (N-1)/N) / (e N), by hand.
            by_hand = (2 * (n_features - 1) + e * n_neurons * (n_features - 1) / n_features) / (e * n_features)
            assert slope == pytest.approx(by_hand, rel=1e-9)
        at = (
            exact(theory.optimal_loss, 1e-7, np.zeros(1), *sizes),
            exact(theory.optimal_loss, -1e-7, np.zeros(1), *sizes),
        )
    n, d = sizes
    above, below = ((a[0] - 2 * (n - d)) / e for a, e in zip(at, (1e-7, -1e-7), strict=True))
    assert below - above == pytest.approx(d * (n - d) / n, rel=1e-5)


def test_the_slope_of_the_loss_is_that_of_its_conjugate():
    with jax.enable_x64(True):
        x = np.array([-0.4, -0.1, 0.2, 0.5])
        slope = [jax.grad(lambda x: theory.critical_loss(x, 6, 3))(each) for each in x]
        np.testing.assert_allclose(slope, 4 * (1 - theory.critical_capacity(x, 6, 3)), atol=1e-12)


@pytest.mark.parametrize(("sizes", "name"), [((1, 1), "n_features"), ((6, 6), "n_neurons"), ((6, 0), "n_neurons")])
def test_sizes_without_a_critical_point_are_refused(sizes, name):
    for form in (theory.critical_capacity, theory.critical_loss, theory.critical_gain):
        with pytest.raises(ValueError, match=f"^{name} must be a whole number"):
            form(0.0, *sizes)
