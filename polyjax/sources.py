"""The source text of functions and classes of the user's, kept with results as a record of what was run.

It decides nothing: what two sweeps compute is compared by fingerprints, which comments do not change.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from textwrap import dedent
from typing import Any

LIBRARIES = {"polyjax", "jax", "jaxlib", "optax", "numpy", "builtins", "typing", "abc", "functools"}


def sources(parts: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """Return the source text of all that is the user's in the values of each part, by the name of the part. Left out
    are parts without any, and functions whose source is in no file."""
    texts = {name: [text for value in values for text in _texts(value)] for name, values in parts.items()}
    return {name: "\n".join(dict.fromkeys(found)) for name, found in texts.items() if found}


def _texts(value: Any) -> Iterator[str]:
    """Yield the text of a function, or of a value's classes and of the functions that it holds."""
    if isinstance(value, functools.partial):
        yield from _texts(value.func)
        return
    function = inspect.unwrap(value) if callable(value) else value
    if inspect.isroutine(function):
        yield from _text(function)
        return
    for each in type(value).__mro__:
        yield from _text(each)
    for each in _held(value):
        yield from _texts(each)


def _held(value: Any) -> Iterator[Any]:
    if is_dataclass(value):
        yield from (getattr(value, field.name) for field in fields(value))
    elif isinstance(value, tuple):
        yield from value


def _text(each: Callable[..., Any] | type) -> Iterator[str]:
    if (each.__module__ or "").split(".")[0] in LIBRARIES:
        return
    try:
        yield dedent(inspect.getsource(each)).rstrip()
    except Exception:  # a record that cannot be had is no reason to train nothing
        return
