"""Wrong calls of what is public, each answered by one sentence: which argument, what it must be, what it was."""

import math
import re
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from polyjax import (
    Anthropic,
    Features,
    Redwood,
    Sweep,
    activity,
    capacities,
    distributions,
    embedding,
    isotropic_capacities,
    load,
    run,
    run_to_file,
    theory,
    verify,
)

S = Sweep(Redwood(3, 2), [0.2, 0.5], [0.5, 2.0], restarts=1, steps=4, batch=8, retries=0)
W = np.ones((3, 6))
MODEL = "model must be a model, such as Redwood(6, 3) or your own subclass of Model"
RATE = "learning_rate must be a number above 0 and finite (a schedule is part of an optimizer)"
ONE_DIMENSIONAL = "density must be one-dimensional and hold at least one value"
TRACED_FEATURES = "features must be made of jax.numpy operations"
TRACED_MODEL = "model must be made of jax.numpy operations"
TRACED_OPTIMIZER = "optimizer must be made of jax.numpy operations"
OPTIMIZER = "optimizer must be an optax transformation, or a function of axes that returns one"
FEATURES_ = "features must be Features, or a function that returns them"
TRACED_ACTIVATION = (
    "Redwood.activation must be made of jax.numpy operations, for shapes as the contract of Model has them"
)
ACTIVATION = "Redwood.activation must return an array of real numbers, one for each that it is given"
IMPORTANCE = "importance must be real numbers"
GROUPS = "groups must be groups of features by their numbers, such as [(0, 1), (2, 3)]"
WHOLE = "path must name a whole polyjax results file"
FOLDER = "path must be in a folder that can be made"
MATRIX = "W must be an array of real numbers, [..., D, N]"
BY_NAME = 'axes must be values by name, such as {"density": [0.1, 0.2]}'
LAW = "activity must be a law of activity, such as activity.Exclusive([(0, 1)])"


def changed(**fields):
    return lambda: Sweep(**{"model": Redwood(3, 2), "density": [0.2], "importance": [1.0]} | fields)


def activated(f):
    return lambda: Sweep(Redwood(3, 2, f), [0.5])


def made(*args, **fields):
    return lambda: Features(*args, **fields)


def of_features(features):
    return lambda: Sweep(Redwood(3, 2), axes={"density": [0.5]}, features=features)


def of_optimizer(optimizer):
    return lambda: Sweep(Redwood(3, 2), axes={"density": [0.5], "r": [0.1]}, optimizer=optimizer)


def of_model(model):
    return lambda: Sweep(model, axes={"density": [0.5], "q": [1.5, 2.5]})


def with_axes(axes, **fields):
    return lambda: Sweep(Redwood(3, 2), axes=axes, **fields)


SWEEPS = [
    (lambda: Sweep([0.5], Anthropic(3, 2)), f"{MODEL}, but is [0.5]"),
    (lambda: Sweep(Redwood(3, 2), [2.0], [0.5]), "density must be above 0 and at most 1, but is 2.0 at index 0"),
    (changed(model="Redwood"), f"{MODEL}, but is 'Redwood'"),
    (changed(model=Redwood), f"{MODEL}, but is <class 'polyjax.toy.models.Redwood'>"),
    (changed(model=None), f"{MODEL}, but is None"),
    (changed(model=(3, 2)), f"{MODEL}, but is (3, 2)"),
    (changed(learning_rate="0.1"), f"{RATE}, but is '0.1'"),
    (changed(learning_rate=np.array([0.1])), f"{RATE}, but is array([0.1])"),
    (changed(learning_rate=-1), f"{RATE}, but is -1"),
    (changed(learning_rate=np.inf), f"{RATE}, but is inf"),
    (changed(learning_rate=[0.1]), f"{RATE}, but is [0.1]"),
    (changed(steps="100"), "steps must be a whole number of at least 1, but is '100'"),
    (changed(steps=1.5), "steps must be a whole number of at least 1, but is 1.5"),
    (changed(steps=True), "steps must be a whole number of at least 1, but is True"),
    (changed(steps=np.nan), "steps must be a whole number of at least 1, but is nan"),
    (changed(steps=np.inf), "steps must be a whole number of at least 1, but is inf"),
    (changed(steps=None), "steps must be a whole number of at least 1, but is None"),
    (changed(batch=0), "batch must be a whole number of at least 1, but is 0"),
    (changed(seed=-1), "seed must be a whole number of at least 0, but is -1"),
    (changed(seed=2**32), "seed must be below 2^32, but is 4294967296"),
    (changed(seed="1"), "seed must be a whole number of at least 0, but is '1'"),
    (changed(chunk="a"), "chunk must be a whole number of at least 1, but is 'a'"),
    (changed(restarts=[1]), "restarts must be a whole number of at least 1, but is [1]"),
    (changed(distribution="normal"), "distribution must be a Distribution, but is 'normal'"),
    (
        changed(distribution=distributions.Distribution),
        "distribution must be a Distribution, but is <class 'polyjax.toy.distributions.Distribution'>",
    ),
    (changed(sampler="sobol"), "sampler must be one of enumerated, stratified, iid, but is 'sobol'"),
    (changed(sampler=3), "sampler must be one of enumerated, stratified, iid, but is 3"),
    (changed(engine="gpu"), "engine must be one of auto, arrays, lanes, fused, but is 'gpu'"),
    (
        lambda: Sweep(Redwood(101, 10), [0.2], [1.0], engine="lanes"),
        "engine must be arrays for 1010 weights, more than 1000, but is 'lanes'",
    ),
    (changed(objective="exact"), "objective must be one of sampled, expected, but is 'exact'"),
    (changed(polish="yes"), 'polish must be True, False, "sampled" or "restarts", but is \'yes\''),
    (changed(polish=1), 'polish must be True, False, "sampled" or "restarts", but is 1'),
    (changed(polish=[1]), 'polish must be True, False, "sampled" or "restarts", but is [1]'),
    (changed(retries=True), "retries must be a whole number of at least 0, but is True"),
    (changed(refine="8"), "refine must be a whole number of at least 0, but is '8'"),
    (changed(refine=True), "refine must be a whole number of at least 0, but is True"),
    (changed(sparsity=1), "Sweep has no sparsity; did you mean density, which is 1 - sparsity?"),
    (changed(lr=1), "Sweep has no lr; did you mean learning_rate?"),
    (changed(n_restarts=1), "Sweep has no n_restarts; did you mean restarts?"),
    (changed(n_steps=1), "Sweep has no n_steps; did you mean steps?"),
    (changed(optimiser=1), "Sweep has no optimiser; did you mean optimizer?"),
    (changed(epochs=1), "Sweep has no epochs"),
]

FILES = [
    (lambda files, results: run("x.npz"), "sweep must be a Sweep, but is 'x.npz'"),
    (lambda files, results: run(None), "sweep must be a Sweep, but is None"),
    (lambda files, results: run_to_file("x.npz", S), "sweep must be a Sweep, but is 'x.npz'"),
    (lambda files, results: run_to_file(S, 5), "path must be the name of a file, but is 5"),
    (lambda files, results: run_to_file(S, files / "x.txt"), "path must end in .npz, but is '{files}/x.txt'"),
    (
        lambda files, results: run_to_file(S, files / "file" / "x.npz"),
        f"{FOLDER}, but {{files}}/file cannot: File exists",
    ),
    (
        lambda files, results: run_to_file(S, files / "file" / "sub" / "x.npz"),
        f"{FOLDER}, but {{files}}/file/sub cannot: Not a directory",
    ),
    (
        lambda files, results: run_to_file(replace(S, seed=1), files / "r.npz"),
        "{files}/r.npz is of another configuration: seed (0 there, 1 here). restart=True discards it",
    ),
    (
        lambda files, results: run_to_file(S, files / "folder.npz"),
        "path must name a file, not a folder, but is '{files}/folder.npz'",
    ),
    (
        lambda files, results: run_to_file(S, files / "cut.npz"),
        f"{WHOLE}, but is '{{files}}/cut.npz': it is truncated; restart=True replaces it",
    ),
    (lambda files, results: load(5), "path must be the name of a file, but is 5"),
    (lambda files, results: load(files / "cut.npz"), f"{WHOLE}, but is '{{files}}/cut.npz': it is truncated"),
    (lambda files, results: load(files / "text.npz"), f"{WHOLE}, but is '{{files}}/text.npz': it is no .npz file"),
    (lambda files, results: load(files), f"{WHOLE}, but is '{{files}}': it is a folder"),
    (lambda files, results: load(files / "a.run"), f"{WHOLE}, but is '{{files}}/a.run': it is a folder"),
    (
        lambda files, results: results.select("worst"),
        "rule must be one of best, mean, drop_worst, refined, but is 'worst'",
    ),
    (lambda files, results: results.select(None), "rule must be one of best, mean, drop_worst, refined, but is None"),
    (
        lambda files, results: results.select("refined"),
        "rule must not be refined for results of a sweep that did not refine",
    ),
    (lambda files, results: results.sel(density=0.1), "importance must be given, as every axis, but is None"),
    (lambda files, results: results.sel(density="a", importance=1), "density must be a finite number, but is 'a'"),
    (lambda files, results: results.sel(sparsity=0.1, importance=1), "results has no sparsity"),
    (
        lambda files, results: results.features(None),
        "cell must be a cell of these results, such as sel returns, but is None",
    ),
    (
        lambda files, results: results.features((0, 1)),
        "cell must be a cell of these results, such as sel returns, but is (0, 1)",
    ),
    (
        lambda files, results: results.features(results.sel(density=0.1, importance=1), "s"),
        "sweep must be a Sweep, but is 's'",
    ),
    (lambda files, results: results.save(5), "path must be the name of a file, but is 5"),
    (
        lambda files, results: results.save(files / "file" / "r.npz"),
        f"{FOLDER}, but {{files}}/file cannot: File exists",
    ),
    (lambda files, results: verify(files / "r.npz", cells=0), "cells must be a whole number of at least 1, but is 0"),
    (
        lambda files, results: verify(files / "r.npz", cells="all"),
        "cells must be a whole number of at least 1, but is 'all'",
    ),
    (lambda files, results: verify(files / "r.npz", seed="a"), "seed must be a whole number of at least 0, but is 'a'"),
    (lambda files, results: Sweep.from_config({}), "config must describe a whole sweep, but lacks 'model'"),
    (lambda files, results: Sweep.from_config(None), "config must be a configuration, as results have it, but is None"),
    (
        lambda files, results: Sweep.from_config("r.npz"),
        "config must be a configuration, as results have it, but is 'r.npz'",
    ),
]

AXES = [
    (changed(density=[0.5, 0.5]), "density must hold every value once, but is [0.5, 0.5]"),
    (with_axes({"density": [0.5, 0.5, 0.2]}), "density must hold every value once, but is [0.5, 0.5, 0.2]"),
    (changed(density="0.5"), "density must hold numbers, but is '0.5'"),
    (changed(density=[True, False]), "density must hold numbers, but is [True, False]"),
    (changed(density={0.1, 0.2}), "density must hold numbers, but is {0.1, 0.2}"),
    (changed(density={"a": 1}), "density must hold numbers, but is {'a': 1}"),
    (changed(density=None), "features must be given where no axis is the density, but is None"),
    (changed(density=[[0.1], [0.2, 0.3]]), "density must hold numbers, but is [[0.1], [0.2, 0.3]]"),
    (changed(density=[1j]), "density must hold numbers, but is [1j]"),
    (changed(density=[10.0]), "density must be above 0 and at most 1, but is 10.0 at index 0"),
    (changed(density=np.ones((2, 2))), f"{ONE_DIMENSIONAL}, but is array([[1., 1.], [1., 1.]])"),
    (with_axes(["density"]), f"{BY_NAME}, but is ['density']"),
    (with_axes({"a b": [1.0]}), f"{BY_NAME}, but is {{'a b': [1.0]}}"),
    (with_axes({1: [0.5]}), f"{BY_NAME}, but is {{1: [0.5]}}"),
    (
        with_axes({"a": [np.inf], "density": [0.5]}, optimizer=lambda a: optax.sgd(a)),
        "a must be finite in single precision, but is inf at index 0",
    ),
    (
        with_axes({"a": [np.nan], "density": [0.5]}, optimizer=lambda a: optax.sgd(a)),
        "a must be finite in single precision, but is nan at index 0",
    ),
    (with_axes({}), "features must be given where no axis is the density, but is None"),
    (
        with_axes({"a": [1.0], "density": [0.5]}),
        "axes must hold names that features, model, optimizer, batch or steps have as a parameter, but is 'a'",
    ),
    (lambda: Sweep(Redwood(3, 2)), "features must be given where no axis is the density, but is None"),
    (
        with_axes({"lambda": [0.5]}),
        "axes must have other names than restart, neuron, feature, parameter, but is 'lambda'",
    ),
    (
        with_axes({"restart": [0.5], "density": [0.5]}, optimizer=lambda restart: optax.sgd(restart)),
        "axes must have other names than restart, neuron, feature, parameter, but is 'restart'",
    ),
]

FUNCTIONS = [
    (of_features(0.5), f"{FEATURES_}, but is 0.5"),
    (of_features(Features), f"{FEATURES_}, but is <class 'polyjax.toy.features.Features'>"),
    (of_features(lambda density: Features(densty=density)), "Features has no densty; did you mean density?"),
    (
        of_features(lambda density: Features(0.1 if density < 0.2 else 0.3)),
        f"{TRACED_FEATURES}, but branches on a value, where jnp.where would do",
    ),
    (
        of_features(lambda density: Features(np.asarray(density) * np.ones(3))),
        f"{TRACED_FEATURES}, but needs NumPy arrays, where jax.numpy would do",
    ),
    (
        of_features(lambda density: Features(float(density))),
        f"{TRACED_FEATURES}, but needs the value of an array, which is not known when it is compiled",
    ),
    (
        of_features(lambda density: Features(density, jnp.ones(4))),
        "importance must be a number, or hold 3, one a feature, but is (4,)",
    ),
    (of_features(lambda *a: Features(0.1)), "features must be a function of axes (density), but has the parameter a"),
    (of_features(lambda **a: Features(0.1)), "features must be a function of axes (density), but has the parameter a"),
    (changed(optimizer="adam"), f"{OPTIMIZER}, but is 'adam'"),
    (
        changed(optimizer=optax.adam),
        "optimizer must be a function of axes (density, importance), but has the parameter learning_rate",
    ),
    (
        changed(optimizer=optax.cosine_decay_schedule(0.1, 10)),
        "optimizer must be a function of axes (density, importance), but has the parameter count",
    ),
    (changed(optimizer=object), f"{OPTIMIZER}, but is <class 'object'>"),
    (
        of_optimizer(lambda r: optax.sgd(0.1 if r > 0.05 else 0.2)),
        f"{TRACED_OPTIMIZER}, but branches on a value, where jnp.where would do",
    ),
    (
        of_optimizer(lambda r: optax.sgd(float(r))),
        f"{TRACED_OPTIMIZER}, but needs the value of an array, which is not known when it is compiled",
    ),
    (
        of_model(lambda q: Redwood(3, 2, lambda z: jnp.abs(z) ** float(q))),
        f"{TRACED_MODEL}, but needs the value of an array, which is not known when it is compiled",
    ),
    (
        of_model(lambda q: Redwood(3, 2, lambda z: np.abs(z) ** q if q > 2 else z)),
        f"{TRACED_MODEL}, but branches on a value, where jnp.where would do",
    ),
]

ACTIVATIONS = [
    (activated(lambda z: z.sum()), f"{ACTIVATION}, but is 'an array [] of float32'"),
    (activated(np.tanh), f"{TRACED_ACTIVATION}, but needs NumPy arrays, where jax.numpy would do"),
    (activated(lambda z: np.maximum(z, 0)), f"{TRACED_ACTIVATION}, but needs NumPy arrays, where jax.numpy would do"),
    (
        activated(lambda z: z if z > 0 else 0 * z),
        f"{TRACED_ACTIVATION}, but branches on a value, where jnp.where would do",
    ),
    (activated(lambda z: jnp.round(z).astype(int)), f"{ACTIVATION}, but is 'an array [3] of int32'"),
    (activated(lambda z: z > 0), f"{ACTIVATION}, but is 'an array [3] of bool'"),
    (
        activated(lambda z: jnp.ones_like(z)),
        "Redwood.activation must have a derivative that is not 0 everywhere, as that of <lambda> is",
    ),
    (activated(lambda z: 1.0), f"{ACTIVATION}, but is 'an array [] of float32'"),
    (activated(lambda z: None), f"{ACTIVATION}, but is None"),
    (activated(lambda z: (z, z)), f"{ACTIVATION}, but is ('[3]', '[3]')"),
    (
        activated(lambda z, a: z),
        f"{TRACED_ACTIVATION}, but raises TypeError: <lambda>() missing 1 required positional argument: 'a'",
    ),
    (activated("rellu"), "activation must be a function or one of square, relu, gelu, but is 'rellu'"),
    (activated(3), "activation must be a function or one of square, relu, gelu, but is 3"),
    (activated(None), "activation must be a function or one of square, relu, gelu, but is None"),
    (activated(lambda z: z * 1j), f"{ACTIVATION}, but is 'an array [3] of complex64'"),
    (activated(lambda z: 1 / 0), f"{TRACED_ACTIVATION}, but raises ZeroDivisionError: division by zero"),
    (
        activated(lambda z: jnp.sign(z)),
        "Redwood.activation must have a derivative that is not 0 everywhere, as that of <lambda> is",
    ),
    (activated(lambda z: z.reshape(-1, 1)), f"{ACTIVATION}, but is 'an array [3, 1] of float32'"),
]

MODELS = [
    (lambda: Redwood(0, 2), "n_features must be a whole number of at least 1, but is 0"),
    (lambda: Redwood(1.5, 2), "n_features must be a whole number of at least 1, but is 1.5"),
    (lambda: Redwood("6", 3), "n_features must be a whole number of at least 1, but is '6'"),
    (lambda: Redwood(True, 3), "n_features must be a whole number of at least 1, but is True"),
    (lambda: Redwood("relu", 6, 3), "n_features must be a whole number of at least 1, but is 'relu'"),
    (lambda: Redwood(6.0, 3), "n_features must be a whole number of at least 1, but is 6.0"),
    (lambda: Anthropic(6, None), "n_neurons must be a whole number of at least 1, but is None"),
]

FEATURES = [
    (made(0), "density must be above 0 and at most 1, but is 0.0"),
    (made(2.0), "density must be above 0 and at most 1, but is 2.0"),
    (made("a"), "density must be a number, or hold one a feature, but is 'a'"),
    (made(True), "density must be a number, or hold one a feature, but is True"),
    (made(np.ones((2, 2))), "density must be a number, or hold one a feature, but is array([[1., 1.], [1., 1.]])"),
    (made(np.nan), "density must be above 0 and at most 1, but is nan"),
    (made(None), "density must be a number, or hold one a feature, but is None"),
    (made(0.1, -1), "importance must be at least 0 and below 1e12, but is -1.0"),
    (made(0.1, np.inf), "importance must be at least 0 and below 1e12, but is inf"),
    (made(0.1, 1, "normal"), "distribution must be a Distribution, or one a feature, but is 'normal'"),
    (made(0.1, 1, ["normal"]), "distribution must be a Distribution, or one a feature, but is ['normal']"),
    (made(0.1, 1, None, "together"), f"{LAW}, but is 'together'"),
    (made(0.1, 1, 5), "distribution must be a Distribution, or one a feature, but is 5"),
    (made(0.1, activity=activity.Independent), f"{LAW}, but is <class 'polyjax.toy.activity.Independent'>"),
    (made(0.1, importances=1), "Features has no importances; did you mean importance?"),
    (made(sparsity=0.1), "Features has no sparsity; did you mean density, which is 1 - sparsity?"),
    (made([]), "density must be a number, or hold one a feature, but is []"),
    (lambda: activity.Together([0, 1]), f"{GROUPS}, but is [0, 1]"),
    (lambda: activity.Together([(0, 1), (1, 2)]), "groups must have every feature once, but is [(0, 1), (1, 2)]"),
    (lambda: activity.Together([(-1, 0)]), "groups must have every feature once, but is [(-1, 0)]"),
    (lambda: activity.Together("ab"), f"{GROUPS}, but is 'ab'"),
    (lambda: activity.Together([(0, 1.5)]), f"{GROUPS}, but is [(0, 1.5)]"),
    (lambda: activity.Exclusive(None), f"{GROUPS}, but is None"),
    (lambda: activity.Hierarchy([1, 0]), "parents must have None or a number below 0 at 0, but is 1"),
    (
        lambda: activity.Hierarchy(3),
        "parents must be the number of each feature's parent, or None, such as [None, 0, 0], but is 3",
    ),
    (lambda: activity.Hierarchy(["a"]), "parents must have None or a number below 0 at 0, but is 'a'"),
    (lambda: activity.ByMask(3), "masks_probability must be a function of densities, but is 3"),
    (lambda: activity.Drawn("a"), "draw must be a function of uniform numbers and densities, but is 'a'"),
    (
        of_features(lambda density: Features(density, activity=activity.Together([(0, 7)]))),
        "groups must hold features below 3, but is 7",
    ),
    (
        of_features(lambda density: Features(density, activity=activity.Hierarchy([None, 0]))),
        "activity must be a law of 3 features, but is Hierarchy(parents=(None, 0))",
    ),
    (
        of_features(lambda density: Features(density, activity=activity.ByMask(lambda p: jnp.ones(3)))),
        "masks_probability must return 8 numbers, one a mask, but is (3,)",
    ),
    (
        of_features(lambda density: Features(density, activity=activity.Drawn(lambda u, p: u.sum()))),
        "activity must give masks [..., 3] of True and False, but is 'float32[2]'",
    ),
]

CAPACITIES = [
    (lambda: capacities(np.ones(3)), "W must have at least one row and one column, [..., D, N], but is (3,)"),
    (lambda: capacities("weights"), f"{MATRIX}, but is 'weights'"),
    (lambda: capacities(None), f"{MATRIX}, but is None"),
    (lambda: capacities(np.ones((0, 3))), "W must have at least one row and one column, [..., D, N], but is (0, 3)"),
    (lambda: capacities([[1, 2], [3]]), f"{MATRIX}, but is [[1, 2], [3]]"),
]

THEORY = [
    (lambda: theory.optimal_capacity("abc", 9.0, 1), "importance must be real numbers, but is 'abc'"),
    (lambda: theory.optimal_capacity([[1.0], [2.0, 3.0]], 9.0, 1), f"{IMPORTANCE}, but is [[1.0], [2.0, 3.0]]"),
    (lambda: theory.optimal_loss([True, False], 9.0, 1), "importance must be real numbers, but is [True, False]"),
    (lambda: theory.optimal_loss([1.0, 2.0], "9", 1), "kurtosis must be real numbers, but is '9'"),
    (lambda: theory.boundaries(None, 3, 2), "kurtosis must be real numbers, but is None"),
    (lambda: theory.squared_norm([1j], [1.0], 9.0), "capacity must be real numbers, but is [1j]"),
    (lambda: theory.explicit_losses("a", 0.1), "importance must be real numbers, but is 'a'"),
    (lambda: theory.best_pair(1.0, "a"), "density must be real numbers, but is 'a'"),
    (lambda: embedding.embedding_with_capacities(["a"]), "capacity must be real numbers, but is ['a']"),
    (lambda: embedding.blocks(np.eye(2), "a"), "tolerance must be real numbers, but is 'a'"),
]

OTHER = [
    (lambda: theory.optimal_capacity([1.0, 1.0], 0.5, 1), "kurtosis must be finite and at least 1, but is 0.5"),
    (lambda: theory.optimal_capacity([1.0, 1.0], 2.0, 0), "n_neurons must be a whole number of at least 1, but is 0"),
    (
        lambda: theory.optimal_capacity([-1.0, 1.0], 2.0, 1),
        "importance must be finite and at least 0, but is -1.0 at index 0",
    ),
    (lambda: theory.optimal_capacity(1.0, 2.0, 1), "importance must have at least one feature, [..., N], but is ()"),
    (
        lambda: distributions.by_name("norm"),
        "the name of a distribution must be one of uniform_signed, uniform_positive, normal, rademacher, but is 'norm'",
    ),
]


SIMPLE = [*SWEEPS, *AXES, *FUNCTIONS, *ACTIVATIONS, *MODELS, *FEATURES, *CAPACITIES, *THEORY, *OTHER]


def answer(call, *arguments):
    """What a wrong call is answered, a sentence in one line."""
    with pytest.raises((ValueError, TypeError, OSError)) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return re.sub(r" at 0x[0-9a-f]+", "", str(error.value))


@pytest.mark.parametrize(("call", "message"), SIMPLE, ids=[message[:60] for _, message in SIMPLE])
def test_a_wrong_call_is_answered_by_what_is_wrong_with_it(call, message):
    assert answer(call) == message


@pytest.fixture(scope="module")
def results():
    return run(S, progress=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory, results):
    """A folder with a results file, one cut short, a text of that name, and a file where a folder could be."""
    folder = tmp_path_factory.mktemp("files")
    results.save(folder / "r.npz")
    (folder / "cut.npz").write_bytes((folder / "r.npz").read_bytes()[:-20])
    for name in ("text.npz", "file"):
        (folder / name).write_text("text")
    for name in ("folder.npz", "a.run"):
        (folder / name).mkdir()
    return folder


@pytest.mark.parametrize(("call", "message"), FILES, ids=[message[:60] for _, message in FILES])
def test_a_wrong_call_for_files_or_results_is_answered_by_what_is_wrong_with_it(call, message, files, results):
    assert answer(call, files, results) == message.replace("{files}", str(files))


def test_what_the_users_code_raises_is_told():
    assert answer(activated(math.tanh)).startswith(f"{TRACED_ACTIVATION}, but raises TypeError: ")


def test_a_missing_file_is_missing():
    for call in (load, verify):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
            call("nowhere.npz")


def test_what_is_long_is_cut_short():
    assert len(answer(changed(density=np.ones((50, 50))))) < 300
    assert len(answer(lambda: capacities(np.ones((50, 50)) * 1j))) < 300
    assert len(answer(load, S)) < 300


# --- what may look wrong, and what is done


def test_values_of_an_axis_stay_in_their_order():
    assert changed(density=[0.5, 0.2])().density == (0.5, 0.2)


def test_numbers_may_be_arrays_of_no_dimension():
    sweep = changed(steps=jnp.int32(7), learning_rate=np.array(0.25), seed=np.array(3))()
    assert (sweep.steps, sweep.rate, sweep.seed) == (7, 0.25, 3)


@pytest.mark.parametrize("large", [2**31, 2**32, 2**40])
def test_whole_numbers_may_be_larger_than_32_bits(large):
    v = np.array([large, 3, 1])
    for f in (theory.optimal_capacity, theory.optimal_loss, theory.phase):
        np.testing.assert_array_equal(f(v, 9.0, 1), f(v.astype(float), 9.0, 1))
    np.testing.assert_array_equal(theory.explicit_losses(large, 0.1), theory.explicit_losses(float(large), 0.1))
    np.testing.assert_array_equal(theory.boundaries(large, 3, 2), theory.boundaries(float(large), 3, 2))
    W = np.array([[large, 1, 0], [0, 1, large]])
    np.testing.assert_array_equal(capacities(W), capacities(W.astype(float)))


def test_weights_that_diverged_have_no_capacities():
    W = np.eye(3)
    W[0, 0] = np.nan
    for f in (capacities, isotropic_capacities):
        assert np.isnan(f(W)).all()


def test_activations_need_not_be_elementwise_where_they_keep_the_shape():
    assert activated(lambda z: z / (1 + jnp.abs(z).sum()))().steps == 2000
