"""The ways to run one definition of a model, and which of them runs.

- `arrays`: plain `vmap` over matrix code. The reference, and the way for large models.
- `lanes`: unrolled, every weight an array over models (`lanes`). Several times faster for small models.
- `fused`: unrolled, many steps in one kernel for GPUs and TPUs (`fused`). For the smallest models.

All agree to rounding.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from polyjax.engine import devices, fused, lanes
from polyjax.engine.training import Trained, Training, one_model, train_arrays, train_lanes
from polyjax.engine.unroll import scalars_of, unroll
from polyjax.toy.models import Model, Params

ENGINES: dict[str, Callable[..., Trained]] = {"arrays": train_arrays, "lanes": train_lanes, "fused": fused.train}
LARGEST_LANES = 200  # weights; above, the lanes form is slower than arrays and takes long to compile
LARGEST_FUSED = 50  # parameters; above, they do not fit the registers of a GPU
TRIAL_STEPS, TRIAL_ERROR = 10, 1e-3  # rounding differs by 1e-6 over so few steps, approximate functions by more


@lru_cache(maxsize=32)
def compiled(training: Training) -> Callable[[Params, Array, Array, Array], Trained]:
    """The jitted training of a block of lanes; the same object for the same configuration, so compiled once."""

    def train(start: Params, importance: Array, density: Array, draw_key: Array) -> Trained:
        with jax.default_matmul_precision("float32"):  # accelerators would otherwise round the inputs of products
            return ENGINES[training.engine](training, start, importance, density, draw_key)

    options = devices.on_cpu(lanes.CPU_COMPILER_OPTIONS) if training.engine == "lanes" else None
    return jax.jit(devices.spread(train), compiler_options=options)


def with_engine(training: Training) -> Training:
    """The same training by the engine that will run it: "auto" resolved, and "fused" replaced, with a warning that says
    why, where no kernel can run it."""
    if training.engine in ("arrays", "lanes"):
        return training
    ordinary, asked = ordinary_engine(training.model), training.engine == "fused"
    size = sum(leaf.size for leaf in one_model(training.model))
    if not asked and (jax.default_backend() == "cpu" or size > LARGEST_FUSED):
        return replace(training, engine=ordinary)
    kernel = replace(training, engine="fused")
    problem = fused.problem(kernel) or trial(kernel)
    if problem and asked:
        warnings.warn(f'engine="{ordinary}" runs instead of "fused": {problem}', stacklevel=2)
    return replace(kernel, engine=ordinary) if problem else kernel


@lru_cache(maxsize=32)
def ordinary_engine(model: Model) -> str:
    """`lanes` for small models, `arrays` for large ones and for those whose activation cannot be unrolled."""
    if model.n_features * model.n_neurons > LARGEST_LANES:
        return "arrays"
    one = one_model(model)
    x = jax.ShapeDtypeStruct((model.n_features,), jnp.float32)
    try:
        jax.eval_shape(lambda *leaves: unroll(jax.grad(model.loss), one, x, x)(*leaves), *scalars_of((one, x, x)))
    except NotImplementedError:
        return "arrays"
    return "lanes"


@lru_cache(maxsize=32)
def trial(training: Training) -> str | None:
    """Why the kernel cannot be trusted on this device, if so: a few steps of a few models are compared with the lanes
    form. What a compiler of kernels gets wrong would otherwise pass for physics."""
    few = replace(training, steps=TRIAL_STEPS)
    density, importance = jnp.array([0.1, 1.0]), jnp.array([[0.3, 1.0, 3.0]] * 2)
    start = jax.vmap(jax.vmap(training.model.init))(jax.random.split(jax.random.key(0), importance.shape))
    arguments = start, importance, density, jax.random.key(1)
    try:
        found, expected = (jax.jit(ENGINES[name], static_argnums=0)(few, *arguments).end for name in ("fused", "lanes"))
    except jax.errors.JaxRuntimeError as error:
        return f"it fails on this device: {devices.first_line(error)}"
    pairs = zip(jax.device_get(found), jax.device_get(expected), strict=True)
    agree = all(np.allclose(a, b, rtol=TRIAL_ERROR, atol=TRIAL_ERROR, equal_nan=True) for a, b in pairs)
    return None if agree else f"on this device its weights are wrong after {TRIAL_STEPS} steps"
