"""Pallas kernels that train blocks of lanes for several steps, with all that a lane carries in registers.

On a GPU (Mosaic GPU) a thread trains one model, and a register holds one number of it; on a TPU (Mosaic TPU) a vector
register holds one number of 1024 models. Samples and rates are the same scalars for all lanes of a block, so that
none may straddle two densities; nothing else is read between the first step of a call and the last. Pallas is imported
where a kernel is built, so that nobody else waits for it.

Axis letters: P rows, M lanes of all rows, each filled up to whole blocks, K steps, B samples a step, Q
numbers a sample, R numbers a step, F inputs of a lane, S numbers that it carries from step to step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array, lax

LANES = {"gpu": 128, "tpu": 8 * 128}  # in a block
UNROLLED = 2  # samples in a turn of the inner loop; with 4 a GPU needs a fifth more registers for 6 % less work
SCALARS = 2**16  # samples' numbers in a TPU's scalar memory at a time: a quarter of its 1 MiB, and held twice

Read = Callable[..., list[Any]]
# (the samples of step t: i -> Q numbers, the rates of step t, the lane's F numbers, the S carried) -> the S anew
Step = Callable[[Read, list[Any], list[Any], list[Any]], Sequence[Any]]


@dataclass(frozen=True)
class Kernel:
    """A kernel for a target, run there or interpreted, which needs no device and takes long."""

    target: str  # "gpu" or "tpu"
    interpret: bool = False

    def steps_at_once(self, steps: int, numbers: int) -> int:
        """Return how many of the steps, a divisor, fit one call, where each reads so many numbers of samples."""
        if self.target == "gpu":
            return steps
        fitting = [k for k in range(1, steps + 1) if steps % k == 0 and k * numbers <= SCALARS]
        if not fitting:
            raise NotImplementedError(
                f"a step's samples are more than the {SCALARS} numbers that a TPU's block can read"
            )
        return max(fitting)

    def __call__(self, step: Step, samples: Array, rates: Array, inputs: Array, carried: Array) -> Array:
        """`carried` [S, M] after K steps: from samples [P, K, B, Q], rates [K, R] and the inputs of lanes, [F, M]."""
        run = _on_gpu if self.target == "gpu" else _on_tpu
        return run(step, self.interpret, samples, rates, inputs, carried)


def sum_over(terms: Callable[[Any], Sequence[Any]], n: int, zero: Sequence[Any]) -> Sequence[Any]:
    """Return the sums of terms(0), ..., terms(n - 1), from `zero` on."""

    def add(sums: Sequence[Any], i: Any) -> Sequence[Any]:
        return [a + b for a, b in zip(sums, terms(i), strict=True)]

    def turn(number: Any, sums: Sequence[Any]) -> Sequence[Any]:
        for j in range(UNROLLED):
            sums = add(sums, number * UNROLLED + j)
        return sums

    sums = lax.fori_loop(0, n // UNROLLED, turn, [*zero]) if n >= UNROLLED else zero
    for i in range(n - n % UNROLLED, n):
        sums = add(sums, i)
    return sums


def _steps(step: Step, n: int, sample: Read, rate: Read, inputs: list[Any], carried: list[Any]) -> Sequence[Any]:
    """All steps of one block of lanes."""
    zero = 0 * inputs[0]  # with an axis of lanes, which a constant lacks

    def one(t: Any, carried: list[Any]) -> list[Any]:
        new = step(lambda i: sample(t, i), rate(t), inputs, carried)
        return [a if np.ndim(a) else a + zero for a in new]

    return lax.fori_loop(0, n, one, carried)


def _on_gpu(step: Step, interpret: bool, samples: Array, rates: Array, inputs: Array, carried: Array) -> Array:
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import mosaic_gpu

    plgpu: Any = mosaic_gpu  # before jax 0.11 it has less, which the types of these versions say
    (P, K, _, Q), R, (S, M) = samples.shape, rates.shape[1], carried.shape
    blocks = M // LANES["gpu"]

    def body(samples: Any, rates: Any, inputs: Any, carried: Any, out: Any) -> None:
        block = lax.axis_index("block")
        row, lanes = block // (blocks // P), pl.ds(block * LANES["gpu"], LANES["gpu"])
        # The last index is static, so that it becomes part of the load instruction.
        sample = lambda t, i: [samples[row, t, i, j] for j in range(Q)]  # noqa: E731
        rate = lambda t: [rates[t, j] for j in range(R)]  # noqa: E731
        read = lambda ref: [ref[k, lanes] for k in range(ref.shape[0])]  # noqa: E731
        for k, value in enumerate(_steps(step, K, sample, rate, read(inputs), read(carried))):
            out[k, lanes] = value

    run = plgpu.kernel(
        body,
        out_type=jax.ShapeDtypeStruct((S, M), np.float32),
        grid=(blocks,),
        grid_names=("block",),
        # The other semantics searches for the layout of every value, for half a minute in the GELU models.
        compiler_params=plgpu.CompilerParams(lowering_semantics=plgpu.LoweringSemantics.Lane),
        interpret=plgpu.InterpretGPUParams() if interpret else None,
    )
    return run(samples, rates, inputs, carried)


def _on_tpu(step: Step, interpret: bool, samples: Array, rates: Array, inputs: Array, carried: Array) -> Array:
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import tpu as pltpu

    (P, K, B, Q), R, (S, M) = samples.shape, rates.shape[1], carried.shape
    blocks = M // LANES["tpu"]

    def body(samples: Any, rates: Any, inputs: Any, carried: Any, out: Any) -> None:
        sample = lambda t, i: [samples[0, (t * B + i) * Q + j] for j in range(Q)]  # noqa: E731
        rate = lambda t: [rates[t * R + j] for j in range(R)]  # noqa: E731
        read = lambda ref: [ref[k] for k in range(ref.shape[0])]  # noqa: E731
        for k, value in enumerate(_steps(step, K, sample, rate, read(inputs), read(carried))):
            out[k] = value

    def of_lanes(n: int) -> Any:
        return pl.BlockSpec((n, 8, 128), lambda i: (0, i, 0))

    run = pl.pallas_call(
        body,
        jax.ShapeDtypeStruct((S, M // 128, 128), np.float32),
        grid=(blocks,),
        in_specs=[
            pl.BlockSpec((None, 1, K * B * Q), lambda i: (i // (blocks // P), 0, 0), memory_space=pltpu.SMEM),
            pl.BlockSpec(memory_space=pltpu.SMEM),
            of_lanes(len(inputs)),
            of_lanes(S),
        ],
        out_specs=of_lanes(S),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",)),
        interpret=interpret,
    )
    flat = samples.reshape(P, 1, -1), rates.ravel(), *(a.reshape(len(a), -1, 128) for a in (inputs, carried))
    return run(*flat).reshape(S, M)
