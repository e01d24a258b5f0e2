"""The certificate of a solution: which models' losses do not notice rotations, and the Hessian's spectrum in units."""

import numpy as np
import pytest
import scipy.linalg

from polyjax.engine.certificate import has_rotations, spectrum
from polyjax.toy.model import one_model
from polyjax.toy.models import Anthropic, Params, Redwood

ROUNDING = 1e-10  # of small matrices in double precision


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Anthropic(3, 2, "relu"), True),  # only W^T W enters its loss
        (Anthropic(4, 3, "square"), True),
        (Anthropic(3, 1, "relu"), False),  # a single neuron has nothing to be rotated with
        (Redwood(3, 2, "square"), True),  # |W x|^2
        (Redwood(3, 1, "square"), False),
        (Redwood(3, 2, "relu"), False),  # every neuron has a ReLU of its own
        (Redwood(3, 2, "gelu"), False),
    ],
    ids=str,
)
def test_rotations_are_found_where_the_loss_does_not_notice_them(model, expected):
    assert has_rotations(model) is expected


RELU, AUTOENCODER = Redwood(3, 2, "relu"), Anthropic(3, 2)


def params(model, W):
    """Parameters [L, ...] with embeddings W [L, D, N] and biases of 0."""
    return Params(W, np.zeros((len(W), *one_model(model).b.shape)))


def symmetric(rng, n, cells=1):
    a = rng.normal(size=(cells, n, n))
    return a + np.swapaxes(a, 1, 2)


def test_the_spectrum_is_beside_the_loss_and_in_the_scale_of_each_feature():
    model = Redwood(2, 1, "relu")  # without rotations
    W = np.array([[[3.0, 1.0]], [[2.0, 0.5]]])
    scale = np.array([[4.0, 1.0], [0.0, 1.0]])  # a feature of importance 0 is measured as it is
    hessian = np.array([np.diag([2.0, 8.0, -6.0]), [[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 5.0]]])
    found = spectrum(model, params(model, W), scale, np.array([0.5, 2.0]), hessian)
    # Curvatures 2 x 4^2, 8 and -6 over 0.5; and 1 + 2, 1 - 2 and 5 over 2.
    np.testing.assert_allclose(found, [[-12, 16, 64], [-0.5, 1.5, 2.5]], atol=ROUNDING)


def rotations(W):
    """The tangents S W of the neurons' rotations, for a basis of skew-symmetric S [D, D], with 0 for the biases."""
    D, N = W.shape
    tangents = []
    for i in range(D):
        for j in range(i):
            S = np.zeros((D, D))
            S[i, j], S[j, i] = 1, -1
            tangents.append(np.concatenate([(S @ W).ravel(), np.zeros(N)]))
    return np.array(tangents)


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_rotations_are_left_out_and_their_places_at_the_end_hold_nan(rank):
    D, N = 3, 4
    model, rng = Anthropic(N, D), np.random.default_rng(rank)
    W = rng.normal(size=(D, rank)) @ rng.normal(size=(rank, N))
    tangents, n = rotations(W), D * N + N
    hessian = symmetric(rng, n)[0]
    found = spectrum(model, params(model, W[None]), np.ones((1, N)), np.array([2.0]), hessian[None])[0]
    # D (D - 1) / 2 rotations, without those of the D - rank dimensions in which nothing is.
    left_out = D * (D - 1) // 2 - (D - rank) * (D - rank - 1) // 2
    rest = scipy.linalg.null_space(tangents, rcond=1e-9) if rank else np.eye(n)
    assert rest.shape == (n, n - left_out)
    assert np.isnan(found).tolist() == [False] * (n - left_out) + [True] * left_out
    np.testing.assert_allclose(found[: n - left_out], np.linalg.eigvalsh(rest.T @ hessian @ rest) / 2, atol=ROUNDING)
    stiff = hessian + 1e3 * tangents.T @ tangents
    again = spectrum(model, params(model, W[None]), np.ones((1, N)), np.array([2.0]), stiff[None])[0]
    np.testing.assert_allclose(again, found, atol=1e3 * ROUNDING)  # of what is left out


def test_rotations_are_left_out_in_units():
    # The scales of the columns stretch the tangents of the rotations as the spectrum's units do.
    model, rng = Redwood(3, 2, "square"), np.random.default_rng(5)
    W, scale = rng.normal(size=(2, 3)), np.array([[3.0, 1.0, 1.0]])
    units = np.concatenate([np.tile(scale[0], 2), [1]])
    tangent = np.concatenate([np.array([W[1], -W[0]]).ravel(), [0]])
    hessian = symmetric(rng, 7)[0]
    found = spectrum(model, params(model, W[None]), scale, np.ones(1), hessian[None])[0]
    rest = scipy.linalg.null_space((tangent / units)[None])
    expected = np.linalg.eigvalsh(rest.T @ (hessian * np.outer(units, units)) @ rest)
    np.testing.assert_allclose(found, [*expected, np.nan], atol=ROUNDING)


def test_models_that_notice_rotations_keep_all_of_the_spectrum():
    rng = np.random.default_rng(6)
    W, hessian = rng.normal(size=(2, 2, 3)), symmetric(rng, 7, 2)
    found = spectrum(RELU, params(RELU, W), np.ones((2, 3)), np.ones(2), hessian)
    np.testing.assert_allclose(found, np.linalg.eigvalsh(hessian), atol=ROUNDING)


def broken(what, bad):
    """Three solutions of which the second is not finite, or has no loss."""
    rng = np.random.default_rng(7)
    W, loss, hessian = rng.normal(size=(3, 2, 3)), np.ones(3), symmetric(rng, 9, 3)
    {"hessian": hessian[1, 2], "loss": loss[1:2], "W": W[1, 0], "nothing": loss[:0]}[what][:1] = bad
    return spectrum(AUTOENCODER, params(AUTOENCODER, W), np.ones((3, 3)), loss, hessian)


@pytest.mark.parametrize(
    ("what", "bad"),
    [("hessian", np.nan), ("hessian", np.inf), ("W", np.nan), ("W", -np.inf), ("loss", np.nan), ("loss", 0)],
)
def test_what_is_not_finite_has_no_spectrum_and_spoils_no_other(what, bad):
    found = broken(what, bad)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[[0, 2]], broken("nothing", 0)[[0, 2]])
