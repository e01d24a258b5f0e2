"""The contract of a toy model: ONE network on ONE sample, in matrix notation.

Axis letters: N features, D neurons. A model has no batch axes and knows of no training: `engine` adds both.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import jax
from jax import Array
from jax import numpy as jnp
from jaxtyping import Float

from polyjax.toy.distributions import UNIFORM_SIGNED, Distribution, Moments

EMBEDDING = "embedding"  # the name of an embedding that is no parameter, among the parameters of a network

SNAPSHOT = "snapshot_"  # before the names of arrays of networks on their way

Parameters = Any  # of networks: a NamedTuple of arrays, which is the model's own


class Model(ABC):
    """A toy model: how a network begins, what it loses on one sample, and where it keeps its features.

    A model of your own is a subclass, best a frozen dataclass, so that equal models are compiled once:

        class Weights(NamedTuple):
            encoder: jax.Array  # [D, N]
            decoder: jax.Array  # [N, D]

        @dataclass(frozen=True)
        class Untied(polyjax.Model):
            n_features: int
            n_neurons: int

            def init(self, key):
                encoder = jax.random.normal(key, (self.n_neurons, self.n_features)) / self.n_features**0.5
                return Weights(encoder, encoder.T)

            def loss(self, params, x, importance):
                return importance @ (params.decoder @ (params.encoder @ x) - x) ** 2

            def embedding(self, params):
                return params.encoder

    It must have `n_features`, `init` and `loss`, and `embedding` unless the embedding is the parameter W. It may have a
    `distribution`, where a parameter W [D, N] is the embedding a `scale`, and an `expected_loss`, by which
    `objective="expected"` trains where `has_closed_form` says so. All methods are traced by JAX: they are
    made of `jax.numpy` operations and do not branch on values. A sweep refuses a model that breaks this contract.
    """

    n_features: int  # N
    distribution: ClassVar[Distribution] = UNIFORM_SIGNED  # of features that do not name one

    @abstractmethod
    def init(self, key: Array) -> Parameters:
        """Draw the parameters of one network: a NamedTuple of float32 arrays of any shapes."""

    @abstractmethod
    def loss(self, params: Parameters, x: Float[Array, " N"], importance: Float[Array, " N"]) -> Float[Array, ""]:
        """Return the loss, one number, on one sample x [N], for the importances v [N] of the features."""

    def embedding(self, params: Parameters) -> Float[Array, "D N"]:
        """Return the embedding W [D, N] of one network, whose column i is that of feature i, and from which capacities
        follow (eq. 3). By default the parameter W."""
        return params.W

    def scale(self, importance: Float[Array, " N"]) -> Float[Array, " N"]:
        """Return how long the embeddings of features of importance v [N] are, about, [N]; by default 1. The columns of
        the parameter W are trained in these units."""
        return jnp.ones_like(importance)

    @property
    def has_closed_form(self) -> bool:
        """Say whether the model's `expected_loss` is its population loss; by default not, as it has none."""
        return False

    def expected_loss(self, params: Parameters, importance: Float[Array, " N"], moments: Moments) -> Float[Array, ""]:
        """Return the population loss, one number, for independent features with these moments, each [] or [N]. Needed
        where the model `has_closed_form` alone."""
        raise NotImplementedError


def one_model(model: Model) -> Parameters:
    """Return the shapes of one network's parameters, in the model's own NamedTuple."""
    return jax.eval_shape(model.init, jax.random.key(0))


def n_parameters(model: Model) -> int:
    """Return the number of parameters of one network."""
    return sum(leaf.size for leaf in jax.tree.leaves(one_model(model)))


def n_neurons(model: Model) -> int:
    """Return the number of neurons D, the rows of the embedding."""
    return jax.eval_shape(model.embedding, one_model(model)).shape[0]


def n_weights(model: Model) -> int:
    """Return the number of weights D N of the embedding."""
    return n_neurons(model) * model.n_features


def numbers_of(model: Model, samples: int) -> int:
    """Return how many numbers a network computes from so many samples, about."""
    return samples * (model.n_features + n_neurons(model))


def embeds_by_parameter(model: Model) -> bool:
    """Say whether the embedding is the parameter W as it is."""
    return type(model).embedding is Model.embedding


def has_scale(model: Model) -> bool:
    """Say whether the model gives the columns of its parameter W a scale."""
    return type(model).scale is not Model.scale
