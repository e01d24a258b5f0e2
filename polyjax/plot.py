"""Pictures of results: one call each, on an Axes of yours or alone. Each returns the Axes.

    ax = polyjax.plot.diagram(results)
    ax.figure.savefig("diagram.pdf")

Without `ax` a picture has a figure of its own, of the size of print and in the style of polyjax's figures; with one it
is drawn under your own settings. `polyjax.plot.style()` is a context manager of that style. Axes that are not drawn are
fixed by keyword at the value that is nearest, such as `polyjax.plot.diagram(results, rate=0.01)`.
"""

from polyjax.draw.curves import cut, dimensionality
from polyjax.draw.diagrams import blocks, compare, diagram, difference
from polyjax.draw.history import film, history
from polyjax.draw.networks import embedding, gram, restarts
from polyjax.draw.style import style

__all__ = [
    "blocks",
    "compare",
    "cut",
    "diagram",
    "difference",
    "dimensionality",
    "embedding",
    "film",
    "gram",
    "history",
    "restarts",
    "style",
]
