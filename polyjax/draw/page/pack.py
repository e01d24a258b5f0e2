"""What a page holds of results: numbers of every cell, packed into as few bytes as their digits need.

Cells are numbered in row-major order of the axes. Axis letters: K cells, R restarts, D neurons, N features. Capacities
are 16-bit fractions of 1, and embeddings of the network that is shown 16-bit fractions of its largest entry; of the
restarts a page has capacities and losses.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polyjax.draw import shapes, slices
from polyjax.draw.arrows import projected
from polyjax.draw.scales import Scale
from polyjax.theory import grid

if TYPE_CHECKING:
    from polyjax.results import Results
    from polyjax.selection import Selection

FULL = 2**16 - 1  # stands for a capacity of 1
LARGEST = 2**15 - 1  # stands for the largest entry of an embedding
IGNORED = 255  # the block of a feature that is in none


class Blocks(NamedTuple):
    """The blocks of the networks that are shown, and where their arrows are drawn."""

    label: np.ndarray  # [K, N] uint8, by size; IGNORED
    rank: np.ndarray  # [K, N] uint8, of the feature's block
    arrow: np.ndarray  # [K, N, 2], in the plane of the feature's block


def packed(name: str, results: Results, rule: str | None) -> dict[str, Any]:
    """Return all that a page holds of results, JSON-serialisable. Raises ValueError for a rule that averages."""
    rule = slices.default_rule(results, rule)
    selection = results.select(rule)
    W = slices.embeddings(selection)
    cells = W.shape[: len(results.axes)]
    found = _blocks(results, selection, rule)
    arrays = _of_restarts(results) | _of_cells(results, selection) | _scaled("W", W) | _scaled("arrow", found.arrow)
    arrays |= {"label": found.label, "rank": found.rank}
    theory = _theory(results)
    return {
        "name": name,
        "rule": rule,
        "axes": [_axis(axis, values) for axis, values in results.axes.items()],
        "sizes": {"R": results.loss.shape[-1], "D": W.shape[-2], "N": W.shape[-1], "K": int(np.prod(cells))},
        "has_theory": bool(theory),
        "is_paper": grid.is_of_paper(results.config),
        "arrays": {key: _bytes(a) for key, a in (arrays | theory).items()},
    }


def _axis(name: str, values: np.ndarray) -> dict[str, Any]:
    scale = Scale(name, values)
    return {"name": name, "values": [float(v) for v in values], "order": [int(i) for i in scale.order]}


def _of_restarts(results: Results) -> dict[str, np.ndarray]:
    """Capacities [K, R, N], losses [K, R], whether they settled and their attempts [K, R]; and the restarts in order of
    the losses by which they are chosen [K, R], failed ones last."""
    finite = np.isfinite(results.loss) & np.isfinite(results.rank_loss)
    order = np.argsort(np.where(finite, results.rank_loss, np.inf), axis=-1, kind="stable")
    state = results.settled.astype(np.uint8) + 2 * np.minimum(results.attempt, 100).astype(np.uint8)
    return {
        "capacities": _fractions(results.capacity),
        "losses": results.loss.astype(np.float32),
        "order": order.astype(np.uint8 if order.shape[-1] <= 256 else np.uint16),
        "state": state,
    }


def _of_cells(results: Results, selection: Selection) -> dict[str, np.ndarray]:
    """Of the network that is shown: its capacities [K, N], loss and standard error [K], and whether it settled."""
    return {
        "capacity": _fractions(selection.capacity),
        "loss": selection.loss.astype(np.float32),
        "loss_se": selection.loss_se.astype(np.float32),
        "settled": selection.settled.astype(np.uint8),
    }


def _theory(results: Results) -> dict[str, np.ndarray]:
    """The optimal capacities [K, N] and loss [K], and the kurtosis [K], where there is a closed form."""
    if not grid.has_closed_form(results.config):
        return {}
    form = grid.closed_form(results.config)
    optimum, loss = grid.capacity(form, results.axes), grid.loss(form, results.axes)
    k = grid.problem(form, results.axes).kurtosis
    return {"optimum": _fractions(optimum), "least": loss.astype(np.float32), "kurtosis": k.astype(np.float32)}


def _blocks(results: Results, selection: Selection, rule: str) -> Blocks:
    W, C = (a.reshape(-1, *a.shape[len(results.axes) :]) for a in (slices.embeddings(selection), selection.capacity))
    block, rank = shapes.members(W, C, shapes.tolerance_of(results, rule))
    W = np.where(np.isfinite(W).all((1, 2))[:, None, None], W, 0)
    arrow = np.zeros((*C.shape, 2))
    for b in range(block.max() + 1):
        member = (block == b) | (b == 0) & (block < 0)  # what is ignored is drawn in the first plane
        arrow = np.where(member[..., None], np.swapaxes(projected(W, block == b), 1, 2), arrow)
    return Blocks(np.where(block < 0, IGNORED, block).astype(np.uint8), rank.astype(np.uint8), arrow)


def _fractions(capacity: np.ndarray) -> np.ndarray:
    """Return 16-bit fractions of 1; 0 where a capacity is unknown, which the loss tells."""
    return np.rint(np.nan_to_num(np.clip(capacity, 0, 1)) * FULL).astype(np.uint16)


def _scaled(name: str, a: np.ndarray) -> dict[str, np.ndarray]:
    """Return 16-bit fractions of the largest entry of each matrix, and that entry."""
    a = np.nan_to_num(a, posinf=0, neginf=0)
    largest = np.maximum(abs(a).max((-2, -1)), 1e-30).astype(np.float32)
    return {name: np.rint(a / largest[..., None, None] * LARGEST).astype(np.int16), f"{name}_scale": largest}


def _bytes(a: np.ndarray) -> dict[str, str]:
    return {"type": a.dtype.name, "data": b64encode(np.ascontiguousarray(a).tobytes()).decode()}
