"""Recipes: sweeps as tables of plain values, as TOML files have them. They are read, and written again from the
configuration of results.

    model = "Redwood(6, 3, relu)"
    restarts = 8

    [axes]
    density = "geomspace(0.01, 1, 40)"
    decay = [0.5, 0.7, 0.9]

    [features]
    importance = "geometric(decay)"

Every value is a number, a list, or an expression (see `expressions`); a part of the sweep whose expressions name axes
is a function of these.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import tomli_w

from polyjax.checks import a_path, known, require
from polyjax.described import MODELS, Described
from polyjax.expressions import Words, as_whole, parsed, text, value
from polyjax.sweep import MEANT, Sweep
from polyjax.toy.distributions import by_name

if TYPE_CHECKING:
    from os import PathLike

# Values of an axis: from, to, and how many.
SPACES: dict[str, Callable[..., Any]] = {"geomspace": np.geomspace, "linspace": np.linspace}
TABLES = ("axes", "features")
EXPRESSIONS = ("model", "optimizer", "steps", "batch")
OF_FEATURES = ("density", "importance", "distribution", "activity")
# Fields of a sweep that are values as they are; its density and importance are axes, its distribution one of features.
PLAIN = tuple(
    field.name
    for field in fields(Sweep)
    if field.name not in (*TABLES, *EXPRESSIONS, "density", "importance", "distribution")
)
KEYS = (*EXPRESSIONS, *PLAIN, *TABLES)


def read_sweep(path: str | PathLike[str]) -> Sweep:
    """Return the sweep that a TOML file describes. Raises ValueError, naming the key, for what a sweep has not, and
    OSError for a file that cannot be read."""
    return sweep_of(read(path))


def read(path: str | PathLike[str]) -> dict[str, Any]:
    """Return the table of a TOML file. Raises ValueError for a file that is none."""
    path = a_path(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a file of TOML, but is not: {error}") from error


def sweep_of(table: Mapping[str, Any]) -> Sweep:
    """Return the sweep that a table describes. Raises ValueError, naming the key, for what a sweep has not, and for
    values out of range."""
    _check(table)
    axes = {name: _axis(f"axes.{name}", text(given)) for name, given in table["axes"].items()}
    given: dict[str, Any] = {key: table[key] for key in PLAIN if key in table}
    given |= {key: _part(key, {key: text(table[key])}, axes) for key in ("model", "steps", "batch") if key in table}
    if "optimizer" in table:
        texts = {"optimizer": text(table["optimizer"]), "steps": text(table.get("steps", Sweep.steps))}
        given["optimizer"] = Described.of("optimizer", texts, axes)
    return Sweep(axes=axes, **given, **_features(table, axes))


def _check(table: Mapping[str, Any]) -> None:
    """Raise ValueError unless a table has the keys of a sweep, and what each must be."""
    known(table, KEYS, MEANT, "the recipe", ValueError)
    for key in ("model", "axes"):
        require(key in table, key, "be given", None)
    for key in TABLES:
        require(isinstance(table.get(key, {}), Mapping), key, "be a table", table.get(key))
    for key in set(table) - set(TABLES):
        require(not isinstance(table[key], Mapping), key, "be a value, not a table", table[key])
    known(table.get("features", {}), OF_FEATURES, MEANT, "features", ValueError)


def _axis(name: str, source: str) -> Any:
    return value(name, parsed(name, source), Words({}, SPACES))


def _part(part: str, texts: Mapping[str, str], axes: Mapping[str, Any]) -> Any:
    """Return a part of a sweep: its value, unless it depends on axes."""
    found = Described.of(part, texts, axes)
    return found if found.axes else found()


def _features(table: Mapping[str, Any], axes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a sweep that say what its features are: none where they are the paper's."""
    of_paper = {"density": "density"} | ({"importance": "one_important(importance)"} if "importance" in axes else {})
    given = {name: text(each) for name, each in table.get("features", {}).items()}
    others = {name: each for name, each in given.items() if of_paper.get(name) != each}
    if [*others] == ["distribution"] and others["distribution"].isidentifier():
        return {"distribution": by_name(others["distribution"])}
    texts = of_paper | given | {"n_features": _n_features(text(table["model"]))}
    return {"features": Described.of("features", texts, axes)} if others else {}


def _n_features(model: str) -> str:
    """Return the expression of a model's number of features."""
    expression = parsed("model", model)
    require(isinstance(expression, ast.Call), "model", 'be such as "Redwood(6, 3, relu)"', model)
    assert isinstance(expression, ast.Call)
    named = [each.value for each in expression.keywords if each.arg == "n_features"]
    found = [*expression.args[:1], *named]
    require(found, "model", "have n_features", model)
    return ast.unparse(found[0])


def toml_of(config: Mapping[str, Any]) -> str:
    """Return the TOML of a recipe that makes results of this configuration again. Raises ValueError where none does:
    where a part of the sweep is the user's own code."""
    Sweep.from_config(config)  # which says what is missing
    described = config.get("described", {})
    texts = {name: each["texts"] for name, each in described.items()}
    table = {"model": texts["model"]["model"] if "model" in texts else _model(**config["model"])}
    table |= {name: texts[name][name] for name in ("optimizer", "steps", "batch") if name in texts}
    others = {key: config.get(key) for key in (*PLAIN, "steps", "batch") if key not in table}
    table |= {key: given for key, given in others.items() if given is not None}
    looks = config.get("snapshots")
    table |= {"snapshots": looks["most"], "snapshot_weights": looks["weights"]} if looks else {}
    table["axes"] = {name: _space(config["axes"][name]) for name in config["order"]}
    if "features" in texts:
        table["features"] = {name: each for name, each in texts["features"].items() if name != "n_features"}
    elif by_name(config["distribution"]) != MODELS[config["model"]["name"]].distribution:
        table["features"] = {"distribution": config["distribution"]}
    return tomli_w.dumps(table)


def _model(name: str, n_features: int, n_neurons: int, activation: str) -> str:
    return f"{name}(n_features={n_features}, n_neurons={n_neurons}, activation={activation})"


def _space(values: list[float]) -> str | list[float]:
    """Return the values of an axis, in short where they are evenly spaced."""
    a, n = values, len(values)
    for name, space in SPACES.items():
        if n > 2 and (name == "linspace" or min(a[0], a[-1]) > 0) and space(a[0], a[-1], n).tolist() == a:
            return f"{name}({as_whole(a[0])!r}, {as_whole(a[-1])!r}, {n})"
    return [as_whole(each) for each in a]
