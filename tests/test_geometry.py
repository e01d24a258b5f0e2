"""Both theorems of section 4, in both directions, what appendices B, E and F say of any W, and finding known blocks."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from polyjax.embedding.capacity import capacities, isotropic_capacities
from polyjax.embedding.geometry import (
    blocks,
    covariances,
    decompose,
    embedding_with_capacities,
    explained_variance,
    is_efficient,
    tegum_product,
)

EXACT = 1e-6  # the tolerance for matrices that are exact up to rounding, as the module says
ROUNDING = 1e-12  # of a few hundred operations in double precision, on numbers of order one
SEEDS = st.integers(0, 2**32 - 1)
FEW = hypothesis.settings(deadline=None, max_examples=40, derandomize=True)
PAIR = np.array([[1.0, -1.0]])
TRIANGLE = np.array([[1.0, -0.5, -0.5], [0.0, 0.75**0.5, -(0.75**0.5)]])
PENTAGON = np.array([np.cos(0.4 * np.pi * np.arange(5)), np.sin(0.4 * np.pi * np.arange(5))])


def orthogonal(rng, size):
    return np.linalg.qr(rng.normal(size=(size, size)))[0]


def random_capacities(rng):
    """Up to 40 capacities with an integer sum: those of a random subspace, or a mean of D-subsets, with many zeros and
    ones; with zeros and ones added."""
    N = rng.integers(1, 33)
    D = rng.integers(1, N + 1)
    if rng.integers(2):
        C = (orthogonal(rng, N)[:, :D] ** 2).sum(1)
    else:
        subsets = rng.permuted(np.tile(np.arange(N) < D, (3, 1)), axis=1)
        C = rng.dirichlet(np.ones(3)) @ subsets
    C = np.concatenate([C, np.ones(rng.integers(4)), np.zeros(rng.integers(5))])
    return np.clip(rng.permutation(C), 0, 1)  # outside by rounding only


def random_efficient(rng):
    """W = Q B P with one to four blocks, none of which falls apart, and up to two ignored features.

    Returns W and the label, dimension and scale of every block in the order of `blocks`."""
    dimensions = rng.integers(1, 4, rng.integers(1, 5))
    sizes = [d + rng.integers(1, 4) if d > 1 else rng.integers(1, 4) for d in dimensions]
    scales = 10 ** rng.uniform(-2, 2, len(sizes))
    B = tegum_product([orthogonal(rng, n)[:d] for d, n in zip(dimensions, sizes, strict=True)], scales)
    ignored = rng.integers(3)
    B, labels = np.pad(B, [(0, 0), (0, ignored)]), np.repeat([*range(len(sizes)), -1], [*sizes, ignored])
    order = rng.permutation(labels.size)
    W, labels = orthogonal(rng, len(B)) @ B[:, order], labels[order]
    first = [k for k in dict.fromkeys(labels.tolist()) if k >= 0]  # blocks in the order of their first features
    labels = np.array([first.index(k) if k >= 0 else -1 for k in labels])
    return W, labels, dimensions[first], scales[first]


def random_embeddings(rng):
    """[12, 3, 5] with zero columns and ranks from 0 to 3."""
    W = rng.normal(size=(12, 3, 5)) * (rng.random((12, 1, 5)) < 0.8)
    W[:4, 2] = W[:4, 1]
    W[:2, 1:] = W[:2, :1]
    W[0] = 0
    return W


def padded(values, length):
    return np.pad(values, (0, length - len(values)))


def by_definition(definition, W):
    """Capacities by the library's own functions; with zero rows and columns, so that they compile for one shape."""
    return np.asarray(definition(np.pad(W, [(0, 40 - size) for size in W.shape])))[: W.shape[1]]


# Theorem 1


@FEW
@hypothesis.given(SEEDS)
def test_theorem_1_every_allocation_that_adds_up_exists(seed):
    rng = np.random.default_rng(seed)
    C = random_capacities(rng)
    for dtype, rounding in ((np.float64, ROUNDING), (np.float32, 1e-6)):  # float32 has an epsilon of 1e-7
        W = embedding_with_capacities(C.astype(dtype))
        assert W.dtype == dtype
        assert W.shape == (round(C.sum()), C.size)
        np.testing.assert_allclose(W.astype(float) @ W.T.astype(float), np.eye(len(W)), rtol=0, atol=rounding)
        with jax.enable_x64(dtype == np.float64):
            np.testing.assert_allclose(by_definition(capacities, W), C, rtol=0, atol=4 * rounding)
        np.testing.assert_allclose((W**2).sum(0), C, rtol=0, atol=rounding)  # eq. 22 at lambda = 1
        assert is_efficient(W)
        assert (W[:, C == 0] == 0).all()
    found = blocks(embedding_with_capacities(C), EXACT)
    assert (found.sizes[found.labels[C == 1]] == 1).all()


def test_theorem_1_by_hand():
    for C, expected in [
        ([1], [[1]]),
        ([0, 1, 0], [[0, 1, 0]]),
        ([0.5, 0.5], PAIR / 2**0.5),  # antipodal
        ([0.25, 0.75], [[-(0.25**0.5), 0.75**0.5]]),
    ]:
        np.testing.assert_allclose(embedding_with_capacities(C), expected, rtol=0, atol=ROUNDING)
    assert embedding_with_capacities([1 / 3] * 6).shape == (2, 6)  # a sum that is an integer only after rounding
    assert embedding_with_capacities(jnp.full(7, 3 / 7)).dtype == np.float32


@pytest.mark.parametrize(
    ("C", "message"),
    [
        ([0.5, 0.7], r"integer sum .* but is 1.2"),
        ([0.0, 0.0], r"integer sum of at least 1, but is 0.0"),
        ([1.5, 0.5], r"in \[0, 1\], but is 1.5 at index 0"),
        ([1.0, -0.5, 0.5], r"in \[0, 1\], but is -0.5 at index 1"),
        ([np.nan, 1.0], r"in \[0, 1\], but is nan"),
        ([0.5, 0.5 + 1e-9], "integer sum"),  # far above the rounding of float64
        ([], "at least one feature"),
        (1.0, "at least one feature"),
        ([[1.0]], "at least one feature"),
    ],
)
def test_infeasible_capacities_are_refused(C, message):
    with pytest.raises(ValueError, match="^capacity must .*" + message):
        embedding_with_capacities(C)


# Theorem 2


@FEW
@hypothesis.given(SEEDS)
def test_theorem_2_block_semiorthogonal_matrices_are_efficient(seed):
    W, labels, dimensions, scales = random_efficient(np.random.default_rng(seed))
    assert is_efficient(W, ROUNDING)
    C = explained_variance(W)
    for k, (dimension, scale) in enumerate(zip(dimensions, scales, strict=True)):
        np.testing.assert_allclose(C[labels == k].sum(), dimension, rtol=ROUNDING)  # eq. 25
        np.testing.assert_allclose((W[:, labels == k] ** 2).sum(0), scale * C[labels == k], rtol=1e-9)  # eq. 24
    # Eq. 89; in float32, and with a condition number of up to 100.
    np.testing.assert_allclose(by_definition(isotropic_capacities, W), C, rtol=0, atol=1e-4)
    # Section 4.4: no column of R has entries in rows that belong to different singular values.
    _, singular, R = np.linalg.svd(W, full_matrices=False)
    apart = np.abs(np.log(singular[:, None] / singular[None, :])) > 0.01
    shared = np.einsum("ai,bi,ab->ab", np.abs(R), np.abs(R), apart)
    assert (shared < 1e-8).all()  # singular vectors are certain to rounding over the gap, times the condition


@FEW
@hypothesis.given(SEEDS)
def test_theorem_2_efficient_matrices_decompose(seed):
    rng = np.random.default_rng(seed)
    W, labels, dimensions, scales = random_efficient(rng)
    Q, B, P, error = decompose(W, EXACT)
    assert error < ROUNDING
    np.testing.assert_allclose(np.linalg.norm(W - Q @ B @ P), error * np.linalg.norm(W), rtol=0, atol=1e-11)
    np.testing.assert_allclose(Q @ Q.T, np.eye(len(W)), rtol=0, atol=ROUNDING)
    assert (np.sort(P, axis=0)[-1] == 1).all()
    assert (P.sum(0) == 1).all()
    assert (P.sum(1) == 1).all()
    row = column = 0
    outside = B.copy()
    for k, (dimension, scale) in enumerate(zip(dimensions, scales, strict=True)):
        block = (slice(row, row + dimension), slice(column, column + (labels == k).sum()))
        np.testing.assert_allclose(B[block] @ B[block].T, scale * np.eye(dimension), rtol=0, atol=1e-9 * scale)
        outside[block] = 0
        row, column = block[0].stop, block[1].stop
    assert (outside == 0).all()  # block diagonal, the ignored features last
    single = decompose(W.astype(np.float32), 1e-4)  # above the rounding of float32, below most cosines
    assert {x.dtype for x in single[:3]} == {np.dtype(np.float32)}
    assert single.error < 1e-3  # sqrt(n) cosines of 1e-4 at most that were cut


@FEW
@hypothesis.given(SEEDS)
def test_theorem_2_other_matrices_are_not_efficient(seed):
    W = np.random.default_rng(seed).normal(size=(3, 6))
    assert not is_efficient(W, 1e-6)  # of measure zero
    assert is_efficient(W[:1], ROUNDING)  # but in one dimension every W is
    # The polar factor is efficient, and the nearest such matrix with one block.
    left, values, right = np.linalg.svd(W, full_matrices=False)
    nearest = values.mean() * left @ right
    assert is_efficient(nearest, ROUNDING)
    Q, B, P, error = decompose(W, EXACT)
    np.testing.assert_allclose(Q @ B @ P, nearest, rtol=0, atol=1e-9)
    np.testing.assert_allclose(error, values.std() * 3**0.5 / np.linalg.norm(values), rtol=1e-6)
    assert error > 1e-3


def test_the_sum_falls_with_the_square_of_the_departure():
    """Hence the tolerance of `is_efficient`, and decompositions of trained weights."""
    rng = np.random.default_rng(0)
    W, noise = tegum_product([PAIR, TRIANGLE], [4, 1]), rng.normal(size=(3, 5))
    departures = np.array([1e-2, 1e-3, 1e-4])
    lost = np.array([3 - explained_variance(W + h * noise).sum() for h in departures])
    np.testing.assert_allclose(np.diff(np.log10(lost)), -2, atol=0.05)  # the next order is the departure times larger
    errors = np.array([decompose(W + h * noise).error for h in departures])
    np.testing.assert_allclose(np.diff(np.log10(errors)), -1, atol=0.05)
    assert (errors < departures * np.linalg.norm(noise) / np.linalg.norm(W)).all()  # nearer than the W it came from
    assert is_efficient(W + 1e-2 * noise)
    assert not is_efficient(W + 0.5 * noise)


def test_decompositions_of_special_matrices():
    rng = np.random.default_rng(0)
    for W in [np.zeros((2, 3)), np.eye(3, 5), np.eye(5, 3), np.ones((4, 1)), -np.ones((1, 1)), PENTAGON * 1e30]:
        found = decompose(W, EXACT)
        assert found.error < ROUNDING
        assert found.Q.shape == (len(W), len(W))
        assert found.B.shape == W.shape
    low_rank = orthogonal(rng, 4)[:, :2] @ TRIANGLE  # efficient in its span only
    assert decompose(low_rank, EXACT).error < ROUNDING
    assert not is_efficient(low_rank)
    crowd = [[1, 0, np.cos(1.3)], [0, 1, np.sin(1.3)]]  # three directions in the plane, and the last two are close
    with pytest.raises(ValueError, match=r"^tolerance must be so small that the blocks fit in D = 2"):
        decompose(crowd, 0.99)
    for bad, message in [(np.full((2, 2), np.nan), "finite"), (np.zeros((2, 2, 2)), "one matrix")]:
        with pytest.raises(ValueError, match=f"^W must be {message}"):
            decompose(bad)


# Section 4.5 and appendix F


def test_a_feature_between_ignored_and_full():
    cosines = []
    for c in np.linspace(0, 1, 11):
        C = np.array([c, *np.full(4, (3 - c) / 4)])
        W = 2.0 * embedding_with_capacities(C)
        n, gram = (W**2).sum(0), W.T @ W
        np.testing.assert_allclose(n, 4 * C, rtol=0, atol=ROUNDING)  # c is proportional to n
        found = blocks(W, EXACT)
        if c == 0:
            assert found.labels[0] == -1
            assert (W[:, 0] == 0).all()
            continue
        assert (found.sizes[found.labels[0]] == 1) == (c == 1)
        cosines.append(((gram[0, 1:] / n[0]) ** 2).sum())
    assert (np.diff(cosines) < 0).all()  # ever more orthogonal to the rest
    np.testing.assert_allclose(cosines[-1], 0, rtol=0, atol=ROUNDING)
    W[:, 0] *= 17.0  # the last one is full: its length is free
    np.testing.assert_allclose(explained_variance(W), C, rtol=0, atol=ROUNDING)
    assert is_efficient(W)


@FEW
@hypothesis.given(SEEDS)
def test_bounds(seed):
    W = random_embeddings(np.random.default_rng(seed))
    C = explained_variance(W)
    rank = np.linalg.matrix_rank(W)
    assert ((C >= 0) & (C <= 1 + ROUNDING)).all()
    assert (C.sum(-1) >= np.minimum(rank, 1) - ROUNDING).all()
    assert (C.sum(-1) <= rank + ROUNDING).all()  # appendix F
    assert not is_efficient(W[rank < 3]).any()


# Appendices B and E


@FEW
@hypothesis.given(SEEDS)
def test_explained_variance_is_capacity(seed):
    W = random_embeddings(np.random.default_rng(seed))
    best = np.linalg.pinv(W)
    with jax.enable_x64(True):
        np.testing.assert_allclose(explained_variance(W), capacities(W), rtol=0, atol=ROUNDING)
        # What appendix E supposes; the inverse costs the condition number, at most 1e4 here.
        np.testing.assert_allclose(explained_variance(W, best), isotropic_capacities(W), rtol=0, atol=1e-8)
    other = best + np.random.default_rng(seed).normal(size=best.shape)
    assert (explained_variance(W, other) <= explained_variance(W, best) + 1e-8).all()


def test_covariances_and_correlations_of_samples():
    rng = np.random.default_rng(0)
    W, v, p = rng.normal(size=(3, 5)), np.array([2.0, 1, 1, 0, 0.5]), 0.3
    x = rng.uniform(-1, 1, (20, 20_000, 5)) * (rng.random((20, 20_000, 5)) < p) * np.sqrt(3 / p)
    y, model = (x**2) @ v, ((x @ W.T) ** 2).sum(-1)
    products, square = np.einsum("bsi,bsj->bijs", x, x), x**2 - (x**2).mean(1, keepdims=True)
    expected = covariances(W, v, 9 / (5 * p))
    off = ~np.eye(5, dtype=bool)
    correlation = [[np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(5)] for a, b in zip(x, x @ W.T @ W, strict=True)]
    for estimates, value in [
        (np.einsum("bs,bsi->bi", y, square) / 20_000, expected.true_target),
        (np.einsum("bs,bsi->bi", model, square) / 20_000, expected.true_model),
        (np.einsum("bs,bijs->bij", model, products)[:, off] / 20_000, expected.hallucinated[off]),
        (np.einsum("bs,bijs->bij", y, products)[:, off] / 20_000, 0),  # eq. 44
        (np.array(correlation) ** 2, explained_variance(W)),
    ]:
        error = estimates.std(0, ddof=1) / np.sqrt(len(estimates))  # from the spread over 20 independent samples
        # Five standard errors at a fixed seed; the bias of each estimate, of relative size 1/20000, is below a tenth.
        assert (np.abs(estimates.mean(0) - value) < 5 * error).all()
    assert (np.diagonal(expected.hallucinated) == 0).all()


def test_covariances_over_a_grid():
    rng = np.random.default_rng(0)
    W, v, k = rng.normal(size=(4, 2, 3, 5)), rng.random((2, 5)), rng.uniform(1, 9, (4, 2))
    grid = covariances(W, v, k)
    for i in np.ndindex(4, 2):
        for each, one in zip(grid, covariances(W[i], v[i[1]], k[i]), strict=True):
            np.testing.assert_allclose(each[i], one, rtol=0, atol=ROUNDING)
    for bad, name in [((W, v[:, :4], k), "importance"), ((W, -v, k), "importance"), ((W, v, k / 10), "kurtosis")]:
        with pytest.raises(ValueError, match=f"^{name} must "):
            covariances(*bad)


# Blocks


@FEW
@hypothesis.given(SEEDS)
def test_blocks_are_recovered(seed):
    rng = np.random.default_rng(seed)
    W, labels, dimensions, scales = random_efficient(rng)
    found = blocks(W, rng.choice([EXACT, 1e-9]))  # the latter is below what a Gram matrix knows of singular values
    assert found.labels.tolist() == labels.tolist()
    assert found.n_blocks == len(dimensions)
    assert found.sizes.tolist() == [int((labels == k).sum()) for k in range(labels.size)]
    assert found.dimensions.tolist() == padded(dimensions, labels.size).tolist()
    np.testing.assert_allclose(found.scales, padded(scales, labels.size), rtol=1e-9)  # of a condition up to 1e4
    # Unchanged by rotation and scale.
    other = blocks(-1e30 * orthogonal(rng, len(W)) @ W, EXACT)
    for same in ("labels", "n_blocks", "sizes", "dimensions"):
        assert np.array_equal(getattr(other, same), getattr(found, same))
    np.testing.assert_allclose(other.scales, 1e60 * found.scales, rtol=1e-9)


@FEW
@hypothesis.given(SEEDS)
def test_blocks_are_connected_components(seed):
    """By a search from feature to feature in sparse random graphs, among which are long chains."""
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(30, 12, 9)) * (rng.random((30, 12, 9)) < rng.uniform(0.02, 0.2))
    W[0] = np.eye(12, 9) + np.eye(12, 9, -1)
    found = blocks(W, 0.01)
    for one, labels, n_blocks, _, dimensions, scales in zip(W, *found, strict=True):
        length = np.maximum(np.linalg.norm(one, axis=0), 1e-300)
        edge = np.abs(one.T @ one) > 0.01 * length[:, None] * length[None, :]
        embedded = (one != 0).any(0) & (length > 0.01 * np.max(edge * length, axis=1))
        expected, k = np.full(9, -1), 0
        for i in np.flatnonzero(embedded):
            if expected[i] < 0:
                todo, k = [i], k + 1
                while todo:
                    j = todo.pop()
                    expected[j] = k - 1
                    todo += np.flatnonzero(edge[j] & embedded & (expected < 0)).tolist()
        assert labels.tolist() == expected.tolist()
        assert n_blocks == k
        for b in range(k):
            values = np.linalg.svd(one[:, expected == b], compute_uv=False)
            scale = np.sqrt((values**4).sum() / (values**2).sum())
            held = values[values > 0.01 * scale]
            assert dimensions[b] == held.size
            np.testing.assert_allclose(scales[b], held.mean() ** 2, rtol=1e-9)


@FEW
@hypothesis.given(SEEDS)
def test_blocks_of_noisy_embeddings(seed):
    """Of the size found in trained weights, with the default tolerance; and the order of features."""
    rng = np.random.default_rng(seed)
    W = tegum_product([PAIR, PENTAGON, PAIR, [[1.0]]], [1.0, 1.5, 1.0, 9.0])
    W = orthogonal(rng, 5) @ np.pad(W, [(0, 0), (0, 1)]) + 0.003 * rng.normal(size=(5, 11))
    labels = np.repeat([0, 1, 2, 3, -1], [2, 5, 2, 1, 1])
    order = rng.permutation(11)
    found = blocks(W[:, order])
    first = [k for k in dict.fromkeys(labels[order].tolist()) if k >= 0]
    assert found.labels.tolist() == [first.index(k) if k >= 0 else -1 for k in labels[order]]
    assert found.dimensions.tolist() == padded(np.array([1, 2, 1, 1])[first], 11).tolist()
    # A pair, lengths 1: mu = 2. A pentagon: 5/2 squared lengths. Off by a few of 0.003 of the root.
    np.testing.assert_allclose(found.scales[:4], np.array([2.0, 3.75, 2.0, 9.0])[first], rtol=0.02)
    assert decompose(W[:, order]).error < 0.003 * 55**0.5 / np.linalg.norm(W) * 1.5  # the norm of the noise
    total = [explained_variance(W[:, order])[found.labels == k].sum() for k in range(4)]
    np.testing.assert_allclose(total, found.dimensions[:4], rtol=0, atol=1e-3)  # squares of cosines of 0.01


def test_batches_equal_loops():
    rng = np.random.default_rng(0)
    W = np.stack([random_embeddings(rng) for _ in range(3)]).astype(np.float32)
    W[0, 0, 0, 0], W[1, 5, 2, 1] = np.nan, np.inf
    found, explained, efficient = blocks(W), explained_variance(W), is_efficient(W, 0.5)
    for i in np.ndindex(3, 12):
        for each, one in zip(found, blocks(W[i]), strict=True):
            np.testing.assert_allclose(each[i], one, rtol=ROUNDING, atol=ROUNDING)
        np.testing.assert_allclose(explained[i], explained_variance(W[i]), rtol=ROUNDING, atol=ROUNDING)
        assert efficient[i] == is_efficient(W[i], 0.5)
    assert found.labels.shape == (3, 12, 5)
    assert found.n_blocks.shape == (3, 12)
    bad = ~np.isfinite(W).all((-2, -1))
    assert np.isnan(found.scales).all(-1).tolist() == np.isnan(explained).any(-1).tolist() == bad.tolist()
    assert (found.labels[bad] == -1).all()
    assert not efficient[bad].any()


@pytest.mark.parametrize(
    ("W", "labels", "dimensions", "efficient"),
    [
        (np.zeros((2, 3)), [-1, -1, -1], [0, 0, 0], False),
        ([[0.0]], [-1], [0], False),
        ([[-3.0]], [0], [1], True),
        ([[1.0, 2.0, 3.0]], [0, 0, 0], [1, 0, 0], True),
        ([[1.0], [2.0], [3.0]], [0], [1], True),
        (np.eye(5, 3), [0, 1, 2], [1, 1, 1], True),  # D > N
        (np.diag([1e-6, 1.0, 1e6]), [0, 1, 2], [1, 1, 1], True),  # any lengths, apart
        ([[1e-2, 1.0]], [-1, 0], [1, 0], True),  # but not side by side
        (np.ones((2, 3)), [0, 0, 0], [1, 0, 0], False),
        (np.eye(2, 4)[:, [1, 0, 1, 0]], [0, 1, 0, 1], [1, 1, 0, 0], True),
        (np.full((1, 800), 1e-9), [0] * 800, [1] + [0] * 799, True),  # capacities of 1 / 800
    ],
)
def test_edges(W, labels, dimensions, efficient):
    found = blocks(W)
    assert found.labels.tolist() == labels
    assert found.dimensions.tolist() == dimensions
    assert is_efficient(W) == efficient
    assert np.isfinite(found.scales).all()


def test_explained_variance_of_lengths_far_apart():
    assert explained_variance(np.diag([1e-50, 0.0, 1.0, 1e100])).tolist() == [1, 0, 1, 1]


def test_bad_arguments_are_named():
    for function in (blocks, is_efficient, explained_variance, lambda W: covariances(W, [1.0], 3.0)):
        for shape in [(), (3,), (0, 3), (3, 0)]:
            with pytest.raises(ValueError, match=r"^W must have at least one row"):
                function(np.ones(shape))
    for tolerance in (0.0, 1.0, np.nan):
        with pytest.raises(ValueError, match=r"^tolerance must be above 0 and below 1"):
            blocks(np.eye(2), tolerance)
    with pytest.raises(ValueError, match=r"^unembedding must have W's shape transposed"):
        explained_variance(np.ones((2, 3)), np.ones((2, 3)))


def test_tegum_products():
    W = tegum_product([np.float32(PAIR), [[2]]], [4.0, 9.0])
    assert W.tolist() == [[2, -2, 0], [0, 0, 6]]  # by hand
    assert tegum_product([np.float32(PAIR)] * 2).dtype == np.float32
    assert is_efficient(tegum_product([PENTAGON, TRIANGLE, PAIR, np.eye(1)], [1, 10, 1e-3, 1e3]))
    for factors, scales, message in [
        ([], None, "factors must be a sequence of at least one matrix"),
        ([PAIR, [1.0]], None, "factors must be matrices"),
        ([PAIR], [1.0, 1.0], r"scales must have shape \[1\]"),
        ([PAIR], [0.0], "scales must be finite and above 0"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}"):
            tegum_product(factors, scales)
