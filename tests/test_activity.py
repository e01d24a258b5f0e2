"""Laws of which features are active together: probabilities and masks agree, with the densities and with each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyjax.toy.activity import ByMask, Drawn, Exclusive, Hierarchy, Independent, Together
from polyjax.toy.distributions import NORMAL, UNIFORM_POSITIVE
from polyjax.toy.features import Features
from polyjax.toy.models import Anthropic, Redwood
from polyjax.toy.sampling import Sampler, masks

EPS = float(np.finfo(np.float32).eps)
N, SAMPLES = 4, 200_000
ALL = masks(N)
LAWS = {
    "independent": (Independent(), [0.1, 0.5, 0.9, 0.3]),
    "alike": (Independent(), 0.3),
    "together": (Together([(0, 2)]), [0.2, 0.5, 0.2, 0.7]),
    "two pairs together": (Together([(0, 1), (2, 3)]), 0.4),
    "exclusive": (Exclusive([(1, 3, 0)]), [0.2, 0.5, 0.7, 0.1]),
    "exactly one": (Exclusive([(0, 1), (2, 3)]), [0.25, 0.75, 0.5, 0.5]),
    "hierarchy": (Hierarchy([None, 0, 0, 1]), [0.8, 0.5, 0.2, 0.1]),
    "by mask": (ByMask(lambda p: jnp.where(ALL.sum(1) == 2, 1 / 6, 0.0)), 0.5),
}


@pytest.fixture(params=LAWS)
def law(request):
    activity, density = LAWS[request.param]
    return activity, jnp.float32(density)


def test_probabilities_add_up_to_1_and_give_the_densities(law):
    activity, density = law
    probability = np.asarray(activity.probability(ALL, density), float)
    assert (probability >= 0).all()
    # Products and sums of a few rounded numbers.
    np.testing.assert_allclose(probability.sum(), 1, rtol=16 * EPS)
    np.testing.assert_allclose(probability @ ALL, np.broadcast_to(density, N), rtol=16 * EPS)


def test_masks_occur_as_often_as_their_probability(law):
    activity, density = law
    probability = np.asarray(activity.probability(ALL, density), float)
    drawn = np.asarray(activity.mask(jax.random.uniform(jax.random.key(0), (SAMPLES, N)), density))
    found = np.bincount(drawn @ (1 << np.arange(N)), minlength=2**N) / SAMPLES
    # 16 frequencies of each law at 5 standard errors: one false alarm in 10,000.
    assert np.all(abs(found - probability) <= 5 * np.sqrt(probability * (1 - probability) / SAMPLES))


def test_groups_do_what_their_names_say():
    u = jax.random.uniform(jax.random.key(1), (1000, N))
    together = np.asarray(Together([(0, 2)]).mask(u, jnp.float32(0.4)))
    assert (together[:, 0] == together[:, 2]).all()
    exclusive = np.asarray(Exclusive([(0, 1), (2, 3)]).mask(u, jnp.float32(0.5)))
    assert (exclusive[:, 0] != exclusive[:, 1]).all()
    assert (exclusive[:, 2] != exclusive[:, 3]).all()
    family = np.asarray(Hierarchy([None, 0, 0, 1]).mask(u, jnp.float32([0.8, 0.5, 0.2, 0.1])))
    assert (family[:, 1] <= family[:, 0]).all()
    assert (family[:, 3] <= family[:, 1]).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Together([(0, 1), (1, 2)]), "groups must have every feature once"),
        (lambda: Exclusive([(-1, 1)]), "groups must have every feature once"),
        (lambda: Hierarchy([1, None]), "parents must have None or a number below 0 at 0, but is 1"),
        (lambda: Features(0.0), "density must be above 0 and at most 1, but is"),
        (lambda: Features([0.5, 1.5]), "density must be above 0 and at most 1, but is 1.5 at index 1"),
        (lambda: Features(0.5, importance=[1, -1]), "importance must be at least 0 and below 1e12, but is -1.0"),
        (lambda: Features("0.5"), "density must be a number, or hold one a feature"),
        (lambda: Features([[0.5]]), "density must be a number, or hold one a feature"),
        (lambda: Features(0.5, distribution=[NORMAL, 1]), "distribution must be a Distribution, or one a feature"),
        (
            lambda: Features([0.5] * 3).of(4, NORMAL),
            r"density must be a number, or hold 4, one a feature, but is \(3,\)",
        ),
    ],
)
def test_laws_and_features_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- samples of features that differ


DIFFERENT = Features(
    jnp.float32([0.1, 0.5, 0.9]), distribution=(NORMAL, UNIFORM_POSITIVE, UNIFORM_POSITIVE), activity=Independent()
)


@pytest.mark.parametrize("name", ["enumerated", "iid"])
def test_every_feature_has_its_own_density_and_distribution(name):
    sampler = Sampler(name, 3, 16)

    def one(key):
        batch = sampler(sampler.uniforms(key, 3), DIFFERENT)
        return batch.weight @ batch.x, batch.weight @ batch.x**2

    keys = jax.random.split(jax.random.key(0), 4000)
    moments = DIFFERENT.moments()
    for found, expected in zip(
        jax.jit(jax.vmap(one))(keys), (moments.mean, moments.variance + moments.mean**2), strict=True
    ):
        found = np.asarray(found, float)
        error = found.std(0, ddof=1) / len(found) ** 0.5
        # Six moments of two samplers at 4.5 standard errors: one false alarm in 10,000.
        assert np.all(abs(found.mean(0) - np.asarray(expected)) < 4.5 * error)


@pytest.mark.parametrize("model", [Redwood(3, 2), Anthropic(3, 2, "square")], ids=["Redwood", "Anthropic"])
def test_the_population_loss_of_features_that_differ_is_that_of_samples(model):
    params = model.init(jax.random.key(1))
    params = params._replace(b=jnp.linspace(-0.5, 0.5, params.b.size).reshape(params.b.shape))
    v, sampler = jnp.float32([2, 1, 0.5]), Sampler("enumerated", 3, 256)

    def loss(key):
        batch = sampler(sampler.uniforms(key, 0), DIFFERENT)
        return batch.weight @ jax.vmap(model.loss, (None, 0, None))(params, batch.x, v)

    found = np.asarray(jax.jit(jax.vmap(loss))(jax.random.split(jax.random.key(2), 2000)), float)
    error = found.std(ddof=1) / len(found) ** 0.5
    expected = float(model.expected_loss(params, v, DIFFERENT.moments()))
    assert error < 0.02 * expected
    assert abs(found.mean() - expected) < 4.5 * error


def test_a_law_without_probabilities_is_drawn():
    law = Drawn(lambda u, p: u[0] < p)  # all or none
    u = jax.random.uniform(jax.random.key(0), (1000, N))
    found = np.asarray(Features(0.3, distribution=NORMAL, activity=Drawn(lambda u, p: jnp.full(N, u[0] < p))).mask(u))
    assert law.probability(ALL, 0.3) is None
    assert set(found.sum(1).tolist()) == {0, N}
