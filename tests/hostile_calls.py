"""Every public function with arguments that are right, and what each of them may be."""

from inspect import signature
from os import PathLike
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from hostile import REFUSED, nothing, plain, switch, whole, word
from hypothesis import assume

import polyjax
from polyjax import activity, distributions, embedding, theory

W = [[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]
V, K, C = [2.0, 1.0, 1.0], 9.0, [0.5, 0.5, 1.0]
SWEEP = {"model": polyjax.Redwood(3, 2), "density": [0.25, 0.5], "importance": [0.5, 1.0], "restarts": 1, "steps": 4}
SWEEP |= {"batch": 8, "retries": 0, "snapshots": 2, "snapshot_weights": True}


class Call(NamedTuple):
    """A function, arguments that are right, and by name what has a plain form that is right (see `hostile`)."""

    f: Any
    right: dict[str, Any]
    kinds: dict[str, Any]


def numeric(f, **right):
    """A call of which whole numbers are whole, words words, and all others real numbers."""
    kind = {int: whole, str: word}
    kinds = {name: kind.get(type(value), plain) for name, value in right.items()}
    parameters = signature(f).parameters
    return Call(f, right, {n: optional(k) if parameters[n].default is None else k for n, k in kinds.items()})


def of(f, right, **kinds):
    return Call(f, right, kinds)


def optional(kind):
    """What may be left out as None."""
    return lambda value: None if value is None else kind(value)


def described(**fields):
    """What a sweep with these fields is."""
    return polyjax.Sweep(**(SWEEP | fields)).describe()


def path(value):
    """Hostile paths that are right lead nowhere, and an OSError says so."""
    return value if isinstance(value, str | PathLike) and value else REFUSED


def _of_base(**fields):
    """Features of a distribution, by whose fields they are refused."""
    return polyjax.Features(0.5, distribution=distributions.Distribution(**fields))


def _law(value):
    empty = value.shape[:1] == (0,) if isinstance(value, np.ndarray) else isinstance(value, list) and not value
    return () if empty else REFUSED


THEORY = [
    numeric(theory.expected_loss, W=W, importance=V, kurtosis=K, b=0.5),
    numeric(theory.loss_from_capacity, capacity=C, squared_norm=V, importance=V, kurtosis=K),
    numeric(theory.squared_norm, capacity=C, importance=V, kurtosis=K),
    numeric(theory.marginal_loss_reduction, capacity=C, importance=V, kurtosis=K),
    numeric(theory.optimal_capacity, importance=V, kurtosis=K, n_neurons=2),
    numeric(theory.optimal_squared_norm, importance=V, kurtosis=K, n_neurons=2),
    numeric(theory.optimal_loss, importance=V, kurtosis=K, n_neurons=2),
    numeric(theory.multiplier, importance=V, kurtosis=K, n_neurons=2),
    numeric(theory.phase, importance=V, kurtosis=K, n_neurons=2),
    numeric(theory.boundaries, kurtosis=[K, 2.0], n_features=3, n_neurons=2),
    numeric(theory.explicit_losses, importance=[2.0, 1.0], density=[0.5, 0.25]),
    numeric(theory.best_explicit_losses, importance=[2.0, 1.0], density=[0.5, 0.25]),
    numeric(theory.explicit_weights, solution="ignore_swept", n_features=3, density=0.5),
    numeric(theory.best_explicit_weights, solution="pair_swept", n_features=3, importance=2.0, density=0.5),
    numeric(theory.best_explicit_weights, solution="ignore_ordinary", n_features=3, importance=2.0, density=0.5),
    numeric(theory.best_pair, importance=[2.0, 1.0], density=[0.5, 0.25]),
    numeric(theory.pair_loss, w=[1.0, -1.0], b=[0.0, 0.0], importance=[2.0, 1.0], density=[0.5, 0.25]),
]
EMBEDDING = [
    numeric(polyjax.capacities, W=W),
    numeric(polyjax.isotropic_capacities, W=W),
    numeric(embedding.trained_marginal, W=W),
    numeric(embedding.embedding_with_capacities, capacity=C),
    numeric(embedding.tegum_product, factors=[W, W], scales=[1.0, 2.0]),
    numeric(embedding.is_efficient, W=W, tolerance=0.5),
    numeric(embedding.explained_variance, W=W, unembedding=np.transpose(W).tolist()),
    numeric(embedding.covariances, W=W, importance=V, kurtosis=K),
    numeric(embedding.blocks, W=W, tolerance=0.05),
    numeric(embedding.decompose, W=W, tolerance=0.05),
]
TOY = [
    of(
        polyjax.Features,
        {"density": 0.5},
        density=plain,
        importance=plain,
        distribution=optional(nothing),
        activity=nothing,
    ),
    of(activity.Together, {}, groups=_law),
    of(activity.Exclusive, {}, groups=_law),
    of(activity.Hierarchy, {}, parents=_law),
    of(activity.ByMask, {}, masks_probability=lambda value: value if callable(value) else REFUSED),
    of(activity.Drawn, {}, draw=lambda value: value if callable(value) else REFUSED),
    of(distributions.by_name, {}, name=word),
    of(
        _of_base,
        {"name": "mine", "quantile": jnp.sign, "moments": (0, 1, 0, 1), "unit_variance": True},
        name=word,
        quantile=lambda value: value if callable(value) else REFUSED,
        moments=plain,
        unit_variance=switch,
    ),
    *(
        of(model, {"n_features": 3, "n_neurons": 2}, n_features=whole, n_neurons=whole, activation=_function)
        for model in (polyjax.Redwood, polyjax.Anthropic)
        for _function in [lambda value: value if callable(value) else REFUSED]
    ),
]
SWEEPS = [
    of(
        described,
        {},
        **dict.fromkeys(("restarts", "steps", "batch", "retries", "refine", "seed", "snapshots"), whole),
        **dict.fromkeys(("chunk",), optional(whole)),
        density=plain,
        importance=optional(plain),
        learning_rate=optional(plain),
        **dict.fromkeys(("distribution", "sampler", "axes", "features", "optimizer"), optional(nothing)),
        **dict.fromkeys(("model", "objective", "engine"), nothing),
        polish=switch,
        snapshot_weights=switch,
    )
]


def of_results(results):
    """Calls of what results have, and of pictures of them."""
    cell = {"density": 0.5, "importance": 1.0}
    cells = dict.fromkeys(cell, plain)
    picture = {"rule": optional(word), "ax": optional(nothing), "results": nothing}
    switches = dict.fromkeys(("boundaries", "colorbar", "theory"), switch)
    of_network = {"restart": optional(whole), **picture, **cells}
    plot, given = polyjax.plot, {"results": results}
    diagram = {"feature": whole, "x": optional(word), **picture, "colorbar": switch}
    return [
        of(lambda **c: results.sel(**c).index, cell, **cells),
        of(results.nearest, cell, **cells),
        of(results.select, {}, rule=word),
        of(results.features, {"cell": results.sel(**cell)}, cell=nothing, sweep=optional(nothing)),
        of(results.save, {}, path=path),
        of(plot.diagram, given, color=word, levels=optional(plain), boundaries=switch, **diagram),
        of(plot.difference, given, **diagram),
        of(plot.compare, {"a": results, "b": results}, a=nothing, b=nothing, feature=whole, rule=optional(word)),
        of(plot.blocks, given, show=word, **{k: v for k, v in diagram.items() if k != "feature"}),
        of(plot.cut, given | {"axis": "density", "importance": 1.0}, axis=word, theory=switch, **picture),
        of(plot.dimensionality, given | {"importance": 1.0}, axis=word, importance=plain, **picture),
        of(plot.embedding, given | cell, **of_network),
        of(plot.gram, given | cell, colorbar=switches["colorbar"], **of_network),
        of(plot.restarts, given | cell, results=nothing, ax=optional(nothing), **cells),
        of(plot.history, given | cell, **{k: v for k, v in of_network.items() if k != "rule"}),
        of(plot.film, given | {"path": "x.gif"}, results=nothing, path=nothing, feature=whole, seconds=plain),
        of(polyjax.explore, given, results=nothing, rule=optional(word)),
    ]


def wrong(kind):
    """What is right is not tried, since it would train."""

    def only(value):
        assume(kind(value) is REFUSED)
        return REFUSED

    return only


def of_files(file, sweep):
    """Calls that train or read: no hostile argument of theirs may reach the training."""
    nowhere = str(file.parent / "none.npz")
    switches = dict.fromkeys(("progress", "timing"), wrong(switch))
    running = {"executor": wrong(optional(nothing)), "sweep": nothing, **switches}
    count = wrong(optional(whole))
    return [
        of(polyjax.load, {}, path=path),
        of(polyjax.verify, {"path": file}, path=path, cells=count, seed=count, sweep=wrong(optional(nothing))),
        of(polyjax.run, {"sweep": sweep}, **running),
        of(polyjax.run_to_file, {"sweep": sweep, "path": nowhere}, path=nothing, restart=wrong(switch), **running),
        of(polyjax.Sweep.from_config, {}, config=nothing),
    ]


FUNCTIONS = [*THEORY, *EMBEDDING, *TOY, *SWEEPS]
