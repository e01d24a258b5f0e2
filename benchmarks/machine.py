"""What a measurement ran on. Imports nothing that it names."""

import os
import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("polyjax", "jax", "jaxlib", "optax", "numpy", "torch", "occhio")


def machine() -> dict[str, Any]:
    """The processor, its cores that may be used, and the date, with the versions of whatever is installed."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {"processor": _processor(), "cores": cores, "date": date.today().isoformat()}
    return {**found, "python": platform.python_version(), "versions": _versions()}


def words(about: dict[str, Any]) -> str:
    """Such as "2 cores of AMD EPYC, Python 3.11.2, polyjax 0.1.0, jax 0.10.2; 2026-01-31"; an accelerator first."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    cores = f"{about['cores']} core{'s' if about['cores'] != 1 else ''}"
    accelerator = f"{about['device']}, " if about.get("device", "cpu") != "cpu" else ""
    return f"{accelerator}{cores} of {about['processor']}, Python {about['python']}, {versions}; {about['date']}"


def _processor() -> str:
    """Its name; on machines without /proc the architecture's."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
