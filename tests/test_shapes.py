"""The shapes in signatures are those of the functions, and are checked (see `shapes`)."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Float, Real, TypeCheckError
from shapes import checked

import polyjax
from polyjax import embedding, theory
from polyjax.checks import ArrayLike


def test_functions_of_the_package_are_checked_wherever_they_are_found():
    for f in (polyjax.capacities, embedding.capacities, theory.optimal_loss, theory.quadratic.optimal_loss):
        assert f.__wrapped__.__module__.startswith("polyjax")


def test_a_return_of_another_shape_is_told():
    @checked
    def wrong(W: Real[ArrayLike, "*batch D N"]) -> Float[np.ndarray, "*batch N"]:
        return np.asarray(W, float).sum(-1)

    with pytest.raises(TypeCheckError):
        wrong(np.ones((4, 2, 3)))
    with pytest.raises(TypeCheckError):
        wrong([[1, 2, 3], [4, 5, 6]])


def test_what_a_function_refuses_it_refuses_in_its_own_words():
    with pytest.raises(ValueError, match="W must have at least one row"):
        polyjax.capacities(jnp.ones(3))


@pytest.mark.parametrize("W", [np.eye(2), np.eye(2, dtype=int), jnp.eye(2), [[1, 0], [0, 1]], ((1.0, 0.0), (0.0, 1.0))])
def test_numbers_of_every_kind_are_taken(W):
    np.testing.assert_array_equal(polyjax.capacities(W), [1, 1])
    assert theory.expected_loss(W, [1, 1], 9) == 0
    np.testing.assert_array_equal(embedding.explained_variance(W), [1, 1])
