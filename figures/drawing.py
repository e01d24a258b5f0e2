"""What the figures share: a page with its caption, axes placed in inches, a folder of results and the command line.

Capacities are those of eq. 3, from the library; the rest of what is computed here is places on the page.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
from cyclopts import Parameter
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import polyjax
from polyjax.cli.command import script
from polyjax.draw import captions
from polyjax.draw.style import style
from polyjax.results import Results, load
from polyjax.selection import Rule

capacities = jax.jit(polyjax.capacities)  # one compilation a shape, not one an operation
CAPTION_SIZE, CAPTION_LINE, MARGIN = 6.5, 0.118, 0.08  # the size in points, the others in inches
SMALL_SIZE, SMALL_LINE = 5, 0.1  # of the line of settings, likewise


class Page(Figure):
    """A figure with a caption of a sentence or two, and what else is to be known of it, for the files' metadata."""

    caption: str = ""
    details: str = ""


def page(width: float, height: float, caption: str, details: str = "", settings: str = "") -> Page:
    """A figure `width` inches wide with `height` inches for the drawing, the wrapped caption below it and a line of
    settings in small type below that."""
    lines = captions.wrapped(caption, 72 * (width - 2 * MARGIN), CAPTION_SIZE)
    below = CAPTION_LINE * len(lines) + MARGIN
    total = height + below + SMALL_LINE * bool(settings)
    fig = Page(figsize=(width, total))
    fig.caption, fig.details = caption, details
    fig.text(MARGIN / width, 1 - height / total, "\n".join(lines), size=CAPTION_SIZE, va="top", parse_math=False)
    place = MARGIN / width, (MARGIN - 0.03) / total
    fig.text(*place, settings, size=SMALL_SIZE, color="0.4", va="bottom", parse_math=False, gid="settings")
    return fig


def panel(fig: Figure, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
    """Axes whose upper left corner is `left` and `top` inches from that of the figure."""
    w, h = fig.get_size_inches()
    return fig.add_axes((left / w, 1 - (top + height) / h, width / w, height / h), **options)


def apart(ax: Axes) -> None:
    """Moves the first and the last label of the x axis inwards, so that panels side by side keep them apart."""
    low, high = ax.get_xlim()
    ticks = [x for x in ax.get_xticks() if low <= x <= high]
    ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
    labels = ax.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    labels[-1].set_horizontalalignment("right")


def canvas(fig: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """A panel without frame in which coordinates are inches from its lower left corner."""
    return panel(fig, left, top, width, height, xlim=(0, width), ylim=(0, height), frame_on=False, xticks=[], yticks=[])


def rotation(degrees: float) -> np.ndarray:
    """[2, 2], anticlockwise."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def listed(values: Iterable[float], form: str = ".2g") -> str:
    """Such as "1, 0.5 and 0.5"; values that are written alike everywhere, such as "0.4 each"."""
    words = [f"{value:{form}}" for value in values]
    if len(words) > 2 and len(set(words)) == 1:
        return f"{words[0]} each"
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def load_panel(folder: Path, name: str) -> Results:
    """The results in FOLDER/NAME.npz. Raises ValueError where there is no such file."""
    path = folder / f"{name}.npz"
    if not path.is_file():
        raise ValueError(f"results must have the panel {path}, but there is no such file")
    return load(path)


def load_panels(folder: Path, names: Iterable[str]) -> dict[str, Results]:
    """The results in FOLDER/NAME.npz of panels with names such as anthropic-relu-6in5, all on one grid. Raises
    ValueError where a file is missing, holds another model than its name says or has another grid than the first."""
    panels: dict[str, Results] = {}
    for name in names:
        path = folder / f"{name}.npz"
        panels[name] = found = load_panel(folder, name)
        held = "{name}-{activation}-{n_features}in{n_neurons}".format_map(_Unknown(found.config.get("model", {})))
        if held.lower() != name:
            raise ValueError(f"{path} must hold the panel {name}, but holds {held.lower()}")
        first = next(iter(panels.values()))
        for axis in ("density", "importance"):
            if not np.array_equal(getattr(found, axis), getattr(first, axis)):
                raise ValueError(f"{path} must have the {axis} axis of the other panels, but has another")
    return panels


class _Unknown(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "unknown"


def command(name: str, draw: Callable[[], Page], argv: Sequence[str] | None = None) -> None:
    """The command line of a figure that needs no data: draws it within the style and saves it."""

    def work(*, out: Path = Path("results", name)) -> None:
        """Draw the figure from the theory; nothing is trained.

        Args:
            out: Path of the images, without suffix.
        """
        with style():
            save(draw(), out)

    script(f"python -m figures.{name}", work, argv)


def results_command(
    name: str,
    results: str,
    out: str,
    draw: Callable[[Path, str], Page],
    argv: Sequence[str] | None = None,
    rule: Rule | None = "best",
) -> None:
    """The command line of a figure of saved results: `draw(results, rule)` within the style, then saved. Without a
    default rule there is none to choose."""

    Chosen = Annotated[Rule | None, Parameter(parse=rule is not None)]

    def work(*, results: Path = Path(results), out: Path = Path(out), rule: Chosen = rule) -> None:  # type: ignore
        """Draw the figure from saved results.

        Args:
            results: What a sweep saved.
            out: Path of the images, without suffix.
            rule: How the restarts of a cell are combined.
        """
        with style():
            save(draw(results, rule or ""), out)

    script(f"python -m figures.{name}", work, argv)


def save(fig: Page, out: Path) -> None:
    """Writes OUT.png and OUT.pdf, the same bytes for the same results; the caption and all details are in the text
    chunks of the one and the document information of the other."""
    out.parent.mkdir(parents=True, exist_ok=True)
    told = {"Description": f"{fig.caption} {fig.details}".strip()}
    fig.savefig(out.with_name(out.name + ".png"), metadata=told)
    about = {"Subject": fig.caption, "Keywords": fig.details, "CreationDate": None}
    fig.savefig(out.with_name(out.name + ".pdf"), metadata=about)
