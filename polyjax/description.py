"""Descriptions of models and functions of the user's in a configuration: by fingerprints of what it computes, and by
the values that it holds.

polyjax's own models, activations and distributions are told by name alone, so that their configuration is the same with
every version of JAX.
"""

import json
import re
import zlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from polyjax.fingerprints import content, fingerprint
from polyjax.toy import distributions
from polyjax.toy.distributions import Distribution
from polyjax.toy.models import Model, activation_name, function_name, is_own, one_model

TOLD = ("n_features", "n_neurons", "activation")  # of every model
NUMBER = jax.ShapeDtypeStruct((), np.float32)


def of_model(model: Model) -> dict[str, Any]:
    """Return the model's class, sizes and activation, and all other fields of one of the user's."""
    told = {
        "name": type(model).__name__,
        "n_features": int(model.n_features),
        "n_neurons": int(model.n_neurons),
        "activation": activation_name(model),
    }
    others = {} if is_own(model) else {name: plain(value) for name, value in _held(model).items() if name not in TOLD}
    return told | ({"fields": others} if others else {})


def of_functions(model: Model, distribution: Distribution) -> dict[str, Any]:
    """Return fingerprints of what the user gave of these, whose names need not tell it; empty where all is
    polyjax's."""
    found: dict[str, Any] = {}
    activation = getattr(model, "activation", None)
    if callable(activation):
        vector = jax.ShapeDtypeStruct((model.n_features,), np.float32)  # it need not be elementwise
        found["activation"] = fingerprint(_with_gradient(activation), vector)
    if not is_own(model):
        found["model"] = _computed(model)
    if distribution not in distributions.ALL:
        found["distribution"] = {
            "active_value": fingerprint(distribution.active_value, NUMBER, NUMBER),
            "kurtosis": fingerprint(distribution.kurtosis, NUMBER),
            "moments": [float(m) for m in distribution.moments],
            "unit_variance": bool(distribution.unit_variance),
        }
    return found


def _computed(model: Model) -> dict[str, str]:
    vector = jax.ShapeDtypeStruct((model.n_features,), np.float32)
    return {
        "loss": fingerprint(_with_gradient(model.loss), one_model(model), vector, vector),
        "init": fingerprint(model.init, jax.eval_shape(lambda: jax.random.key(0))),
        "scale": fingerprint(model.scale, vector),
    }


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
