"""What workers do to polish a diagram: attempts at minimising, and the evaluation before and after.

Axis letters: G rows of a chunk, L jobs in each, n parameters.
"""

from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from polyjax.engine import certificate, evaluation, execution, polish
from polyjax.engine.cells import Coordinates
from polyjax.engine.devices import Program
from polyjax.engine.training import Training, argument_shapes, scales
from polyjax.runs.continuation import Cells, rank, rank_programs, start
from polyjax.runs.store import Arrays
from polyjax.runs.work import Setting, Shape, Work
from polyjax.toy.model import Parameters, n_parameters


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
    return execution.outcome(fixed, params, lane, found).arrays()


def judged(setting: Setting, fixed: Training, cells: Cells, _: int) -> Arrays:
    """Return the outcome of cells' parameters."""
    params, lane, row = start(setting, fixed, cells)
    found = evaluation.evaluated(fixed, params, lane, row, setting.keys.evaluate)
    return execution.outcome(fixed, params, lane, found).arrays()


def judge_programs(_: Setting, fixed: Training, shape: Shape) -> list[Program]:
    """Return what `judged` runs on [G, L] lanes."""
    return [(evaluation.compiled(fixed), argument_shapes(fixed, shape))]


POLISH, LOOK = Work(polished, attempt_polish, polish_programs), Work(polished, rank, rank_programs)
RANK, JUDGE = LOOK._replace(do=ranked), Work(polished, judged, judge_programs)


def _spectra(fixed: Training, params: Parameters, lane: Coordinates, polished: polish.Polished) -> np.ndarray:
    """Return the spectra [G, L, n] of a chunk of solutions."""
    shape, loss, hessian = polished.before.shape, polished.before, polished.hessian
    of_cells = (params, scales(fixed, params, lane), loss, hessian)
    flat = jax.tree.map(lambda a: np.asarray(a).reshape(prod(shape), *a.shape[2:]), of_cells)
    return certificate.spectrum(fixed.one_model, *flat).reshape(*shape, -1).astype(np.float32)
