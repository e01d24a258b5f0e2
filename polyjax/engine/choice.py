"""Which engine runs a training here (see `execution`)."""

import warnings
from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from polyjax.engine import devices
from polyjax.engine.execution import ENGINES
from polyjax.engine.fused import training as fused
from polyjax.engine.training import Training
from polyjax.engine.unroll import scalars_of, unroll
from polyjax.toy.models import Model, n_parameters, one_model

LARGEST_LANES = 200  # weights; above, the lanes form is slower than arrays and takes long to compile
LARGEST_FUSED = 50  # parameters; above, they do not fit the registers of a GPU
TRIAL_STEPS, TRIAL_ERROR = 10, 1e-3  # rounding differs by 1e-6 over so few steps, approximate functions by more


def with_engine(training: Training) -> Training:
    """Return the same training by the engine that will run it: "auto" resolved, and "fused" replaced, with a warning
    that says why, where no kernel can run it."""
    if training.engine in ("arrays", "lanes"):
        return training
    ordinary, asked = ordinary_engine(training.model), training.engine == "fused"
    if not asked and (jax.default_backend() == "cpu" or n_parameters(training.model) > LARGEST_FUSED):
        return replace(training, engine=ordinary)
    kernel = replace(training, engine="fused")
    problem = fused.problem(kernel) or trial(kernel)
    if problem and asked:
        warnings.warn(f'engine="{ordinary}" runs instead of "fused": {problem}', stacklevel=2)
    return replace(kernel, engine=ordinary) if problem else kernel


@lru_cache(maxsize=32)
def ordinary_engine(model: Model) -> str:
    """Return `lanes` for small models, `arrays` for large ones and for those whose activation cannot be unrolled."""
    if model.n_features * model.n_neurons > LARGEST_LANES:
        return "arrays"
    one = one_model(model)
    x = jax.ShapeDtypeStruct((model.n_features,), jnp.float32)
    try:
        jax.eval_shape(lambda *leaves: unroll(jax.grad(model.loss), one, x, x)(*leaves), *scalars_of((one, x, x)))
    except NotImplementedError as error:
        warnings.warn(f'engine="arrays" runs, several times slower: {error}', stacklevel=2)
        return "arrays"
    return "lanes"


@lru_cache(maxsize=32)
def trial(training: Training) -> str | None:
    """Say why the kernel cannot be trusted on this device, if so: a few steps of a few models are compared with the
    lanes form. What a compiler of kernels gets wrong would otherwise pass for physics."""
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
