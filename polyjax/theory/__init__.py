"""Theory of the toy models, to be held against training, with which it shares no code.

- `quadratic`: the closed-form optimum of the Redwood model with square activation; of features of unequal kurtosis with
  `unequal`.
- `critical`: its neighbourhood of the critical point.
- `explicit`: exact losses of four explicit solutions of the Anthropic model with ReLU, which bound its optimum.
- `pair`: the best antipodal pair, for two of them.
- `correlated`: three explicit solutions of two pairs of correlated features.
"""

from polyjax.theory.correlated import CorrelatedLosses, correlated_losses, correlated_weights
from polyjax.theory.critical import critical_capacity, critical_gain, critical_loss
from polyjax.theory.explicit import (
    ExplicitLosses,
    LeastExplicit,
    best_explicit_losses,
    best_explicit_weights,
    explicit_losses,
    explicit_weights,
    least_explicit,
)
from polyjax.theory.pair import Pair, best_pair, pair_loss
from polyjax.theory.quadratic import (
    Boundaries,
    Phase,
    boundaries,
    expected_loss,
    loss_from_capacity,
    marginal_loss_reduction,
    multiplier,
    optimal_capacity,
    optimal_loss,
    optimal_squared_norm,
    phase,
    squared_norm,
)

__all__ = [
    "Boundaries",
    "CorrelatedLosses",
    "ExplicitLosses",
    "LeastExplicit",
    "Pair",
    "Phase",
    "best_explicit_losses",
    "best_explicit_weights",
    "best_pair",
    "boundaries",
    "correlated_losses",
    "correlated_weights",
    "critical_capacity",
    "critical_gain",
    "critical_loss",
    "expected_loss",
    "explicit_losses",
    "explicit_weights",
    "least_explicit",
    "loss_from_capacity",
    "marginal_loss_reduction",
    "multiplier",
    "optimal_capacity",
    "optimal_loss",
    "optimal_squared_norm",
    "pair_loss",
    "phase",
    "squared_norm",
]
