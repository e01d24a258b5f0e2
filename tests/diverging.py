"""A sweep in which every phase of a run has something to do."""

import numpy as np
import optax

from polyjax import Redwood, Sweep

# Four chunks in the first phase. Of the steps of plain gradient descent most lanes diverge at first, and fewer with
# half and a quarter of them: some settle at the first attempt, some at the second or third, and some at none.
DIVERGING = Sweep(
    Redwood(3, 2),
    density=np.geomspace(0.05, 1, 4),
    importance=(0.3, 1.0, 3.0),
    restarts=2,
    steps=20,
    batch=16,
    chunk=6,
    optimizer=optax.sgd(0.03),
)
