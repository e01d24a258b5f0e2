"""Unrolled functions against the originals: either the same numbers or a refusal that names the operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from polyjax.engine.unroll import scalars_of, split, unroll
from polyjax.theory import expected_loss
from polyjax.toy.models import Redwood

EPS = float(np.finfo(np.float32).eps)
W = np.array([[0.3, -0.5, 1.25], [-0.75, 0.2, 0.9]], np.float32)
X = np.array([0.3, -1.2, 0.7], np.float32)
SQUARE = np.array([[2.0, 0.3], [0.4, 1.0]], np.float32)
SHARED = np.array([0.5, 2.0, -1.0], np.float32)


@jax.custom_vjp
def biased(z):
    """z^2 with gradient 3 z instead of 2 z, to see that a user's own rule is kept."""
    return z**2


biased.defvjp(lambda z: (z**2, z), lambda z, g: (3 * g * z,))


@jax.custom_jvp
def biased_forward(z):
    return z**2


biased_forward.defjvp(lambda primals, tangents: (primals[0] ** 2, 5 * primals[0] * tangents[0]))


def leaky(z):
    return jnp.where(z > 0, z, 0.1 * z)


def replayed(f, *args):
    """The leaves of f's result, computed on scalars only, and those of f itself."""
    leaves = [[*map(jnp.asarray, np.ravel(leaf))] for leaf in jax.tree.leaves(args)]
    found = unroll(f, *args)(*leaves)
    expected = [np.asarray(leaf) for leaf in jax.tree.leaves(f(*args))]
    return [np.array([jnp.asarray(v) for v in leaf]) for leaf in found], expected


def traced(f, *args):
    """Unroll f on scalars that are not known."""
    jax.eval_shape(lambda *leaves: unroll(f, *args)(*leaves), *scalars_of(args))


def assert_same(f, *args):
    found, expected = replayed(f, *args)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == (b.size,)
        assert a.dtype == b.dtype
        # Numbers of order one; sums of at most 20 terms in another order.
        np.testing.assert_allclose(a, b.ravel(), rtol=64 * EPS, atol=64 * EPS)


SUPPORTED = {
    # products
    "matrix-vector": lambda w: w @ SHARED,
    "vector-matrix": lambda w: SHARED[:2] @ w,
    "matrix-matrix": lambda w: w.T @ w,
    "transposed": lambda w: w @ w.T,
    "outer": lambda w: jnp.outer(w[:, None].ravel(), w.ravel()),
    "tensordot over both axes": lambda w: jnp.tensordot(w, w, 2),
    "contraction in another order": lambda w: lax.dot_general(w, w.T, (((1, 0), (0, 1)), ((), ()))),
    "three axes": lambda w: jnp.einsum("abc,cd->bad", w[:, None, :] * SHARED[None, :, None], w.T),
    "einsum": lambda w: jnp.einsum("ij,kj,k->i", w, w, SHARED[:2]),
    "vdot": lambda w: jnp.vdot(w, w),
    # sums and moves of axes
    "sum": jnp.sum,
    "sum along an axis": lambda w: w.sum(0) + w.mean(0),
    "sum kept": lambda w: w / w.sum(1, keepdims=True),
    "sum over two of three axes": lambda w: jnp.sum(w[:, :, None] * w[:, None, :], (0, 2)),
    "sum over no axis": lambda w: jnp.sum(w, axis=()),
    "count": lambda w: jnp.sum(w > 0),
    "variance": lambda w: w.var(1),
    "norm": jnp.linalg.norm,
    "transpose": lambda w: jnp.transpose(w[None], (2, 0, 1)),
    "reshape": lambda w: w.reshape(3, 2),
    "column-major reshape": lambda w: w.reshape(3, 2, order="F"),
    "column-major ravel": lambda w: w.ravel(order="F"),
    "squeeze": lambda w: jnp.squeeze(w[None, :, None]),
    "broadcast": lambda w: jnp.broadcast_to(w[:, None], (2, 4, 3)) * 2,
    "matrix and row": lambda w: w + SHARED[None] * w,
    "the argument itself": lambda w: w,
    "a constant": lambda w: jnp.full((2, 2), 3.0),
    "several results": lambda w: {"a": w.sum(), "b": (w.T, 2 * w)},
    # elementwise
    "scalar predicate": lambda w: lax.select_n(w.sum() > 0, w, 2 * w),
    "clamp between numbers": lambda w: lax.clamp(np.float32(-0.4), w, np.float32(0.5)),
    "clip": lambda w: jnp.clip(w, -0.4, 0.5),
    "comparison": lambda w: w * (w > 0.25) + jnp.sign(w) + jnp.round(w) % 3,
    "conversions": lambda w: (3 * w).astype(jnp.int32) + (w > 0).astype(jnp.int32),
    "half precision": lambda w: w.astype(jnp.bfloat16).astype(jnp.float32),
    "powers": lambda w: w**3 + jnp.abs(w) ** 1.5 + lax.rsqrt(jnp.abs(w)) + jnp.square(w),
    "special functions": lambda w: lax.erf(w) + jnp.logaddexp(w, -w) + jnp.arctan2(w, 1.0) + jnp.sinc(w),
    "nested jit": jax.jit(lambda w: jax.jit(jnp.sin)(w) + 1),
    "vmap": jax.vmap(jax.vmap(jnp.cos, 0, 0), 1, 1),
    "stop_gradient": jax.grad(lambda w: jnp.sum(lax.stop_gradient(w) * w)),
    "optimization_barrier": lambda w: lax.optimization_barrier((w, 2 * w))[1],
    "product in a wider type": lambda w: jnp.vdot(*[(10 * w).astype("int8")] * 2, preferred_element_type="int32"),
    # rules of the user's own, and rematerialisation
    "custom_vjp": biased,
    "gradient of custom_vjp": jax.grad(lambda w: biased(w).sum()),
    "custom_jvp": biased_forward,
    "gradient of custom_jvp": jax.grad(lambda w: biased_forward(w).sum()),
    "checkpoint": jax.checkpoint(lambda w: jnp.sin(w) ** 2),
    "gradient of checkpoint": jax.grad(lambda w: jax.checkpoint(lambda w: jnp.sin(w) ** 2)(w).sum()),
}


@pytest.mark.parametrize("name", SUPPORTED)
def test_an_unrolled_function_is_the_function(name):
    assert_same(SUPPORTED[name], W)


ACTIVATIONS = {
    "square": "square",
    "relu": "relu",
    "gelu": "gelu",
    "tanh": jnp.tanh,
    "leaky": leaky,
    "silu": jax.nn.silu,
    "jax's gelu": jax.nn.gelu,
    "sin^2": lambda z: jnp.sin(z) ** 2,
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "custom_vjp": biased,
    "checkpoint": jax.checkpoint(lambda z: jnp.sin(z) ** 2),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_loss_of_a_model_and_its_gradient(activation):
    model = Redwood(3, 2, ACTIVATIONS[activation])
    params = model.init(jax.random.key(0))._replace(b=jnp.float32(0.4))
    assert_same(jax.value_and_grad(model.loss), params, X, np.float32([1.5, 1, 1]))


@pytest.mark.parametrize(("n_features", "n_neurons"), [(1, 1), (1, 3), (4, 1), (2, 4)])
def test_losses_of_other_shapes(n_features, n_neurons):
    model = Redwood(n_features, n_neurons)
    params = model.init(jax.random.key(1))
    x = np.linspace(-1, 1.5, n_features, dtype=np.float32)
    assert_same(jax.value_and_grad(model.loss), params, x, np.ones(n_features, np.float32))


def test_the_expected_loss_and_its_gradient():
    loss = lambda w, b: expected_loss(w, SHARED[:3] ** 2, jnp.float32(6), b)  # noqa: E731
    assert_same(jax.value_and_grad(loss, (0, 1)), W, np.float32(0.3))


def test_an_autoencoder_that_reuses_its_weights():
    # The other toy model of the paper: v . (f(W^T W x + b) - x)^2 with a bias for every feature.
    loss = lambda w, b, x, v: v @ (jax.nn.relu(w.T @ (w @ x) + b) - x) ** 2  # noqa: E731
    assert_same(jax.value_and_grad(loss, (0, 1)), W, X / 3, abs(X), SHARED**2)


def test_unrolled_functions_vmap_and_jit():
    model = Redwood(3, 2, "gelu")
    params = jax.vmap(model.init)(jax.random.split(jax.random.key(2), 5))
    unrolled = unroll(model.loss, jax.tree.map(lambda a: a[0], params), X, abs(SHARED))

    @jax.jit
    @jax.vmap
    def of_scalars(params, v):
        return unrolled([*params.W.ravel()], [params.b], [*X], [*v])[0][0]

    v = jnp.linspace(0.1, 2, 15).reshape(5, 3)
    expected = jax.vmap(model.loss, (0, None, 0))(params, X, v)
    np.testing.assert_allclose(of_scalars(params, v), expected, rtol=64 * EPS)  # squares of sums of a dozen terms


# Entries moved by constant indices, and compared: functions of W [2, 3] and x [3], as a loss may hold them.
MOVES = {
    "a row": lambda W, x: (W[0] @ x) ** 2,
    "a column": lambda W, x: (W[:, 1].sum() * x[1]) ** 2,
    "slices with steps": lambda W, x: (x[::2].sum() * W[1, 0]) ** 2,
    "in reverse": lambda W, x: (x[::-1] * W[0]).sum() ** 2,
    "a stack": lambda W, x: (jnp.stack([W[0] @ x, W[1] @ x]) ** 2).sum(),
    "side by side": lambda W, x: (jnp.concatenate([W[0], x, jnp.ones(2)]) ** 3).sum(),
    "a split": lambda W, x: jnp.split(W @ x, 2)[1].sum() ** 2,
    "rolled": lambda W, x: (jnp.roll(W @ x, 1) * (W @ x)).sum(),
    "padded": lambda W, x: (jnp.pad(W @ x, 1, constant_values=2) ** 2).sum(),
    "by indices": lambda W, x: (W[:, jnp.array([2, 0, 2])] @ x).sum() ** 2,
    "one set": lambda W, x: ((W @ x).at[0].set(0.5) ** 2).sum(),
    "some added to": lambda W, x: (x.at[jnp.array([1, 1, 7])].add(W[0]) ** 2).sum(),  # twice, and out of bounds
    "a triangle": lambda W, x: (jnp.tril(W) @ x).sum() ** 2,
    "the largest": lambda W, x: (W @ x).max() ** 2,
    "the smallest": lambda W, x: (W * x[None]).min(axis=1).sum() ** 2,
    "softmax": lambda W, x: (jax.nn.softmax(W @ x) ** 2).sum(),
    "entry by entry": lambda W, x: (jnp.einsum("dn,n->dn", W, x) ** 2).sum(),
    "batches": lambda W, x: (jnp.einsum("bij,bjk->bik", W[:, None], W[..., None]) ** 2).sum() * x[0],
}


@pytest.mark.parametrize("name", MOVES)
def test_moves_of_entries_and_their_gradients_under_jit(name):
    W, x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3)), jnp.float32), jnp.float32([0.3, -0.7, 1.1])
    both = jax.value_and_grad(MOVES[name], argnums=(0, 1))
    value, gradient = jax.jit(both)(W, x)
    unrolled = unroll(both, W, x)
    (found,), *of_leaves = jax.jit(lambda W, x: unrolled([*W.ravel()], [*x]))(W, x)
    # Sums of a dozen terms of order one.
    np.testing.assert_allclose(found, value, rtol=64 * EPS, atol=64 * EPS)
    for a, b in zip(of_leaves, gradient, strict=True):
        np.testing.assert_allclose(np.array(a), b.ravel(), rtol=64 * EPS, atol=64 * EPS)


@pytest.mark.parametrize("fill", [None, 0, 2, 0.5])  # 2 is also the number of an entry
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_what_an_index_out_of_bounds_reads_is_what_jax_reads(dtype, fill):
    x = np.array([10, 20, 30], dtype)
    read = lambda x: x.at[jnp.array([1, 7])].get(mode="fill", fill_value=fill)  # noqa: E731
    np.testing.assert_array_equal(unroll(read, x)([*x])[0], read(jnp.asarray(x)))


def test_computed_indices_are_refused():
    def largest(x):
        return x[(x[0] > x[1]).astype(int)]

    with pytest.raises(NotImplementedError, match="by computed indices cannot be unrolled"):
        jax.make_jaxpr(lambda x: unroll(largest, X)([*x]))(X)


# What mixes entries along an axis, by the name of its operation.
UNSUPPORTED = {
    "cumsum": jnp.cumsum,
    "cummax": lambda x: lax.cummax(x),
    "cumlogsumexp": lambda x: lax.cumlogsumexp(x),
    "sort": jnp.sort,
    "top_k": lambda x: lax.top_k(x, 3)[0],
    "reduce_prod": jnp.prod,
    "reduce_and": lambda x: jnp.all(x > 0),
    "reduce": lambda x: lax.reduce(x, np.float32(1), lambda a, b: a * b, (0,)),
    "reduce_window_max": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (3,), (1,), "SAME"),
    "argmax": jnp.argmax,
    # These keep the shape, so that they look elementwise.
    "dynamic_update_slice": lambda x: lax.dynamic_update_slice(x, 2 * x, (0,)),
    "cond": lambda x: lax.cond(x.sum() > 0, jnp.cumsum, jnp.sin, x),
    "while": lambda x: lax.while_loop(lambda c: c.sum() < 5, lambda c: jnp.flip(c) * 2 + 1, x),
    "scan": lambda x: lax.scan(lambda c, _: (jnp.flip(c), None), x, length=1)[0],
    "cholesky": lambda x: lax.linalg.cholesky(SQUARE + 0 * x.sum()),
    "custom_linear_solve": lambda x: lax.custom_linear_solve(jnp.cumsum, x, lambda _, b: jnp.diff(b, prepend=0.0)),
    "pure_callback": lambda x: jax.pure_callback(np.cumsum, jax.ShapeDtypeStruct((3,), np.float32), x),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_operation_that_mixes_entries_is_refused_by_name(name):
    with pytest.raises(NotImplementedError, match=rf"\b{name}\b"):
        traced(UNSUPPORTED[name], X)


def test_the_same_program_is_refused_when_it_stands_in_an_activation():
    model = Redwood(3, 2, jnp.cumsum)
    with pytest.raises(NotImplementedError, match="cumsum cannot be unrolled"):
        traced(model.loss, model.init(jax.random.key(0)), X, abs(X))


def staged(sample, lane):
    """Two results: one that both arguments decide, and one that the sample alone decides."""
    x, y = sample
    target = jnp.tanh(x) * y
    return {"error": (lane * x - target) ** 2, "target": target}


NUMBER = jax.ShapeDtypeStruct((), np.float32)


def test_the_two_stages_are_the_function():
    before, after = split(staged, (NUMBER, NUMBER), NUMBER)
    x, y, lane = np.float32(0.3), np.float32(2), np.float32(-0.7)
    assert after(before((x, y)), lane) == staged((x, y), lane)


def test_what_samples_alone_decide_is_computed_in_the_first_stage():
    before, after = split(staged, (NUMBER, NUMBER), NUMBER)
    values = before((jnp.float32(0.3), jnp.float32(2)))
    first = str(jax.make_jaxpr(before)((NUMBER, NUMBER)))
    second = str(jax.make_jaxpr(after)(values, NUMBER))
    assert "tanh" in first
    assert "tanh" not in second
    assert len(values) == 2  # x and the target; y has done its part


def test_what_nobody_needs_is_left_out():
    before, after = split(lambda x, lane: (jnp.sin(lane), jnp.cos(x + lane), jnp.exp(x))[0], NUMBER, NUMBER)
    assert before(jnp.float32(1)) == []
    assert [str(e.primitive) for e in jax.make_jaxpr(after)([], NUMBER).eqns] == ["sin"]


def test_what_is_not_needed_and_what_is_constant_may_be_any_operation():
    def f(x):
        jnp.sort(x)  # of no use
        return x * jnp.sort(jnp.array([3.0, 1.0, 2.0])) / 2 ** jnp.arange(3)

    x = jnp.float32([1.0, 2.0, 4.0])
    [found] = jax.jit(unroll(f, x))([*x])
    np.testing.assert_array_equal(np.array(found), f(x))
