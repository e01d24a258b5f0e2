"""The toy models: parameters, initialisation and loss of ONE model on ONE sample, in matrix notation.

Axis letters: N features, D neurons. No batch axes, no training: `training` adds both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi, sqrt
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from polyjax.checks import require
from polyjax.distributions import UNIFORM_SIGNED, Distribution

Activation = Callable[[Array], Array]


class Params(NamedTuple):
    W: Array  # [D, N]; column i embeds feature i
    b: Array  # [] (Redwood)


def square(z: Array) -> Array:
    return z * z


def gelu(z: Array) -> Array:
    """The tanh form of GELU, equal to `jax.nn.gelu(z)`, with one exponential instead of a tanh."""
    return z * jax.nn.sigmoid(2 * sqrt(2 / pi) * z * (1 + 0.044715 * z * z))


ACTIVATIONS: dict[str, Activation] = {"square": square, "relu": jax.nn.relu, "gelu": gelu}


@dataclass(frozen=True)
class Redwood:
    """One hidden layer whose activations are summed (section 3.1): y~ = sum_d f((W x)_d) + b, to match
    y = sum_i v_i f(x_i).

    `activation` is "square", "relu", "gelu" or any elementwise function of the user's. Raises ValueError for an
    unknown name and for sizes below 1.
    """

    n_features: int  # N
    n_neurons: int  # D
    activation: str | Activation = "square"

    def __post_init__(self) -> None:
        check_shape(self.n_features, self.n_neurons)
        find_activation(self.activation)

    @property
    def distribution(self) -> Distribution:
        """The features that the paper gives this model: signed uniform values of unit variance."""
        return UNIFORM_SIGNED

    def init(self, key: Array) -> Params:
        """W ~ normal(0, 1 / N), so that every ||w_i||^2 is about D / N, as at the optimum for equal importances."""
        W = jax.random.normal(key, (self.n_neurons, self.n_features)) / sqrt(self.n_features)
        return Params(W, jnp.zeros(()))

    def loss(self, params: Params, x: Array, importance: Array) -> Array:
        """(y~ - y)^2 for one sample x [N] and the importances v [N] (eq. 9-11)."""
        f = find_activation(self.activation)
        return (f(params.W @ x).sum() + params.b - importance @ f(x)) ** 2


class Model(Protocol):
    """What the engine asks of a model; a frozen dataclass, so that equal models are compiled once."""

    @property
    def n_features(self) -> int: ...
    @property
    def n_neurons(self) -> int: ...
    @property
    def distribution(self) -> Distribution: ...
    def init(self, key: Array) -> Params: ...
    def loss(self, params: Params, x: Array, importance: Array) -> Array: ...


def find_activation(activation: str | Activation) -> Activation:
    if callable(activation):
        return activation
    require(activation in ACTIVATIONS, "activation", f"be a function or one of {', '.join(ACTIVATIONS)}", activation)
    return ACTIVATIONS[activation]


def activation_name(model: Model) -> str:
    """How a results file names the model's activation."""
    activation = getattr(model, "activation", None)
    return activation if isinstance(activation, str) else getattr(activation, "__name__", repr(activation))


def check_shape(n_features: int, n_neurons: int) -> None:
    require(n_features >= 1, "n_features", "be at least 1", n_features)
    require(n_neurons >= 1, "n_neurons", "be at least 1", n_neurons)
