"""Configurations, as results and runs hold them: that of a sweep, and the sweep that one describes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from polyjax import description
from polyjax.checks import one_of, require
from polyjax.described import MODELS, Described, told
from polyjax.engine.blocks import snapshot_steps
from polyjax.engine.training import SETTLED, Training
from polyjax.toy.distributions import by_name

if TYPE_CHECKING:
    from polyjax.sweep import Sweep
    from polyjax.toy.model import Model


def of_sweep(sweep: Sweep) -> dict[str, Any]:
    """Return the configuration as JSON-serialisable values, with all defaults filled in; where there are sizes, that of
    the first, with those of all as `parts`."""
    if sweep.sizes:
        each = [of_sweep(part) for _, part in sweep.by_size]
        axes = {name: list(values) for name, values in sweep.coordinates.items()}
        whole = {"axes": axes, "order": [*axes], "sizes": [*sweep.sizes], "parts": each}
        return each[0] | whole | _of_described(sweep)
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
        "optimizer": _of_optimizer(sweep),
        "learning_rate": rate,
        "retries": sweep.retries,
        "refine": sweep.refine,
        "polish": sweep.polish,
        "settled": SETTLED,
        "seed": sweep.seed,
        **({"snapshots": _of_snapshots(fixed)} if sweep.snapshots else {}),
        "given": description.of_given(fixed, *(_is_own(part) for part in (sweep.features, sweep.optimizer))),
        **_of_described(sweep),
    }


def _is_own(part: Any) -> bool:
    """Say whether a part of a sweep is the user's own, which no configuration can make again."""
    return part is not None and not isinstance(part, Described)


def _of_optimizer(sweep: Sweep) -> str:
    """Return what a configuration says of the optimiser."""
    if isinstance(sweep.optimizer, Described):
        return dict(sweep.optimizer.texts)["optimizer"]
    return "given by the caller" if sweep.optimizer else f"Adam, cosine decay from {sweep.rate:g}"


def _of_described(sweep: Sweep) -> dict[str, Any]:
    """Return the parts that expressions describe, if there are such."""
    found = {name: part.tell() for name, part in sweep.parts.items() if isinstance(part, Described)}
    return {"described": found} if found else {}


def _of_snapshots(fixed: Training) -> dict[str, Any]:
    return {
        "most": fixed.snapshots,
        "weights": fixed.snapshot_weights,
        "steps": [*snapshot_steps(fixed.steps, fixed.snapshots)],
    }


def fields_of(config: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return the fields, of these names, of the sweep that is described (see `Sweep.from_config`)."""
    require(isinstance(config, Mapping), "config", "be a configuration, as results have it", config)
    described = {name: told(name, part) for name, part in (config.get("described") or {}).items()}
    if config.get("sizes") and not described:
        raise ValueError(f"config must describe a sweep of one size, but has sizes ({', '.join(config['sizes'])})")
    if own := sorted(config.get("given") or {}):
        needed = f"needs the user's own {' and '.join(own)}"
        raise ValueError(f"config must describe a sweep that needs no code but polyjax's, but {needed}")
    try:
        model, rate = described.get("model") or _model(**config["model"]), config["learning_rate"]
        axes = {name: config["axes"][name] for name in config["order"]}
        given = {name: config[name] for name in names if name in config}
        distribution = None if "features" in described else by_name(config["distribution"])
        given |= {"model": model, "distribution": distribution, "optimizer": None}
        looks = config.get("snapshots") or {"most": 0, "weights": False}
        given |= {"snapshots": looks["most"], "snapshot_weights": looks["weights"]}
        given |= {"axes": None} | axes if [*axes] == ["density", "importance"] else {"axes": axes}
    except (KeyError, TypeError) as error:
        raise ValueError(f"config must describe a whole sweep, but lacks {error}") from error
    known = rate is not None or "optimizer" in described
    require(known, "config", "name an optimizer of polyjax's", config.get("optimizer"))
    return given | described


def _model(name: str, n_features: int, n_neurons: int, activation: str) -> Model:
    """Return the model that a configuration describes so."""
    one_of("model", name, MODELS)
    return MODELS[name](n_features, n_neurons, activation)
