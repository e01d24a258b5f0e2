"""Configurations, as results and runs hold them: of a sweep, the sweep that one describes, and how two differ."""

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import jax

from polyjax import description
from polyjax.checks import require
from polyjax.engine.training import SETTLED
from polyjax.toy.distributions import by_name
from polyjax.toy.model import Model
from polyjax.toy.models import Anthropic, Redwood

if TYPE_CHECKING:
    from polyjax.sweep import Sweep


def of_sweep(sweep: "Sweep") -> dict[str, Any]:
    """Return the configuration as JSON-serialisable values, with all defaults filled in; where there are sizes, that of
    the first, with those of all as `parts`."""
    if sweep.sizes:
        each = [of_sweep(part) for _, part in sweep.by_size]
        axes = {name: list(values) for name, values in sweep.coordinates.items()}
        return each[0] | {"axes": axes, "order": [*axes], "sizes": [*sweep.sizes], "parts": each}
    fixed = sweep.training
    rate = None if sweep.optimizer else sweep.rate
    return {
        "model": description.of_model(fixed.one_model),
        "distribution": description.of_distribution(fixed.features_at({})),
        "axes": {name: list(values) for name, values in sweep.coordinates.items()},
        "order": [*sweep.coordinates],  # JSON has none
        "restarts": sweep.restarts,
        "steps": sweep.steps,
        "batch": sweep.batch,
        "sampler": fixed.sampler.name,
        "objective": sweep.objective,
        "optimizer": "given by the caller" if sweep.optimizer else f"Adam, cosine decay from {rate:g}",
        "learning_rate": rate,
        "retries": sweep.retries,
        "refine": sweep.refine,
        "polish": sweep.polish,
        "settled": SETTLED,
        "seed": sweep.seed,
        "given": description.of_given(fixed, sweep.features is not None, sweep.optimizer is not None),
    }


def fields_of(config: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return the fields, of these names, of the sweep that is described (see `Sweep.from_config`)."""
    require(isinstance(config, Mapping), "config", "be a configuration, as results have it", config)
    if config.get("sizes"):
        raise ValueError(f"config must describe a sweep of one size, but has sizes ({', '.join(config['sizes'])})")
    if own := sorted(config.get("given") or {}):
        needed = f"needs the user's own {' and '.join(own)}"
        raise ValueError(f"config must describe a sweep that needs no code but polyjax's, but {needed}")
    try:
        model, rate = _model(**config["model"]), config["learning_rate"]
        axes = {name: config["axes"][name] for name in config["order"]}
        given = {name: config[name] for name in names if name in config}
        given |= {"model": model, "distribution": by_name(config["distribution"]), "optimizer": None}
        given |= {"axes": None} | axes if [*axes] == ["density", "importance"] else {"axes": axes}
    except (KeyError, TypeError) as error:
        raise ValueError(f"config must describe a whole sweep, but lacks {error}") from error
    require(rate is not None, "config", "name an optimizer of polyjax's", config.get("optimizer"))
    return given


def _model(name: str, n_features: int, n_neurons: int, activation: str) -> Model:
    """Return the model that a configuration describes so."""
    models: dict[str, type[Redwood | Anthropic]] = {"Redwood": Redwood, "Anthropic": Anthropic}
    require(name in models, "model", f"be one of {', '.join(models)}", name)
    return models[name](n_features, n_neurons, activation)


def check_same(config: Mapping[str, Any], sweep: "Sweep") -> None:
    """Raise ValueError, with the fields that differ, unless a sweep is the one that results were made of.

    Not compared are fields that older files lack, and fingerprints of another version of JAX, which may differ where
    functions do not.
    """
    require(hasattr(sweep, "describe"), "sweep", "be a Sweep", sweep)
    here = json.loads(json.dumps(sweep.describe()))  # as it comes back from a file
    both = config.keys() & here.keys()
    if made_with(config, "jax") not in (None, jax.__version__):
        both -= {"given"}
    fields = differences({key: config[key] for key in both}, {key: here[key] for key in both})
    if fields:
        raise ValueError(f"sweep must be the one that the results were made of, but differs: {'; '.join(fields)}")


def made_with(config: Mapping[str, Any], package: str) -> str | None:
    """Return the version of a package that results were made with, if it is known."""
    return ((config.get("provenance") or {}).get("versions") or {}).get(package)


def differences(there: Mapping[str, Any], here: Mapping[str, Any], name: str = "") -> list[str]:
    """Return the fields in which two configurations differ, in words."""
    found = []
    for key in sorted(there.keys() | here.keys()):
        a, b = there.get(key), here.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{name}{key}.")
        elif a != b:
            found.append(f"{name}{key} ({_shown(a)} there, {_shown(b)} here)")
    return found


def _shown(value: Any) -> str:
    if isinstance(value, list) and len(value) > 4 and all(isinstance(v, int | float) for v in value):
        return f"{len(value)} values from {value[0]:.6g} to {value[-1]:.6g}"
    return json.dumps(value)
