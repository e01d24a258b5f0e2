"""The configuration of a sweep: a grid, the models trained in its cells, and how they are trained.

A cell is one (density, importance) pair, a lane one model: one cell and one restart. Axis letters: P densities,
V importances, R restarts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any

import numpy as np
import optax

from polyjax import description
from polyjax.checks import is_number, known, require, whole
from polyjax.engine import training
from polyjax.engine.training import ENGINE_NAMES, SETTLED, Training
from polyjax.fingerprints import fingerprint
from polyjax.toy.distributions import Distribution, by_name
from polyjax.toy.models import Anthropic, Model, Redwood, has_closed_form, n_parameters, one_model
from polyjax.toy.sampling import Sampler, default_sampler

# Fields that are whole numbers, and the least of each.
WHOLE = {"restarts": 1, "steps": 1, "batch": 1, "chunk": 1, "retries": 0, "refine": 0, "seed": 0}
MEANT = {"sparsity": "density, which is 1 - sparsity", "lr": "learning_rate", "n_restarts": "restarts"}
LARGEST_POLISHED = 300  # parameters: the Hessian of every lane is kept
LEARNING_RATE = {"sampled": 0.02, "expected": 0.1}  # without noise larger steps settle sooner


@dataclass(frozen=True)
class Sweep:
    """A phase diagram to train: `restarts` models for every density and importance.

    The importance is that of feature 0; all other features have importance 1. Whatever the grid, a cell's models
    depend on nothing but its own density and importance, the restart and the seed. Raises ValueError, naming the field,
    for values out of range.
    """

    model: Model
    density: Sequence[float] | np.ndarray  # [P], each above 0 and at most 1: the probability that a feature is non-zero
    importance: Sequence[float] | np.ndarray  # [V], each at least 0
    restarts: int = 4  # R
    steps: int = 2000
    batch: int = 64  # samples a step
    distribution: Distribution | None = None  # None: the model's own
    learning_rate: float | None = None  # of the default optimiser, at the start; None: LEARNING_RATE
    optimizer: optax.GradientTransformation | None = None  # None: Adam with cosine decay to 0
    sampler: str | None = None  # "enumerated", "stratified" or "iid"; None: enumerated where the batch has room
    objective: str = "sampled"  # or "expected": the closed-form population loss of a model with square activation
    engine: str = "auto"  # "arrays", "lanes" or "fused" (see `execution`); auto: the fastest that can run it here
    retries: int = 2  # most times that a model which did not end finite and settled is trained again (see `attempts`)
    refine: int = 0  # most rounds in which cells are continued from their neighbours (see `refinement`)
    polish: bool | str = False  # each cell's solution is minimised to the end (see `polishing`): on the closed form
    # where the model has one, else on a fixed batch; "sampled": on a batch in any case; "restarts": every restart too
    seed: int = 0
    chunk: int | None = None  # lanes trained at once; None: chosen for the device

    def __post_init__(self) -> None:
        model = self.model
        made = not isinstance(model, type) and all(hasattr(model, name) for name in ("init", "loss", "n_features"))
        require(made, "model", "be a model, such as Redwood(6, 3)", model)
        object.__setattr__(self, "density", _axis("density", self.density))
        object.__setattr__(self, "importance", _axis("importance", self.importance))
        for name, least in WHOLE.items():
            if name != "chunk" or self.chunk is not None:
                object.__setattr__(self, name, whole(name, getattr(self, name), least))
        _check(self)
        _ = self.training  # checks model, sampler and batch together

    @property
    def shape(self) -> tuple[int, int, int]:
        """[P, V, R]"""
        return len(self.density), len(self.importance), self.restarts

    @property
    def rate(self) -> float:
        """The learning rate at which the default optimiser starts."""
        return float(self.learning_rate or LEARNING_RATE[self.objective])

    @property
    def training(self) -> Training:
        """The part of the configuration that is the same in every lane, with all defaults filled in."""
        n = self.model.n_features
        distribution = self.distribution or self.model.distribution
        sampler = Sampler(self.sampler or default_sampler(n, self.batch), distribution, n, self.batch)
        optimizer = self.optimizer or training.adam(self.rate, self.steps)
        polished = self.polish in (True, "sampled")
        return Training(self.model, sampler, self.objective, optimizer, self.steps, self.engine, polished)

    def axes(self, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
        """Return density [P] and importance [V], by default as the devices take them."""
        return np.asarray(self.density, dtype), np.asarray(self.importance, dtype)

    def _given(self) -> dict[str, Any]:
        """Return fingerprints of what the user gave, since two functions may share a name."""
        fixed = self.training
        given = description.of_functions(self.model, fixed.sampler.distribution)
        if self.optimizer:
            one = one_model(Redwood(2, 2))  # whatever the model is
            first = lambda g: fixed.optimizer.update(g, fixed.optimizer.init(g), g)  # noqa: E731
            given["optimizer"] = fingerprint(first, one)
        return given

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Sweep":
        """Return the sweep that a results file describes. Raises ValueError where a description does not suffice: for
        models, activations, distributions and optimizers of the user's own."""
        if own := sorted(config.get("given") or {}):
            needed = f"its {' and '.join(own)} {'is' if len(own) == 1 else 'are'} of the user's own"
            raise ValueError(f"config must describe a sweep that needs no code but polyjax's, but {needed}")
        try:
            model = _model(**config["model"])
            rate = config["learning_rate"]
            given = {f.name: config[f.name] for f in fields(cls) if f.name in config}
            given |= {"model": model, "distribution": by_name(config["distribution"]), "optimizer": None}
            sweep = cls(**given)
        except (KeyError, TypeError) as error:
            raise ValueError(f"config must describe a whole sweep, but lacks {error}") from error
        require(rate is not None, "config", "name an optimizer of polyjax's", config["optimizer"])
        return sweep

    def describe(self) -> dict[str, Any]:
        """Return the configuration as JSON-serialisable values, with all defaults filled in."""
        fixed = self.training
        rate = None if self.optimizer else self.rate
        return {
            "model": description.of_model(self.model),
            "distribution": fixed.sampler.distribution.name,
            "density": list(self.density),
            "importance": list(self.importance),
            "restarts": self.restarts,
            "steps": self.steps,
            "batch": self.batch,
            "sampler": fixed.sampler.name,
            "objective": self.objective,
            "optimizer": "given by the caller" if self.optimizer else f"Adam, cosine decay from {rate:g}",
            "learning_rate": rate,
            "retries": self.retries,
            "refine": self.refine,
            "polish": self.polish,
            "settled": SETTLED,
            "seed": self.seed,
            "given": self._given(),
        }


def _with_suggestions(make: Callable[..., None]) -> Callable[..., None]:
    """Return `Sweep.__init__` with an error for unknown keywords that says which was meant."""

    @wraps(make)
    def checked(self: Sweep, *args: Any, **fields_by_name: Any) -> None:
        known(fields_by_name, [f.name for f in fields(Sweep)], MEANT, "Sweep")
        make(self, *args, **fields_by_name)

    return checked


Sweep.__init__ = _with_suggestions(Sweep.__init__)  # type: ignore[method-assign]


def _model(name: str, n_features: int, n_neurons: int, activation: str) -> Model:
    """Return the model that `describe` describes so."""
    models: dict[str, type[Redwood | Anthropic]] = {"Redwood": Redwood, "Anthropic": Anthropic}
    require(name in models, "model", f"be one of {', '.join(models)}", name)
    return models[name](n_features, n_neurons, activation)


def _axis(name: str, values: Any) -> tuple[float, ...]:
    a = np.asarray(values)
    require(a.ndim == 1 and a.size >= 1, name, "be one-dimensional and hold at least one value", values)
    require(a.dtype.kind in "iuf", name, "hold numbers", values)
    return tuple(a.astype(np.float64).tolist())


def _check(sweep: Sweep) -> None:
    p = np.asarray(sweep.density)
    require((p > 0) & (p <= 1), "density", "be above 0 and at most 1", p)
    v = np.asarray(sweep.importance)
    require((v >= 0) & (v < 1e12), "importance", "be at least 0 and below 1e12", v)  # beyond, float32 overflows
    require(
        isinstance(sweep.distribution, Distribution | None), "distribution", "be a Distribution", sweep.distribution
    )
    given = sweep.optimizer
    require(isinstance(given, optax.GradientTransformation | None), "optimizer", "be an optax transformation", given)
    require(sweep.engine in ("auto", *ENGINE_NAMES), "engine", "be auto, arrays, lanes or fused", sweep.engine)
    require(sweep.objective in ("sampled", "expected"), "objective", "be sampled or expected", sweep.objective)
    choices = (False, True, "sampled", "restarts")
    require(sweep.polish in choices, "polish", 'be True, False, "sampled" or "restarts"', sweep.polish)
    size = n_parameters(sweep.model) if sweep.polish else 0
    most = f"be False for a model of {size} parameters, more than {LARGEST_POLISHED}"
    require(size <= LARGEST_POLISHED, "polish", most, sweep.polish)
    require(sweep.seed < 2**32, "seed", "be below 2^32", sweep.seed)
    rate = sweep.learning_rate
    must = "be a number above 0 and finite (a schedule is part of an optimizer)"
    require(rate is None or (is_number(rate) and 0 < rate < np.inf), "learning_rate", must, rate)
    alone = rate is None or sweep.optimizer is None
    require(alone, "learning_rate", "be left out where an optimizer is given, which has its own", rate)
    if sweep.objective == "expected":
        closed = has_closed_form(sweep.model)
        require(closed, "objective", "be sampled for any model but Redwood and Anthropic with square", "expected")
