"""Three explicit solutions of the Anthropic ReLU model with two pairs of features in two neurons, and their losses.

Active features are uniform on [0, 1], and all have importance 1 and density p. The two features of a pair are both
active with probability q, features of different pairs with p^2. Elhage et al. 2022 train such pairs with q = p
(correlated) and q = 0 (anticorrelated); the derivation of the losses is ours. They are exact for lengths of 1 and
biases of 0, so that training may do a little better:

- antipodal: a pair shares a neuron, with weights 1 and -1; every feature misses min(x_i, x_j) where both are active
  (see `theory.explicit`), so that the four lose 4 q E[min^2] = 2 q / 3;
- orthogonal: every neuron is shared by a feature of one pair and one of the other, which costs 4 p^2 / 6;
- collapsed: a pair shares a neuron, with two weights of 1 / sqrt(2); both are predicted by their mean, which costs
  E[(x_0 - x_1)^2] / 2 = p / 3 - q / 4 a pair.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real

from polyjax.checks import ArrayLike, doubles, one_of, require


class CorrelatedLosses(NamedTuple):
    """Expected loss of each solution, [...]."""

    antipodal: np.ndarray
    orthogonal: np.ndarray
    collapsed: np.ndarray


def correlated_losses(density: Real[ArrayLike, "*#batch"], both: Real[ArrayLike, "*#batch"]) -> CorrelatedLosses:
    """Return the losses for density p in (0, 1] and probability q in [0, p] that both features of a pair are active;
    the two broadcast against each other. Raises ValueError for values out of range."""
    p, q = np.broadcast_arrays(doubles("density", density), doubles("both", both))
    require((p > 0) & (p <= 1), "density", "be above 0 and at most 1", density)
    require((q >= 0) & (q <= p), "both", "be at least 0 and at most the density", both)
    return CorrelatedLosses(2 * q / 3, 2 * p**2 / 3, 2 * p / 3 - q / 2)


def correlated_weights(solution: str) -> Float[np.ndarray, "2 4"]:
    """Return W [2, 4] of a solution, one of the fields of `CorrelatedLosses`; features 0 and 1 are a pair, 2 and 3 the
    other. All biases are 0."""
    one_of("solution", solution, CorrelatedLosses._fields)
    first, second, half = np.array([1.0, 0.0]), np.array([0.0, 1.0]), 0.5**0.5
    columns = {
        "antipodal": (first, -first, second, -second),
        "orthogonal": (first, second, -first, -second),
        "collapsed": (half * first, half * first, half * second, half * second),
    }
    return np.stack(columns[solution], axis=1)
