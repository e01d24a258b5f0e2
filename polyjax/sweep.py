"""The configuration of a sweep: a grid of named axes, the networks trained in its cells, and how they are trained.

A cell is one point of the grid, a network one cell and one restart. Axis letters: P rows, V columns (see `axes`), R
restarts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from polyjax import description, parts, sizes, summary
from polyjax.axes import Axes
from polyjax.checks import is_number, require, whole, with_suggestions
from polyjax.engine import cells, training
from polyjax.engine.cells import at
from polyjax.engine.training import ENGINE_NAMES, LARGEST_UNROLLED, SETTLED, Training
from polyjax.sources import sources
from polyjax.toy.contract import check_model
from polyjax.toy.distributions import Distribution, by_name
from polyjax.toy.features import LARGEST_IMPORTANCE, Features, FirstImportance
from polyjax.toy.model import Model, n_parameters, n_weights, one_model
from polyjax.toy.models import Anthropic, Redwood, has_closed_form
from polyjax.toy.sampling import Sampler, can_enumerate, default_sampler, masks

# Fields that are whole numbers, and the least of each.
WHOLE = {"restarts": 1, "steps": 1, "batch": 1, "chunk": 1, "retries": 0, "refine": 0, "seed": 0}
MEANT = {"sparsity": "density, which is 1 - sparsity", "lr": "learning_rate", "n_restarts": "restarts"}
# Parts but for the model: what each must be, or a function of axes must return.
KINDS: dict[str, Any] = {"features": Features | None, "optimizer": optax.GradientTransformation | None}
MUST = {
    "features": "be Features, or a function that returns them",
    "optimizer": "be an optax transformation, or a function of axes that returns one",
}
LARGEST_POLISHED = 300  # parameters: the Hessian of every lane is kept
LEARNING_RATE = {"sampled": 0.02, "expected": 0.1}  # without noise larger steps settle sooner


@with_suggestions(MEANT)
@dataclass(frozen=True, repr=False)
class Sweep:
    """A phase diagram to train: `restarts` networks in every cell of a grid of one to four axes.

    The paper's grid is `Sweep(model, density, importance)`: the importance is that of feature 0, all other features
    have importance 1. Any other grid has `axes`, and `features`, `model` or `optimizer` are functions of the axes that
    their parameters name. Whatever the grid, a cell's networks depend on nothing but its own coordinates, the restart
    and the seed. An axis holds every value once, in any order, which is that of the results; refining takes for
    neighbours what is side by side. Raises ValueError, naming the field, for values out of range.
    """

    model: Model | Callable[..., Model]
    density: Sequence[float] | np.ndarray | None = None  # an axis: the probability that a feature is non-zero
    importance: Sequence[float] | np.ndarray | None = None  # an axis: of feature 0, each at least 0
    axes: Mapping[str, Sequence[float] | np.ndarray] | None = None  # others, by name, numbers of any kind
    features: Features | Callable[..., Features] | None = None  # None: the paper's, of these axes
    restarts: int = 4  # R
    steps: int | Callable[..., int] = 2000  # or a function of axes
    batch: int | Callable[..., int] = 64  # samples a step; likewise
    distribution: Distribution | None = None  # None: the model's own
    learning_rate: float | None = None  # of the default optimiser, at the start; None: LEARNING_RATE
    optimizer: optax.GradientTransformation | Callable[..., optax.GradientTransformation] | None = None
    # None: Adam with cosine decay to 0
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
        if not callable(self.model) or isinstance(self.model, type):
            check_model(self.model)
        for name in ("density", "importance"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, parts.axis(name, getattr(self, name)))
        if self.axes is not None:
            object.__setattr__(self, "axes", parts.named_axes(self.axes))
        for name, least in WHOLE.items():
            value = getattr(self, name)
            if not (name == "chunk" and value is None) and not (name in sizes.ALWAYS and callable(value)):
                object.__setattr__(self, name, whole(name, value, least))
        _check_axes(self)
        _check_values(self)
        if self.sizes:
            _ = self.by_size  # sweeps, which are checked like this one
        else:
            _check_parts(self)
            _check_together(self)
            _ = self.training  # checks model, sampler and batch together
        _ = self.sources  # which may be edited while the sweep is trained

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone: what follows from them is made again where a sweep is sent to."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __repr__(self) -> str:
        return summary.lines("Sweep", summary.of_sweep(self))

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        return summary.html("Sweep", summary.of_sweep(self))

    @property
    def coordinates(self) -> dict[str, tuple[float, ...]]:
        """The values of every axis, by name, in the order of the results."""
        by_itself = {"density": self.density, "importance": self.importance}
        given = {name: values for name, values in by_itself.items() if values is not None} | dict(self.axes or {})
        return {name: tuple(values) for name, values in given.items()}

    @property
    def parts(self) -> dict[str, Any]:
        """What may be a value or a function of axes, as it is given."""
        return {name: getattr(self, name) for name in ("model", "features", "optimizer", *sizes.ALWAYS)}

    @cached_property
    def sizes(self) -> tuple[str, ...]:
        """The axes that decide shapes, for each value of which a sweep is trained by itself (see `sizes`)."""
        return sizes.size_axes(self.parts, self.coordinates)

    @cached_property
    def by_size(self) -> list[tuple[dict[str, float], "Sweep"]]:
        """The sweeps for all values of `sizes` together, and these values."""
        axes = self.coordinates
        others = {name: values for name, values in (self.axes or {}).items() if name not in self.sizes}

        def at(values: dict[str, float]) -> Sweep:
            parts = {name: sizes.at_sizes(part, values, axes) for name, part in self.parts.items()}
            return replace(self, axes=others or None, **parts)

        return [(values, at(values)) for values in sizes.combinations(self.sizes, axes)]

    @cached_property
    def layout(self) -> Axes:
        """The axes as the rows and columns of what is trained."""
        return Axes(self.coordinates, tuple(name for name in self.coordinates if name in self.training.row_axes))

    @property
    def shape(self) -> tuple[int, int, int]:
        """[P, V, R]"""
        return self.layout.n_rows, self.layout.n_columns, self.restarts

    @property
    def rate(self) -> float:
        """The learning rate at which the default optimiser starts."""
        return float(self.learning_rate or LEARNING_RATE[self.objective])

    @cached_property
    def training(self) -> Training:
        """How every network is trained, with all defaults filled in; where there are sizes, those of `by_size`."""
        assert isinstance(self.steps, int)
        assert isinstance(self.batch, int)
        model = parts.part("model", self.model, self.coordinates)
        n = cells.example(model).n_features
        of_paper = FirstImportance(n, self.distribution or cells.example(model).distribution)
        features = parts.part("features", self.features or of_paper, self.coordinates)
        example = cells.example(features).of(n, cells.example(model).distribution)
        sampler = Sampler(self.sampler or default_sampler(example, n, self.batch), n, self.batch)
        sampler.check(example)
        optimizer = self.optimizer or training.adam(self.rate, self.steps)
        optimizer = parts.part("optimizer", optimizer, self.coordinates)
        polished = self.polish in (True, "sampled")
        return Training(model, features, sampler, self.objective, optimizer, self.steps, self.engine, polished)

    @cached_property
    def sources(self) -> dict[str, str]:
        """The source text of functions and classes of the user's, by the part of the sweep that they make."""
        example = self.by_size[0][1].training if self.sizes else self.training
        examples = {"model": example.one_model, "features": example.features_at({})}
        return sources({name: [part, examples.get(name)] for name, part in self.parts.items()})

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Sweep":
        """Return the sweep that a results file describes. Raises ValueError where a description does not suffice: for
        models, activations, distributions, features and optimizers of the user's own."""
        require(isinstance(config, Mapping), "config", "be a configuration, as results have it", config)
        if config.get("sizes"):
            raise ValueError(f"config must describe a sweep of one size, but has sizes ({', '.join(config['sizes'])})")
        if own := sorted(config.get("given") or {}):
            needed = f"needs the user's own {' and '.join(own)}"
            raise ValueError(f"config must describe a sweep that needs no code but polyjax's, but {needed}")
        try:
            model = _model(**config["model"])
            rate = config["learning_rate"]
            given = {f.name: config[f.name] for f in fields(cls) if f.name in config}
            given |= {"model": model, "distribution": by_name(config["distribution"]), "optimizer": None}
            axes = {name: config["axes"][name] for name in config["order"]}
            given |= {"axes": None} | axes if [*axes] == ["density", "importance"] else {"axes": axes}
            sweep = cls(**given)
        except (KeyError, TypeError) as error:
            raise ValueError(f"config must describe a whole sweep, but lacks {error}") from error
        require(rate is not None, "config", "name an optimizer of polyjax's", config["optimizer"])
        return sweep

    def describe(self) -> dict[str, Any]:
        """Return the configuration as JSON-serialisable values, with all defaults filled in; where there are sizes,
        that of the first, with those of all as `parts`."""
        if self.sizes:
            each = [sweep.describe() for _, sweep in self.by_size]
            axes = {name: list(values) for name, values in self.coordinates.items()}
            return each[0] | {"axes": axes, "order": [*axes], "sizes": [*self.sizes], "parts": each}
        fixed = self.training
        rate = None if self.optimizer else self.rate
        return {
            "model": description.of_model(fixed.one_model),
            "distribution": description.of_distribution(fixed.features_at({})),
            "axes": {name: list(values) for name, values in self.coordinates.items()},
            "order": [*self.coordinates],  # JSON has none
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
            "given": description.of_given(fixed, self.features is not None, self.optimizer is not None),
        }


def _model(name: str, n_features: int, n_neurons: int, activation: str) -> Model:
    """Return the model that `describe` describes so."""
    models: dict[str, type[Redwood | Anthropic]] = {"Redwood": Redwood, "Anthropic": Anthropic}
    require(name in models, "model", f"be one of {', '.join(models)}", name)
    return models[name](n_features, n_neurons, activation)


def _check_axes(sweep: Sweep) -> None:
    """Raise ValueError unless no axis is given twice, and every axis is of some part."""
    twice = set(sweep.axes or {}) & {name for name in ("density", "importance") if getattr(sweep, name) is not None}
    require(not twice, "axes", "leave out what is given by itself", ", ".join(sorted(twice)))
    for name, kind in KINDS.items():
        part = getattr(sweep, name)
        require(parts.is_function(part) or isinstance(part, kind), name, MUST[name], part)
    if sweep.features is None:
        _check_paper(sweep.coordinates)
    functions = {name: part for name, part in sweep.parts.items() if parts.is_function(part)}
    for name, part in functions.items():
        parts.part(name, part, sweep.coordinates)
    taken = {name for part in functions.values() for name in parts.parameters(part)}
    of_paper = {"density", "importance"} if sweep.features is None else set()
    parts.check_taken(sweep.coordinates, taken | of_paper)


def _check_paper(coordinates: Mapping[str, tuple[float, ...]]) -> None:
    """Raise ValueError unless the axes are those of the paper, and in range."""
    require("density" in coordinates, "features", "be given where no axis is the density", None)
    p, v = (np.asarray(coordinates.get(name, 1)) for name in ("density", "importance"))
    require((p > 0) & (p <= 1), "density", "be above 0 and at most 1", p)
    require((v >= 0) & (v < LARGEST_IMPORTANCE), "importance", "be at least 0 and below 1e12", v)


def _check_parts(sweep: Sweep) -> None:
    """Raise ValueError unless the parts are what they must be."""
    coordinates = sweep.coordinates
    model = parts.part("model", sweep.model, coordinates)
    example = at(model, {})
    check_model(example)
    clash = set(one_model(example)._fields) & set(coordinates)
    require(not clash, "axes", "have other names than the model's parameters", ", ".join(sorted(clash)))
    of_paper = FirstImportance(example.n_features)
    features = parts.part("features", sweep.features or of_paper, coordinates)
    found = at(features, {})
    require(isinstance(found, Features), "features", MUST["features"], found)
    n, base = example.n_features, example.distribution
    _check_mask(parts.traced("features", features, lambda each: _sampled(each.of(n, base), n))[0], n)
    if sweep.features is not None:
        must = "be left out where features are given, which have their own"
        require(sweep.distribution is None, "distribution", must, sweep.distribution)
    optimizer = parts.part("optimizer", sweep.optimizer, coordinates)
    step = at(optimizer, {})
    require(isinstance(step, KINDS["optimizer"]), "optimizer", MUST["optimizer"], step)
    if step is not None:
        parts.traced("optimizer", optimizer, lambda each: _updated(each, one_model(example)))


def _sampled(features: Features, n: int) -> Any:
    """Return all that is asked of features: masks [2, N], and the probabilities [2^N] of few, where they are known."""
    u = jnp.full((2, n), 0.5)
    probability = features.mask_probability(masks(n)) if can_enumerate(features, n) else None
    return features.mask(u), probability, features.importances(n), features.densities(n), features.active_value(u)


def _check_mask(mask: Any, n: int) -> None:
    """Raise ValueError unless the law of activity, which may be the user's, gives masks."""
    ok = mask.shape == (2, n) and mask.dtype == bool
    require(ok, "activity", f"give masks [..., {n}] of True and False", f"{mask.dtype}{[*mask.shape]}")


def _updated(optimizer: optax.GradientTransformation, params: Any) -> Any:
    zeros = jax.tree.map(jnp.zeros_like, params)
    return optimizer.update(zeros, optimizer.init(zeros), zeros)


def _check_values(sweep: Sweep) -> None:
    """Raise ValueError unless every field that is neither a part nor a whole number is what it must be by itself."""
    require(sweep.objective in ("sampled", "expected"), "objective", "be sampled or expected", sweep.objective)
    require(
        isinstance(sweep.distribution, Distribution | None), "distribution", "be a Distribution", sweep.distribution
    )
    require(sweep.engine in ("auto", *ENGINE_NAMES), "engine", "be auto, arrays, lanes or fused", sweep.engine)
    ok = isinstance(sweep.polish, bool) or sweep.polish in ("sampled", "restarts")
    require(ok, "polish", 'be True, False, "sampled" or "restarts"', sweep.polish)
    require(sweep.seed < 2**32, "seed", "be below 2^32", sweep.seed)
    rate = sweep.learning_rate
    must = "be a number above 0 and finite (a schedule is part of an optimizer)"
    require(rate is None or (is_number(rate) and 0 < rate < np.inf), "learning_rate", must, rate)
    alone = rate is None or sweep.optimizer is None
    require(alone, "learning_rate", "be left out where an optimizer is given, which has its own", rate)


def _check_together(sweep: Sweep) -> None:
    """Raise ValueError where fields do not go together."""
    model = sweep.training.one_model
    size = n_parameters(model) if sweep.polish else 0
    most = f"be False for a model of {size} parameters, more than {LARGEST_POLISHED}"
    require(size <= LARGEST_POLISHED, "polish", most, sweep.polish)
    weights = n_weights(model) if sweep.engine == "lanes" else 0
    most = f"be arrays for {weights} weights, more than {LARGEST_UNROLLED}"
    require(weights <= LARGEST_UNROLLED, "engine", most, sweep.engine)
    if sweep.objective == "expected":
        must = "be sampled for any model but Redwood and Anthropic with square"
        require(has_closed_form(model), "objective", must, "expected")
        require(sweep.training.has_closed_form, "objective", "be sampled for masks of unknown probability", "expected")
