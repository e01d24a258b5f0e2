"""Training a few cells of a results file again to compare, so that a file from last month can be trusted.

Axis letters: C cells, R restarts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from os import PathLike
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from polyjax.checks import require, shown, whole
from polyjax.differences import check_same
from polyjax.engine import choice, devices, evaluation, polish
from polyjax.engine.keys import keys
from polyjax.engine.outcome import Outcome, of_names, outcome_of
from polyjax.results import Results, load
from polyjax.runs.attempts import train, training_of
from polyjax.runs.cell_tasks import judged_restarts
from polyjax.runs.comparison import (
    CAPACITY,
    Comparison,
    Differences,
    apart,
    compared,
    losses,
    of_refining,
    of_training,
    renamed,
)
from polyjax.runs.grid import Chunk, holder, rectangles
from polyjax.runs.ranking import Losses, sharpened
from polyjax.runs.sizes import parts
from polyjax.runs.work import Setting
from polyjax.selection import is_parameter
from polyjax.sweep import Sweep
from polyjax.toy.model import EMBEDDING

if TYPE_CHECKING:
    from polyjax.engine.training import Training
    from polyjax.runs.store import Arrays

PART = 16  # cells at a time, whose samples fit the memory


def verify(
    path: str | PathLike[str], cells: int = 5, seed: int | None = None, sweep: Sweep | None = None
) -> list[Comparison]:
    """Train random cells of a results file again, by default other ones every time, and compare; of a sweep with sizes
    as many of each, at least one.

    All arrays of these cells are compared with what training gives again, and with what the stored weights have. A
    refined or polished cell, which follows from others, is compared with what its weights and the restarts tell: not
    compared are the value of its `excess`, its `spectrum`, and whether a cell that refining improved has settled.

    The sweep that the file was made of is needed where its model, features or optimizer are the user's own (see
    `Sweep.from_config`). Raises ValueError where it is left out then, or is another, naming the fields that differ, and
    where the file is not whole, or has other axes than its configuration.
    """
    cells = whole("cells", cells, 1)
    seed = None if seed is None else whole("seed", seed, 0)
    devices.check()
    results = load(path)
    _check_axes(results)
    if sweep is not None:
        check_same(results.config, sweep)
    sizes = [*parts(results)]
    sweeps = [None] * len(sizes) if sweep is None else [part for _, part in sweep.by_size] or [sweep]
    found: list[Comparison] = []
    for (values, part), of_part in zip(sizes, sweeps, strict=True):
        compared = _verified(part, of_part or _described(part), -(-cells // len(sizes)), seed)
        found += [cell._replace(coordinates=values | cell.coordinates) for cell in compared]
    return found


def _verified(results: Results, sweep: Sweep, cells: int, seed: int | None) -> Iterator[Comparison]:
    """Compare some cells of the results of a sweep of one size, in parts."""
    axes = sweep.layout
    P, V = axes.n_rows, axes.n_columns
    of_sweep = *map(len, sweep.coordinates.values()), sweep.restarts, sweep.training.one_model.n_features
    must = f"name a file of {[*of_sweep]} capacities, as its configuration says"
    require(results.capacity.shape == of_sweep, "path", must, [*results.capacity.shape])
    some = np.sort(np.random.default_rng(seed).choice(P * V, min(cells, P * V), replace=False))
    setting = Setting(sweep, choice.with_engine(sweep.training).engine)
    trained = _chunks(setting, results.config.get("shape") or (1, setting.grid.a_row))
    arrays = {name: axes.folded(a) for name, a in results.arrays().items()}
    of_refined = {name: axes.folded(a) for name, a in results.refined.arrays().items()} if results.refined else {}
    for part in np.array_split(some, -(-some.size // PART)):
        row, column = np.divmod(part, V)
        stored, refined = ({name: a[row, column] for name, a in each.items()} for each in (arrays, of_refined))
        again = _again(setting, trained, stored["attempt"], row, column)
        differences = [of_training(stored, again), _of_weights(sweep, judged_restarts(setting), row, column, stored)]
        if refined:
            judged = polish.of_cells(setting.training, sweep.polish) if sweep.polish else setting.training
            lanes = {name: a[:, None] for name, a in refined.items() if name not in ("gain", "excess", "spectrum")}
            of_weights = _of_weights(sweep, judged, row, column, lanes)
            differences += [renamed(of_weights), of_refining(stored, refined, bool(sweep.polish))]
        yield from compared(axes, row, column, stored, again, differences)


def _check_axes(results: Results) -> None:
    """Raise ValueError unless the axes of a file are those of its configuration."""
    said = results.config.get("axes") or {}
    for name, values in results.axes.items():
        must = f"name a file whose {name} is that of its configuration, {shown(said.get(name))}"
        require(np.array_equal(said.get(name, ()), values), "path", must, values)


def _described(results: Results) -> Sweep:
    try:
        return Sweep.from_config(results.config)
    except ValueError as error:
        raise ValueError(f"{error}; polyjax.verify(path, sweep=...) takes the sweep itself") from error


def _chunks(setting: Setting, shape: tuple[int, int]) -> Callable[[int], Outcome]:
    """Return what trains a lane for the first time, in the chunk in which the file's was trained, as only that gives
    the same bits."""
    chunks = rectangles(setting.grid, shape)
    trained = lru_cache(maxsize=None)(lambda number: Outcome.of(train(setting, setting.training, chunks[number], 0)))

    def outcome(lane: int) -> Outcome:
        number, row, place = holder(chunks, lane)
        return jax.tree.map(lambda a: a[row, place], trained(number))

    return outcome


def _again(
    setting: Setting, trained: Callable[[int], Outcome], attempt: np.ndarray, row: np.ndarray, column: np.ndarray
) -> Outcome:
    """Return the outcome [C, R, ...] of training cells, every restart by the attempt that the file has of it."""
    grid = setting.grid
    lane = np.ravel_multi_index((row[:, None], column[:, None], np.arange(grid.restarts)), grid)
    together = lambda *a: np.stack(a).reshape(*lane.shape, *a[0].shape)  # noqa: E731
    whole = jax.tree.map(together, *map(trained, lane.ravel().tolist()))
    for number in np.unique(attempt[attempt > 0]).tolist():
        again = Outcome.of(train(setting, training_of(setting, number), Chunk(row, lane), number))
        whole = jax.tree.map(_where(attempt == number), again, whole)
    judged = judged_restarts(setting)
    if len(evaluation.levels(judged)) > 1:  # of which training does the first
        found = _evaluated(setting.sweep, judged, row, column, whole.params)
        whole = whole._replace(rank_loss=found.rank_loss, loss=found.loss, loss_se=found.loss_se)
    return whole


def _of_weights(sweep: Sweep, judged: Training, row: np.ndarray, column: np.ndarray, stored: Arrays) -> Differences:
    """Return by how much the arrays of a file differ from those of its parameters, evaluated as `judged` says."""
    params = {name: a for name, a in stored.items() if is_parameter(name)}
    found = _evaluated(sweep, judged, row, column, params).arrays()
    embedding = {EMBEDDING} & stored.keys()
    return losses(stored, found, CAPACITY) | {
        "capacity": (apart(stored["capacity"], found["capacity"]), CAPACITY),
        **{name: (apart(stored[name], found[name]), CAPACITY) for name in embedding},
    }


def _evaluated(
    sweep: Sweep, judged: Training, row: np.ndarray, column: np.ndarray, params: Mapping[str, np.ndarray]
) -> Outcome:
    """Return the outcome [C, R, ...] of parameters, evaluated as `judged` says and ranked as a run does it."""
    axes, key = sweep.layout, keys(sweep.seed).evaluate
    restarts = len(next(iter(params.values()))[0])
    rows, columns = (np.repeat(a[:, None], restarts, axis=1) for a in (row, column))
    lane = axes.of_cells(rows, columns, judged.lane_axes)
    end = of_names(jax.tree.map(jnp.asarray, params), judged.one)
    arguments = end, lane, axes.of_row(row), key
    found = outcome_of(judged, end, lane, evaluation.compiled_first(judged)(*arguments))
    levels = evaluation.levels(judged)
    if len(levels) == 1:
        return found

    def rank(which: np.ndarray, number: int) -> np.ndarray:
        since, tiles = map(np.int32, levels[number : number + 2])
        return np.asarray(evaluation.compiled_rank(judged)(*arguments, tiles, since))[which]

    def report(which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        loss, loss_se = map(np.asarray, evaluation.compiled_report(judged)(*arguments))
        return loss[which], loss_se[which]

    first = Losses(found.rank_loss, found.loss, found.loss_se)
    return found._replace(**sharpened(first, levels, rank, report)._asdict())


def _where(chosen: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """`np.where` over [C, R] for arrays with more axes."""
    return lambda a, b: np.where(chosen.reshape(*chosen.shape, *(1,) * (a.ndim - 2)), a, b)
