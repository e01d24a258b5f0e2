"""The configuration of a sweep: a grid of named axes, the networks trained in its cells, and how they are trained.

A cell is one point of the grid, a network one cell and one restart. Axis letters: P rows, V columns (see `axes`), R
restarts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import optax

from polyjax import configuration, parts, sizes, summary, validation
from polyjax.axes import Axes
from polyjax.checks import whole, with_suggestions
from polyjax.engine import cells, devices, optimizers
from polyjax.engine.training import Training
from polyjax.sources import sources
from polyjax.toy.contract import check_model
from polyjax.toy.features import Features, FirstImportance
from polyjax.toy.sampling import Sampler, default_sampler

if TYPE_CHECKING:
    from polyjax.toy.distributions import Distribution
    from polyjax.toy.model import Model

# Fields that are whole numbers, and the least of each.
WHOLE = {"restarts": 1, "steps": 1, "batch": 1, "chunk": 1, "retries": 0, "refine": 0, "seed": 0, "snapshots": 0}
MEANT = {"sparsity": "density, which is 1 - sparsity", "lr": "learning_rate", "n_restarts": "restarts"}
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
    snapshots: int = 0  # most times that capacities and loss are looked at on the way, after about geometric steps
    snapshot_weights: bool = False  # whether the embeddings are kept then, too
    seed: int = 0
    chunk: int | None = None  # lanes trained at once; None: chosen for the device

    def __post_init__(self) -> None:
        devices.check()
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
        validation.check_axes(self)
        validation.check_values(self)
        if self.sizes:
            _ = self.by_size  # sweeps, which are checked like this one
        else:
            validation.check_parts(self)
            validation.check_together(self)
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
    def by_size(self) -> list[tuple[dict[str, float], Sweep]]:
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
        optimizer = self.optimizer or optimizers.adam(self.rate, self.steps)
        optimizer = parts.part("optimizer", optimizer, self.coordinates)
        polished = self.polish in (True, "sampled")
        looks = self.snapshots, self.snapshot_weights
        return Training(model, features, sampler, self.objective, optimizer, self.steps, self.engine, polished, *looks)

    @cached_property
    def sources(self) -> dict[str, str]:
        """The source text of functions and classes of the user's, by the part of the sweep that they make."""
        example = self.by_size[0][1].training if self.sizes else self.training
        examples = {"model": example.one_model, "features": example.features_at({})}
        return sources({name: [part, examples.get(name)] for name, part in self.parts.items()})

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Sweep:
        """Return the sweep that a results file describes. Raises ValueError where a description does not suffice: for
        models, activations, distributions, features and optimizers of the user's own."""
        return cls(**configuration.fields_of(config, [f.name for f in fields(cls)]))

    def describe(self) -> dict[str, Any]:
        """Return the configuration as JSON-serialisable values, with all defaults filled in; where there are sizes,
        that of the first, with those of all as `parts`."""
        return configuration.of_sweep(self)
