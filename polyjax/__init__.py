"""polyjax trains whole phase diagrams of toy models at once, to be drawn beside the theory of feature capacity.

Axes, always in this order: density P, importance V, restart R, neuron D, feature N. The density is the probability that
a feature is non-zero, sparsity is 1 - density. The swept importance is that of feature 0; the others have importance 1.
"""

from polyjax import distributions, theory
from polyjax.capacity import capacities, isotropic_capacities
from polyjax.models import Anthropic, Params, Redwood
from polyjax.results import Results, Selection, load
from polyjax.runs import run, run_to_file
from polyjax.sweep import Sweep

__all__ = [
    "Anthropic",
    "Params",
    "Redwood",
    "Results",
    "Selection",
    "Sweep",
    "capacities",
    "distributions",
    "isotropic_capacities",
    "load",
    "run",
    "run_to_file",
    "theory",
]
