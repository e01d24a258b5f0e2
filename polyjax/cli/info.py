"""`polyjax info`: how a results file was made, and what is in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polyjax.checks import printable
from polyjax.cli.command import Switch
from polyjax.recipes import toml_of
from polyjax.results import load
from polyjax.runs.folder.directory import folder

if TYPE_CHECKING:
    from polyjax.results import Results

# Fields of the configuration that are shown elsewhere, or that say of every size what is said of the first.
APART = ("order", "provenance", "source", "parts", "made", "described")


def info(file: Path, /, *, toml: Switch = False) -> None:
    """Say how a results file was made, and what is in it.

    Args:
        file: A results file.
        toml: Print nothing but the recipe that makes the file again, for polyjax sweep.
    """
    run = folder(file)
    if run.is_dir() and not file.is_file():
        saved = len([*run.glob("*.npz")])
        words = f"{saved} chunks are saved in {run}, and the command that began it goes on from there"
        raise ValueError(f"the run that makes {run.with_suffix('.npz')} is not finished: {words}")
    results = load(file)
    print(toml_of(results.config) if toml else describe(str(file), results), end="" if toml else "\n")


def describe(path: str, results: Results) -> str:
    """Return what `polyjax info` prints. Whatever else the file holds, nothing of it moves the cursor of a terminal."""
    try:
        recipe = toml_of(results.config).splitlines()
        in_python = f'polyjax.run(polyjax.Sweep.from_config(polyjax.load("{path}").config))'
    except ValueError as error:  # a part of the sweep is the user's own code
        recipe, in_python = [], f"not from this file alone: {error}"
    lines = [path, *_listed(_made(in_python, results.config)), "", *_listed(_configured(results.config)), ""]
    lines += _listed(_found(results))
    lines += ["", "  recipe for `polyjax sweep` (alone: `polyjax info --toml`)"] * bool(recipe)
    lines += [*(f"    {line}" for line in recipe), *_source(results.config)]
    return "\n".join(map(printable, lines))


def _made(in_python: str, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    made = config.get("provenance", {})
    if made.get("command"):
        yield "command", made["command"]
    yield "in Python", in_python
    yield "versions", ", ".join(f"{name} {number}" for name, number in made.get("versions", {}).items())
    yield "device", made.get("device", "unknown")
    yield "revision", made.get("revision") or "unknown"
    for session in made.get("other_sessions", []):
        yield "and also", ", ".join(f"{key} {value}" for key, value in session.items())


def _configured(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        if key == "axes":
            axes = {name: value[name] for name in config.get("order", value)}
            yield from ((name, f"{len(a)} values from {min(a):.6g} to {max(a):.6g}") for name, a in axes.items())
        elif key in APART:
            continue
        elif isinstance(value, Mapping) and value:
            yield key, ", ".join(f"{name} {each}" for name, each in _flat(value))
        elif value not in (None, {}):
            yield key, " x ".join(map(str, value)) if isinstance(value, list) else str(value)


def _source(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the source text of what is the user's."""
    for name, text in config.get("source", {}).items():
        yield from ("", f"  source of {name}", *(f"    {line}" for line in text.splitlines()))


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a mapping, and of those in it."""
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield from _flat(each, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", each


def _found(results: Results) -> Iterator[tuple[str, str]]:
    finite = np.isfinite(results.loss)
    best = results.select("best")
    yield "models", f"{results.loss.size:,}"
    yield "retried", _retried(results)
    yield "not settled", f"{(finite & ~results.settled).sum():,} models, {(~best.settled).sum():,} cells"
    yield "not finite", f"{(~finite).sum():,} models, {(~np.isfinite(best.loss)).sum():,} cells"
    if results.refined is not None:
        yield "refined", f"{(results.refined.gain > 0).sum():,} cells"


def _retried(results: Results) -> str:
    """Say how many models each attempt has trained, as its bar says, and how many of these were better and are kept.

    A model is trained again until it settles: attempt n had those which a later or the same one settled, and those
    which none did."""
    attempts = range(1, results.config.get("retries", 0) + 1)
    trained = [(~results.settled | (results.attempt >= n)).sum() for n in attempts]
    again = "".join(f", {count:,} of them in attempt {n} too" for n, count in enumerate(trained[1:], 2) if count)
    replaced = f"; the retry was better, and took the place, for {(results.attempt > 0).sum():,}"
    return f"{trained[0]:,} models{again}{replaced}" if trained and trained[0] else "0 models"


def _listed(pairs: Iterator[tuple[str, str]]) -> list[str]:
    return [f"  {name.replace('_', ' '):<14}{value}" for name, value in pairs]
