"""The fused kernels: interpreted against the lanes form, lowered for devices that are not there, and when they run.

No device runs them here: interpreting shows what a kernel computes, lowering that its language has every operation.
"""

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh

import polyjax
from polyjax.engine import choice, execution, optimizers, training
from polyjax.engine.cells import OfAxes
from polyjax.engine.fused import kernels
from polyjax.engine.fused import training as fused
from polyjax.engine.fused.kernels import Kernel
from polyjax.engine.fused.step import Program, scale_entries
from polyjax.engine.fused.vectors import on_vectors
from polyjax.engine.unroll import unroll
from polyjax.toy.models import Anthropic, Redwood
from tests import paper

needs_kernels = pytest.mark.skipif(jax.__version_info__ < fused.OLDEST_JAX, reason="the kernels need jax 0.11 or newer")

DENSITY = jnp.array([0.2, 1.0])
DRAW_KEY = jax.random.key(9)
NUMBER = jax.ShapeDtypeStruct((), np.float32)
# The engines round the same sums in another order. Measured over all cases: at most 4.8e-7, for weights up to 4.4, of
# which it is one unit in the last place.
TEN_STEPS = 1e-6

OPTIMIZERS = {
    "Adam": optimizers.adam(0.02, 10),
    "AdamW": optax.adamw(optax.linear_schedule(0.02, 0.0, 10), weight_decay=0.1),
    "SGD": optax.sgd(optax.cosine_decay_schedule(0.02, 10), momentum=0.9, nesterov=True),
    "clipped SGD": optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1)),
}


def configuration(model, sampler="enumerated", optimizer="Adam", objective="sampled", steps=10, batch=None):
    batch, optimizer = batch or 2**model.n_features + 1, OPTIMIZERS.get(optimizer, optimizer)
    return paper.configuration(model, "lanes", objective, optimizer, steps, sampler, batch)


def arguments(fixed, n_lanes=3):
    """Start, importance, density and key for lanes of many importances."""
    importance = jnp.asarray(np.geomspace(0.3, 3, 2 * n_lanes).reshape(2, n_lanes), jnp.float32)
    start = jax.jit(jax.vmap(jax.vmap(fixed.model.init)))(jax.random.split(jax.random.key(0), importance.shape))
    return start, *paper.coordinates(importance, DENSITY), DRAW_KEY


def interpreted(fixed, target, n_lanes=3):
    run = jax.jit(partial(fused.train, fixed, kernel=Kernel(target, interpret=True)))
    return jax.block_until_ready(run(*arguments(fixed, n_lanes)))


def assert_agree(found, reference):
    """At the end and half way."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(reference), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=TEN_STEPS, rtol=0)


# --- what the kernels compute


CASES = [
    (Redwood(2, 2, "square"), "enumerated", "Adam"),
    (Redwood(2, 2, "relu"), "stratified", "AdamW"),
    (Redwood(2, 1, "gelu"), "iid", "SGD"),
    (Anthropic(2, 2, "square"), "iid", "clipped SGD"),
    (Anthropic(2, 1, "relu"), "enumerated", "SGD"),
    (Anthropic(2, 1, "gelu"), "stratified", "Adam"),
]


@needs_kernels
@pytest.mark.parametrize(("model", "sampler", "optimizer"), CASES, ids=lambda value: str(value).split(" at 0x")[0])
def test_ten_steps_are_those_of_the_lanes(model, sampler, optimizer):
    fixed = configuration(model, sampler, optimizer)
    reference = execution.compiled(fixed)(*arguments(fixed))
    for target in ("gpu", "tpu"):
        assert_agree(interpreted(fixed, target), reference)


@needs_kernels
def test_lanes_of_each_density_are_filled_up_to_whole_blocks():
    fixed = configuration(Redwood(2, 1), steps=2)
    assert_agree(interpreted(fixed, "gpu", 130), execution.compiled(fixed)(*arguments(fixed, 130)))


@needs_kernels
@pytest.mark.parametrize(
    "fixed",
    [
        configuration(Redwood(3, 2), objective="expected"),
        configuration(Redwood(3, 2, lambda z: z * z * z), steps=7, batch=8),  # in blocks of three steps, and one more
        configuration(Anthropic(3, 2, jnp.tanh), optimizer=optax.contrib.schedule_free_sgd(0.1, warmup_steps=2)),
    ],
    ids=["expected", "cube", "tanh, schedule-free"],
)
def test_other_runs_are_those_of_the_lanes(fixed):
    assert_agree(interpreted(fixed, "tpu"), execution.compiled(fixed)(*arguments(fixed)))


@needs_kernels
@pytest.mark.parametrize("target", ["gpu", "tpu"])
def test_a_learning_rate_and_an_exponent_of_every_lane_are_those_of_the_lanes(target):
    examples = ((0.01, 0.02, 0.03),)
    optimizer = OfAxes(lambda rate: optax.adam(rate), ("rate",), examples)
    model = OfAxes(lambda q: Redwood(2, 1, lambda z: jnp.abs(z) ** q), ("q",), ((2.0, 2.5, 3.0),))
    fixed = replace(configuration(Redwood(2, 1)), optimizer=optimizer, model=model)
    assert fixed.lane_axes == ("importance", "q", "rate")
    start, lane, row, key = arguments(configuration(Redwood(2, 1)))
    ones = jnp.ones_like(lane["importance"])
    lane |= {"rate": ones * jnp.float32([0.01, 0.02, 0.03])[None], "q": ones * jnp.float32([2.0, 2.5, 3.0])[None]}
    run = jax.jit(partial(fused.train, fixed, kernel=Kernel(target, interpret=True)))
    assert_agree(run(start, lane, row, key), execution.compiled(fixed)(start, lane, row, key))


@needs_kernels
def test_more_samples_than_a_tpu_reads_at_once_are_read_in_parts(monkeypatch):
    fixed = configuration(Redwood(2, 1), batch=10)  # 5 steps at a time, of 10 samples of 5 numbers
    whole = interpreted(fixed, "tpu")
    monkeypatch.setattr(kernels, "SCALARS", 70)
    for a, b in zip(jax.tree.leaves(interpreted(fixed, "tpu")), jax.tree.leaves(whole), strict=True):
        assert (a == b).all()


def test_the_steps_of_a_call_divide_those_of_a_block(monkeypatch):
    monkeypatch.setattr(kernels, "SCALARS", 1000)
    assert Kernel("tpu").steps_at_once(50, 20) == 50
    assert Kernel("tpu").steps_at_once(50, 21) == 25
    assert Kernel("tpu").steps_at_once(50, 1000) == 1
    assert Kernel("gpu").steps_at_once(50, 10**6) == 50
    with pytest.raises(NotImplementedError, match="more than the 1000 numbers"):
        Kernel("tpu").steps_at_once(50, 1001)


def sweep(engine):
    return polyjax.Sweep(
        model=Redwood(3, 2), density=[0.05, 0.2, 0.5, 1.0], importance=[0.2, 0.6, 1.5, 5.0], restarts=3,
        steps=300, batch=16, learning_rate=0.05, engine=engine,
    )  # fmt: skip


@needs_kernels
def test_a_whole_sweep_gives_the_same_phase_diagram(monkeypatch):
    monkeypatch.setattr(fused, "problem", lambda fixed: None)
    kernel = partial(fused.train, kernel=Kernel("tpu", interpret=True))
    monkeypatch.setitem(execution.ENGINES, "fused", kernel)
    monkeypatch.setattr(fused, "train", kernel)  # by which it is tried
    found, reference = (polyjax.run(sweep(engine), progress=False) for engine in ("fused", "lanes"))
    assert found.config["engine"] == "fused"
    found, reference = found.select("best"), reference.select("best")
    assert found.settled.all()
    # Measured: 2.4e-7 and 1.1e-7.
    np.testing.assert_allclose(found.capacity, reference.capacity, atol=1e-4)
    np.testing.assert_allclose(found.loss, reference.loss, rtol=1e-4)


# --- lowering, without a device


@contextmanager
def pretended(target, monkeypatch):
    """As if this process had an H100, or a TPU v5e."""
    from jax.sharding import AbstractDevice

    kind, cores = {"gpu": ("NVIDIA H100 80GB HBM3", 132), "tpu": ("TPU v5 lite", 1)}[target]
    device = AbstractDevice(device_kind=kind, num_cores=cores, platform=target)
    monkeypatch.setattr(fused, "find_target", lambda: target)
    monkeypatch.setattr(choice, "trial", lambda fixed: None)
    monkeypatch.setattr(jax, "default_backend", lambda: target)
    with jax.sharding.use_abstract_mesh(AbstractMesh((), (), axis_types=(), abstract_device=device)):
        yield


@needs_kernels
@pytest.mark.parametrize("target", ["gpu", "tpu"])
@pytest.mark.parametrize(
    "model",
    [
        *(kind(6, 3, activation) for kind in (Redwood, Anthropic) for activation in ("square", "relu", "gelu")),
        Redwood(6, 3, jnp.tanh),
        Redwood(6, 3, lambda z: z * z * z),
    ],
    ids=lambda model: str(model).split(" at 0x")[0],  # the same in every process
)
def test_the_kernels_lower_for_devices_that_are_not_here(model, target, monkeypatch):
    with pretended(target, monkeypatch):
        assert fused.problem(configuration(model, batch=64)) is None


@needs_kernels
@pytest.mark.parametrize(("target", "name"), [("gpu", "mosaic_gpu"), ("tpu", "tpu_custom_call")])
def test_what_is_lowered_holds_a_kernel(target, name, monkeypatch):
    fixed = configuration(Redwood(6, 3), batch=64, steps=100)
    with pretended(target, monkeypatch):
        traced = jax.jit(partial(fused.train, fixed)).trace(*arguments(fixed))
        assert name in traced.lower(lowering_platforms=(fused.PLATFORM[target],)).as_text()


# --- which engine runs


def engine(asked="auto", model=None, **configured):
    model = model or Redwood(6, 3)
    sweep = polyjax.Sweep(model=model, density=[0.5], importance=[1.0], engine=asked, **configured)
    return choice.with_engine(sweep.training).engine


def expm1(z):
    """No kernel language has it."""
    return jnp.expm1(z)


@needs_kernels
@pytest.mark.parametrize("target", ["gpu", "tpu"])
def test_auto_picks_the_kernel_where_it_runs(target, monkeypatch):
    assert engine() == "lanes"
    with pretended(target, monkeypatch):
        assert engine() == "fused"
        assert engine(model=Anthropic(6, 5, "gelu")) == "fused"
        assert engine(objective="expected") == "fused"
        assert engine(optimizer=optax.sgd(0.1, momentum=0.9)) == "fused"
        assert engine(model=Redwood(7, 7)) == "fused"  # 50 parameters
        assert engine(model=Redwood(10, 5)) == "lanes"  # 51
        assert engine(model=Redwood(6, 3, expm1)) == "lanes"
        assert engine(optimizer=optax.apply_if_finite(optax.adam(0.1), 2)) == "lanes"
        assert engine(model=Redwood(67, 3)) == "arrays"
        assert engine("lanes") == "lanes"


@pytest.mark.parametrize("target", ["gpu", "tpu"])
def test_auto_never_picks_it_on_older_versions_of_jax(target, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: target)
    monkeypatch.setattr(fused, "find_target", lambda: target)
    monkeypatch.setattr(jax, "__version_info__", (0, 10, 9))
    assert engine() == "lanes"


def _wrong(fixed, start, lane, row, key):
    trained = training.train_lanes(fixed, start, lane, row, key)
    return trained._replace(end=trained.end._replace(W=trained.end.W * 1.01))


def _broken(fixed, start, lane, row, key):
    raise jax.errors.JaxRuntimeError("INTERNAL: ptxas exited with an error\nmore")


@pytest.mark.parametrize(
    ("kernel", "why"),
    [
        (partial(fused.train, kernel=Kernel("tpu", interpret=True)), None),
        (_wrong, "on this device its weights are wrong after 10 steps"),
        (_broken, "it fails on this device: INTERNAL: ptxas exited with an error"),
    ],
)
@needs_kernels
def test_a_kernel_is_tried_before_it_is_trusted(kernel, why, monkeypatch):
    monkeypatch.setattr(fused, "train", kernel)
    choice.trial.cache_clear()
    assert choice.trial(configuration(Redwood(2, 1), steps=500)) == why
    choice.trial.cache_clear()


def test_without_a_device_for_it_the_ordinary_path_runs_and_says_so():
    with pytest.warns(UserWarning, match='^engine="lanes" runs instead of "fused": it needs [^\n]*$'):
        results = polyjax.run(
            polyjax.Sweep(Redwood(2, 1), density=[0.5], importance=[1.0], steps=2, engine="fused"), progress=False
        )
    assert results.config["engine"] == "lanes"


@needs_kernels
@pytest.mark.parametrize("target", ["gpu", "tpu"])
@pytest.mark.parametrize(
    ("configured", "why"),
    [
        ({"model": Redwood(6, 3, expm1)}, "expm1"),
        ({"optimizer": optax.apply_if_finite(optax.adam(0.1), 2)}, "flags or counts"),
        ({"batch": 10**6}, "numbers that a TPU's block can read"),
    ],
    ids=["activation", "optimiser", "batch"],
)
def test_what_no_kernel_can_run_takes_the_ordinary_path_and_says_so(configured, why, target, monkeypatch):
    if target == "gpu" and "batch" in configured:
        pytest.skip("a GPU reads samples from its large memory")
    with (
        pretended(target, monkeypatch),
        pytest.warns(UserWarning, match=f'^engine="lanes" runs instead of "fused": [^\n]*{why}[^\n]*$'),
    ):
        assert engine("fused", **configured) == "lanes"


@pytest.mark.parametrize(
    ("platform", "kind", "capability", "target"),
    [
        ("cpu", "cpu", None, None),
        ("tpu", "TPU v5 lite", None, "tpu"),
        ("gpu", "NVIDIA H100 80GB HBM3", "9.0", "gpu"),
        ("gpu", "NVIDIA B200", "10.0", "gpu"),
        ("gpu", "NVIDIA A100-SXM4-80GB", "8.0", None),
        ("gpu", "AMD Instinct MI300X", "gfx942", None),
    ],
)
def test_which_devices_have_a_kernel(platform, kind, capability, target, monkeypatch):
    device = SimpleNamespace(platform=platform, device_kind=kind, compute_capability=capability)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert fused.find_target() == target


# --- scalars on vectors


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: x / y + 2,
        lambda x, y: y / x,
        lambda x, y: x**5 - y**-3,
        lambda x, y: jnp.square(x) * jnp.clip(y, 0.5, 1.5),
        lambda x, y: jnp.where(y > 1, x, -x),
        lambda x, y: jax.nn.sigmoid(x) + y,
    ],
)
def test_functions_of_scalars_on_vectors(f):
    x, y, unrolled = jnp.linspace(0.5, 2, 4), jnp.float32(1.75), unroll(f, NUMBER, NUMBER)
    flat = on_vectors(lambda x, y: unrolled([x], [y])[0][0], NUMBER, NUMBER)
    for args in ((x, y), (y, x), (x, x), (y, y)):
        found = flat(*args)
        np.testing.assert_allclose(found, f(*args), rtol=1e-6)


def test_constants_are_folded_and_what_is_shared_stays_scalar():
    found = on_vectors(lambda x, y: [x * 2, y + 1, jnp.float32(2) * 3], NUMBER, NUMBER)(jnp.ones(4), jnp.float32(1))
    assert [np.shape(a) for a in found] == [(4,), (), ()]
    assert not isinstance(found[2], jax.Array)
    assert found[2] == 6


def test_only_the_scale_of_feature_0_depends_on_the_lane():
    lane = {"importance": jnp.array([4.0, 9.0])}
    found = scale_entries(configuration(Redwood(3, 2)), lane)
    assert found[0].tolist() == [2, 3]
    assert [float(s) for s in found[1:]] == [1, 1]
    assert all(np.ndim(s) == 0 for s in [*found[1:], *scale_entries(configuration(Anthropic(3, 2)), lane)])


def test_learning_rates_and_counters_are_computed_once_and_not_by_every_lane():
    program = Program(configuration(Redwood(3, 2), optimizer=optax.adam(optax.linear_schedule(0.5, 0.0, 4))))
    assert program.of_lane == [False, True, True, True, True, False]  # counters, and between them the moments
    shared, numbers = jax.lax.scan(lambda shared, _: program.next_shared(shared), [jnp.int32(0)] * 2, length=4)
    assert [int(count) for count in shared] == [4, 4]
    rates = np.abs(numbers)
    for expected in ([0.5, 0.375, 0.25, 0.125], 1 - 0.9 ** np.arange(1.0, 5), 1 - 0.999 ** np.arange(1.0, 5)):
        assert np.isclose(rates, np.array(expected)[:, None], rtol=1e-4).all(0).any()
