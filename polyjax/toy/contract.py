"""What a model must be, checked before any work starts, in words that name the method that breaks it (see `Model`)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from polyjax.checks import count, require
from polyjax.toy.activations import Activation, find_activation, function_name
from polyjax.toy.distributions import UNIFORM_SIGNED
from polyjax.toy.features import check_distribution
from polyjax.toy.model import EMBEDDING, SNAPSHOT, Model, Parameters, has_scale
from polyjax.toy.models import Anthropic, Redwood
from polyjax.tracing import traced

# Names of other arrays in results, or in the files that become results.
TAKEN = ("config", "about", "capacity", "rank_loss", "loss", "loss_se", "settled", "converged", "attempt", EMBEDDING)
TAKEN_BY_DIAGRAMS = ("gain", "excess", "spectrum", "before", "after", "params")


def check_model(model: Any) -> None:
    """Raise ValueError, naming the method, unless a model keeps the contract of `Model`."""
    require(isinstance(model, Model), "model", "be a model, such as Redwood(6, 3) or your own subclass of Model", model)
    name = type(model).__name__
    n = getattr(model, "n_features", None)
    count(f"{name}.n_features", n)
    check_distribution(f"{name}.distribution", model.distribution)
    if isinstance(model, Redwood | Anthropic):
        check_activation(f"{name}.activation", find_activation(model.activation), model.n_features)
    params = traced(f"{name}.init", model.init, jax.eval_shape(lambda: jax.random.key(0)))
    _check_params(name, params)
    vector = jax.ShapeDtypeStruct((model.n_features,), np.float32)
    _check_number(f"{name}.loss", model.loss, params, vector, vector)
    zeros = np.zeros(model.n_features, np.float32)
    must = "have a derivative in the parameters that is not 0 everywhere"
    require(_moves(lambda params: model.loss(params, zeros, zeros), params), f"{name}.loss", must, "constant")
    if model.has_closed_form:
        moments = jax.eval_shape(UNIFORM_SIGNED.active_moments, jax.ShapeDtypeStruct((), np.float32))
        _check_number(f"{name}.expected_loss", model.expected_loss, params, vector, moments)
    W = traced(f"{name}.embedding", model.embedding, params)
    is_matrix = getattr(W, "ndim", 0) == 2 and W.shape[0] >= 1 and W.shape[1] == n
    require(is_matrix, f"{name}.embedding", f"return W [D, {n}], a column for every feature", _shown(W))
    scale = traced(f"{name}.scale", model.scale, vector)
    require(getattr(scale, "shape", None) == (n,), f"{name}.scale", f"return [{n}], one a feature", _shown(scale))
    if has_scale(model):
        of_columns = getattr(getattr(params, "W", None), "shape", ())[1:] == (n,)
        require(of_columns, f"{name}.scale", f"be left out where no parameter is W [D, {n}]", _shown(params))


def _check_params(name: str, params: Parameters) -> None:
    """Raise ValueError unless parameters are a NamedTuple of arrays of single precision, of names of their own."""
    must, fields = "return a NamedTuple of arrays, at least one", getattr(params, "_fields", ())
    require(isinstance(params, tuple) and bool(fields), f"{name}.init", must, _shown(params))
    for field, leaf in params._asdict().items():
        is_array = isinstance(leaf, jax.ShapeDtypeStruct)
        require(is_array, f"{name}.init", f"return an array as {field}", _shown(leaf))
        require(leaf.dtype == np.float32, f"{name}.init", f"return {field} in float32", leaf.dtype)
        taken = field in (*TAKEN, *TAKEN_BY_DIAGRAMS) or field.startswith(("axis_", "refined_", SNAPSHOT))
        require(not taken, f"{name}.init", "name no parameter as other arrays in the results", field)


def _check_number(name: str, loss: Callable[..., Any], *arguments: Any) -> None:
    """Raise ValueError unless a loss is one number that can be differentiated."""
    found = traced(name, loss, *arguments)
    is_number = getattr(found, "shape", None) == () and jnp.issubdtype(found.dtype, jnp.floating)
    require(is_number, name, "return one real number", _shown(found))
    traced(name, jax.grad(loss), *arguments)


def check_activation(name: str, f: Activation, n: int) -> None:
    """Raise ValueError unless a function gives an array [n] for one, with a derivative to train by."""
    z = jax.ShapeDtypeStruct((n,), np.float32)
    found = traced(name, f, z)
    must = "return an array of real numbers, one for each that it is given"
    ok = getattr(found, "shape", None) == (n,) and jnp.issubdtype(found.dtype, jnp.floating)
    require(ok, name, must, _shown(found))
    if not _moves(f, z):
        raise ValueError(f"{name} must have a derivative that is not 0 everywhere, as that of {function_name(f)} is")


def _moves(f: Callable[..., Any], z: Any) -> bool:
    """Say whether a function of arrays has a derivative that is not 0 everywhere."""
    slope = jax.make_jaxpr(lambda z, dz: jax.jvp(f, (z,), (dz,))[1])(z, z).jaxpr
    reached = {*slope.invars[len(slope.invars) // 2 :]}
    for equation in slope.eqns:
        if any(v in reached for v in equation.invars if not isinstance(v, Literal)):
            reached.update(equation.outvars)
    return any(v in reached for v in slope.outvars if not isinstance(v, Literal))


def _shown(value: Any) -> Any:
    """Return a value as an error shows it: arrays by their shapes."""
    if isinstance(value, jax.ShapeDtypeStruct):
        return f"an array {[*value.shape]} of {value.dtype}"
    return jax.tree.map(lambda leaf: f"[{', '.join(map(str, leaf.shape))}]", value)
