"""What workers do with cells that are continued from solutions: rank these, polish them, and evaluate what comes out.

Axis letters: G rows of a chunk, L jobs in each, n parameters.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from polyjax.engine import certificate, evaluation, polish, timing
from polyjax.engine.outcome import of_names, outcome_of
from polyjax.engine.training import Training, argument_shapes, scales
from polyjax.runs.work import Setting, Shape, Work
from polyjax.toy.model import Parameters, n_parameters

if TYPE_CHECKING:
    from polyjax.engine.cells import Coordinates
    from polyjax.engine.devices import Program
    from polyjax.runs.jobs import Cells
    from polyjax.runs.store import Arrays

TILES = (evaluation.FINE.tiles, 64)  # on which solutions are ranked at first, and again where that leaves it open


def start(
    setting: Setting, fixed: Training, cells: Cells
) -> tuple[Parameters, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the parameters [G, L, ...] from which cells start, and the coordinates [G, L] of their lanes and [G] of
    their rows.

    A neighbour's embeddings are rescaled to the lengths that they would have here: what is optimal for one importance
    can be hundreds of times worse than the optimum for the next where a feature is important.
    """
    params = of_names(jax.tree.map(jnp.asarray, cells.params), fixed.one)
    here = coordinates(setting, fixed, cells)
    if cells.origin is None:
        return params, *here
    there = setting.sweep.layout.of_cells(*cells.origin, fixed.lane_axes)
    return _rescaled(fixed, params, there, here[0]), *here


@partial(jax.jit, static_argnums=0)
def _rescaled(fixed: Training, params: Parameters, there: Coordinates, here: Coordinates) -> Parameters:
    """Return parameters [G, L, ...] of lanes `there` as they would be `here`."""
    a, scale = scales(fixed, params, there), scales(fixed, params, here)
    if a is None or scale is None:
        return params
    ratio = jnp.where((a > 0) & (scale > 0), scale / jnp.where(a > 0, a, 1), 1)
    return params._replace(W=params.W * ratio[..., None, :])


def coordinates(setting: Setting, fixed: Training, cells: Cells) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the coordinates of lanes [G, L] and those of their rows [G]."""
    axes, row = setting.sweep.layout, np.broadcast_to(cells.row[:, None], cells.shape)
    return axes.of_cells(row, cells.column, fixed.lane_axes), axes.of_row(cells.row)


def rank(setting: Setting, fixed: Training, cells: Cells, attempt: int) -> Arrays:
    """Return the ranking loss [G, L] of the solutions that cells start from, in the attempt at it of this number."""
    key, tiles = setting.keys.evaluate, np.int32(TILES[attempt])
    with timing.part("evaluation"):
        return {"rank_loss": np.asarray(evaluation.compiled_rank(fixed)(*start(setting, fixed, cells), key, tiles))}


def rank_programs(_: Setting, fixed: Training, shape: Shape) -> list[Program]:
    """Return what `rank` runs on [G, L] lanes."""
    return [evaluation.rank_program(fixed, shape)]


def polished(setting: Setting, _: int = 0) -> Training:
    """Return how the cells of a sweep are polished and evaluated."""
    return polish.of_cells(setting.training, setting.sweep.polish)


def attempt_polish(setting: Setting, fixed: Training, cells: Cells, attempt: int) -> Arrays:
    """Minimise from the solutions that cells start from, in the attempt of this number."""
    params, lane, row = start(setting, fixed, cells)
    found = polish.polish(fixed, params, lane, row, setting.keys.polish, attempt)
    arrays = {"before": found.before, "after": found.after, **found.end._asdict()}
    return arrays if attempt == 0 else arrays | {"spectrum": _spectra(fixed, params, lane, found)}


def polish_programs(_: Setting, fixed: Training, shape: Shape) -> list[Program]:
    """Return what any attempt runs on [G, L] lanes."""
    _, lane, row, key = argument_shapes(fixed, shape)
    points = jax.ShapeDtypeStruct((*shape, polish.POINTS, n_parameters(fixed.one_model)), jnp.float32)
    number, data = jax.ShapeDtypeStruct((), jnp.int32), polish.compiled_data(fixed, shape[0])
    losses = points, number, lane, row, jax.eval_shape(data, row, key), number
    return [(polish.compiled(fixed), losses), (data, (row, key))]


def ranked(setting: Setting, fixed: Training, cells: Cells, _: int) -> Arrays:
    """Return the outcome of cells' parameters, whose ranking loss stands for the one that is reported."""
    params, lane, row = start(setting, fixed, cells)
    found = evaluation.ranked(fixed, params, lane, row, setting.keys.evaluate)
    return outcome_of(fixed, params, lane, found).arrays()


def judged(setting: Setting, fixed: Training, cells: Cells, _: int) -> Arrays:
    """Return the outcome of cells' parameters."""
    params, lane, row = start(setting, fixed, cells)
    found = evaluation.evaluated(fixed, params, lane, row, setting.keys.evaluate)
    return outcome_of(fixed, params, lane, found).arrays()


def judge_programs(_: Setting, fixed: Training, shape: Shape) -> list[Program]:
    """Return what `judged` runs on [G, L] lanes."""
    return [(evaluation.compiled(fixed), argument_shapes(fixed, shape))]


def judged_restarts(setting: Setting, _: int = 0) -> Training:
    """Return how all restarts of a sweep are evaluated."""
    return polish.of_restarts(setting.training, setting.sweep.polish) or setting.training


def sharpen(setting: Setting, fixed: Training, cells: Cells, level: int) -> Arrays:
    """Return the ranking loss [G, L] of parameters on what a level has more samples than the one before."""
    since, tiles = map(np.int32, evaluation.levels(fixed)[level : level + 2])
    with timing.part("evaluation"):
        arguments = *start(setting, fixed, cells), setting.keys.evaluate, tiles, since
        return {"rank_loss": np.asarray(evaluation.compiled_rank(fixed)(*arguments))}


def sharpen_programs(_: Setting, fixed: Training, shape: Shape) -> list[Program]:
    """Return what `sharpen` runs on [G, L] lanes."""
    program, arguments = evaluation.rank_program(fixed, shape)
    return [(program, (*arguments, arguments[-1]))]


def report(setting: Setting, fixed: Training, cells: Cells, _: int) -> Arrays:
    """Return the loss [G, L] of parameters that is reported, and its standard error."""
    with timing.part("evaluation"):
        found = evaluation.compiled_report(fixed)(*start(setting, fixed, cells), setting.keys.evaluate)
        return dict(zip(("loss", "loss_se"), map(np.asarray, found), strict=True))


def report_programs(_: Setting, fixed: Training, shape: Shape) -> list[Program]:
    """Return what `report` runs on [G, L] lanes."""
    return [(evaluation.compiled_report(fixed), argument_shapes(fixed, shape))]


SHARPEN = Work(judged_restarts, sharpen, sharpen_programs)
REPORT = Work(judged_restarts, report, report_programs)
POLISH, LOOK = Work(polished, attempt_polish, polish_programs), Work(polished, rank, rank_programs)
RANK, JUDGE = LOOK._replace(do=ranked), Work(polished, judged, judge_programs)


def _spectra(fixed: Training, params: Parameters, lane: Coordinates, polished: polish.Polished) -> np.ndarray:
    """Return the spectra [G, L, n] of a chunk of solutions."""
    shape, loss, hessian = polished.before.shape, polished.before, polished.hessian
    of_cells = (params, scales(fixed, params, lane), loss, hessian)
    flat = jax.tree.map(lambda a: np.asarray(a).reshape(prod(shape), *a.shape[2:]), of_cells)
    return certificate.spectrum(fixed.one_model, *flat).reshape(*shape, -1).astype(np.float32)
