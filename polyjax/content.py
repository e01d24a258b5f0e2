"""What a results file may hold: checks of its configuration and of its arrays, for files that nobody's polyjax wrote.

Axes: those of the grid, by name [*axes], then restart R, neuron D and feature N.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from polyjax.checks import is_whole
from polyjax.selection import embedding_of
from polyjax.toy.model import SNAPSHOT

if TYPE_CHECKING:
    from polyjax.selection import Refined

MAPPINGS = ("model", "axes", "given", "snapshots")
NAMES = ("order", "stored", "arrays", "parameters", "sizes")
COUNTS = ("restarts", "retries", "refine", "seed")
BEYOND = 1e-5  # by which rounding may take a capacity beyond 1

Arrays = Mapping[str, np.ndarray]


def check_config(config: Any) -> None:
    """Raise ValueError unless a configuration is one, as far as others rely on its fields."""
    if not isinstance(config, dict):
        raise ValueError("its config is no dictionary")
    made, looks = config.get("provenance", {}), config.get("snapshots") or {}
    good = {name: isinstance(config.get(name, {}), dict | None) for name in MAPPINGS}
    good |= {name: isinstance(config.get(name, {}), dict) for name in ("provenance", "source")}
    good |= {name: _are(str, config.get(name, [])) for name in NAMES}
    good |= {name: is_whole(config.get(name, 0)) and config.get(name, 0) >= 0 for name in COUNTS}
    good["shape"] = config.get("shape") is None or _is_shape(config["shape"])
    if good["provenance"]:
        good["provenance"] = isinstance(made.get("versions", {}), dict) and _are(dict, made.get("other_sessions", []))
    if good["snapshots"]:
        good["snapshots"] = _are(int, looks.get("steps", []))
    if good["axes"]:
        good["axes"] = all(_are(int | float, values) and values for values in (config.get("axes") or {}).values())
    if wrong := [name for name, ok in good.items() if not ok]:
        raise ValueError(f"its config has no {' and no '.join(wrong)} as polyjax writes it")


def _are(kind: Any, values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _is_shape(shape: Any) -> bool:
    return _are(int, shape) and len(shape) == 2 and min(shape) >= 1


def check_shapes(axes: Arrays, arrays: Arrays, params: list[str], refined: Refined | None, looks: int) -> None:
    """Raise ValueError unless the arrays of a file, among them parameters by name, fit together and are of the kinds
    that they must be."""
    cells = tuple(n for values in axes.values() for n in values.shape)
    *_, R, N = arrays["capacity"].shape
    lanes, W = (*cells, R), embedding_of({name: arrays[name] for name in params})
    of_lanes = [name for name in arrays if name not in params and not name.startswith(SNAPSHOT)]
    expected = dict.fromkeys(of_lanes, lanes) | {"capacity": (*lanes, N)}
    fit = all(arrays[name].shape == shape for name, shape in expected.items())
    fit &= W.ndim == len(lanes) + 2 and W.shape[-1] == N and len(cells) == len(axes)
    if not fit or any(arrays[name].shape[: len(lanes)] != lanes for name in params):
        raise ValueError("its arrays do not fit together")
    of_networks = {"capacity": (N,), "loss": (), "embedding": W.shape[len(lanes) :]}
    for name in (name for name in arrays if name.startswith(SNAPSHOT)):
        if arrays[name].shape != (*lanes, looks, *of_networks[name.removeprefix(SNAPSHOT)]):
            raise ValueError("its snapshots do not fit the others")
    every = {**axes, **arrays}
    if refined is not None:
        _check_refined(refined, arrays, cells)
        every |= {f"refined {name}": a for name, a in refined.arrays().items()}
    for name, a in every.items():
        kinds = {"settled": "b", "attempt": "iu"}.get(name.removeprefix("refined "), "f")
        if a.dtype.kind not in kinds or a.size == 0:
            raise ValueError(f"its {name} is {'empty' if a.size == 0 else f'of type {a.dtype}'}")


def _check_refined(refined: Refined, arrays: Arrays, cells: tuple[int, ...]) -> None:
    before = len(cells) + 1
    expected = {
        name: (*cells, *a.shape[before:])
        for name, a in arrays.items()
        if name != "attempt" and not name.startswith(SNAPSHOT)
    }
    shapes = {name: a.shape for name, a in refined.arrays().items()}
    of_polish = [shapes.pop(name)[: len(cells)] for name in ("excess", "spectrum") if name in shapes]
    if shapes != expected | {"gain": cells} or any(shape != cells for shape in of_polish):
        raise ValueError("its refined arrays do not fit the others")


def check_values(axes: Arrays, arrays: Arrays, refined: Refined | None) -> None:
    """Raise ValueError where numbers are out of range. Networks that failed hold infinities and NaN."""
    every = {**arrays} | ({f"refined {name}": a for name, a in refined.arrays().items()} if refined else {})
    good = {name: bool(np.isfinite(values).all()) for name, values in axes.items()}
    for name, a in every.items():
        if name.endswith("capacity"):
            good[name] = not ((a < 0) | (a > 1 + BEYOND)).any()
        elif name.endswith("loss_se"):
            good[name] = not (a < 0).any()
    if wrong := [name for name, ok in good.items() if not ok]:
        raise ValueError(f"its {' and its '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} out of range")
