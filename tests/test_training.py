"""One training run, the two ordinary ways to run a grid of them, and their agreement with each other and with loops."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from polyjax.engine import execution, lanes, optimizers, training
from polyjax.theory import expected_loss
from polyjax.toy.distributions import UNIFORM_SIGNED
from polyjax.toy.models import Anthropic, Params, Redwood
from tests import paper

EPS = float(np.finfo(np.float32).eps)
IMPORTANCE = jnp.array([[0.3, 1.0, 1.0, 4.0]] * 2)  # [P, L]: two lanes differ in where they start only
DENSITY = jnp.array([0.2, 1.0])
LANE, ROW = paper.coordinates(IMPORTANCE, DENSITY)
DRAW_KEY = jax.random.key(9)
# Weights up to 2 after 20 steps of 0.02 of Adam, which passes on the relative rounding of gradients, also of such as
# nearly cancel. Measured over engines, shapes and objectives: at most 2e-7.
TWENTY_STEPS = 2e-6


def start(model):
    return jax.jit(jax.vmap(jax.vmap(model.init)))(jax.random.split(jax.random.key(0), IMPORTANCE.shape))


def configuration(model, engine, objective="sampled", optimizer=None, steps=20):
    batch = 2 ** (model.n_features + 1)
    return paper.configuration(model, engine, objective, optimizer, steps, batch=batch, distribution=UNIFORM_SIGNED)


def trained(fixed):
    return execution.compiled(fixed)(start(fixed.model), LANE, ROW, DRAW_KEY)


def above_half(z):
    return jnp.where(z > 0.5, z * z, 0.25)


def tanh(z):
    return jnp.tanh(z)


# --- gradients


@pytest.mark.parametrize(
    ("model"),
    [
        Redwood(1, 1),
        Redwood(6, 3),
        Redwood(3, 2, "gelu"),
        Redwood(2, 3, tanh),
        Redwood(3, 2, above_half),  # a constant beside an array, also in what samples alone decide
        Anthropic(4, 2),
    ],
    ids=lambda model: str(model).split(" at 0x")[0],  # the same in every process
)
def test_gradients_of_lanes_are_those_of_arrays(model):
    fixed = configuration(model, "lanes")
    params = start(model)
    params = params._replace(b=jnp.linspace(-1, 1, params.b.size).reshape(params.b.shape))
    batch = jax.jit(jax.vmap(fixed.draw, (None, None, 0)))(DRAW_KEY, 3, ROW)
    reference = jax.jit(jax.vmap(jax.vmap(jax.grad(fixed.loss), (0, 0, None))))
    prepare, gradient = training.lane_objective(fixed)
    in_lanes = jax.jit(gradient, compiler_options=lanes.CPU_COMPILER_OPTIONS)
    found = lanes.first(in_lanes(lanes.last(params), LANE, prepare(batch)))
    for a, b in zip(found, reference(params, LANE, batch), strict=True):
        assert a.shape == b.shape
        # A sum over samples that may cancel: rounding is measured against the largest component of the same model.
        size = np.abs(b).max(tuple(range(2, b.ndim)), keepdims=True)
        largest = np.maximum(size, np.abs(b).max() / 10)
        assert np.all(np.abs(a - b) <= 128 * EPS * largest)


# --- whole runs


@pytest.fixture(scope="module")
def runs():
    """By engine and objective, the same 20 steps."""
    return {
        (engine, objective): trained(configuration(Redwood(3, 2), engine, objective))
        for engine in ("arrays", "lanes")
        for objective in ("sampled", "expected")
    }


def assert_engines_agree(found, reference):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(reference), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=TWENTY_STEPS, rtol=0)


@pytest.mark.parametrize("objective", ["sampled", "expected"])
def test_whole_runs_in_lanes_are_those_on_arrays(objective, runs):
    assert_engines_agree(runs["lanes", objective], runs["arrays", objective])
    assert runs["lanes", objective].end.W.shape == (2, 4, 2, 3)
    assert runs["lanes", objective].end.b.shape == (2, 4)


@pytest.mark.parametrize("engine", ["arrays", "lanes"])
def test_a_grid_is_a_loop_over_its_cells(engine, runs):
    one_lane = execution.compiled(configuration(Redwood(3, 2), engine))  # compiled once more, for a grid of one
    params = start(Redwood(3, 2))
    for p, lane in np.ndindex(IMPORTANCE.shape):
        one = jax.tree.map(lambda a, p=p, lane=lane: a[p, lane][None, None], params)
        cell = one_lane(one, *paper.coordinates(IMPORTANCE[p, lane][None, None], DENSITY[p][None]), DRAW_KEY)
        for a, b in zip(jax.tree.leaves(cell), jax.tree.leaves(runs[engine, "sampled"]), strict=True):
            # Other array shapes are vectorised otherwise; rounding over 20 steps, as between engines.
            np.testing.assert_allclose(a[0, 0], b[p, lane], atol=TWENTY_STEPS, rtol=0)


def test_a_run_is_the_plain_loop(runs):
    """One lane with optax as its manual has it, on batches drawn one by one."""
    fixed = configuration(Redwood(3, 2), "arrays")
    p, lane = 0, 3
    v = jnp.ones(3).at[0].set(IMPORTANCE[p, lane])
    scale = jnp.sqrt(v)  # the unit of a feature's embedding in the quadratic model
    params = jax.tree.map(lambda a: a[p, lane], start(fixed.model))
    params = params._replace(W=params.W / scale[None])
    state = fixed.optimizer.init(params)

    def weights(params):
        return params._replace(W=params.W * scale[None])

    @jax.jit
    def after(params, state, step):
        batch = fixed.draw(DRAW_KEY, step, {"density": DENSITY[p]})
        losses = lambda params: jnp.stack([fixed.model.loss(weights(params), x, v) for x in batch.x])  # noqa: E731
        gradient = jax.grad(lambda params: jnp.sum(batch.weight * losses(params)))(params)
        updates, state = fixed.optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    for step in range(fixed.steps):
        params, state = after(params, state, step)
    for a, b in zip(weights(params), runs["arrays", "sampled"].end, strict=True):
        np.testing.assert_allclose(a, b[p, lane], atol=TWENTY_STEPS, rtol=0)


@pytest.mark.parametrize("objective", ["sampled", "expected"])
def test_training_lowers_the_population_loss(objective, runs):
    run = runs["lanes", objective]
    v = jnp.ones((2, 4, 3)).at[..., 0].set(IMPORTANCE)
    k = 9 / 5 / DENSITY[:, None]
    population = jax.jit(expected_loss)
    losses = [np.asarray(population(q.W, v, k, q.b)) for q in (start(Redwood(3, 2)), run.half_way, run.end)]
    assert (losses[2] < losses[0]).all()  # 20 steps of 0.02 from random weights: every model improves
    assert (losses[1] < losses[0]).all()
    assert losses[2].mean() < losses[1].mean()


# --- the loop: which data at which step, and the snapshot


@pytest.mark.parametrize(
    ("steps", "snapshot"),
    # The last step in the first half at which a block of at most 50 steps begins.
    [(1, 0), (2, 1), (3, 1), (4, 2), (7, 3), (50, 25), (51, 25), (99, 49), (100, 50), (120, 50), (230, 100)],
)
def test_every_step_is_taken_once_in_order_and_half_way_is_remembered(steps, snapshot):
    # x <- x / 2 + step needs every step, in order, and n counts them; a rounding a step.
    def gradient(params, step):
        return {"x": params["x"] / 2 - step, "n": -1.0}

    zero = {"x": jnp.float32(3), "n": jnp.float32(0)}
    draw = lambda step: step.astype(jnp.float32)  # noqa: E731
    optimizer = optax.sgd(1.0)
    several_steps = partial(training.descend, gradient, optimizer)
    run = jax.jit(lambda: training.fit(several_steps, jax.vmap(draw), steps, (zero, optimizer.init(zero))))()
    x = [np.float32(3)]
    for step in range(steps):
        x.append(x[-1] - (x[-1] / np.float32(2) - np.float32(step)))
    assert run.end["n"] == steps
    assert run.half_way["n"] == snapshot
    np.testing.assert_allclose([run.end["x"], run.half_way["x"]], [x[steps], x[snapshot]], rtol=4 * EPS)


# --- optimisers in lanes

LABELS = Params("weights", "bias")
OPTIMIZERS = {
    "Adam with a schedule": optax.adam(optax.linear_schedule(0.5, 0.0, 6)),
    "SGD with momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "AdamW": optax.adamw(0.1, weight_decay=0.1),
    "clipped by the norm of one model": optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1)),
    "schedule-free": optax.contrib.schedule_free_sgd(0.1, warmup_steps=2),  # keeps a second set of weights
    "one optimiser for each parameter": optax.multi_transform(
        {"weights": optax.adam(0.1), "bias": optax.sgd(0.2)}, LABELS
    ),
    "finite updates only": optax.apply_if_finite(optax.adam(0.1), 2),
    "every second step": optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_sees_every_lane_by_itself(name):
    optimizer, steps = OPTIMIZERS[name], 4
    rng = np.random.default_rng(0)
    # Lanes of very different gradients, so that any mixture of them shows.
    scale = 10.0 ** np.array([[-3, -1, 1], [0, 2, -2]])

    def random(*shape):
        return jnp.asarray(rng.normal(size=(*shape, 2, 3)) * scale, jnp.float32)

    params = Params(random(2, 2), random())
    gradients = [Params(random(2, 2), random()) for _ in range(steps)]

    def final(optimizer, params, gradients):
        state = optimizer.init(params)
        for gradient in gradients:
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        return params

    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[:-2], a.dtype), params)
    found = jax.jit(lambda *args: final(optimizers.per_lane(optimizer, one, {}), *args))(params, gradients)
    alone = jax.jit(lambda *args: final(optimizer, *args))
    for p, lane in np.ndindex(2, 3):
        expected = alone(*jax.tree.map(lambda a, p=p, lane=lane: a[..., p, lane], (params, gradients)))
        for a, b in zip(found, expected, strict=True):
            # A few roundings a step, relative to the lane's own scale or, for Adam, to its step of 0.1.
            atol = 64 * EPS * max(scale[p, lane], 0.1)
            np.testing.assert_allclose(a[..., p, lane], b, atol=atol, rtol=64 * EPS)


def test_counters_are_kept_once_and_moments_once_a_lane():
    one = Params(jnp.zeros((2, 3)), jnp.zeros(()))
    params = Params(jnp.zeros((2, 3, 4, 5)), jnp.zeros((4, 5)))
    optimizer = optimizers.per_lane(optax.adam(optax.linear_schedule(0.1, 0.0, 6)), one, {})
    new = jax.eval_shape(optimizer.init, params)
    for state in (new, jax.eval_shape(optimizer.update, params, new, params)[1]):
        assert [leaf.shape for leaf in (*state[0].mu, *state[0].nu)] == [(2, 3, 4, 5), (4, 5)] * 2
        counts = [leaf for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.int32]
        assert [count.shape for count in counts] == [(), ()]  # Adam's own and the schedule's


def test_a_counter_that_depends_on_the_gradients_is_kept_for_every_lane():
    one = {"w": jnp.zeros(2)}
    optimizer = optimizers.per_lane(optax.apply_if_finite(optax.sgd(0.125), 5), one, {})
    params = {"w": jnp.ones((2, 1, 3))}
    gradient = {"w": params["w"].at[0, 0, 1].set(jnp.nan)}
    updates, state = jax.jit(lambda g, p: optimizer.update(g, optimizer.init(p), p))(gradient, params)
    assert state.notfinite_count.tolist() == [[0, 1, 0]]
    assert updates["w"].tolist() == [[[-0.125, 0, -0.125]]] * 2


# --- moving axes and choosing


def test_first_undoes_last():
    params = Params(jnp.arange(48.0).reshape(2, 4, 2, 3), jnp.arange(8.0).reshape(2, 4))
    moved = lanes.last(params)
    assert moved.W.shape == (2, 3, 2, 4)
    assert moved.W[1, 2, 0, 3] == params.W[0, 3, 1, 2]
    assert all((a == b).all() for a, b in zip(lanes.first(moved), params, strict=True))
