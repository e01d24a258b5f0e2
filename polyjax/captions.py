"""Captions made from the configuration that the results carry, so that a figure says what was run."""

from collections.abc import Mapping
from typing import Any

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from polyjax.plotting import cell_states, style
from polyjax.results import Selection

_RULE_WORDS = {
    "best": "the restart of lowest loss",
    "mean": "the mean of all restarts",
    "drop_worst": "the mean of all restarts but the worst",
}


def caption(config: Mapping[str, Any], rule: str, selection: Selection, *sentences: str) -> str:
    """What was run, in words, from the configuration that the results carry; the counts of the cells that failed or did
    not converge; then `sentences`. One paragraph, not wrapped. Raises ValueError where the configuration lacks a key.
    """
    rest = {key: value for key, value in config.items() if key != "model"}
    try:
        model = "{name} model, {n_features} features in {n_neurons} neurons, {activation} activation".format(
            **config["model"]
        )
        text = [f"{model}, {_words(rest.pop('distribution'))} features.", _training(rest), _grid(rest, rule, selection)]
    except (KeyError, TypeError) as error:
        raise ValueError(f"config must describe the whole sweep, but lacks {error}") from error
    versions = rest.pop("provenance", {})
    others = {key: value for key, value in rest.items() if isinstance(value, (int, float, str))}
    return " ".join([*text, *sentences, *_listed("Further settings", others), *_listed("Provenance", versions)])


def wrapped(text: str, width: float, size: float) -> list[str]:
    """The lines of a paragraph `width` points wide, set in the style's font."""
    with style():
        font = FontProperties(size=size)
        words = text.split()
        widths = [text_to_path.get_text_width_height_descent(word + " ", font, ismath=False)[0] for word in words]
    lines, room = [""], width
    for word, w in zip(words, widths, strict=True):
        if w > room:
            lines, room = [*lines, ""], width
        lines[-1] += f" {word}" if lines[-1] else word
        room -= w
    return lines


def _training(rest: dict[str, Any]) -> str:
    """Takes what it names out of `rest`, as does `_grid`."""
    steps, batch, sampler, objective = (rest.pop(key) for key in ("steps", "batch", "sampler", "objective"))
    optimizer, rate, seed = (rest.pop(key) for key in ("optimizer", "learning_rate", "seed"))
    samples = f"{batch} samples per step ({sampler} sampler, {objective} objective)"
    if objective == "expected":
        samples = "the closed-form expected loss (expected objective, no samples)"
    told = rate is None or f"{rate:g}" in optimizer.split()
    optimizer += "" if told else f", learning rate {rate:g}"
    return f"Each model: {steps:,} steps on {samples}; optimizer: {optimizer}; seed {seed}."


def _grid(rest: dict[str, Any], rule: str, selection: Selection) -> str:
    restarts = rest.pop("restarts")
    rows, columns = selection.loss.shape
    failed, unconverged = (int(cells.sum()) for cells in cell_states(selection))
    return (
        f"{rows} densities x {columns} importances x {restarts} restarts = {rows * columns * restarts:,} models; "
        f"a cell shows {_RULE_WORDS[rule]} ({_words(rule)}). "
        f"Failed cells (hatched): {failed:,}. Unconverged cells (dots): {unconverged:,}."
    )


def _listed(title: str, items: Mapping[str, Any]) -> list[str]:
    """A sentence, or none; a key such as wall_time_s names its unit."""
    units = {key: (key.removesuffix("_s"), " s") if key.endswith("_s") else (key, "") for key in items}
    shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in items.items()}
    pairs = ", ".join(f"{_words(name)} {shown[key]}{unit}" for key, (name, unit) in units.items())
    return [f"{title}: {pairs}."] if items else []


def _words(name: str) -> str:
    return name.replace("_", " ")
