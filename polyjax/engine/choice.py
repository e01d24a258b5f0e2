"""Which engine runs a training here (see `execution`)."""

import warnings
from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from polyjax.engine import devices
from polyjax.engine.cells import Coordinates, OfAxes
from polyjax.engine.fused import training as fused
from polyjax.engine.training import LARGEST_LANES, Training, train_lanes
from polyjax.engine.unroll import scalars_of, unroll
from polyjax.toy.model import n_parameters, n_weights

LARGEST_FUSED = 50  # parameters; above, they do not fit the registers of a GPU
TRIAL_STEPS, TRIAL_ERROR = 10, 1e-3  # rounding differs by 1e-6 over so few steps, approximate functions by more


def with_engine(training: Training) -> Training:
    """Return the same training by the engine that will run it: "auto" resolved, and "fused" replaced, with a warning
    that says why, where no kernel can run it."""
    if training.engine in ("arrays", "lanes"):
        return training
    ordinary, asked = ordinary_engine(training), training.engine == "fused"
    if not asked and (jax.default_backend() == "cpu" or n_parameters(training.one_model) > LARGEST_FUSED):
        return replace(training, engine=ordinary)
    kernel = replace(training, engine="fused")
    problem = fused.problem(kernel) or trial(kernel)
    if problem and asked:
        warnings.warn(f'engine="{ordinary}" runs instead of "fused": {problem}', stacklevel=2)
    return replace(kernel, engine=ordinary) if problem else kernel


@lru_cache(maxsize=32)
def ordinary_engine(training: Training) -> str:
    """Return `lanes` for small models, `arrays` for large ones, for those whose loss cannot be unrolled, and for sums
    over all masks."""
    model, one = training.one_model, training.one
    many_masks = training.objective == "expected" and not training.is_independent
    if many_masks or n_weights(model) > LARGEST_LANES:
        return "arrays"
    x, lane = jax.ShapeDtypeStruct((model.n_features,), jnp.float32), training.lane_shapes
    gradient, examples = jax.grad(training.sample_loss), (one, x, lane)
    try:
        jax.eval_shape(lambda *leaves: unroll(gradient, *examples)(*leaves), *scalars_of(examples))
    except NotImplementedError as error:
        warnings.warn(f'engine="arrays" runs, several times slower: {error}', stacklevel=2)
        return "arrays"
    return "lanes"


@lru_cache(maxsize=32)
def trial(training: Training) -> str | None:
    """Say why the kernel cannot be trusted on this device, if so: a few steps of a few models are compared with the
    lanes form. What a compiler of kernels gets wrong would otherwise pass for physics."""
    few = replace(training, steps=TRIAL_STEPS, snapshots=0)
    lane, row = _some_cells(training)
    shape = (2 if row else 1), 3
    start = jax.vmap(jax.vmap(training.one_model.init))(jax.random.split(jax.random.key(0), shape))
    arguments = start, lane, row, jax.random.key(1)
    try:
        of_both = (jax.jit(train, static_argnums=0)(few, *arguments).end for train in (fused.train, train_lanes))
        found, expected = jax.device_get([*of_both])
    except jax.errors.JaxRuntimeError as error:
        return f"it fails on this device: {devices.first_line(error)}"
    pairs = zip(found, expected, strict=True)
    agree = all(np.allclose(a, b, rtol=TRIAL_ERROR, atol=TRIAL_ERROR, equal_nan=True) for a, b in pairs)
    return None if agree else f"on this device its weights are wrong after {TRIAL_STEPS} steps"


def _some_cells(training: Training) -> tuple[Coordinates, Coordinates]:
    """Return coordinates [2, 3] of lanes and [2] of rows, at the ends and in the middle of the axes; one row, [1, 3],
    where no axis is one of rows."""
    parts = (part for part in (training.model, training.features, training.optimizer) if isinstance(part, OfAxes))
    some = {name: values for part in parts for name, values in zip(part.names, part.examples, strict=True)}
    row = {name: jnp.array([some[name][0], some[name][-1]]) for name in training.row_axes}
    rows = 2 if row else 1
    lane = {name: jnp.tile(jnp.array(some[name])[None], (rows, 1)) for name in training.lane_axes}
    return {name: row[name][:, None].repeat(3, 1) if name in row else a for name, a in lane.items()}, row
