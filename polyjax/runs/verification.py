"""Training a few cells of a results file again to compare, so that a file from last month can be trusted.

Axis letters: C cells, R restarts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from operator import attrgetter
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from polyjax.checks import whole
from polyjax.differences import check_same
from polyjax.engine import choice, evaluation, polish
from polyjax.engine.keys import keys
from polyjax.engine.outcome import Outcome, of_names, outcome_of
from polyjax.results import Results, load
from polyjax.runs.attempts import train, training_of
from polyjax.runs.cell_tasks import judged_restarts
from polyjax.runs.grid import Chunk, holder, rectangles
from polyjax.runs.ranking import Losses, sharpened
from polyjax.runs.sizes import parts
from polyjax.runs.work import Setting
from polyjax.sweep import Sweep

if TYPE_CHECKING:
    from polyjax.axes import Axes
    from polyjax.engine.training import Training

# Of capacities, and of losses relatively. On the machine that trained a file the bits are the same; other devices and
# versions round differently, which training contracts to far less than this except next to a phase boundary.
CAPACITY, LOSS = 1e-3, 1e-2
_LANES = attrgetter("capacity", "rank_loss", "loss", "params")
_COMPARED = attrgetter("attempt", "capacity", "loss", "params")


class Comparison(NamedTuple):
    """Comparison of one cell of the file, all restarts of it, with what is computed here."""

    coordinates: dict[str, float]
    same_bits: bool  # the weights when trained again, of all restarts that were trained once
    capacity: float  # the largest difference of a capacity when trained again
    loss: float  # the largest relative difference of a loss when trained again
    of_weights: float  # likewise the largest difference from what the stored weights have, the refined ones too

    @property
    def agrees(self) -> bool:
        return max(self.capacity, self.of_weights) <= CAPACITY and self.loss <= LOSS


def verify(
    path: str | PathLike[str], cells: int = 5, seed: int | None = None, sweep: Sweep | None = None
) -> list[Comparison]:
    """Train random cells of a results file again, by default other ones every time, and compare; of a sweep with sizes
    as many of each, at least one.

    The sweep that the file was made of is needed where its model, features or optimizer are the user's own (see
    `Sweep.from_config`). Raises ValueError where it is left out then, or is another, naming the fields that differ, and
    where the file is not whole.
    """
    cells = whole("cells", cells, 1)
    seed = None if seed is None else whole("seed", seed, 0)
    results = load(path)
    if sweep is not None:
        check_same(results.config, sweep)
    sizes = [*parts(results)]
    sweeps = [None] * len(sizes) if sweep is None else [part for _, part in sweep.by_size] or [sweep]
    found: list[Comparison] = []
    for (values, part), of_part in zip(sizes, sweeps, strict=True):
        compared = _verified(part, of_part or _described(part), -(-cells // len(sizes)), seed)
        found += [cell._replace(coordinates=values | cell.coordinates) for cell in compared]
    return found


def _verified(results: Results, sweep: Sweep, cells: int, seed: int | None) -> list[Comparison]:
    """Compare some cells of the results of a sweep of one size."""
    axes = sweep.layout
    P, V = axes.n_rows, axes.n_columns
    some = np.random.default_rng(seed).choice(P * V, min(cells, P * V), replace=False)
    row, column = np.divmod(np.sort(some), V)
    setting = Setting(sweep, choice.with_engine(sweep.training).engine)
    fixed = setting.training
    stored = jax.tree.map(lambda a: axes.folded(a)[row, column], _LANES(results))
    weights = _of_weights(sweep, judged_restarts(setting), row, column, *stored)
    if results.refined is not None:
        refined = jax.tree.map(lambda a: axes.folded(a)[row, column][:, None], _LANES(results.refined))
        judged = polish.of_cells(fixed, sweep.polish) if sweep.polish else fixed
        weights = np.maximum(weights, _of_weights(sweep, judged, row, column, *refined))
    return [*_compared(axes, results, row, column, _again(setting, results, row, column), weights)]


def _described(results: Results) -> Sweep:
    try:
        return Sweep.from_config(results.config)
    except ValueError as error:
        raise ValueError(f"{error}; polyjax.verify(path, sweep=...) takes the sweep itself") from error


def _again(setting: Setting, results: Results, row: np.ndarray, column: np.ndarray) -> Outcome:
    """Return the outcome [C, R, ...] of training cells, every restart by the attempt that the file has of it."""
    sweep = setting.sweep
    grid, attempt = setting.grid, sweep.layout.folded(results.attempt)[row, column]
    lane = np.ravel_multi_index((row[:, None], column[:, None], np.arange(grid.restarts)), grid)
    whole = _first(setting, results.config.get("shape") or (1, grid.a_row), lane)
    for number in np.unique(attempt[attempt > 0]).tolist():
        again = Outcome.of(train(setting, training_of(setting, number), Chunk(row, lane), number))
        whole = jax.tree.map(_where(attempt == number), again, whole)
    judged = judged_restarts(setting)
    if len(evaluation.levels(judged)) > 1:  # of which training does the first
        whole = whole._replace(loss=_evaluated(sweep, judged, row, column, whole.params).loss)
    return whole


def _first(setting: Setting, shape: tuple[int, int], lane: np.ndarray) -> Outcome:
    """Return the first attempt at lanes [C, R], in the chunks in which the file's were trained, as only these give the
    same bits."""
    chunks = rectangles(setting.grid, shape)
    trained = lru_cache(maxsize=None)(lambda number: Outcome.of(train(setting, setting.training, chunks[number], 0)))

    def outcome(lane: int) -> Outcome:
        number, row, place = holder(chunks, lane)
        return jax.tree.map(lambda a: a[row, place], trained(number))

    together = lambda *a: np.stack(a).reshape(*lane.shape, *a[0].shape)  # noqa: E731
    return jax.tree.map(together, *map(outcome, lane.ravel()))


def _of_weights(
    sweep: Sweep,
    judged: Training,
    row: np.ndarray,
    column: np.ndarray,
    capacity: np.ndarray,
    rank_loss: np.ndarray,
    loss: np.ndarray,
    params: dict[str, np.ndarray],
) -> np.ndarray:
    """Return the largest difference [C] of capacities [C, R, N], or relatively of losses [C, R], from those of
    parameters that are evaluated as `judged` says."""
    found = _evaluated(sweep, judged, row, column, params)
    of_capacity = _apart(capacity, found.capacity).max((1, 2))
    of_losses = (_apart(rank_loss, found.rank_loss, relative=True), _apart(loss, found.loss, relative=True))
    return np.maximum(of_capacity, np.maximum(*of_losses).max(1))


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


def _compared(
    axes: Axes, results: Results, row: np.ndarray, column: np.ndarray, again: Outcome, of_weights: np.ndarray
) -> Iterator[Comparison]:
    attempt, capacity, loss, params = jax.tree.map(axes.folded, _COMPARED(results))
    for i, (p, v) in enumerate(zip(row, column, strict=True)):
        once, weights = attempt[p, v] == 0, [(a[p, v], again.params[name][i]) for name, a in params.items()]
        yield Comparison(
            axes.coordinates(p, v),
            all(a[once].tobytes() == b[once].tobytes() for a, b in weights) and bool(once.any()),
            float(_apart(capacity[p, v], again.capacity[i]).max()),
            float(_apart(loss[p, v], again.loss[i], relative=True).max()),
            float(of_weights[i]),
        )


def _apart(a: np.ndarray, b: np.ndarray, relative: bool = False) -> np.ndarray:
    """Return the difference; none where both are NaN or the same infinity, infinitely large where only one is."""
    scale = np.maximum(abs(a), abs(b)) if relative else np.ones_like(a)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(same, 0, np.nan_to_num(abs(a - b) / scale, nan=np.inf))
