"""The page as a whole: its widgets, its layout and its HTML."""

import json
import os
from collections.abc import Mapping, Sequence
from html import escape
from itertools import count
from pathlib import Path
from typing import Any

from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.layouts import column, gridplot, row
from bokeh.models import CustomJS, Div, RadioButtonGroup, Range1d, Slider, Spinner
from bokeh.resources import INLINE

from polyjax import files
from polyjax.checks import a_path, require
from polyjax.draw import slices
from polyjax.draw.page import figures
from polyjax.draw.page.colours import mappers
from polyjax.draw.page.pack import packed
from polyjax.results import Results

QUANTITIES = ("capacity", "loss", "excess", "blocks", "largest", "settled", "attempt")  # in the order of page.js
SCRIPT = Path(__file__).with_name("page.js")
ONE, SEVERAL, COLUMNS = 480, 230, 3  # pixels of a diagram's side where there is one, or are several; of these in a row
HEIGHT = 1250  # pixels, in a notebook
_numbers = count()


class Page:
    """A page of HTML that holds everything it needs; in a notebook it shows itself."""

    def __init__(self, html: str) -> None:
        self.html = html

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page into a file."""
        path = a_path(path)
        files.make_folder(path.parent)
        path.write_text(self.html, encoding="utf-8")

    def _repr_html_(self) -> str:
        """A frame of its own, so that the page and the notebook share no code."""
        frame = f'width="100%" height="{HEIGHT}" style="border: 0"'
        return f'<iframe srcdoc="{escape(self.html)}" {frame}></iframe>'


def explore(results: Results | Mapping[str, Results], rule: str | None = None) -> Page:
    """Return a page on which to look at results: a diagram of the first two axes with sliders for the others, coloured
    by any of `QUANTITIES`; of the cell that is clicked, its embedding, W^T W, all restarts, blocks and the theory.

    Args:
        results: of any axes; or several by name, whose diagrams are shown side by side and linked by coordinates.
        rule: over restarts (see `Results.select`), best or refined; None: refined where there is such a diagram.

    Returns:
        The page, which a notebook shows and `save(path)` writes. Raises ValueError for a rule that averages, and where
        several results differ in the names of their axes or in the values of those beyond the first two.
    """
    named = {"results": results} if isinstance(results, Results) else results
    _check(named)
    name = f"page{next(_numbers)}"
    rules = [slices.default_rule(each, rule) for each in named.values()]
    panels = [packed(title, each, rule) for title, each in named.items()]
    models, layout = _models(named, rules, name)
    document = Document()
    document.add_root(layout)
    start = CustomJS(args={"text": json.dumps(panels), "given": models, "name": name}, code=_script())
    document.js_on_event("document_ready", start)
    return Page(file_html(document, INLINE, title=f"polyjax: {', '.join(named)}"))


def _check(named: Mapping[str, Results]) -> None:
    several = (
        isinstance(named, Mapping) and len(named) > 0 and all(isinstance(each, Results) for each in named.values())
    )
    require(several, "results", "be Results, or several by name", named)
    first, *others = named.values()
    for results in others:
        same = [*results.axes] == [*first.axes]
        require(same, "results", f"all have the axes {', '.join(first.axes)}", ", ".join(results.axes))
        for axis in [*first.axes][2:]:
            equal = [*results.axes[axis]] == [*first.axes[axis]]
            require(equal, "results", f"all have the same values of {axis}", [*results.axes[axis]])


def _script() -> str:
    """Return page.js after what turns Bokeh's maps into objects."""
    plain = (
        "const plain = (x) => x instanceof Map ? Object.fromEntries([...x].map(([k, v]) => [k, plain(v)]))\n"
        "  : Array.isArray(x) ? x.map(plain)\n"
        "  : x?.constructor === Object ? Object.fromEntries(Object.entries(x).map(([k, v]) => [k, plain(v)])) : x\n"
        "const models = plain(given), panels = JSON.parse(text)\n"
    )
    return plain + SCRIPT.read_text(encoding="utf-8")


def _models(named: Mapping[str, Results], rules: Sequence[str], name: str) -> tuple[dict[str, Any], Any]:
    """Return the models that page.js changes, by name, and the layout of all."""
    colors = mappers([*named.values()], rules)
    diagrams = _diagrams(named, colors, name)
    sliders = _sliders(next(iter(named.values())), name)
    help_text = "Click a cell to see its network. Orange crosses: not settled; black crosses on grey: failed."
    arrows, W, gram = figures.arrows(), figures.matrix("W", figures.SIDE), figures.matrix("WᵀW", figures.SIDE)
    restarts, gain = figures.restarts(), figures.gain()
    most = max(results.capacity.shape[-1] for results in named.values()) - 1
    again = CustomJS(code=_call(name, "colour()"))
    quantity = RadioButtonGroup(labels=[*QUANTITIES], active=0, name="quantity")
    quantity.js_on_change("active", again)
    feature = Spinner(title="feature", low=0, high=most, step=1, value=0, width=70)
    feature.js_on_change("value", again)
    hover, title, table = Div(text=help_text, name="hover"), Div(name="title"), Div(name="table")
    models: dict[str, Any] = {"diagrams": diagrams, "sliders": sliders, "quantity": quantity, "feature": feature}
    models |= {"hover": hover, "title": title, "table": table, "matrices": {"W": W, "gram": gram}}
    for each in (arrows, restarts, gain):
        models |= {key: value for key, value in each.items() if key not in ("figure", "figures")}
    plots = [each["figure"] for each in diagrams]
    several = gridplot(plots, ncols=COLUMNS, toolbar_location="right") if len(plots) > 1 else plots[0]
    left = column(row(quantity, feature), *(row(each["slider"], each["label"]) for each in sliders), hover, several)
    cell = column(
        title,
        row(table, column(row(W["figure"], gram["figure"]))),
        arrows["figure"],
        *restarts["figures"],
        gain["gain"],
    )
    return models, row(left, cell)


def _call(name: str, call: str) -> str:
    """Return code that calls a function of page.js, once it is there."""
    return f"window.polyjax_pages?.{name}?.{call}"


def _diagrams(named: Mapping[str, Results], colors: Any, name: str) -> list[dict[str, Any]]:
    side = ONE if len(named) == 1 else SEVERAL
    ranges: dict[tuple[int, ...], tuple[Range1d, Range1d]] = {}
    found = []
    for i, (title, results) in enumerate(named.items()):
        sizes = [len(values) for values in results.axes.values()][:2]
        rows, columns = sizes if len(sizes) == 2 else (1, sizes[0])
        both = ranges.setdefault((rows, columns), (Range1d(0, columns), Range1d(0, rows)))
        last = i % COLUMNS == COLUMNS - 1 or i == len(named) - 1
        models = figures.diagram(results, title, side, colors, both, with_bar=last)
        for event, call in (("tap", "tap"), ("doubletap", "tap"), ("mousemove", "hover")):  # two quick taps are one
            figures.on(models["figure"], event, _call(name, f"{call}({i}, cb_obj.x, cb_obj.y)"))
        found.append(models)
    return found


def _sliders(results: Results, name: str) -> list[dict[str, Any]]:
    """Return a slider for every axis after the second, and its label."""
    sliders = []
    for i, (axis, values) in enumerate([*results.axes.items()][2:]):
        slider = Slider(start=0, end=max(len(values) - 1, 1), step=1, value=0, title=None, show_value=False, width=360)
        slider.js_on_change("value", CustomJS(code=_call(name, f"slide({i}, cb_obj.value)")))
        slider.disabled = len(values) == 1
        sliders.append({"slider": slider, "label": Div(text=f"{axis} = {values[0]:.4g}")})
    return sliders
