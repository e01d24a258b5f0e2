"""The outcome of training: arrays of every lane.

Axis letters: P rows, L lanes a row, N features, D neurons.
"""

from typing import NamedTuple

import numpy as np


class Outcome(NamedTuple):
    """Lanes after training, [P, L, ...]."""

    capacity: np.ndarray  # [P, L, N]
    rank_loss: np.ndarray  # [P, L], by which restarts and solutions of a cell are chosen
    loss: np.ndarray  # [P, L], on independent samples
    loss_se: np.ndarray  # [P, L]
    settled: np.ndarray  # [P, L], bool: finite and settled
    W: np.ndarray  # [P, L, D, N]
    b: np.ndarray  # [P, L] or [P, L, N]
