"""Early errors in the user's words: which argument, what it must be, what it was."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.typing
import numpy as np

ArrayLike = jax.typing.ArrayLike | Sequence[Any]  # what `numbers` takes: lists as well, nested as NumPy takes them
Class = TypeVar("Class", bound=type)
LONGEST = 200  # characters of a value in an error


def require(ok: Any, name: str, must: str, value: Any) -> None:
    """Raise `ValueError("<name> must <must>, but is <value>")` unless `ok` holds everywhere.

    `ok` may be a boolean or an array of booleans; where it is traced by JAX, whose values are not known yet, nothing
    is checked.
    """
    if isinstance(ok, jax.core.Tracer):
        return
    if not np.all(ok):
        raise ValueError(f"{name} must {must}, but is {_shown(ok, value)}")


def is_number(value: Any) -> bool:
    """Say whether a value is one number, as True and False are not."""
    if isinstance(value, np.ndarray | jax.Array):
        return value.ndim == 0 and value.dtype.kind in "iuf" and not isinstance(value, jax.core.Tracer)
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def numbers(name: str, value: Any, must: str = "be real numbers") -> np.ndarray | jax.Array:
    """Return real numbers as an array, of NumPy where it is none of JAX's; whole ones as floating point, since JAX
    would wrap those above 2^31. Raises ValueError for anything else, such as text, booleans, and rows of several
    lengths."""
    try:
        a = value if isinstance(value, jax.Array) else np.asarray(value)
    except jax.errors.TracerArrayConversionError:  # a list of what JAX traces
        a = jnp.asarray(value)
    except ValueError:
        a = np.empty(0, object)
    real = jnp.issubdtype(a.dtype, jnp.floating) or jnp.issubdtype(a.dtype, jnp.integer)
    require(real, name, must, value)
    return a.astype(float) if isinstance(a, np.ndarray) and a.dtype.kind in "iu" else a


def doubles(name: str, value: Any) -> np.ndarray:
    """Return `numbers` in double precision, of NumPy."""
    return np.asarray(numbers(name, value), np.float64)


def whole(name: str, value: Any, least: int) -> int:
    """Return a whole number of at least `least`; 1e3 is one too. Raises ValueError for anything else."""
    ok = is_number(value) and value >= least and value == np.floor(value) and value < np.inf
    require(ok, name, f"be a whole number of at least {least}", value)
    return int(value)


def a_path(value: Any) -> Path:
    """Return the path that a value names. Raises ValueError for what names none."""
    require(isinstance(value, str | os.PathLike), "path", "be the name of a file", value)
    return Path(value)


def known(given: Collection[str], names: Collection[str], others: Mapping[str, str], what: str) -> None:
    """Raise TypeError unless all given keywords are among the names of `what`, with the name that was meant, by its
    likeness or as `others` says."""
    for word in given:
        if word not in names:
            likely = others.get(word) or next(iter(get_close_matches(word, names, 1)), None)
            raise TypeError(f"{what} has no {word}" + (f"; did you mean {likely}?" if likely else ""))


def with_suggestions(others: Mapping[str, str]) -> Callable[[Class], Class]:
    """Return a decorator of dataclasses, after which an unknown keyword is refused with the one that was meant (see
    `known`)."""

    def decorated(cls: Class) -> Class:
        make = cls.__init__  # type: ignore[misc]

        @wraps(make)
        def checked(self: Any, *args: Any, **given: Any) -> None:
            known(given, [field.name for field in fields(cls)], others, cls.__name__)
            make(self, *args, **given)

        cls.__init__ = checked  # type: ignore[misc]
        return cls

    return decorated


def _shown(ok: Any, value: Any) -> str:
    """Return the first offending element of an array, or the value itself."""
    if np.ndim(ok) and np.shape(ok) == np.shape(value):
        index = tuple(int(i) for i in np.argwhere(~np.asarray(ok))[0])
        return f"{np.asarray(value)[index]} at index {index[0] if len(index) == 1 else index}"
    return shown(value)


def shown(value: Any) -> str:
    """Return a value in one line that is not too long."""
    is_scalar = isinstance(value, np.generic | np.ndarray | jax.Array) and np.ndim(value) == 0
    text = " ".join(repr(value.item() if is_scalar else value).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
