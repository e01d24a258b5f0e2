"""The activations that have names. Any other elementwise function of the user's does as well."""

import functools
from collections.abc import Callable
from math import pi, sqrt
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from polyjax.checks import require

Activation = Callable[[Array], Array]

# tanh(z) = z P(z^2) / Q(z^2) for |z| < 7.9, the approximation of the Eigen library, accurate to a few units in the last
# place; lowest power first.
_P: tuple[float, ...] = (4.89352455891786e-3, 6.37261928875436e-4, 1.48572235717979e-5, 5.12229709037114e-8)
_P += (-8.60467152213735e-11, 2.00018790482477e-13, -2.76076847742355e-16)
_Q = (4.89352518554385e-3, 2.26843463243900e-3, 1.18534705686654e-4, 1.19825839466702e-6)
_SCALE, _CUBIC = sqrt(2 / pi), 0.044715  # of GELU's tanh form
_END = 4.85  # beyond it the tanh is 1 to the last digit


def square(z: Array) -> Array:
    return z * z


relu: Activation = jax.nn.relu


@jax.custom_jvp
def gelu(z: Array) -> Array:
    """GELU in its tanh form, `jax.nn.gelu(z)` up to rounding.

    Written in multiplications, additions and one division: XLA keeps what it takes for expensive, such as exp and
    tanh, apart from the kernel that needs it, which costs the lanes form a factor of 2 to 4.
    """
    inside = jnp.clip(z, -_END, _END)
    return inside * _gate(inside) + jnp.maximum(z - _END, 0)


@gelu.defjvp
def _gelu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Shares the gate between value and derivative."""
    (z,), (dz,) = primals, tangents
    inside = jnp.clip(z, -_END, _END)
    gate = _gate(inside)
    slope = 2 * _SCALE * (1 + 3 * _CUBIC * (inside * inside))
    return inside * gate + jnp.maximum(z - _END, 0), dz * (gate + inside * gate * (1 - gate) * slope)


def _gate(z: Array) -> Array:
    """(1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))) / 2."""
    t = _SCALE * z * (1 + _CUBIC * (z * z))
    return (1 + t * _polynomial(_P, t * t) / _polynomial(_Q, t * t)) / 2


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    value = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        value = value * x + c
    return value


ACTIVATIONS: dict[str, Activation] = {"square": square, "relu": relu, "gelu": gelu}


def find_activation(activation: str | Activation) -> Activation:
    """Return the function of that name, or the function itself. Raises ValueError for an unknown name."""
    if callable(activation):
        return activation
    known = isinstance(activation, str) and activation in ACTIVATIONS
    require(known, "activation", f"be a function or one of {', '.join(ACTIVATIONS)}", activation)
    return ACTIVATIONS[activation]


def activation_name(model: Any) -> str:
    """Return how a results file names the model's activation."""
    activation = getattr(model, "activation", None)
    if isinstance(activation, str):
        return activation
    return function_name(activation) if callable(activation) else repr(activation)


def function_name(f: Callable[..., Any]) -> str:
    """Return a function's name, that of the function in a `functools.partial`, or the class of an object that is
    called; the same in every process, as `repr` is not."""
    if isinstance(f, functools.partial):
        return function_name(f.func)
    return getattr(f, "__name__", None) or type(f).__name__
