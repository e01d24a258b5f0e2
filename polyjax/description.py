"""Descriptions of models and functions of the user's in a configuration: by fingerprints of what it computes, and by
the values that it holds.

polyjax's own models, activations and distributions are told by name alone, so that their configuration is the same with
every version of JAX.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from polyjax.engine.cells import NUMBER, at, names_of
from polyjax.fingerprints import content, fingerprint
from polyjax.toy import distributions
from polyjax.toy.activations import activation_name, function_name
from polyjax.toy.model import Model, n_neurons, one_model
from polyjax.toy.models import Redwood, is_own

if TYPE_CHECKING:
    from polyjax.engine.training import Training
    from polyjax.toy.distributions import Distribution
    from polyjax.toy.features import Features

TOLD = ("n_features", "n_neurons", "activation")  # of every model


def of_model(model: Model) -> dict[str, Any]:
    """Return the model's class, sizes and activation, and all other fields of one of the user's."""
    told = {
        "name": type(model).__name__,
        "n_features": int(model.n_features),
        "n_neurons": n_neurons(model),
    }
    if hasattr(model, "activation"):
        told["activation"] = activation_name(model)
    others = {} if is_own(model) else {name: plain(value) for name, value in _held(model).items() if name not in TOLD}
    return told | ({"fields": others} if others else {})


def of_distribution(features: Features) -> str:
    """Return the name of the features' distribution, or of each."""
    return ", ".join(distribution.name for distribution in features.distributions)


def of_given(fixed: Training, features: bool, optimizer: bool) -> dict[str, Any]:
    """Return fingerprints of what the user gave, since two functions may share a name; of features and optimizer where
    they are the user's."""
    found = of_model_functions(fixed)
    if features:
        found["features"] = _fingerprint_of_features(fixed) | {"axes": [*names_of(fixed.features)]}
    else:
        for distribution in {*fixed.features_at({}).distributions} - {*distributions.ALL}:
            found["distribution"] = of_values(distribution)
    if optimizer:
        one, names = one_model(Redwood(2, 2)), names_of(fixed.optimizer)  # whatever the model is
        first = lambda g, c: _first_update(at(fixed.optimizer, c), g)  # noqa: E731
        found["optimizer"] = fingerprint(first, one, dict.fromkeys(names, NUMBER))
    return found


def _first_update(optimizer: optax.GradientTransformation, gradient: Any) -> Any:
    return optimizer.update(gradient, optimizer.init(gradient), gradient)


def _fingerprint_of_features(fixed: Training) -> dict[str, Any]:
    n = fixed.one_model.n_features

    def sampled(coordinates: Any, u: Array) -> Any:
        features = fixed.features_at(coordinates)
        of_all = features.importances(n), features.densities(n)
        return *of_all, features.active_value(u), features.mask(u)

    batch = jax.ShapeDtypeStruct((2, n), np.float32)
    return {"program": fingerprint(sampled, dict.fromkeys(names_of(fixed.features), NUMBER), batch)}


def of_values(distribution: Distribution) -> dict[str, Any]:
    """Return fingerprints of a distribution of the user's."""
    return {
        "active_value": fingerprint(distribution.active_value, NUMBER, NUMBER),
        "kurtosis": fingerprint(distribution.kurtosis, NUMBER),
        "moments": [float(m) for m in distribution.moments],
        "unit_variance": bool(distribution.unit_variance),
    }


def of_model_functions(fixed: Training) -> dict[str, Any]:
    """Return fingerprints of what the user gave of a model, whose name need not tell it; empty where all is
    polyjax's."""
    model = fixed.one_model
    found: dict[str, Any] = {}
    if names_of(fixed.model):
        return {"model": _computed(fixed) | {"axes": [*names_of(fixed.model)]}}
    activation = getattr(model, "activation", None)
    if callable(activation):
        vector = jax.ShapeDtypeStruct((model.n_features,), np.float32)  # it need not be elementwise
        found["activation"] = fingerprint(_with_gradient(activation), vector)
    if not is_own(model):
        found["model"] = _computed(fixed)
    return found


def _computed(fixed: Training) -> dict[str, Any]:
    names = names_of(fixed.model)
    vector, lane = jax.ShapeDtypeStruct((fixed.one_model.n_features,), np.float32), dict.fromkeys(names, NUMBER)

    def of_model(name: str) -> Callable[..., Any]:
        return lambda *arguments: getattr(at(fixed.model, arguments[-1]), name)(*arguments[:-1])

    found = {
        "loss": fingerprint(_with_gradient(of_model("loss")), fixed.one, vector, vector, lane),
        "init": fingerprint(of_model("init"), jax.eval_shape(lambda: jax.random.key(0)), lane),
        "scale": fingerprint(of_model("scale"), vector, lane),
    }
    if fixed.has_closed_form:
        moments = jax.eval_shape(distributions.UNIFORM_SIGNED.active_moments, vector)
        found["expected_loss"] = fingerprint(of_model("expected_loss"), fixed.one, vector, moments, lane)
    return found


def _with_gradient(f: Callable[..., Array]) -> Callable[..., Any]:
    """Return a function of the value and the gradient, which a custom rule makes another matter."""
    total = lambda *arguments: jnp.sum(1.0 * f(*arguments))  # noqa: E731  # a number, whatever the function returns
    return lambda *arguments: (f(*arguments), jax.grad(total)(*arguments))


def _held(model: Model) -> dict[str, Any]:
    if is_dataclass(model):
        return {field.name: getattr(model, field.name) for field in fields(model)}
    return dict(getattr(model, "__dict__", {}))


def plain(value: Any) -> Any:
    """Return a field's value as it comes back from JSON. What is no JSON is told in words that are the same in every
    process: functions by name, since what a model computes with them is in its fingerprints, and arrays by checksum."""
    if isinstance(value, np.generic | np.ndarray | Array):
        return _of_array(value)
    if callable(value):
        return function_name(value)
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))  # in no order of their own
    try:
        return json.loads(json.dumps(value, sort_keys=True, allow_nan=False))  # a NaN would differ from itself
    except (TypeError, ValueError):
        return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _of_array(value: Any) -> Any:
    if np.ndim(value) == 0 and not jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return plain(value.item())
    return f"{value.dtype}{[*value.shape]} {zlib.crc32(content(value)):08x}"
