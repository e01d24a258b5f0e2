"""Parts of a sweep that expressions describe, as a TOML file has them.

A part is a value, or a function of the axes whose names its expressions have. It can be told in a configuration and
made again from there, as a function of the user's own cannot.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from inspect import Parameter, Signature
from typing import Any

import optax

from polyjax.expressions import Words, as_whole, names_in, parsed, value
from polyjax.toy import activity
from polyjax.toy.activations import ACTIVATIONS
from polyjax.toy.distributions import ALL
from polyjax.toy.features import Features
from polyjax.toy.laws import geometric, grouped, one_important
from polyjax.toy.models import Anthropic, Redwood

MODELS: dict[str, type[Redwood | Anthropic]] = {"Redwood": Redwood, "Anthropic": Anthropic}
OPTIMIZERS: dict[str, Callable[..., Any]] = {
    name: getattr(optax, name) for name in ("adam", "adamw", "lion", "rmsprop", "sgd")
}
LAWS: dict[str, Callable[..., Any]] = {"one_important": one_important, "geometric": geometric, "grouped": grouped}
ACTIVITIES: dict[str, Callable[..., Any]] = {
    "together": lambda *groups: activity.Together(groups),
    "exclusive": lambda *groups: activity.Exclusive(groups),
    "hierarchy": lambda *parents: activity.Hierarchy(parents),
}
Numbers = Mapping[str, Any]  # coordinates of axes, or other expressions of the same part, by name


def _model(of: Callable[..., Any], numbers: Numbers) -> Any:
    return of("model", {name: name for name in ACTIVATIONS} | {**numbers}, MODELS)


def _features(of: Callable[..., Any], numbers: Numbers) -> Features:
    """Return features; what is left out of their expressions has the defaults of `Features`."""
    n = of("n_features", numbers, {})
    laws = {name: partial(law, n) for name, law in LAWS.items()}
    density, importance = of("density", numbers, laws), of("importance", numbers, laws, 1.0)
    found = of("distribution", {each.name: each for each in ALL}, {}, None)
    active = of("activity", {"none": None, "independent": activity.INDEPENDENT}, ACTIVITIES, activity.INDEPENDENT)
    return Features(density, importance, found, active)


def _optimizer(of: Callable[..., Any], numbers: Numbers) -> optax.GradientTransformation:
    """Return an optimiser of optax's, whose learning rate may be `cosine(rate)`: from a rate to 0 over the steps."""
    cosine = lambda rate: optax.cosine_decay_schedule(rate, of("steps", numbers, {}))  # noqa: E731
    return of("optimizer", numbers, OPTIMIZERS | {"cosine": cosine})


MAKERS: dict[str, Callable[..., Any]] = {
    "model": _model,
    "features": _features,
    "optimizer": _optimizer,
    "steps": lambda of, numbers: of("steps", numbers, {}),
    "batch": lambda of, numbers: of("batch", numbers, {}),
}


@dataclass(frozen=True)
class Described:
    """A part of a sweep as a function of the axes that its expressions name. Hashable, so that equal sweeps are
    compiled once."""

    part: str  # one of MAKERS
    texts: tuple[tuple[str, str], ...]  # the expressions, by the names of what they describe
    axes: tuple[str, ...]  # on which it depends
    at: tuple[tuple[str, float], ...] = ()  # coordinates of axes that are fixed

    @classmethod
    def of(cls, part: str, texts: Mapping[str, str], axes: Mapping[str, Any]) -> Described:
        """Return the part that expressions describe, for axes of these names. Raises ValueError for what is no
        expression."""
        inside = set().union(*(names_in(parsed(_told(part, name), source)) for name, source in texts.items()))
        return cls(part, tuple(texts.items()), tuple(axis for axis in axes if axis in inside))

    @cached_property
    def _expressions(self) -> dict[str, ast.expr]:
        return {name: parsed(_told(self.part, name), source) for name, source in self.texts}

    @property
    def __signature__(self) -> Signature:
        fixed = dict(self.at)
        return Signature([Parameter(a, Parameter.POSITIONAL_OR_KEYWORD) for a in self.axes if a not in fixed])

    def __call__(self, **coordinates: Any) -> Any:
        def of(name: str, names: Numbers, functions: Mapping[str, Callable[..., Any]], default: Any = None) -> Any:
            if name not in self._expressions:
                return default
            return value(_told(self.part, name), self._expressions[name], Words(names, functions))

        known = {name: as_whole(x) if isinstance(x, float) else x for name, x in (dict(self.at) | coordinates).items()}
        return MAKERS[self.part](of, known)

    def fixed(self, coordinates: Mapping[str, float]) -> Any:
        """Return the part at some coordinates: a function of the other axes; where none is left, a model and a whole
        number as they are, but features and optimiser so that they can still be told."""
        found = replace(self, at=(*self.at, *coordinates.items()))
        is_value = self.part not in ("features", "optimizer") and len(found.at) == len(self.axes)
        return found() if is_value else found

    @property
    def words(self) -> str:
        """The expressions, such as "density: p, importance: geometric(decay)"."""
        inside = {name: source for name, source in self.texts if name not in ("n_features", "steps")}
        return ", ".join(source if name == self.part else f"{name}: {source}" for name, source in inside.items())

    def tell(self) -> dict[str, Any]:
        """Return the part as JSON-serialisable values, of which `told` makes it again."""
        return {"texts": dict(self.texts), "axes": [*self.axes]} | ({"at": dict(self.at)} if self.at else {})


def told(part: str, found: Mapping[str, Any]) -> Described:
    """Return the part of which these are the values (see `Described.tell`)."""
    at = found.get("at", {})
    return Described(part, tuple(found["texts"].items()), tuple(found["axes"]), tuple(at.items()))


def _told(part: str, name: str) -> str:
    """Return the name of an expression as the user has it."""
    return name if name in MAKERS or name == "n_features" else f"{part}.{name}"
