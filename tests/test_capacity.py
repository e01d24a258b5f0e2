"""Both definitions of capacity: hand values, what the paper proves of them, what they mean, and their edges."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from polyjax.embedding.capacity import capacities, isotropic_capacities

EPS = float(np.finfo(np.float32).eps)
SEEDS = st.integers(0, 2**32 - 1)
BOTH = [capacities, isotropic_capacities]
FEW = hypothesis.settings(deadline=None, max_examples=20, derandomize=True)


def eq_3(W):
    """Eq. 3 as it is written, in double precision."""
    gram = np.swapaxes(W, -1, -2).astype(float) @ W.astype(float)
    n = np.einsum("...ii->...i", gram)
    return np.divide(n**2, (gram**2).sum(-1), out=np.zeros_like(n), where=n > 0)


def random_embeddings(seed):
    """[16, 3, 5] in float32, with zero columns, columns of different lengths, and ranks from 0 to 3."""
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(16, 3, 5)) * 10 ** rng.uniform(-0.5, 0.5, (16, 1, 5)) * (rng.random((16, 1, 5)) < 0.8)
    W[:4, 2] = W[:4, 1]
    W[:2, 1:] = W[:2, :1]
    W[0] *= rng.integers(2)
    return W.astype(np.float32)


def block_semiorthogonal(rng):
    """Theorem 2: W = Q B P, with blocks of 2 x 3 and 1 x 2 whose rows are orthogonal and of one length; [3, 5]."""
    B = np.zeros((3, 5))
    B[:2, :3] = 0.3 * np.linalg.qr(rng.normal(size=(3, 2)))[0].T
    B[2:, 3:] = 4.0 * np.linalg.qr(rng.normal(size=(2, 1)))[0].T
    return np.linalg.qr(rng.normal(size=(3, 3)))[0] @ B[:, rng.permutation(5)]


# Worked by hand from eq. 3: an identity with a zero column, an antipodal pair, three directions at 120 degrees, and one
# row, for which C_i = w_i^2 / sum_j w_j^2. The isotropic capacities are the same, since all of these are efficient.
HAND_VALUES = [
    ([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]], [1, 1, 0]),
    ([[1.0, -1.0, 0.0], [0.0, 0.0, 5.0]], [1 / 2, 1 / 2, 1]),
    ([[1.0, -0.5, -0.5], [0.0, 0.75**0.5, -(0.75**0.5)]], [2 / 3, 2 / 3, 2 / 3]),
    ([[1.0, 2.0]], [1 / 5, 4 / 5]),
    ([[0.0, 0.0]], [0, 0]),
]


@pytest.mark.parametrize("definition", BOTH)
@pytest.mark.parametrize(("W", "expected"), HAND_VALUES)
def test_by_hand(definition, W, expected):
    np.testing.assert_allclose(definition(W), expected, rtol=8 * EPS)  # a few roundings, and those of a 2 x 3 SVD


@FEW
@hypothesis.given(SEEDS)
def test_bounds(seed):
    W = random_embeddings(seed)
    C, isotropic = np.asarray(capacities(W)), np.asarray(isotropic_capacities(W))
    singular = np.linalg.svd(W, compute_uv=False)
    held = singular > 5 * EPS * singular[:, :1]  # the documented tolerance
    rank = held.sum(-1)
    condition = singular[:, 0] / np.min(singular, axis=-1, where=held, initial=np.inf)
    for each in (C, isotropic):
        assert ((each >= 0) & (each <= 1)).all()
        assert (each[(W == 0).all(1)] == 0).all()
    rounding = 16 * EPS
    assert (C.sum(-1) <= rank + rounding).all()  # appendix F
    assert (C.sum(-1) >= np.minimum(rank, 1) - rounding).all()  # C_i >= n_i / sum_j n_j, by Cauchy-Schwarz
    # Eq. 90. The direction of the least singular vector is known to EPS times the condition number.
    assert (np.abs(isotropic.sum(-1) - rank) <= rounding * (1 + condition)).all()
    assert (C - isotropic <= rounding * (1 + condition[:, None])).all()  # Lemma 1 of appendix F


@FEW
@hypothesis.given(SEEDS)
def test_eq_3_as_written(seed):
    W = random_embeddings(seed)
    # Cosines are off by about 3 EPS, and C moves at most as fast as they do, times the ratio of lengths, of order one.
    np.testing.assert_allclose(capacities(W), eq_3(W), rtol=0, atol=16 * EPS)


@pytest.mark.parametrize("definition", BOTH)
def test_invariance_under_rotation_scale_and_order(definition):
    rng = np.random.default_rng(0)
    W, order = rng.normal(size=(20, 3, 5)), rng.permutation(5)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    C = np.asarray(definition(W))
    # Roundings of well-conditioned matrices, of which the worst of these twenty has a condition number of ten.
    np.testing.assert_allclose(definition(rotation @ W), C, rtol=0, atol=100 * EPS)
    np.testing.assert_allclose(definition(W[..., order]), C[..., order], rtol=0, atol=100 * EPS)
    for scale in (1e-30, 1e-15, -1, 1e15, 1e30):
        np.testing.assert_allclose(definition(W * scale), C, rtol=0, atol=100 * EPS)


def test_lengths_of_any_ratio():
    rng = np.random.default_rng(0)
    lengths = np.array([1e-15, 1e15, 1, 1e-3, 0])
    W = (rng.normal(size=(20, 3, 5)) * lengths).astype(np.float32)
    exact = eq_3(W)  # down to 1e-60 in double precision
    # Relative to the capacity, which the dominant direction makes small; its cosine is off by EPS over itself.
    np.testing.assert_allclose(capacities(W), np.where(exact < 1e-37, 0, exact), rtol=1e-3, atol=16 * EPS)
    apart = np.diag(np.float32([1e-15, 1e15, 1e-30, 0, 1e30]))
    for definition in BOTH:
        assert definition(apart[[1, 4]]).tolist()[4] == 1
    assert capacities(apart).tolist() == [1, 1, 1, 0, 1]
    extremes = np.float32([[1e-37, 1e37, 1e37], [0, 0, 1e37], [0, 0, -1e37]])
    # By hand: n = 1e-74, 1 and 3, and w_1 . w_2 = 1, in units of 1e37 squared.
    np.testing.assert_allclose(capacities(extremes), [0, 1 / (1 + 1), 9 / (1 + 9)], rtol=0, atol=8 * EPS)


@pytest.mark.parametrize("definition", BOTH)
def test_gradients_at_the_edges_are_finite(definition):
    rng = np.random.default_rng(0)
    W = rng.normal(size=(6, 3, 5)).astype(np.float32)
    W[0], W[1, :, 2], W[2, :, 1], W[3], W[4] = 0, 0, W[2, :, 0], np.eye(3, 5), W[4] * 1e15
    if definition is capacities:
        W[5] *= np.float32([1e-15, 1e15, 1, 0, 1e-30])
    gradient = jax.jit(jax.grad(lambda W: (definition(W) * jnp.arange(1.0, 6)[None, :]).sum()))(W)
    assert np.isfinite(gradient).all()
    # Neither depends on the length of W, so the gradient has no component along it; a sum of 15 rounded terms.
    along = np.einsum("bdn,bdn->b", gradient[:5], W[:5])
    np.testing.assert_allclose(along, 0, atol=1e3 * EPS)


@pytest.mark.parametrize("definition", BOTH)
def test_gradients_are_slopes(definition):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        W, direction = rng.normal(size=(10, 3, 5)), rng.normal(size=(10, 3, 5))
        W[0] = block_semiorthogonal(rng)  # equal singular values
        weight = jnp.arange(1.0, 6)[None, :]
        total = jax.jit(lambda W: (definition(W) * weight).sum(1))
        gradient = jax.jit(jax.grad(lambda W: (definition(W) * weight).sum()))(W)
        step = 1e-6
        slope = (total(W + step * direction) - total(W - step * direction)) / (2 * step)
        # Central differences: step^2 = 1e-12 times third derivatives, and rounding 1e-14 / step.
        np.testing.assert_allclose((gradient * direction).sum((1, 2)), slope, rtol=1e-6, atol=1e-7)


def test_meaning_of_both_definitions():
    """Squared correlations of x_i with its reconstruction: by W^T (appendix E), and by the best linear map (C~)."""
    rng = np.random.default_rng(0)
    W = rng.normal(size=(3, 5))
    x = rng.uniform(-1, 1, (20, 20_000, 5)) * (rng.random((20, 20_000, 5)) < 0.3)  # uncorrelated, of equal variance
    embedded = x @ W.T
    for definition, decoder in [(capacities, W), (isotropic_capacities, np.linalg.solve(W @ W.T, W))]:
        pairs = zip(x, embedded @ decoder, strict=True)
        squared = np.array([[np.corrcoef(a[:, i], b[:, i])[0, 1] ** 2 for i in range(5)] for a, b in pairs])
        error = squared.std(0, ddof=1) / np.sqrt(len(squared))  # from the spread over 20 independent samples
        # Five standard errors, with a fixed seed; the bias of each r^2, at most 1/20000, is far below.
        assert (np.abs(squared.mean(0) - definition(W)) < 5 * error + 1e-4).all()


def test_isotropic_capacities_are_those_of_efficient_matrices_and_the_hat_matrix():
    rng = np.random.default_rng(0)
    for _ in range(5):
        W = block_semiorthogonal(rng)
        # Theorem 2 and eq. 89: efficient, and then both agree. The condition number is 4 / 0.3.
        np.testing.assert_allclose(capacities(W).sum(), 3, rtol=64 * EPS)
        np.testing.assert_allclose(isotropic_capacities(W), capacities(W), rtol=0, atol=200 * EPS)
    W = rng.normal(size=(10, 3, 5))
    hat = np.swapaxes(W, 1, 2) @ np.linalg.solve(W @ np.swapaxes(W, 1, 2), W)  # in double precision
    diagonal = np.einsum("bii->bi", hat)
    np.testing.assert_allclose(isotropic_capacities(W), diagonal, rtol=0, atol=16 * EPS * np.linalg.cond(W).max())
    # More neurons than features: every feature has its own dimension.
    np.testing.assert_allclose(isotropic_capacities(rng.normal(size=(4, 3))), 1, rtol=200 * EPS)


@pytest.mark.parametrize("definition", BOTH)
def test_batches_equal_loops(definition):
    W = random_embeddings(0).reshape(4, 4, 3, 5)
    loop = np.array([[definition(W[i, j]) for j in range(4)] for i in range(4)])
    mapped = jax.jit(jax.vmap(jax.vmap(definition)))(W)
    # The same operations compiled in three ways, for matrices with a condition number below a hundred.
    for other in (loop, mapped):
        np.testing.assert_allclose(definition(W), other, rtol=0, atol=1e3 * EPS)


@pytest.mark.parametrize("definition", BOTH)
def test_a_diverged_embedding_is_not_an_ignored_feature(definition):
    for bad in (np.nan, np.inf):
        W = np.ones((2, 2, 3))
        W[0, 1, 2] = bad
        C = definition(W)
        assert np.isnan(C[0]).all()
        assert np.isfinite(C[1]).all()


@pytest.mark.parametrize("definition", BOTH)
@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (3, 0)])
def test_bad_shapes_are_named(definition, shape):
    with pytest.raises(ValueError, match=r"^W must "):
        definition(np.ones(shape))
