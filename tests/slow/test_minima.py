"""Figure 7 as it was trained, against the best minima that an independent search knows, and against exact losses.

The nine files are those of results/figure7, or of the folder that POLYJAX_RESULTS names.
"""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import polyjax
from sweeps.figure7 import PANELS
from tests import reference

FOLDER = Path(os.environ.get("POLYJAX_RESULTS", Path(__file__).parents[2] / "results" / "figure7"))
EXCESS = 1e-3  # in any cell; a diagram does not show it
MEDIAN_EXCESS = 1e-4  # in half of the cells, so that small steps at the end leave nothing over
NEARLY_BEST = 1e-4  # minima that training in float32, on samples, need not tell from the best
CAPACITY = 0.01  # half a shade of the figure's colours
# Cells of a panel's 22 that may end in another minimum, of no more than EXCESS above the best: in which of two such
# minima a cell ends depends on its restarts. Measured: 2 in Redwood ReLU (0.012 and 0.017 % above), 2 in Redwood GELU
# (0.080 and 0.092 %), none in the other seven panels; twice the restarts find others, and miss as many.
OTHERS = 2
SAMPLED = 200  # cells whose stored losses are checked
# Student's t with 15 degrees of freedom, for 16 shifts, exceeds 3.2 in 0.6 % and 5 in 0.02 %; its mean size is 0.83.
# The shifts are common to the cells of a density, so that there are fewer independent errors than cells.
LARGE_Z, LARGEST_Z, OFTEN = 3.2, 5, 0.03


@cache
def results(panel):
    return polyjax.load(FOLDER / f"{panel}.npz")


@cache
def refined(panel):
    """The final diagram of a panel."""
    return results(panel).select("refined")


@cache
def compared(panel):
    """Every tested cell of a panel with the excess of its trained loss, relative to the best known one."""
    diagram = refined(panel)
    found = []
    for cell in reference.best_known():
        if cell.panel == panel:
            at = cell.row, cell.column
            samples = reference.quadrature(cell.problem)
            trained = reference.expected_loss(cell.problem, diagram.W[at], diagram.b[at], samples).value
            best = reference.expected_loss(cell.problem, cell.W[0], cell.b[0], samples).value
            found.append((cell, trained / best - 1))
    return found


def described(cell, text):
    return (
        f"row {cell.row}, column {cell.column} (p {cell.problem.density:.3g}, V {cell.problem.importance:.3g}): {text}"
    )


@pytest.mark.parametrize("panel", PANELS)
def test_training_ends_in_the_best_minimum_known(panel, capsys):
    cells = compared(panel)
    excess = np.array([e for _, e in cells])
    worse = [described(cell, f"{e:.2%} above") for cell, e in cells if not e <= EXCESS]
    better = [described(cell, f"{-e:.3%} below") for cell, e in cells if e < -NEARLY_BEST]
    if better:
        with capsys.disabled():
            print(
                f"\n{panel} is better than the table, which `python -m tests.data.search` renews:", *better, sep="\n  "
            )
    assert not worse, "\n  ".join([f"{len(worse)} of {len(cells)} cells end in a worse minimum:", *worse])
    assert np.median(excess) <= MEDIAN_EXCESS


@pytest.mark.parametrize("panel", PANELS)
def test_capacities_are_those_of_a_minimum_as_good_as_the_best(panel):
    """A loss that is nearly the best is such a minimum itself: where features are dense, minima come in continuous
    families, of which the table holds a few."""
    others = []
    for cell, excess in compared(panel):
        trained = reference.canonical(reference.capacities(refined(panel).W[cell.row, cell.column].astype(float)))
        good = cell.capacity[cell.loss <= cell.loss[0] * (1 + NEARLY_BEST)]
        gap = abs(reference.canonical(good) - trained).max(-1).min()
        if not (gap <= CAPACITY or excess <= NEARLY_BEST):
            others.append(described(cell, f"differ by {gap:.3f}, loss {excess:.3%} above: {trained.round(3)}"))
    assert len(others) <= OTHERS, "\n  ".join([f"the capacities of {len(others)} cells:", *others])


def test_stored_losses_are_those_of_the_weights_within_their_standard_errors():
    random = np.random.default_rng(7)
    scores = []
    for panel in random.choice(list(PANELS), SAMPLED):
        diagram = refined(panel)
        at = tuple(random.integers(diagram.loss.shape))
        here = reference.problem(panel, results(panel).density[at[0]], results(panel).importance[at[1]])
        error = diagram.loss[at] - reference.expected_loss(here, diagram.W[at], diagram.b[at]).value
        if diagram.loss_se[at] == 0:
            # Exact, but for the rounding in float32 of a sum whose terms, of order one, nearly cancel.
            assert abs(error) <= 1e-5 * diagram.loss[at] + 1e-6, f"{panel} {at}"
        else:
            scores.append(error / diagram.loss_se[at])
    scores = abs(np.array(scores))
    assert (scores > LARGE_Z).mean() <= OFTEN
    assert scores.max() <= LARGEST_Z
    assert scores.mean() < 1
