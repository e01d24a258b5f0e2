"""The closed form over a grid of results: for the quadratic Redwood model, where feature 0 has an importance V and all
others importance 1, as in the paper's phase diagrams (section 3.5)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from polyjax.theory import quadratic
from polyjax.toy import distributions

CRITICAL_KURTOSIS = 3.0
# Compiled whole: a drawing needs few values, and compiling operation by operation would take most of its time.
_boundaries = jax.jit(quadratic.boundaries, static_argnums=(1, 2))


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

    def loss(self, importance: ArrayLike, kurtosis: ArrayLike) -> np.ndarray:
        """Return the least expected loss [...] from V and k, which broadcast."""
        V, k = np.broadcast_arrays(importance, kurtosis)
        return np.asarray(quadratic.optimal_loss(self.importances(V), k, self.n_neurons))

    def ties(self, importance: ArrayLike, kurtosis: ArrayLike) -> np.ndarray:
        """Say where feature 0 ties with the others, V = 1 and k <= 3, so that any split is optimal; bool [...]."""
        # Within rounding of a geometric grid that was computed in single precision.
        dense = np.asarray(kurtosis) <= CRITICAL_KURTOSIS * (1 + 1e-6)
        return np.isclose(importance, 1, rtol=1e-6) & dense & (self.n_neurons < self.n_features)

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
        raise ValueError(
            "there is a closed form only for the Redwood model with square activation, features of mean 0 and variance "
            f"1 and an axis of densities, but the results are of {', '.join(told)}"
        )
    return ClosedForm(*sizes, jax.jit(base.kurtosis))


def has_closed_form(config: Mapping[str, Any]) -> bool:
    """Say whether `closed_form` returns one."""
    try:
        closed_form(config)
    except ValueError:
        return False
    return True


def over(form: ClosedForm, f: Callable[..., np.ndarray], axes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return a function of importance and kurtosis at all cells [*axes, ...]; importance is 1 where it is no axis."""
    mesh = dict(zip(axes, np.meshgrid(*axes.values(), indexing="ij"), strict=True))
    density = mesh["density"]
    return f(mesh.get("importance", np.ones_like(density)), np.asarray(form.kurtosis(density)))


def is_of_paper(config: Mapping[str, Any]) -> bool:
    """Say whether the features are the paper's, so that an axis of importances is that of feature 0."""
    return all("features" not in (config.get(parts) or {}) for parts in ("given", "described"))
