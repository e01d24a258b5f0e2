"""polyjax trains whole phase diagrams of toy models at once, to be drawn beside the theory of feature capacity.

Axes, always in this order: density P, importance V, restart R, neuron D, feature N. The density is the probability that
a feature is non-zero, sparsity is 1 - density. The swept importance is that of feature 0; the others have importance 1.
"""

from polyjax import embedding, theory
from polyjax.embedding.capacity import capacities, isotropic_capacities
from polyjax.results import Results, Selection, load
from polyjax.runs.run import run, run_to_file
from polyjax.sweep import Sweep
from polyjax.toy import distributions
from polyjax.toy.models import Anthropic, Params, Redwood

__all__ = [
    "Anthropic",
    "Params",
    "Redwood",
    "Results",
    "Selection",
    "Sweep",
    "capacities",
    "distributions",
    "embedding",
    "isotropic_capacities",
    "load",
    "run",
    "run_to_file",
    "theory",
]
