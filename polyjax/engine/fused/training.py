"""The fused engine: one Pallas kernel trains a group of lanes for many steps (`kernels`), each in scalars (`step`).

Samples are drawn outside, by `Training.draw` as for the other engines, and what only the step's number decides is
computed there too. Axis letters: P rows, L lanes a row, M lanes of all rows, each filled up to whole
blocks, K steps, B samples a step, Q numbers a sample, R numbers a step, S numbers that a lane carries on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from polyjax.engine import devices, lanes, optimizers, training
from polyjax.engine.fused.kernels import LANES, Kernel, Step, sum_over
from polyjax.engine.fused.step import Entries, Program, scale_entries
from polyjax.engine.unroll import scalars_of

if TYPE_CHECKING:
    from polyjax.engine.cells import Coordinates
    from polyjax.engine.training import Trained, Training
    from polyjax.toy.model import Parameters

OLDEST_JAX = (0, 11)
OLDEST_GPU = 9.0  # compute capability: Hopper, the first that Mosaic GPU compiles for
PLATFORM = {"gpu": "cuda", "tpu": "tpu"}


def train(
    fixed: Training,
    start: Parameters,
    lane: Coordinates,
    row: Coordinates,
    draw_key: Array,
    kernel: Kernel | None = None,
) -> Trained:
    """Do the same as `training.train_lanes`, up to rounding, by the kernel given, or else that of this process's
    devices.

    Raises NotImplementedError for a model or an optimiser that no kernel can run.
    """
    kernel, program, (P, L) = (
        kernel or Kernel(jax.default_backend()),
        Program(fixed),
        jax.tree.leaves(start)[0].shape[:2],
    )
    scale, coordinates = scale_entries(fixed, lane), jax.tree.leaves(lane)
    whole_scale = jnp.stack([jnp.broadcast_to(s, (P, L)) for s in scale]) if scale else None
    units = training.in_units(lanes.last(start), whole_scale)
    state = jax.tree.leaves(optimizers.per_lane(fixed.optimizer, program.one, lane).init(units))
    own_scale = [s for s in scale if np.ndim(s)]
    inputs = _filled([*coordinates, *own_scale] or [jnp.zeros((P, L))], LANES[kernel.target])
    carried = _filled([*units, *program.lane_leaves(state)], LANES[kernel.target])
    constants = [None if np.ndim(s) else s for s in scale]

    def several_steps(carry: Any, numbers: Array) -> Any:
        carried, shared = carry
        samples = program.samples(draw_key, numbers, row, P)
        shared, rates = lax.scan(lambda shared, _: program.next_shared(shared), shared, length=len(numbers))
        step = _step(program, constants, samples.shape[2])
        return _in_parts(kernel, step, samples, rates, inputs, carried), shared

    def weights(carried: Array) -> Parameters:
        rows = carried.reshape(len(carried), P, -1)[:, :, :L]
        leaves = jnp.split(rows, np.cumsum([leaf.size for leaf in program.one]))
        arrays = [a.reshape(*leaf.shape, P, L) for a, leaf in zip(leaves, program.one, strict=False)]
        units = jax.tree.unflatten(jax.tree.structure(program.one), arrays)
        return lanes.first(training.in_weights(units, whole_scale))

    begin = carried, program.shared_leaves(state)
    return training.in_blocks(several_steps, begin, fixed.steps, fixed.snapshots).each(weights)


def find_target() -> str | None:
    """Return which kernel this process's devices run, if any."""
    device = jax.devices()[0]
    if device.platform == "tpu":
        return "tpu"
    runs = device.device_kind.startswith("NVIDIA") and float(device.compute_capability) >= OLDEST_GPU
    return "gpu" if runs else None


def problem(fixed: Training) -> str | None:
    """Say why no kernel can run this training here, or None if one can. Found by lowering it, which takes a second."""
    if jax.__version_info__ < OLDEST_JAX:
        return "it needs jax 0.11 or newer"
    target = find_target()
    return _lowering_problem(fixed, target) if target else "it needs a TPU, or an NVIDIA GPU from Hopper on"


@lru_cache(maxsize=32)
def _lowering_problem(fixed: Training, target: str) -> str | None:
    run = jax.jit(partial(train, replace(fixed, steps=1), kernel=Kernel(target)))
    try:
        traced = run.trace(*training.argument_shapes(fixed, (1, 1)))
        traced.lower(lowering_platforms=(PLATFORM[target],))
    except Exception as error:  # kernel languages raise all kinds
        return devices.first_line(error).split(". ")[0] or repr(error)
    return None


def _filled(leaves: Sequence[Array], block: int) -> Array:
    """Return leaves [..., P, L] as [S, M]. The last lane of each density is repeated in those that fill its last
    block."""
    rows = jnp.concatenate([leaf.reshape(-1, *leaf.shape[-2:]) for leaf in leaves])
    rows = jnp.pad(rows, ((0, 0), (0, 0), (0, -rows.shape[-1] % block)), "edge")
    return rows.reshape(len(rows), -1)


def _step(program: Program, scale: list[Any], n_samples: int) -> Step:
    """Return a step as the kernel runs it, for the model's scale of every feature, or None where lanes have their
    own."""
    one = scalars_of(program.one)
    kept, size = jax.tree.structure((one, program.lane_leaves(scalars_of(program.state)))), len(jax.tree.leaves(one))

    def step(sample: Any, rates: list[Any], inputs: list[Any], carried: list[Any]) -> list[Any]:
        n = len(program.lane)
        lane, own_scale = dict(zip(sorted(program.lane), inputs[:n], strict=True)), iter(inputs[n:])
        every_scale = [next(own_scale) if s is None else s for s in scale]
        units, of_lane = jax.tree.unflatten(kept, carried)
        weights = _scaled(program.one, units, every_scale)
        terms = lambda i: jax.tree.leaves(program.gradient.after(sample(i), (weights, lane)))  # noqa: E731
        sums = sum_over(terms, n_samples, [0 * inputs[0]] * size)
        gradient = _scaled(program.one, jax.tree.unflatten(jax.tree.structure(one), sums), every_scale)
        return jax.tree.leaves(program.update.after(rates, (gradient, of_lane, units, lane)))

    return step


def _scaled(one: Parameters, params: Entries, scale: list[Any]) -> Entries:
    """Return `training.in_weights` in entries, and its transpose, without multiplications by 1; `scale` is empty for a
    model that has none."""
    if not scale:
        return params
    leaves = dict(zip(one._fields, params, strict=True))
    leaves["W"] = [w * s if np.ndim(s) or s != 1 else w for w, s in zip(leaves["W"], cycle(scale), strict=False)]
    return [*leaves.values()]


def _in_parts(kernel: Kernel, step: Step, samples: Array, rates: Array, inputs: Array, carried: Array) -> Array:
    """Run the kernel on samples [P, K, B, Q], as often as they are too many for one call."""
    P, K, B, Q = samples.shape
    at_once = kernel.steps_at_once(K, B * Q)
    parts = jnp.moveaxis(samples.reshape(P, -1, at_once, B, Q), 1, 0), rates.reshape(-1, at_once, rates.shape[-1])
    return lax.scan(lambda carried, part: (kernel(step, *part, inputs, carried), None), carried, parts)[0]
