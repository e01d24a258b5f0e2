"""The named activations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyjax.toy.activations import ACTIVATIONS, find_activation, gelu


def test_gelu_and_its_slope_are_those_of_jax_to_rounding():
    z = jnp.linspace(-12, 12, 20_001)
    value, slope = jax.vmap(jax.value_and_grad(gelu))(z)
    expected, expected_slope = jax.vmap(jax.value_and_grad(jax.nn.gelu))(z)
    # Values up to 12, so a few units in the last place; the slope adds terms of up to 30 that cancel.
    np.testing.assert_allclose(value, expected, atol=3e-6, rtol=0)
    np.testing.assert_allclose(slope, expected_slope, atol=1e-5, rtol=0)


def test_gelu_far_out_is_relu_and_passes_nan_on():
    z = jnp.array([-1e20, -1e4, -30.0, 30.0, 1e4, 1e20])
    value, slope = jax.vmap(jax.value_and_grad(gelu))(z)
    np.testing.assert_allclose(value, np.maximum(z, 0), atol=1e-6, rtol=1e-6)
    np.testing.assert_allclose(slope, z > 0, atol=1e-5)
    assert jnp.isnan(gelu(jnp.nan))


def test_an_activation_is_found_by_name_or_taken_as_it_is():
    assert find_activation("gelu") is ACTIVATIONS["gelu"]
    assert find_activation(jnp.sin) is jnp.sin
    with pytest.raises(ValueError, match="activation must be a function or one of square, relu, gelu, but is 'swish'"):
        find_activation("swish")
