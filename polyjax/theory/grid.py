"""The closed form over a grid of results: for the quadratic Redwood model, where feature 0 has an importance V and all
others importance 1, as in the paper's phase diagrams (section 3.5), and for any independent features of mean 0 and
variance 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from polyjax.theory import quadratic
from polyjax.toy import distributions
from polyjax.toy.activity import Independent

if TYPE_CHECKING:
    from polyjax.toy.features import Features

CRITICAL_KURTOSIS = 3.0
THERE_IS_ONE = (
    "there is a closed form only for the Redwood model with square activation, independent features of mean 0 and "
    "variance 1"
)
# Compiled whole: a drawing needs few values, and compiling operation by operation would take most of its time.
_boundaries = jax.jit(quadratic.boundaries, static_argnums=(1, 2))


Coordinates = Mapping[str, np.ndarray]  # by axis, arrays of one shape


class Problem(NamedTuple):
    """What the optimum depends on besides D, in one cell or many."""

    importance: np.ndarray  # v [..., N]
    kurtosis: np.ndarray  # k [...], or [..., N] where features differ


@dataclass(frozen=True)
class ClosedForm:
    """The problem of a grid: one feature of importance V among others of importance 1, all of one density."""

    n_features: int  # N
    n_neurons: int  # D
    kurtosis: Callable[[Any], Any]  # of densities, elementwise, falling

    def importances(self, importance: ArrayLike) -> np.ndarray:
        """Return v [..., N] of all features from V [...]."""
        v = np.ones((*np.shape(importance), self.n_features))
        v[..., 0] = importance
        return v

    def capacity(self, importance: ArrayLike, kurtosis: ArrayLike) -> np.ndarray:
        """Return the optimal capacities [..., N] from V and k, which broadcast."""
        V, k = np.broadcast_arrays(importance, kurtosis)
        return np.asarray(quadratic.optimal_capacity(self.importances(V), k, self.n_neurons))

    def at(self, coordinates: Coordinates) -> Problem:
        """Return the problem at coordinates; importance is 1 where it is none of them."""
        density = coordinates["density"]
        V = coordinates.get("importance", np.ones_like(density))
        return Problem(self.importances(V), np.asarray(self.kurtosis(density)))

    def boundaries(self, density: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Return the importances between which feature 0 is shared."""
        ignored, full = _boundaries(self.kurtosis(density), self.n_features, self.n_neurons)
        return np.asarray(ignored), np.asarray(full)

    def density_at(self, kurtosis: float, low: float, high: float) -> float:
        """Return the density of a kurtosis; infinity or 0 where it is less or more at every density in [low, min(high,
        1)]."""
        p = np.geomspace(low, min(high, 1.0), 300)
        log_k = np.log(np.asarray(self.kurtosis(p), float))
        # Logarithms, in which interpolation is exact for features of zero mean: their kurtosis is a power of density.
        found = np.interp(np.log(kurtosis), log_k[::-1], np.log(p[::-1]), left=np.inf, right=-np.inf)
        return float(np.exp(found))


def closed_form(config: Mapping[str, Any]) -> ClosedForm:
    """Return the closed form of the sweep that a configuration describes. Raises ValueError where there is none."""
    try:
        model, name, axes = config["model"], config["distribution"], config.get("axes", ("density",))
        kind, sizes = (model["name"], model["activation"]), (model["n_features"], model["n_neurons"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"the results' configuration must name a model and a distribution: {error!r}") from error
    base = distributions.by_name(name)
    own = sorted({*(config.get("given") or {}), *([] if is_of_paper(config) else ["features"])} - {"optimizer"})
    told = [*kind, base.name, *(f"{part} of another kind" for part in own)]
    fits = kind == ("Redwood", "square") and base.moments[0] == 0 and base.unit_variance
    if own or not fits or "density" not in axes:
        hint = "; give the sweep where its features are of such a kind" if own == ["features"] else ""
        raise ValueError(f"{THERE_IS_ONE} and an axis of densities, but the results are of {', '.join(told)}{hint}")
    return ClosedForm(*sizes, jax.jit(base.kurtosis))


@dataclass(frozen=True)
class OfFeatures:
    """The problem of a grid whose features are a function of its axes."""

    n_features: int  # N
    n_neurons: int  # D
    features: Callable[[Mapping[str, Any]], Features]  # of one cell, from its coordinates

    def at(self, coordinates: Coordinates) -> Problem:
        """Return the problem at coordinates. Raises ValueError where features have no closed form."""
        arrays = {name: np.asarray(a, np.float32) for name, a in coordinates.items()}
        one = self._one
        for _ in np.shape(next(iter(arrays.values()))):
            one = jax.vmap(one)
        return Problem(*map(np.asarray, jax.jit(one)(arrays)))

    def _one(self, coordinates: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        """Return v [N] and k, [] or [N], of one cell."""
        features, n = self.features(coordinates), self.n_features
        ours = features.distributions
        if not all(_is_zero(d.moments[0]) and d.unit_variance for d in ours) or not isinstance(
            features.activity, Independent
        ):
            names = ", ".join(d.name for d in ours)
            raise ValueError(f"{THERE_IS_ONE}, but features are of {names} and {type(features.activity).__name__}")
        if features.are_alike:
            return features.importances(n), ours[0].kurtosis(features.density)
        p = features.densities(n)
        each = ours * n if len(ours) == 1 else ours
        return features.importances(n), jnp.stack([d.kurtosis(p[i]) for i, d in enumerate(each)])


def of_features(config: Mapping[str, Any], features: Callable[[Mapping[str, Any]], Features]) -> OfFeatures:
    """Return the closed form of a sweep whose features are this function of a cell's coordinates. Raises ValueError
    where there is none."""
    model, own = config["model"], sorted(set(config.get("given") or {}) - {"optimizer", "features"})
    kind = model["name"], model.get("activation")
    if own or kind != ("Redwood", "square") or config.get("sizes"):
        raise ValueError(f"{THERE_IS_ONE}, but the results are of {', '.join(map(str, [*kind, *own]))}")
    form = OfFeatures(model["n_features"], model["n_neurons"], features)
    form.at({name: np.asarray(values[:1]) for name, values in config["axes"].items()})  # which refuses some features
    return form


def _is_zero(moment: Any) -> bool:
    return not isinstance(moment, jax.core.Tracer) and moment == 0


def has_closed_form(config: Mapping[str, Any]) -> bool:
    """Say whether `closed_form` returns one."""
    try:
        closed_form(config)
    except ValueError:
        return False
    return True


def problem(form: ClosedForm | OfFeatures, axes: Mapping[str, np.ndarray]) -> Problem:
    """Return the problem of all cells, [*axes, ...]."""
    return form.at(dict(zip(axes, np.meshgrid(*axes.values(), indexing="ij"), strict=True)))


def capacity(form: ClosedForm | OfFeatures, axes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the optimal capacities of all cells, [*axes, N]."""
    return np.asarray(quadratic.optimal_capacity(*problem(form, axes), form.n_neurons))


def loss(form: ClosedForm | OfFeatures, axes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the least expected loss of all cells, [*axes]."""
    return np.asarray(quadratic.optimal_loss(*problem(form, axes), form.n_neurons))


def ties(form: ClosedForm | OfFeatures, axes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Say where a feature's optimal capacity is not unique, bool [*axes, N]: where features of one importance and one
    kurtosis, at most 3, have some of the capacity that all of them could have, and any split of it is optimal."""
    v, k = problem(form, axes)
    k = np.broadcast_to(k if k.ndim == v.ndim else k[..., None], v.shape)
    # Within rounding of a geometric grid that was computed in single precision.
    dense = k <= CRITICAL_KURTOSIS * (1 + 1e-6)
    alike = np.isclose(v[..., None], v[..., None, :], rtol=1e-6) & np.isclose(k[..., None], k[..., None, :], rtol=1e-6)
    held = np.sum(np.where(alike, capacity(form, axes)[..., None, :], 0), axis=-1)
    return dense & (held > 1e-6) & (held < alike.sum(-1) - 1e-6)


def is_of_paper(config: Mapping[str, Any]) -> bool:
    """Say whether the features are the paper's, so that an axis of importances is that of feature 0."""
    return all("features" not in (config.get(parts) or {}) for parts in ("given", "described"))
