"""`polyjax plot`, `film` and `explore`: pictures of results files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from polyjax import plot
from polyjax.cli.command import Switch
from polyjax.draw import captions
from polyjax.draw.style import style
from polyjax.recipes import toml_of
from polyjax.results import Results, load
from polyjax.selection import Rule

Kind = Literal[
    "diagram", "difference", "compare", "blocks", "embedding", "gram", "restarts", "history", "cut", "dimensionality"
]
At = Annotated[dict[str, float] | None, Parameter(negative="")]


@Parameter(name="*")
@dataclass(frozen=True)
class Settings:
    """What is drawn, by the arguments of the functions of `polyjax.plot`; None where an argument is left out.

    Args:
        color: Of a diagram: capacity, optimum, loss, excess, blocks, largest, settled or attempt.
        show: Of blocks: the number of blocks, or the features in the largest.
        feature: Whose capacity, from 0.
        rule: How the restarts of a cell are combined; by default refined where there is such, else best.
        restart: Which one of a cell, from 0, of an embedding, gram or history.
        x: The axis to be drawn horizontally.
        axis: The one along which a cut or the dimensionality is drawn.
    """

    color: str | None = None
    show: Literal["number", "largest"] | None = None
    feature: int | None = None
    rule: Rule | None = None
    restart: int | None = None
    x: str | None = None
    axis: str | None = None

    def given_to(self, kind: str, draw: Callable[..., Any]) -> dict[str, Any]:
        """Return the arguments that are given. Raises ValueError for one that the picture has not."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in found.items() if value is not None}
        for name in given:
            if name not in signature(draw).parameters:
                raise ValueError(f"--{name} says nothing of {kind}")
        return given


def picture(
    files: list[Path],
    /,
    *,
    kind: Kind = "diagram",
    out: Path | None = None,
    at: At = None,
    settings: Settings = Settings(),
) -> None:
    """Draw a picture of a results file.

    Args:
        files: A results file; two for --kind compare.
        kind: Which of the pictures of polyjax.plot.
        out: The picture to write, .png, .pdf or .svg; by default a .png beside the results file.
        at: Coordinates at which axes are fixed, such as --at.density 0.1; the nearest value is drawn. A picture of one
            cell needs all of them.
    """
    draw = getattr(plot, kind)
    wanted = 2 if kind == "compare" else 1
    if len(files) != wanted:
        raise ValueError(f"{kind} is of {wanted} results file{'s' * (wanted - 1)}, but {len(files)} are given")
    given = settings.given_to(kind, draw)
    results = [load(path) for path in files]
    out = out or files[0].with_name(files[0].stem + ("" if kind == "diagram" else f"-{kind}") + ".png")
    try:
        axes = draw(*results, **given, **(at or {}))
    except TypeError as error:  # an axis that the grid has not
        raise ValueError(str(error)) from error
    with style():
        axes.figure.savefig(out, bbox_inches="tight", metadata={_PLACES.get(out.suffix, "Description"): _told(results)})
    print(out)


_PLACES = {".pdf": "Subject"}  # of words about a picture in its file, by suffix


def _told(results: list[Results]) -> str:
    """Return how the results were made, for a picture's metadata."""
    words = captions.in_a_line([each.config for each in results])
    try:
        return "\n\n".join([words, *(toml_of(each.config) for each in results)])
    except ValueError:  # the user's own code, of which there is no recipe
        return words


def moving(
    file: Path,
    /,
    *,
    out: Path | None = None,
    feature: int = 0,
    seconds: float = 8.0,
    x: str | None = None,
    at: At = None,
) -> None:
    """Write a film of a phase diagram that forms, from a sweep that was run with snapshots.

    Args:
        file: A results file.
        out: The film, .gif, or .mp4 where ffmpeg is installed; by default a .gif beside the results file.
        feature: Whose capacity, from 0.
        seconds: How long the film takes, before the last picture stays.
        x: The axis to be drawn horizontally.
        at: Coordinates at which axes are fixed, such as --at.rate 0.01; the nearest value is drawn.
    """
    out = out or file.with_suffix(".gif")
    plot.film(load(file), out, feature=feature, seconds=seconds, x=x, **(at or {}))
    print(out)


def explore(
    files: list[Path], /, *, out: Path = Path("page.html"), rule: Rule | None = None, steps: Switch = False
) -> None:
    """Write a page on which to look at results files: diagrams, and any cell that is clicked. It is one file of HTML,
    which fetches nothing.

    Args:
        files: Results files; several are shown side by side.
        out: The page to write.
        rule: How the restarts of a cell are combined; by default refined where there is such, else best.
        steps: With a slider for the steps, of runs with snapshot_weights.
    """
    try:
        from polyjax.draw.page import explore as page_of
    except ImportError as error:
        raise ValueError(str(error)) from error
    stems = [path.stem for path in files]
    names = stems if len(set(stems)) == len(stems) else map(str, files)
    found = {name: load(path) for name, path in zip(names, files, strict=True)}
    page_of({name: results.by_step() if steps else results for name, results in found.items()}, rule).save(out)
    print(f"{out} ({out.stat().st_size / 1e6:.1f} MB)")
