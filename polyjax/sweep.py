"""The grid: its configuration, and `run`, which trains it block by block.

A cell is one (density, importance) pair, a lane one model: one cell and one restart. Only a few blocks of lanes are on
the device at a time, so memory does not grow with the grid. Axis letters: P densities, V importances, R restarts.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from math import ceil
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from tqdm import tqdm

from polyjax import evaluation, training
from polyjax.capacity import capacities
from polyjax.checks import require
from polyjax.distributions import Distribution, check_density
from polyjax.models import Model, Redwood, activation_name, square
from polyjax.results import Results
from polyjax.sampling import Sampler, default_sampler
from polyjax.training import Training

LEARNING_RATE = {"sampled": 0.02, "expected": 0.1}  # without noise larger steps settle sooner
CHUNK = {"cpu": 1600}  # lanes, see `benchmarks.throughput`
CHUNK_ELSEWHERE = 2**18
SETTLED = 0.1  # the largest change of a capacity in the second half of training


@dataclass(frozen=True)
class Sweep:
    """A phase diagram to train: `restarts` models for every density and importance.

    The importance is that of feature 0; all other features have importance 1. Whatever the grid, a cell's models
    depend on nothing but its own density and importance, the restart and the seed. Raises ValueError, naming the field,
    for values out of range.
    """

    model: Model
    density: Sequence[float] | np.ndarray  # [P], each above 0 and at most 1: the probability that a feature is non-zero
    importance: Sequence[float] | np.ndarray  # [V], each at least 0
    restarts: int = 4  # R
    steps: int = 2000
    batch: int = 64  # samples a step
    distribution: Distribution | None = None  # None: the model's own
    learning_rate: float | None = None  # of the default optimiser, at the start; None: LEARNING_RATE
    optimizer: optax.GradientTransformation | None = None  # None: Adam with cosine decay to 0
    sampler: str | None = None  # "enumerated", "stratified" or "iid"; None: enumerated where the batch has room
    objective: str = "sampled"  # or "expected": the closed-form population loss of the quadratic Redwood model
    engine: str = "auto"  # "arrays" or "lanes" (see `training`); auto: lanes for small models
    seed: int = 0
    chunk: int | None = None  # lanes trained at once; None: chosen for the device

    def __post_init__(self) -> None:
        object.__setattr__(self, "density", _axis("density", self.density))
        object.__setattr__(self, "importance", _axis("importance", self.importance))
        _check(self)
        _ = self.training  # checks model, sampler and batch together

    @property
    def shape(self) -> tuple[int, int, int]:
        """[P, V, R]"""
        return len(self.density), len(self.importance), self.restarts

    @property
    def training(self) -> Training:
        """The part of the configuration that is the same in every lane, with all defaults filled in."""
        n, d = self.model.n_features, self.model.n_neurons
        distribution = self.distribution or self.model.distribution
        sampler = Sampler(self.sampler or default_sampler(n, self.batch), distribution, n, self.batch)
        optimizer = self.optimizer or training.adam(self.learning_rate or LEARNING_RATE[self.objective], self.steps)
        engine = training.choose_engine(n, d) if self.engine == "auto" else self.engine
        return Training(self.model, sampler, self.objective, optimizer, self.steps, engine)

    def describe(self) -> dict[str, Any]:
        """The configuration as JSON-serialisable values, with all defaults filled in."""
        fixed = self.training
        rate = None if self.optimizer else self.learning_rate or LEARNING_RATE[self.objective]
        return {
            "model": {
                "name": type(self.model).__name__,
                "n_features": self.model.n_features,
                "n_neurons": self.model.n_neurons,
                "activation": activation_name(self.model),
            },
            "distribution": fixed.sampler.distribution.name,
            "density": list(self.density),
            "importance": list(self.importance),
            "restarts": self.restarts,
            "steps": self.steps,
            "batch": self.batch,
            "sampler": fixed.sampler.name,
            "objective": self.objective,
            "optimizer": "given by the caller" if self.optimizer else f"Adam, cosine decay from {rate:g}",
            "learning_rate": rate,
            "engine": fixed.engine,
            "seed": self.seed,
        }


def run(sweep: Sweep, progress: bool = True) -> Results:
    """Trains every lane of the sweep and evaluates it. The same sweep on the same machine gives the same bits."""
    start = perf_counter()
    arrays = _empty(sweep)
    with _Progress(sweep, progress) as bar:
        for block, outcome in _train_blocks(sweep):
            for name, values in outcome.items():
                arrays[name][block.rows, block.lanes] = values
            bar.done(block)
    shaped = {name: a.reshape(*sweep.shape, *a.shape[2:]) for name, a in arrays.items()}
    config = {**sweep.describe(), "provenance": _provenance(perf_counter() - start)}
    axes = {name: np.asarray(getattr(sweep, name), np.float64) for name in ("density", "importance")}
    return Results(**axes, **shaped, config=config)


class Block(NamedTuple):
    """A rectangle of the grid that is trained at once; lane l of a row is restart l % R of importance l // R."""

    rows: slice
    lanes: slice


def blocks(n_rows: int, n_lanes: int, chunk: int) -> list[Block]:
    """Blocks of equal shape, at most `chunk` lanes in each, that cover the grid. The last ones of a row or a column are
    moved back so as to fit, and so train some lanes again, to the same result."""

    def windows(total: int, size: int) -> list[slice]:
        size = ceil(total / ceil(total / size))
        return [slice(min(i, total - size), min(i, total - size) + size) for i in range(0, total, size)]

    lanes = windows(n_lanes, min(chunk, n_lanes))
    rows = windows(n_rows, max(1, chunk // (lanes[0].stop - lanes[0].start)))
    return [Block(r, c) for r in rows for c in lanes]


def _train_blocks(sweep: Sweep) -> Iterator[tuple[Block, dict[str, np.ndarray]]]:
    """Trains block after block, as many at a time as there are cores; a kernel by itself uses one core well."""
    P, V, R = sweep.shape
    workers = len(os.sched_getaffinity(0)) if jax.default_backend() == "cpu" else 1
    device_chunk = CHUNK.get(jax.default_backend(), CHUNK_ELSEWHERE)
    plan = blocks(P, V * R, sweep.chunk or min(device_chunk, ceil(P * V * R / workers)))
    train = partial(_train_block, sweep)
    yield plan[0], train(plan[0])  # compiles what the others use
    executor = ThreadPoolExecutor(workers)
    try:
        yield from zip(plan[1:], executor.map(train, plan[1:]), strict=True)
    finally:
        executor.shutdown(cancel_futures=True)


def _train_block(sweep: Sweep, block: Block) -> dict[str, np.ndarray]:
    """The results of a block's lanes, each array with leading axes [rows, lanes]."""
    fixed = sweep.training
    density = jnp.asarray(sweep.density, jnp.float32)[block.rows]
    lane = np.arange(block.lanes.start, block.lanes.stop)
    importance = jnp.asarray(sweep.importance, jnp.float32)[lane // sweep.restarts]
    init_key, draw_key, evaluation_key = jax.random.split(jax.random.key(sweep.seed), 3)
    keys = _lane_keys(init_key, density, importance, jnp.asarray(lane % sweep.restarts))
    trained = training.compiled(fixed)(keys, importance, density, draw_key)
    loss, loss_se = evaluation.compiled(fixed)(trained.end, importance, density, evaluation_key)
    capacity, settled = _measure(trained)
    converged = settled & jnp.isfinite(loss)
    names = ("capacity", "loss", "loss_se", "W", "b", "converged")
    values = jax.device_get((capacity, loss, loss_se, *trained.end, converged))
    return dict(zip(names, values, strict=True))


@jax.jit
def _lane_keys(key: Array, density: Array, importance: Array, restart: Array) -> Array:
    """[P, L] initialisation keys, made from the values, so that a cell does not depend on the grid around it."""

    def lane_key(density: Array, importance: Array, restart: Array) -> Array:
        bits = jax.lax.bitcast_convert_type(jnp.stack([density, importance]), jnp.uint32)
        return jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, bits[0]), bits[1]), restart)

    return jax.vmap(jax.vmap(lane_key, (None, 0, 0)), (0, None, None))(density, importance, restart)


@jax.jit
def _measure(trained: training.Trained) -> tuple[Array, Array]:
    """Capacities [..., N], and whether a lane is finite and has settled: no capacity moved by more than SETTLED in
    the second half of training."""
    end, half_way = capacities(trained.end.W), capacities(trained.half_way.W)
    finite = jnp.isfinite(end).all(-1) & jnp.isfinite(trained.end.W).all((-2, -1))
    return end, finite & (jnp.abs(end - half_way).max(-1) <= SETTLED)


class _Progress:
    """The bar: cells done, model-steps a second, time left."""

    def __init__(self, sweep: Sweep, shown: bool) -> None:
        P, V, R = sweep.shape
        self._restarts, self._steps = R, sweep.steps
        self._trained = np.zeros((P, V * R), bool)
        self._start = perf_counter()
        self._bar = tqdm(total=P * V, unit="cell", disable=not shown, dynamic_ncols=True)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def done(self, block: Block) -> None:
        self._trained[block.rows, block.lanes] = True
        lanes = int(self._trained.sum())
        rate = lanes * self._steps / (perf_counter() - self._start)
        self._bar.set_postfix_str(f"{rate / 1e6:.2f} M model-steps/s", refresh=False)
        self._bar.update(lanes // self._restarts - self._bar.n)


def _empty(sweep: Sweep) -> dict[str, np.ndarray]:
    """Arrays [P, V R, ...] for every result of a lane."""
    P, V, R = sweep.shape
    N, D = sweep.model.n_features, sweep.model.n_neurons
    b = jax.eval_shape(sweep.model.init, jax.random.key(0)).b.shape
    shapes = {"capacity": (N,), "loss": (), "loss_se": (), "W": (D, N), "b": b}
    arrays = {name: np.full((P, V * R, *shape), np.nan, np.float32) for name, shape in shapes.items()}
    return {**arrays, "converged": np.zeros((P, V * R), bool)}


def _provenance(wall_time: float) -> dict[str, Any]:
    versions = {name: version(name) for name in ("polyjax", "jax", "jaxlib", "optax", "numpy")}
    return {**versions, "device": jax.devices()[0].device_kind, "wall_time_s": round(wall_time, 2)}


def _axis(name: str, values: Any) -> tuple[float, ...]:
    a = np.asarray(values, np.float64)
    require(a.ndim == 1 and a.size >= 1, name, "be one-dimensional and hold at least one value", values)
    return tuple(a.tolist())


def _check(sweep: Sweep) -> None:
    check_density(np.asarray(sweep.density))
    v = np.asarray(sweep.importance)
    require((v >= 0) & np.isfinite(v), "importance", "be at least 0 and finite", v)
    for name in ("restarts", "steps", "batch", "chunk"):
        value = getattr(sweep, name)
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 1
        require(whole or (name == "chunk" and value is None), name, "be a whole number of at least 1", value)
    require(isinstance(sweep.seed, int) and sweep.seed >= 0, "seed", "be a whole number of at least 0", sweep.seed)
    require(sweep.engine in ("auto", "arrays", "lanes"), "engine", "be auto, arrays or lanes", sweep.engine)
    require(sweep.objective in ("sampled", "expected"), "objective", "be sampled or expected", sweep.objective)
    rate = sweep.learning_rate
    require(rate is None or rate > 0, "learning_rate", "be above 0", rate)
    alone = rate is None or sweep.optimizer is None
    require(alone, "learning_rate", "be left out where an optimizer is given, which has its own", rate)
    if sweep.objective == "expected":
        quadratic = isinstance(sweep.model, Redwood) and sweep.model.activation in ("square", square)
        require(quadratic, "objective", "be sampled for any model but the quadratic Redwood model", "expected")
        d = sweep.distribution or sweep.model.distribution
        require(d.unit_variance and d.moments[0] == 0, "objective", f"be sampled for {d.name} features", "expected")
