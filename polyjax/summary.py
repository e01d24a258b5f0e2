"""Sweeps and results in a few words, as text and as HTML for notebooks."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from polyjax.described import Described
from polyjax.engine.cells import names_of
from polyjax.toy.activations import activation_name
from polyjax.toy.model import n_neurons

if TYPE_CHECKING:
    from polyjax.results import Results
    from polyjax.sweep import Sweep

Facts = list[tuple[str, str]]


def of_results(results: Results) -> Facts:
    """Return what results are: name and words."""
    *_, R, N = results.capacity.shape
    made, refined = results.config.get("model", {}), results.refined
    done = ["refined"] * (refined is not None) + ["polished"] * (refined is not None and refined.excess is not None)
    if results.config.get("sizes"):
        done.append("arrays are filled up with NaN where networks are smaller than the largest")
    return [
        ("model", f"{made.get('name', 'a model')}, {N} features in {results.embedding.shape[-2]} neurons"),
        ("axes", grid(results.axes, R)),
        ("settled", f"{results.settled.mean():.1%} of {results.settled.size:,} networks settled"),
        ("loss", _range_of_loss(results)),
        ("afterwards", ", ".join(done) or "not refined"),
    ]


def _range_of_loss(results: Results) -> str:
    loss = results.loss if results.refined is None else results.refined.loss[..., None]
    lowest = np.where(np.isfinite(loss), loss, np.inf).min(-1)
    finite = lowest[lowest < np.inf]
    return f"lowest loss of a cell {finite.min():.3g} to {finite.max():.3g}" if finite.size else "no finite loss"


def of_sweep(sweep: Sweep) -> Facts:
    """Return what a sweep asks for, likewise."""
    if sweep.sizes:
        _, first = sweep.by_size[0]
        axes = ("axes", grid(sweep.coordinates, sweep.restarts))
        return [("sizes", f"{' and '.join(sweep.sizes)}; below is the first"), axes, *of_sweep(first)]
    fixed, optimizer = sweep.training, f"Adam, cosine decay from {sweep.rate:g}"
    model = fixed.one_model
    words = f"{type(model).__name__}, {model.n_features} features in {n_neurons(model)} neurons"
    words += f", {activation_name(model)}" if hasattr(model, "activation") else ""
    samples = "the expected loss" if sweep.objective == "expected" else f"{sweep.batch} samples, {fixed.sampler.name}"
    after = [f"at most {sweep.retries} retries"] * (sweep.retries > 0)
    after += [f"at most {sweep.refine} rounds of refining"] * (sweep.refine > 0) + ["polishing"] * bool(sweep.polish)
    return [
        ("model", words + _of_axes(fixed.model)),
        ("axes", f"{grid(sweep.coordinates, sweep.restarts)} = {np.prod(sweep.shape):,} networks"),
        ("features", _of_part(sweep.features, fixed.features, "the paper's")),
        ("optimizer", _of_part(sweep.optimizer, fixed.optimizer, optimizer)),
        ("training", f"{sweep.steps:,} steps on {samples}"),
        ("afterwards", ", ".join(after) or "nothing"),
        ("seed", str(sweep.seed)),
    ]


def _of_part(given: Any, part: Any, default: str) -> str:
    """Say what a part of a sweep is: as it is described, the user's own, or what it is by default."""
    if isinstance(given, Described):
        return given.words
    return (default if given is None else "the user's") + _of_axes(part)


def _of_axes(part: Any) -> str:
    names = names_of(part)
    return f", by {' and '.join(names)}" if names else ""


def grid(axes: Mapping[str, Any], restarts: int) -> str:
    """Return axes in words, such as "density (40: 0.01 to 1) x decay (3: 0.5 to 1) x 4 restarts"."""
    words = [f"{name} ({len(values)}: {min(values):.3g} to {max(values):.3g})" for name, values in axes.items()]
    return " x ".join([*words, f"{restarts} restart{'s' * (restarts != 1)}"])


def line(title: str, facts: Facts) -> str:
    """Return facts as one line, without their names."""
    return f"{title} of " + "; ".join(words for _, words in facts)


def lines(title: str, facts: Facts) -> str:
    """Return facts as lines."""
    return "\n".join([title, *(f"  {name:<12}{words}" for name, words in facts)])


def html(title: str, facts: Facts, png: bytes | None = None) -> str:
    """Return facts as a table of HTML, with a picture below it."""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(words)}</td></tr>" for name, words in facts)
    picture = f'<img alt="diagram" src="data:image/png;base64,{b64encode(png).decode()}">' if png else ""
    return f"<div><strong>{escape(title)}</strong><table>{rows}</table>{picture}</div>"
