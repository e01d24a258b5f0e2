"""One model on one sample: the loss by hand and in plain loops, the activations, the initialisation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyjax import theory
from polyjax.toy import activations, distributions
from polyjax.toy.activations import ACTIVATIONS
from polyjax.toy.distributions import UNIFORM_POSITIVE, UNIFORM_SIGNED, Moments
from polyjax.toy.models import Anthropic, Params, Redwood

EPS = float(np.finfo(np.float32).eps)


def gelu_64(z):
    """The tanh form as Hendrycks and Gimpel write it, in double precision."""
    return 0.5 * z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


PLAIN = {"square": lambda z: z * z, "relu": lambda z: max(z, 0.0), "gelu": gelu_64}


def redwood_in_loops(f, W, b, x, v):
    """Eqs. 9 to 11, one term at a time."""
    y = sum(v[i] * f(x[i]) for i in range(len(x)))
    prediction = b
    for d in range(len(W)):
        prediction += f(sum(W[d][i] * x[i] for i in range(len(x))))
    return (prediction - y) ** 2


def anthropic_in_loops(f, W, b, x, v):
    """Section 3.7, one term at a time."""
    hidden = [sum(row[j] * x[j] for j in range(len(x))) for row in W]
    loss = 0.0
    for i in range(len(x)):
        loss += v[i] * (f(sum(W[d][i] * hidden[d] for d in range(len(W))) + b[i]) - x[i]) ** 2
    return loss


IN_LOOPS = {Redwood: redwood_in_loops, Anthropic: anthropic_in_loops}


def random_sample(rng, model):
    n, d = model.n_features, model.n_neurons
    b = rng.normal(size=model.init(jax.random.key(0)).b.shape).astype(np.float32)
    x, v = rng.normal(size=(2, n)).astype(np.float32)
    return Params(rng.normal(size=(d, n)).astype(np.float32), b), x, abs(v)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("square", 30.25),  # W x = 3: (9 + 0.5 - (3 * 1 + 1 * 1))^2
        ("relu", 0.25),  # (3 + 0.5 - 3 * 1)^2
        (lambda z: 2 * z, 6.25),  # (6 + 0.5 - (3 * 2 + 1 * -2))^2
    ],
)
def test_redwood_loss_by_hand(activation, expected):
    params = Params(jnp.array([[1.0, -2.0]]), jnp.array(0.5))
    loss = Redwood(2, 1, activation).loss(params, jnp.array([1.0, -1.0]), jnp.array([3.0, 1.0]))
    assert loss == expected  # small dyadic numbers: exact


def test_anthropic_loss_by_hand():
    # W x = 3 and W^T W x = [3, -6]; with b it is [1, -5], of which ReLU leaves [1, 0], against x = [1, -1].
    params = Params(jnp.array([[1.0, -2.0]]), jnp.array([-2.0, 1.0]))
    assert Anthropic(2, 1).loss(params, jnp.array([1.0, -1.0]), jnp.array([3.0, 0.5])) == 0.5
    # Squared instead: [1, 25] against [1, -1], so 0.5 * 26^2.
    assert Anthropic(2, 1, "square").loss(params, jnp.array([1.0, -1.0]), jnp.array([3.0, 0.5])) == 338


@pytest.mark.parametrize("kind", [Redwood, Anthropic])
@pytest.mark.parametrize("activation", PLAIN)
@pytest.mark.parametrize(("n_features", "n_neurons"), [(1, 1), (6, 3), (2, 5)])
def test_losses_are_the_sums_written_out(kind, activation, n_features, n_neurons):
    rng = np.random.default_rng(0)
    model = kind(n_features, n_neurons, activation)
    for _ in range(3):
        params, x, v = random_sample(rng, model)
        expected = IN_LOOPS[kind](PLAIN[activation], params.W.tolist(), params.b.tolist(), x.tolist(), v.tolist())
        # The square root of a loss is a sum of about N D products, and of their squares; its rounding is a few eps
        # times the sum of their sizes.
        inner = abs(params.W) @ abs(x) if kind is Redwood else abs(params.W.T) @ (abs(params.W) @ abs(x))
        size = np.sum((1 + inner + abs(params.b).max()) ** 2) + (1 + v) @ (1 + abs(x)) ** 2
        assert abs(float(model.loss(params, x, v)) ** 0.5 - expected**0.5) < 8 * EPS * size


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_by_name_is_the_function(name):
    by_name, by_function = Redwood(6, 3, name), Redwood(6, 3, ACTIVATIONS[name])
    params, x, v = random_sample(np.random.default_rng(1), by_name)
    assert by_name.loss(params, x, v) == by_function.loss(params, x, v)


def test_gelu_is_the_tanh_form():
    z = np.linspace(-12, 12, 4801, dtype=np.float32)
    exact = np.array([gelu_64(float(a)) for a in z])
    # (1 + tanh) / 2 is good to 2 eps or so, and is multiplied by z; measured: 1.6 eps max(1, |z|), in jax's form 2 eps.
    allowed = 4 * EPS * np.maximum(1, np.abs(z))
    assert np.all(np.abs(activations.gelu(z) - exact) <= allowed)
    assert np.all(np.abs(activations.gelu(z) - jax.nn.gelu(z)) <= 2 * allowed)


def test_the_slope_of_gelu_is_the_derivative_of_the_tanh_form():
    z = np.linspace(-12, 12, 4801)
    exact = np.array([(gelu_64(a + 1e-5) - gelu_64(a - 1e-5)) / 2e-5 for a in z])
    found = jax.vmap(jax.grad(activations.gelu))(jnp.asarray(z, jnp.float32))
    # z (1 - tanh^2) / 2 times a slope of up to 4 enlarges the 2 eps of the tanh by up to 20; measured 36 eps. The
    # central difference is exact to 1e-9.
    np.testing.assert_allclose(found, exact, atol=64 * EPS)


@pytest.mark.parametrize(("z", "value", "slope"), [(1e4, 1e4, 1), (-1e4, 0, 0), (1e30, 1e30, 1), (0.0, 0, 0.5)])
def test_gelu_and_its_gradient_are_finite_far_out(z, value, slope):
    # Far out the tanh is 1 up to rounding, which is multiplied by up to 20, as above.
    np.testing.assert_allclose(activations.gelu(jnp.float32(z)), value, rtol=EPS, atol=64 * EPS)
    np.testing.assert_allclose(jax.grad(activations.gelu)(jnp.float32(z)), slope, atol=64 * EPS)


def test_gradients_of_a_loss_are_finite_at_zero_weights():
    for model in (Redwood(2, 1, "gelu"), Redwood(2, 1, "relu"), Anthropic(2, 1)):
        zero = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0)))
        gradient = jax.grad(model.loss)(zero, jnp.zeros(2), jnp.ones(2))
        assert all(np.isfinite(g).all() for g in gradient)


@pytest.mark.parametrize(("kind", "bias"), [(Redwood, ()), (Anthropic, (6,))])
def test_initial_weights_are_normal_with_variance_1_over_n(kind, bias):
    n_features, n_neurons, n = 6, 3, 4000
    params = jax.vmap(kind(n_features, n_neurons).init)(jax.random.split(jax.random.key(0), n))
    assert params.W.shape == (n, n_neurons, n_features)
    assert params.b.shape == (n, *bias)
    assert not params.b.any()
    W = np.asarray(params.W, float) * n_features**0.5  # should be standard normal
    # Means of 1, z, z^2 and z^4 have standard errors sqrt(1/n), sqrt(2/n), sqrt(96/n); 3 x 18 numbers at 4.5 of them.
    for power, mean, variance in [(1, 0, 1), (2, 1, 2), (4, 3, 96)]:
        assert np.abs((W**power).mean(0) - mean).max() < 4.5 * (variance / n) ** 0.5
    # Independent weights: 153 correlations, each with standard error sqrt(1/n).
    correlation = np.corrcoef(W.reshape(n, -1).T)
    assert np.abs(correlation - np.eye(18)).max() < 4.5 / n**0.5
    # ||w_i||^2 is D/N on average, with variance 2 D / N^2.
    squared_length = (np.asarray(params.W, float) ** 2).sum(1)
    assert np.abs(squared_length.mean(0) - 1 / 2).max() < 4.5 * (2 * n_neurons / n_features**2 / n) ** 0.5


def test_the_same_key_gives_the_same_weights():
    model = Redwood(4, 2)
    assert (model.init(jax.random.key(3)).W == model.init(jax.random.key(3)).W).all()
    assert (model.init(jax.random.key(3)).W != model.init(jax.random.key(4)).W).all()


def test_equal_models_are_equal_and_hash_alike():
    # `training.compiled` finds the program of an earlier model this way.
    assert Redwood(6, 3, "relu") == Redwood(6, 3, "relu")
    assert hash(Redwood(6, 3, jnp.tanh)) == hash(Redwood(6, 3, jnp.tanh))
    assert Redwood(6, 3, "relu") != Redwood(6, 3, "gelu")
    assert Redwood(6, 3, "relu") != Anthropic(6, 3, "relu")


def test_the_features_that_each_model_is_given():
    assert Redwood(6, 3).distribution is UNIFORM_SIGNED  # appendix D.2
    assert Anthropic(6, 3).distribution is UNIFORM_POSITIVE  # Elhage et al. 2022


def test_embeddings_are_measured_in_the_length_that_the_loss_asks_for():
    v = jnp.array([4.0, 1.0, 0.0])
    cubed = lambda z: z**3  # noqa: E731
    cubed.__name__ = "square"  # a name says nothing about a function of the user's
    # sum_i v_i f(x_i) = sum_i f(w_i x_i) for one feature a neuron: w = v^(1/2) for square and w = v for ReLU.
    expected = {"square": [2, 1, 0], "relu": [4, 1, 0], "gelu": [4, 1, 0], jnp.tanh: [1, 1, 1], cubed: [1, 1, 1]}
    for activation, scale in expected.items():
        assert Redwood(3, 2, activation).scale(v).tolist() == scale
    assert Anthropic(3, 2).scale(v).tolist() == [1, 1, 1]


def test_activation_names():
    assert activations.activation_name(Redwood(2, 1)) == "square"
    assert activations.activation_name(Redwood(2, 1, jnp.tanh)) == "tanh"


@pytest.mark.parametrize("kind", [Redwood, Anthropic])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3), "n_features must be a whole number of at least 1, but is 0"),
        ((6, 0), "n_neurons must be a whole number of at least 1, but is 0"),
        ((6, -2), "n_neurons must be a whole number of at least 1, but is -2"),
        ((6, 3, "sigmoid"), "activation must be a function or one of square, relu, gelu, but is 'sigmoid'"),
        ((6, 3, None), "activation must be a function or one of square, relu, gelu, but is None"),
    ],
)
def test_bad_models_are_refused_by_name(kind, arguments, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        kind(*arguments)
    assert str(error.value) == message


# --- the closed form


def drawn(distribution, n, density, samples, seed=0):
    """Independent samples [samples, N], in double precision."""
    rng = np.random.default_rng(seed)
    u = rng.uniform(2**-30, 1 - 2**-30, (samples, n))
    with jax.enable_x64(True):
        values = np.asarray(distribution.active_value(jnp.asarray(u), density))
    return np.where(rng.random((samples, n)) < density, values, 0)


@pytest.mark.parametrize("kind", [Redwood, Anthropic])
@pytest.mark.parametrize("distribution", distributions.ALL, ids=lambda d: d.name)
@pytest.mark.parametrize("density", [0.2, 1.0])
def test_the_expected_loss_is_the_mean_over_samples(kind, distribution, density):
    model = kind(3, 2, "square")
    params, _, v = random_sample(np.random.default_rng(1), model)
    params = params._replace(W=params.W / 2)  # or a few samples decide about the mean of the eighth power
    x = drawn(distribution, 3, density, 200_000)
    with jax.enable_x64(True):
        params, v = jax.tree.map(lambda a: jnp.asarray(a, float), (params, v))
        losses = np.asarray(jax.vmap(model.loss, (None, 0, None))(params, jnp.asarray(x), v))
        expected = float(model.expected_loss(params, v, distribution.sparse_moments(jnp.asarray(density))))
    # 16 cases at 4.5 standard errors: one false alarm in 10^4. In double precision, rounding is beside that.
    assert abs(losses.mean() - expected) < 4.5 * losses.std() / len(losses) ** 0.5
    assert losses.std() / len(losses) ** 0.5 < 0.03 * expected  # or this would say little


@pytest.mark.parametrize("kind", [Redwood, Anthropic])
def test_the_expected_loss_is_the_sum_over_all_samples_of_features_with_three_values(kind):
    model = kind(3, 2, "square")
    params, _, v = random_sample(np.random.default_rng(2), model)
    probability = np.array([0.2, 0.5, 0.3])
    values = np.array([-1, 0.5, 2])
    with jax.enable_x64(True):
        params, v = jax.tree.map(lambda a: jnp.asarray(a, float), (params, v))
        index = np.indices((3, 3, 3)).reshape(3, -1).T
        losses = jax.vmap(model.loss, (None, 0, None))(params, jnp.asarray(values[index]), v)
        mean = probability @ values
        centred = [probability @ (values - mean) ** order for order in (2, 3, 4)]
        moments = Moments(mean, centred[0], centred[1], centred[2] - 3 * centred[0] ** 2)
        found = float(model.expected_loss(params, v, moments))
    expected = float(probability[index].prod(1) @ np.asarray(losses))
    np.testing.assert_allclose(found, expected, rtol=1e-10)  # sums in double precision


def test_the_expected_loss_of_the_quadratic_model_is_that_of_the_theory():
    rng = np.random.default_rng(3)
    for n, d in ((1, 1), (3, 2), (6, 3), (2, 5)):
        model = Redwood(n, d)
        params, _, v = random_sample(rng, model)
        for distribution in (UNIFORM_SIGNED, distributions.NORMAL, distributions.RADEMACHER):
            for p in (0.05, 0.5, 1.0):
                found = model.expected_loss(params, v, distribution.sparse_moments(jnp.float32(p)))
                expected = theory.expected_loss(params.W, v, distribution.kurtosis(p), params.b)
                # Sums of squares, each of a difference of n d products of numbers of about 1.
                np.testing.assert_allclose(found, expected, rtol=64 * EPS)


def test_only_the_two_models_with_square_have_a_closed_form():
    class Own(Redwood):
        pass

    assert Redwood(3, 2).has_closed_form
    assert Anthropic(3, 2, activations.square).has_closed_form
    for other in (Redwood(3, 2, "relu"), Anthropic(3, 2), Redwood(3, 2, lambda z: z * z), Own(3, 2)):
        assert not other.has_closed_form
