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
    "refined": "the restart of lowest loss, or what continuing from a neighbouring cell's solution improved it to",
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


def of_panels(configs: Mapping[str, Mapping[str, Any]], rule: str, *sentences: str) -> str:
    """What was run for several panels, label -> configuration: what is common to all is said once, what differs is
    followed by the labels of its panels. The model and the axes are left to the figure; the wall times are added up.
    Raises ValueError where a configuration lacks a key. One paragraph, not wrapped."""
    flat = {label: _flat(config) for label, config in configs.items()}
    order = list(configs)
    keys = sorted(set().union(*flat.values()))
    try:
        values = {key: {label: found[key] for label, found in flat.items()} for key in keys}
    except KeyError as error:
        raise ValueError(f"config must describe the whole sweep in every panel, but lacks {error}") from error
    said = {key: _by_panel(panels, order) for key, panels in values.items() if key != "wall_time_s"}
    if "wall_time_s" in values:
        said["wall_time_s"] = f"{sum(values['wall_time_s'].values()):.0f}"
    shown = f"A cell shows {_RULE_WORDS[rule]} ({_words(rule)})."
    return " ".join([shown, *sentences, *_listed("Settings", said)])


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Everything but the model and the axes, provenance included."""
    everything = {**config, **config.get("provenance", {})}
    rate = everything.get("learning_rate")
    if rate is not None and f"{rate:g}" in str(everything.get("optimizer")).split():
        del everything["learning_rate"]  # the optimiser's words tell it
    return {key: value for key, value in everything.items() if isinstance(value, (int, float, str))}


def _by_panel(values: Mapping[str, Any], order: list[str]) -> str:
    """Such as "64", or "0.05 (a) / 0.02 (b to d)"."""
    groups: dict[str, list[str]] = {}
    for label, value in values.items():
        groups.setdefault(_words(f"{value:,}" if isinstance(value, int) else f"{value}"), []).append(label)
    if len(groups) == 1:
        return next(iter(groups))
    return " / ".join(f"{value} ({_range(labels, order)})" for value, labels in groups.items())


def _range(labels: list[str], order: list[str]) -> str:
    """Such as "a, c", or "a to c" for three or more that follow each other in `order`."""
    first = order.index(labels[0])
    if len(labels) > 2 and order[first : first + len(labels)] == labels:
        return f"{labels[0]} to {labels[-1]}"
    return ", ".join(labels)


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
