"""What was run, in words, from the configuration that results carry: whole, for the metadata of a figure's files, and
in one line, for the figure itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from polyjax.draw.cells import states
from polyjax.draw.style import style

if TYPE_CHECKING:
    from polyjax.selection import Selection

_RULE_WORDS = {
    "best": "the restart of lowest loss",
    "mean": "the mean of all restarts that settled",
    "drop_worst": "the mean of all restarts that settled but the worst",
    "refined": "the restart of lowest loss, or what continuing from a neighbouring cell's solution improved it to",
}
_SETTING_WORDS = {"retries": "retries of networks not settled"}
_UNTOLD = ("block", "room")  # how the work was split: it says nothing of the models


def caption(config: Mapping[str, Any], rule: str, selection: Selection, *sentences: str) -> str:
    """Say what was run, in words, from the configuration that the results carry; the counts of the cells that failed or
    are not settled; then `sentences`. One paragraph, not wrapped. Raises ValueError where the configuration lacks a
    key.
    """
    rest = {key: value for key, value in config.items() if key != "model"}
    try:
        model = "{name} model, {n_features} features in {n_neurons} neurons, {activation} activation".format(
            **config["model"]
        )
        text = [f"{model}, {_words(rest.pop('distribution'))} features.", _training(rest), _grid(rest, rule, selection)]
    except (KeyError, TypeError) as error:
        raise ValueError(f"config must describe the whole sweep, but lacks {error}") from error
    others = _listed("Further settings", _plain(rest))
    return " ".join([*text, *sentences, *others, *_provenances({"": config})])


def of_panels(configs: Mapping[str, Mapping[str, Any]], rule: str, *sentences: str) -> str:
    """Say what was run for several panels, label -> configuration: what is common to all is said once, what differs is
    followed by the labels of its panels. The model and the axes are left to the figure. Raises ValueError where a
    configuration lacks a key. One paragraph, not wrapped."""
    settings = {label: _settings(config) for label, config in configs.items()}
    keys = sorted(set().union(*settings.values()))
    try:
        values = {key: {label: found[key] for label, found in settings.items()} for key in keys}
    except KeyError as error:
        raise ValueError(f"config must describe the whole sweep in every panel, but lacks {error}") from error
    said = {key: _words(_by_panel(panels, list(configs))) for key, panels in values.items()}
    shown = f"A cell shows {_RULE_WORDS[rule]} ({_words(rule)})."
    return " ".join([shown, *sentences, *_listed("Settings", said), *_provenances(configs)])


def in_a_line(configs: Sequence[Mapping[str, Any]]) -> str:
    """Say the most important settings, versions and the revision of several panels in one line; what differs between
    them, or is not known, is left out."""
    shown = {"steps": "{:,} steps", "batch": "batch {}", "restarts": "{} restarts", "seed": "seed {}"}
    values = {key: _common(configs, key) for key in shown}
    settings = [form.format(values[key]) for key, form in shown.items() if values[key] is not None]
    told = [_provenance(config) for config in configs]
    packages = [f"{name} {_common(told, name)}" for name in ("polyjax", "jax") if _common(told, name)]
    others = [f"{name} {_common(told, name)}" for name in ("device", "revision") if _common(told, name)]
    parts = [", ".join(settings), ", ".join(packages), *others, "all settings are in this file's metadata"]
    return "; ".join(filter(None, parts))


def _common(mappings: Sequence[Mapping[str, Any]], key: str) -> Any:
    """Return what all mappings have under a key, or None."""
    found = [each.get(key) for each in mappings]
    return found[0] if all(value == found[0] for value in found) else None


def hatched(selections: Sequence[Selection]) -> str:
    """Say what is hatched, and in how many cells; empty where nothing is."""
    counts = np.sum([[cells.sum() for cells in states(selection)] for selection in selections], axis=0)
    words = ["that failed (grey)", "not settled (orange)"]
    told = [f"{count:,} {word}" for word, count in zip(words, counts, strict=True) if count]
    return f"; hatched cells: {' and '.join(told)}" if told else ""


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Everything but the model, the axes and the provenance."""
    rest = _plain(config)
    rate = rest.get("learning_rate")
    if rate is not None and f"{rate:g}" in str(rest.get("optimizer")).split():
        del rest["learning_rate"]  # the optimiser's words tell it
    return rest


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Say the settings that are one number or word."""
    return {key: v for key, v in config.items() if isinstance(v, (int, float, str)) and key not in _UNTOLD}


def _provenances(configs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence, or none. The panels may differ in what is known of them."""
    told = {label: _provenance(config) for label, config in configs.items()}
    names = dict.fromkeys(name for found in told.values() for name in found)
    said = {
        name: f"{name} " + _by_panel({label: found[name] for label, found in told.items() if name in found}, list(told))
        for name in names
    }
    last = [said.pop(name) for name in ("device", "revision") if name in said]  # their words may hold commas
    parts = [", ".join(said.values())] * bool(said) + last
    return [f"Provenance: {'; '.join(parts)}."] if parts else []


def _provenance(config: Mapping[str, Any]) -> dict[str, str]:
    """Versions, device and revision where they are known, name -> words; the command is left to the file."""
    told = config.get("provenance") or {}
    flat = {**(told.get("versions") or {}), **told}  # older files have the versions beside the device
    if told.get("other_sessions"):
        flat["continued with other software or devices, times"] = str(len(told["other_sessions"]))
    return {name: value for name, value in flat.items() if isinstance(value, str) and name != "command"}


def _by_panel(values: Mapping[str, Any], order: list[str]) -> str:
    """Such as "64", or "0.05 (a) / 0.02 (b to d)"; labels also where not all panels of `order` have a value."""
    groups: dict[str, list[str]] = {}
    for label, value in values.items():
        groups.setdefault(_shown(value), []).append(label)
    if len(groups) == 1 and len(values) == len(order):
        return next(iter(groups))
    return " / ".join(f"{value} ({_range(labels, order)})" for value, labels in groups.items())


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value}"


def _range(labels: list[str], order: list[str]) -> str:
    """Such as "a, c", or "a to c" for three or more that follow each other in `order`."""
    first = order.index(labels[0])
    if len(labels) > 2 and order[first : first + len(labels)] == labels:
        return f"{labels[0]} to {labels[-1]}"
    return ", ".join(labels)


def wrapped(text: str, width: float, size: float) -> list[str]:
    """Return the lines of a paragraph `width` points wide, set in the style's font."""
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
    failed, unsettled = (int(cells.sum()) for cells in states(selection))
    return (
        f"{rows} densities x {columns} importances x {restarts} restarts = {rows * columns * restarts:,} models; "
        f"a cell shows {_RULE_WORDS[rule]} ({_words(rule)}). "
        f"Failed cells (hatched grey): {failed:,}. Cells not settled (hatched orange): {unsettled:,}."
    )


def _listed(title: str, items: Mapping[str, Any]) -> list[str]:
    """A sentence, or none."""
    shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in items.items()}
    pairs = ", ".join(f"{_SETTING_WORDS.get(key) or _words(key)} {value}" for key, value in shown.items())
    return [f"{title}: {pairs}."] if items else []


def _words(name: str) -> str:
    return name.replace("_", " ")
