"""Early errors in the user's words: which argument, what it must be, what it was."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from types import MappingProxyType
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
    """Say whether a value is one real number that floating point holds, as True, False and 10^400 are not."""
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        known = not isinstance(value, jax.core.Tracer) and not np.ma.is_masked(value)
        return known and value.ndim == 0 and _is_real(value.dtype)
    return isinstance(value, float) or (is_whole(value) and abs(value) < 2**1023)


def is_whole(value: Any) -> bool:
    """Say whether a value is one whole number of an integer's type, as True, False and 1.0 are not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)


def is_sequence(value: Any) -> bool:
    """Say whether a value holds others in an order, as text does not for us."""
    if isinstance(value, np.ndarray | jax.Array):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_real(dtype: Any) -> bool:
    """Say whether a type is of real numbers; NumPy counts durations among the whole ones."""
    real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    return bool(real) and dtype.kind != "m"


def numbers(name: str, value: Any, must: str = "be real numbers") -> np.ndarray | jax.Array:
    """Return real numbers as an array, of NumPy where it is none of JAX's; whole ones as floating point, since JAX
    would wrap those above 2^31. Raises ValueError for anything else, such as text, booleans, dates, complex numbers,
    masked arrays and rows of several lengths."""
    try:
        a = _array(value)
    except Exception:  # whatever an object raises that is asked for an array
        a = np.empty(0, object)
    require(_is_real(a.dtype) and not np.ma.is_masked(value), name, must, value)
    if isinstance(a, jax.Array) or a.dtype in (np.float16, np.float32, np.float64):
        return a
    with np.errstate(over="ignore"):  # to infinity, of numbers beyond double precision
        return a.astype(np.float64)


def _array(value: Any) -> np.ndarray | jax.Array:
    if isinstance(value, jax.Array):
        return value
    try:
        return np.asarray(value)
    except jax.errors.TracerArrayConversionError:  # a list of what JAX traces
        return jnp.asarray(value)


def doubles(name: str, value: Any, must: str = "be real numbers") -> np.ndarray:
    """Return `numbers` in double precision, of NumPy."""
    return np.asarray(numbers(name, value, must), np.float64)


def floating(name: str, value: Any, must: str = "be real numbers") -> jax.Array:
    """Return `numbers` as floating point of JAX, in its precision or at least in single: to infinity, where they are
    beyond it."""
    found = numbers(name, value, must)
    with np.errstate(over="ignore"):
        a = jnp.asarray(found)
    return a.astype(jnp.promote_types(jnp.result_type(a, float), jnp.float32))


def number(name: str, value: Any, must: str = "be a finite number") -> float:
    """Return one finite number. Raises ValueError for anything else."""
    require(is_number(value) and np.isfinite(float(value)), name, must, value)
    return float(value)


def broadcast(**shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that those of several arguments broadcast to. Raises ValueError, naming these, if there is
    none."""
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        told = ", ".join(str([*shape]) for shape in shapes.values())
        raise ValueError(f"{' and '.join(shapes)} must have shapes that broadcast, but have {told}") from None


def whole(name: str, value: Any, least: int) -> int:
    """Return a whole number of at least `least` and below 2^32; 1e3 is one too. Raises ValueError for anything
    else."""
    ok = is_whole(value) or (is_number(value) and float(value).is_integer())
    found = int(value) if ok else -1
    require(ok and found >= least, name, f"be a whole number of at least {least}", value)
    require(found < 2**32, name, "be below 2^32", value)
    return found


def count(name: str, value: Any, least: int = 1, most: int = 2**32 - 1) -> int:
    """Return a whole number of at least `least` that is a shape's, and so of an integer's type: not 6.0. Raises
    ValueError for anything else."""
    require(is_whole(value) and value >= least, name, f"be a whole number of at least {least}", value)
    require(value <= most, name, f"be at most {most:,}", value)
    return int(value)


def place(name: str, value: Any, n: int, things: str) -> int:
    """Return the number of one of n things, from 0. Raises ValueError for anything else."""
    require(is_whole(value) and 0 <= value < n, name, f"be one of the {n} {things}, from 0", value)
    return int(value)


def one_of(name: str, value: Any, words: Collection[str]) -> None:
    """Raise ValueError unless a value is one of some words."""
    require(isinstance(value, str) and value in words, name, f"be one of {', '.join(words)}", value)


def switch(**values: Any) -> None:
    """Raise ValueError unless all of these arguments are True or False."""
    for name, value in values.items():
        require(isinstance(value, bool | np.bool_), name, "be True or False", value)


def a_path(value: Any) -> Path:
    """Return the path that a value names. Raises ValueError for what names none."""
    try:
        text = os.fspath(value)
    except TypeError:
        text = None
    ok = isinstance(text, str) and text != "" and "\0" not in text
    require(ok, "path", "be the name of a file", value)
    return Path(value)


def known(
    given: Collection[str],
    names: Collection[str],
    others: Mapping[str, str],
    what: str,
    error: type[Exception] = TypeError,
) -> None:
    """Raise an error unless all given keywords are among the names of `what`, with the name that was meant, by its
    likeness or as `others` says."""
    for word in given:
        if word not in names:
            raise error(f"{what} has no {word}{meant(word, names, others)}")


def meant(word: str, names: Collection[str], others: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return words that ask for the name that was meant, by its likeness or as `others` says; none where none is
    like it."""
    likely = others.get(word) or next(iter(get_close_matches(word, names, 1)), None)
    return f"; did you mean {likely}?" if likely else ""


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


def printable(text: str) -> str:
    """Return text in which characters that are not printed, such as those that move a terminal's cursor, are written
    out, but for the ends of lines."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def shown(value: Any) -> str:
    """Return a value in one line that is not too long."""
    is_scalar = isinstance(value, np.generic | np.ndarray | jax.Array) and np.ndim(value) == 0
    try:
        text = " ".join(repr(value.item() if is_scalar else value).split())
    except Exception:  # of objects that have no words, and of numbers with thousands of digits
        text = f"of type {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
