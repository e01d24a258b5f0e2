"""Checks of a sweep when it is made: every field by itself, its parts, and what goes together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from polyjax import parts, sizes
from polyjax.checks import is_number, one_of, require, switch
from polyjax.engine.cells import at, names_of
from polyjax.engine.training import ENGINE_NAMES, LARGEST_UNROLLED
from polyjax.toy.contract import check_model
from polyjax.toy.features import LARGEST_IMPORTANCE, Features, FirstImportance, check_distribution
from polyjax.toy.model import n_parameters, n_weights, one_model
from polyjax.toy.sampling import SAMPLERS, masks

if TYPE_CHECKING:
    from polyjax.sweep import Sweep

# Parts but for the model: what each must be, or a function of axes must return.
KINDS: dict[str, Any] = {"features": Features | None, "optimizer": optax.GradientTransformation | None}
MUST = {
    "features": "be Features, or a function that returns them",
    "optimizer": "be an optax transformation, or a function of axes that returns one",
}
MOST_SNAPSHOTS = 10_000  # of every network, all of which are kept
LARGEST_POLISHED = 300  # parameters: the Hessian of every lane is kept


def check_axes(sweep: Sweep) -> None:
    """Raise ValueError unless no axis is given twice, and every axis is of some part."""
    twice = set(sweep.axes or {}) & {name for name in ("density", "importance") if getattr(sweep, name) is not None}
    require(not twice, "axes", "leave out what is given by itself", ", ".join(sorted(twice)))
    for name, kind in KINDS.items():
        part = getattr(sweep, name)
        require(parts.is_function(part) or isinstance(part, kind), name, MUST[name], part)
    if sweep.features is None:
        _check_paper(sweep.coordinates)
    functions = {name: part for name, part in sweep.parts.items() if parts.is_function(part)}
    for name, part in functions.items():
        parts.part(name, part, sweep.coordinates)
    for name in sizes.ALWAYS:
        part = getattr(sweep, name)
        of_axes = parts.is_function(part) and {*parts.parameters(part)} & {*sweep.coordinates}
        require(of_axes or not callable(part), name, "be a whole number, or a function of axes", part)
    taken = {name for part in functions.values() for name in parts.parameters(part)}
    of_paper = {"density", "importance"} if sweep.features is None else set()
    parts.check_taken(sweep.coordinates, taken | of_paper)


def _check_paper(coordinates: Mapping[str, tuple[float, ...]]) -> None:
    """Raise ValueError unless the axes are those of the paper, and in range."""
    require("density" in coordinates, "features", "be given where no axis is the density", None)
    p, v = (np.asarray(coordinates.get(name, 1)) for name in ("density", "importance"))
    require((p > 0) & (p <= 1), "density", "be above 0 and at most 1", p)
    require((v >= 0) & (v < LARGEST_IMPORTANCE), "importance", "be at least 0 and below 1e12", v)


def check_parts(sweep: Sweep) -> None:
    """Raise ValueError unless the parts are what they must be."""
    coordinates = sweep.coordinates
    model = parts.part("model", sweep.model, coordinates)
    example = at(model, {})
    check_model(example)
    if names_of(model):  # else that was all there is to trace
        parts.traced("model", model, sizes.computed)
    clash = set(one_model(example)._fields) & set(coordinates)
    require(not clash, "axes", "have other names than the model's parameters", ", ".join(sorted(clash)))
    of_paper = FirstImportance(example.n_features)
    features = parts.part("features", sweep.features or of_paper, coordinates)
    found = at(features, {})
    require(isinstance(found, Features), "features", MUST["features"], found)
    n, base = example.n_features, example.distribution
    _check_mask(parts.traced("features", features, lambda each: _sampled(each.of(n, base), n))[0], n)
    if sweep.features is not None:
        must = "be left out where features are given, which have their own"
        require(sweep.distribution is None, "distribution", must, sweep.distribution)
    optimizer = parts.part("optimizer", sweep.optimizer, coordinates)
    step = at(optimizer, {})
    require(isinstance(step, KINDS["optimizer"]), "optimizer", MUST["optimizer"], step)
    if step is not None:
        parts.traced("optimizer", optimizer, lambda each: _updated(each, one_model(example)))


def _sampled(features: Features, n: int) -> Any:
    """Return all that is asked of features: masks [2, N], and the probabilities [2^N] of few, where they are known."""
    u = jnp.full((2, n), 0.5)
    probability = features.mask_probability(masks(n)) if features.have_few_masks(n) else None
    return features.mask(u), probability, features.importances(n), features.densities(n), features.active_value(u)


def _check_mask(mask: Any, n: int) -> None:
    """Raise ValueError unless the law of activity, which may be the user's, gives masks."""
    ok = mask.shape == (2, n) and mask.dtype == bool
    require(ok, "activity", f"give masks [..., {n}] of True and False", f"{mask.dtype}{[*mask.shape]}")


def _updated(optimizer: optax.GradientTransformation, params: Any) -> Any:
    zeros = jax.tree.map(jnp.zeros_like, params)
    return optimizer.update(zeros, optimizer.init(zeros), zeros)


def check_values(sweep: Sweep) -> None:
    """Raise ValueError unless every field that is neither a part nor a whole number is what it must be by itself."""
    one_of("objective", sweep.objective, ("sampled", "expected"))
    if sweep.sampler is not None:
        one_of("sampler", sweep.sampler, SAMPLERS)
    if sweep.distribution is not None:
        check_distribution("distribution", sweep.distribution)
    one_of("engine", sweep.engine, ("auto", *ENGINE_NAMES))
    ok = isinstance(sweep.polish, bool) or (isinstance(sweep.polish, str) and sweep.polish in ("sampled", "restarts"))
    require(ok, "polish", 'be True, False, "sampled" or "restarts"', sweep.polish)
    rate = sweep.learning_rate
    must = "be a number above 0 and finite (a schedule is part of an optimizer)"
    require(rate is None or (is_number(rate) and 0 < float(rate) < np.inf), "learning_rate", must, rate)
    alone = rate is None or sweep.optimizer is None
    require(alone, "learning_rate", "be left out where an optimizer is given, which has its own", rate)
    _check_snapshots(sweep)


def _check_snapshots(sweep: Sweep) -> None:
    switch(snapshot_weights=sweep.snapshot_weights)
    looks = sweep.snapshots or not sweep.snapshot_weights
    require(looks, "snapshot_weights", "be False without snapshots", sweep.snapshot_weights)
    fixed_steps = not sweep.snapshots or not callable(sweep.steps)
    require(fixed_steps, "snapshots", "be 0 where the steps are a function of axes", sweep.snapshots)
    require(sweep.snapshots != 1, "snapshots", "be 0, or at least 2: the first and the last step", sweep.snapshots)
    require(sweep.snapshots <= MOST_SNAPSHOTS, "snapshots", f"be at most {MOST_SNAPSHOTS}", sweep.snapshots)


def check_together(sweep: Sweep) -> None:
    """Raise ValueError where fields do not go together."""
    model = sweep.training.one_model
    size = n_parameters(model) if sweep.polish else 0
    most = f"be False for a model of {size} parameters, more than {LARGEST_POLISHED}"
    require(size <= LARGEST_POLISHED, "polish", most, sweep.polish)
    weights = n_weights(model) if sweep.engine == "lanes" else 0
    most = f"be arrays for {weights} weights, more than {LARGEST_UNROLLED}"
    require(weights <= LARGEST_UNROLLED, "engine", most, sweep.engine)
    if sweep.objective == "expected":
        must = "be sampled for a model without a closed form (with square they have one)"
        require(model.has_closed_form, "objective", must, "expected")
        require(sweep.training.has_closed_form, "objective", "be sampled for masks of unknown probability", "expected")
