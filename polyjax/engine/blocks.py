"""Steps in blocks: the batches of a block are drawn together, and snapshots are taken between blocks."""

import numpy as np

DRAWN_AT_ONCE, DRAWN_AT_ONCE_BETWEEN_SNAPSHOTS = 50, 10  # steps whose batches are drawn together, outside the step


def block_of(steps: int, snapshots: int = 0) -> int:
    """Return how many steps have their batches drawn together: fewer where snapshots are taken between blocks."""
    return max(1, min(DRAWN_AT_ONCE_BETWEEN_SNAPSHOTS if snapshots else DRAWN_AT_ONCE, steps // 2))


def snapshot_steps(steps: int, snapshots: int) -> tuple[int, ...]:
    """Return after how many steps so many snapshots, at most, are taken: 0, about geometric numbers between blocks, and
    all."""
    if not snapshots:
        return ()
    at_once = block_of(steps, snapshots)
    blocks = np.geomspace(1, steps / at_once, snapshots - 1)[:-1]
    between = (np.unique(blocks.round().astype(int)) * at_once).tolist()
    return 0, *(step for step in between if step < steps), steps
