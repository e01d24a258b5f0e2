"""polyjax trains whole phase diagrams of toy models at once, to be drawn beside the theory of feature capacity.

Arrays have the axes of the grid first, then restart R, neuron D and feature N. In the paper's grid these are density
and importance: the density is the probability that a feature is non-zero, sparsity is 1 - density; the importance is
that of feature 0, all others have importance 1.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from polyjax import embedding, theory
from polyjax.cell import Cell
from polyjax.embedding.capacity import capacities, isotropic_capacities
from polyjax.recipes import read_sweep
from polyjax.results import Results, load
from polyjax.runs.adaptive import run_adaptively
from polyjax.runs.run import run
from polyjax.runs.to_file import run_to_file
from polyjax.runs.verification import verify
from polyjax.selection import Selection
from polyjax.sweep import Sweep
from polyjax.toy import activity, distributions
from polyjax.toy.features import Features
from polyjax.toy.model import Model
from polyjax.toy.models import Anthropic, Params, Redwood

if TYPE_CHECKING:
    from polyjax import phases, plot
    from polyjax.draw.page import explore

__all__ = [
    "Anthropic",
    "Cell",
    "Features",
    "Model",
    "Params",
    "Redwood",
    "Results",
    "Selection",
    "Sweep",
    "activity",
    "capacities",
    "distributions",
    "embedding",
    "explore",
    "isotropic_capacities",
    "load",
    "phases",
    "plot",
    "read_sweep",
    "run",
    "run_adaptively",
    "run_to_file",
    "theory",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import `polyjax.plot`, `polyjax.phases` and `polyjax.explore` when they are first used, and matplotlib or Bokeh
    with them."""
    if name in ("phases", "plot"):
        return import_module(f"polyjax.{name}")
    if name == "explore":
        return import_module("polyjax.draw.page").explore
    raise AttributeError(f"module polyjax has no attribute {name}")
