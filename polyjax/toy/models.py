"""The paper's toy models (see `model` for what every model provides).

Axis letters: N features, D neurons.
"""

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from polyjax.checks import count
from polyjax.toy.activations import Activation, find_activation, gelu, relu, square
from polyjax.toy.distributions import UNIFORM_POSITIVE, UNIFORM_SIGNED, Distribution, Moments
from polyjax.toy.model import Model


class Params(NamedTuple):
    W: Array  # [D, N]; column i embeds feature i
    b: Array  # [] (Redwood) or [N] (Anthropic)


@dataclass(frozen=True)
class Redwood(Model):
    """One hidden layer whose activations are summed (section 3.1): y~ = sum_d f((W x)_d) + b, to match
    y = sum_i v_i f(x_i).

    `activation` is "square", "relu", "gelu" or any elementwise function of the user's. Raises ValueError for an
    unknown name and for sizes below 1.
    """

    n_features: int  # N
    n_neurons: int  # D
    activation: str | Activation = "square"
    distribution: ClassVar[Distribution] = UNIFORM_SIGNED  # the paper's: signed uniform values of unit variance

    def __post_init__(self) -> None:
        check_shape(self.n_features, self.n_neurons)
        find_activation(self.activation)

    def init(self, key: Array) -> Params:
        """Draw W ~ normal(0, 1 / N), so that every ||w_i||^2 is about D / N, as at the optimum for equal
        importances."""
        W = jax.random.normal(key, (self.n_neurons, self.n_features)) / sqrt(self.n_features)
        return Params(W, jnp.zeros(()))

    def scale(self, importance: Float[Array, " N"]) -> Float[Array, " N"]:
        """Return how long the embeddings of features of importance v [N] are: v^(1/2) for square, since n = v where C =
        1, v for ReLU and GELU, and 1 for functions of the user's. They are trained in these units."""
        degree = {square: 2, relu: 1, gelu: 1}.get(find_activation(self.activation))
        return importance ** (1 / degree) if degree else jnp.ones_like(importance)

    def loss(self, params: Params, x: Float[Array, " N"], importance: Float[Array, " N"]) -> Float[Array, ""]:
        """(y~ - y)^2 for one sample x [N] and the importances v [N] (eq. 9-11)."""
        f = find_activation(self.activation)
        return (f(params.W @ x).sum() + params.b - importance @ f(x)) ** 2

    @property
    def has_closed_form(self) -> bool:
        """With square activation; not for a subclass, whose `loss` may be another."""
        return is_own(self) and find_activation(self.activation) is square

    def expected_loss(self, params: Params, importance: Float[Array, " N"], moments: Moments) -> Float[Array, ""]:
        """Return the population loss of the square model for independent features with these moments, [] or [N].

        The error is the quadratic form x^T A x + b with A = W^T W - diag(v), whose second moment is known (eq. 33,
        which is the case of mean 0 and variance 1). Only where `has_closed_form`.
        """
        A = params.W.T @ params.W - importance[:, None] * np.eye(self.n_features, dtype=np.float32)
        mean, variance, third, fourth = (jnp.broadcast_to(m, (self.n_features,)) for m in moments)
        own, slope = (params.W**2).sum(0) - importance, 2 * (A @ mean)  # of the centred features
        offset = params.b + mean @ (A @ mean) + variance @ own
        pairs = 2 * (variance @ (A**2 @ variance))  # with i = j, which the fourth cumulant has without
        return offset**2 + pairs + fourth @ own**2 + 2 * (third * own) @ slope + variance @ slope**2


@dataclass(frozen=True)
class Anthropic(Model):
    """The autoencoder of Elhage et al. 2022: x~ = f(W^T W x + b), to match x itself.

    `activation` and the errors are as for `Redwood`.
    """

    n_features: int  # N
    n_neurons: int  # D
    activation: str | Activation = "relu"
    distribution: ClassVar[Distribution] = UNIFORM_POSITIVE  # uniform on [0, 1] where active, as in Elhage et al. 2022

    def __post_init__(self) -> None:
        check_shape(self.n_features, self.n_neurons)
        find_activation(self.activation)

    def init(self, key: Array) -> Params:
        """Draw W ~ normal(0, 1 / N), as for `Redwood`."""
        W = jax.random.normal(key, (self.n_neurons, self.n_features)) / sqrt(self.n_features)
        return Params(W, jnp.zeros(self.n_features))

    def scale(self, importance: Float[Array, " N"]) -> Float[Array, " N"]:
        """1: the length of an embedding does not depend on its importance."""
        return jnp.ones_like(importance)

    def loss(self, params: Params, x: Float[Array, " N"], importance: Float[Array, " N"]) -> Float[Array, ""]:
        """sum_i v_i (x~_i - x_i)^2 for one sample x [N] and the importances v [N] (section 3.7)."""
        f = find_activation(self.activation)
        return importance @ (f(params.W.T @ (params.W @ x) + params.b) - x) ** 2

    @property
    def has_closed_form(self) -> bool:
        """With square activation; not for a subclass, whose `loss` may be another."""
        return is_own(self) and find_activation(self.activation) is square

    def expected_loss(self, params: Params, importance: Float[Array, " N"], moments: Moments) -> Float[Array, ""]:
        """Return the population loss of the square model for independent features with these moments, [] or [N].

        Each x~_i = y_i^2 with y = W^T W x + b, and E[y^4] - 2 E[y^2 x_i] + E[x_i^2] follows from the cumulants of y_i
        and x_i, which are sums over features. Only where `has_closed_form`. The derivation is ours.
        """
        G = params.W.T @ params.W
        mean, variance, third, fourth = (jnp.broadcast_to(m, (self.n_features,)) for m in moments)
        own, center = (params.W**2).sum(0), G @ mean + params.b
        s2, s3, s4 = G**2 @ variance, G**3 @ third, G**4 @ fourth
        quartic = s4 + 3 * s2**2 + 4 * center * s3 + 6 * center**2 * s2 + center**4
        mixed = mean * (s2 + center**2) + third * own**2 + 2 * center * variance * own
        return importance @ (quartic - 2 * mixed + variance + mean**2)


def is_own(model: Model) -> bool:
    """Say whether the model is polyjax's. A subclass, which may compute anything, is not."""
    return type(model) in (Redwood, Anthropic)


def check_shape(n_features: int, n_neurons: int) -> None:
    count("n_features", n_features)
    count("n_neurons", n_neurons)
