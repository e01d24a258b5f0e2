"""How two configurations differ, and whether a sweep is the one that results were made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax

from polyjax.checks import require

if TYPE_CHECKING:
    from polyjax.sweep import Sweep


def check_same(config: Mapping[str, Any], sweep: Sweep) -> None:
    """Raise ValueError, with the fields that differ, unless a sweep is the one that results were made of.

    Not compared are fields that older files lack, and fingerprints of another version of JAX, which may differ where
    functions do not.
    """
    check_sweep(sweep)
    here = json.loads(json.dumps(sweep.describe()))  # as it comes back from a file
    both = config.keys() & here.keys()
    if made_with(config, "jax") not in (None, jax.__version__):
        both -= {"given"}
    fields = differences({key: config[key] for key in both}, {key: here[key] for key in both})
    if fields:
        raise ValueError(f"sweep must be the one that the results were made of, but differs: {'; '.join(fields)}")


def check_sweep(sweep: Any) -> None:
    """Raise ValueError unless this is a sweep, or what describes itself like one."""
    require(hasattr(sweep, "describe") and not isinstance(sweep, type), "sweep", "be a Sweep", sweep)


def made_with(config: Mapping[str, Any], package: str) -> str | None:
    """Return the version of a package that results were made with, if it is known."""
    return ((config.get("provenance") or {}).get("versions") or {}).get(package)


def differences(there: Mapping[str, Any], here: Mapping[str, Any], name: str = "") -> list[str]:
    """Return the fields in which two configurations differ, in words."""
    found = []
    for key in sorted(there.keys() | here.keys()):
        a, b = there.get(key), here.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{name}{key}.")
        elif a != b:
            found.append(f"{name}{key} ({_shown(a)} there, {_shown(b)} here)")
    return found


def _shown(value: Any) -> str:
    if isinstance(value, list) and len(value) > 4 and all(isinstance(v, int | float) for v in value):
        return f"{len(value)} values from {value[0]:.6g} to {value[-1]:.6g}"
    return json.dumps(value)
