"""The paper's grid for tests of the engines: the importance of feature 0 in lanes, one density a row."""

from polyjax.engine import optimizers
from polyjax.engine.cells import OfAxes
from polyjax.engine.training import Training
from polyjax.toy.features import FirstImportance
from polyjax.toy.sampling import Sampler


def features(model, distribution=None):
    examples = (0.1, 0.5, 1.0), (0.3, 1.0, 3.0)
    return OfAxes(FirstImportance(model.n_features, distribution), ("density", "importance"), examples)


def configuration(
    model,
    engine="lanes",
    objective="sampled",
    optimizer=None,
    steps=20,
    sampler="enumerated",
    batch=None,
    distribution=None,
):
    drawn = Sampler(sampler, model.n_features, batch or 2**model.n_features)
    optimizer = optimizer or optimizers.adam(0.02, steps)
    return Training(model, features(model, distribution), drawn, objective, optimizer, steps, engine)


def coordinates(importance, density):
    """The coordinates of lanes [P, L] and of rows [P]."""
    return {"importance": importance}, {"density": density}
