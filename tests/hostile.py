"""Hostile values of arguments, and what a call with one may end in: a right value, or a ValueError that names it.

A value is right where a plain form of the hostile one, of Python's own numbers, gives the same. What has no plain form
must be refused.
"""

import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

REFUSED = object()  # in place of a plain form


class Broken:
    """An object of which nothing can be had."""

    def __array__(self, *_, **__):
        raise RuntimeError("no array")

    def __repr__(self):
        raise RuntimeError("no words")


def recursive():
    endless = [1.0]
    endless.append(endless)
    return endless


# Made anew for every call, since a generator can be read once.
AWKWARD = [
    *(lambda value=value: value for value in (None, "", "a", "0.5", b"x", True, False, 1j, float("nan"), float("inf"))),
    *(lambda value=value: value for value in (-float("inf"), -1, 0, -0.0, 0.5, 1, 2, 7.0, 2**31, 2**32, 2**63, 2**64)),
    *(lambda value=value: value for value in (10**400, -(10**400), 10**5000, 1e300, 1e-300, Fraction(1, 2))),
    *(lambda value=value: value for value in (Decimal("0.5"), ..., slice(1), object, len, Path("x"), jnp.tanh)),
    *(lambda value=value: [*value] for value in ("", "ab", (True, False), (1j, 2), (float("nan"), 1.0), (None, 1))),
    *(lambda value=value: [*value] for value in ((2**64, 3, 1), (10**400, 1), (-1.0, 2.0), (0.5, 0.25), (0, 1, 2))),
    lambda: [[]],
    lambda: [[1.0, 2.0], [3.0]],
    lambda: [1.0, [2.0]],
    lambda: [object()],
    lambda: {"a": 1},
    lambda: {1.0, 2.0},
    lambda: range(1, 3),
    lambda: (i for i in range(2)),
    lambda: lambda: 1,
    object,
    Broken,
    lambda: [Broken()],
    recursive,
    lambda: np.array([1, "a"], object),
    lambda: np.array([0.5, 0.25], object),
    lambda: np.datetime64("2020-01-01"),
    lambda: np.array(["2020-01-01"], "M8[D]"),
    lambda: np.timedelta64(1, "s"),
    lambda: np.ma.array([0.5, 0.25], mask=[False, True]),
    lambda: np.ma.array([0.5, 0.25]),
    lambda: np.ma.masked,
    lambda: np.longdouble(0.5),
    lambda: np.array([0.5, 0.25], np.longdouble),
    lambda: np.longdouble("1e4000"),
    lambda: np.float16(0.5),
    lambda: np.int64(3),
    lambda: np.array(3),
    lambda: np.array([0.5, 0.25], ">f8"),
    lambda: np.array([(1, 2.0)], [("a", int), ("b", float)]),
    lambda: np.array("a"),
    lambda: np.array(None),
    lambda: np.ones((1,) * 30),
    lambda: jnp.array([1 + 1j]),
    lambda: jnp.array([0.5, 0.25], jnp.bfloat16),
    lambda: jax.random.key(0),
]
DTYPES = ["?", "i1", "u8", "i8", "f2", "f4", "f8", "g", "c8", "S2", "U2", "M8[s]", "m8[s]", ">i4"]
SHAPES = stn.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def made(choice):
    """A hostile value: one of the awkward ones, or an array of a type and a shape."""
    if callable(choice):
        return choice()
    dtype, shape, fill = choice
    return np.full(shape, fill).astype(dtype)


FILLS = st.sampled_from([0, 1, 2, 3])
VALUES = st.one_of(st.sampled_from(AWKWARD), st.tuples(st.sampled_from(DTYPES), SHAPES, FILLS))


def plain(value):
    """The numbers of a value in Python's own, in nested lists; REFUSED where it has none that are real."""
    if isinstance(value, bool | np.bool_ | str | bytes | dict | set) or np.ma.is_masked(value):
        return REFUSED
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return REFUSED
    if isinstance(value, list | tuple | range):
        return _of_sequence(value)
    if isinstance(value, np.ndarray | np.generic | jax.Array) and _has_numbers(value.dtype):
        real = not jnp.issubdtype(value.dtype, jnp.complexfloating)
        with np.errstate(over="ignore"):
            found = np.asarray(value).astype(float) if real else REFUSED
        return found.tolist() if real and found.size else found  # the shape of an empty one is not in lists
    return REFUSED


def _has_numbers(dtype):
    return jnp.issubdtype(dtype, jnp.number) and dtype.kind != "m"


def _of_sequence(value):
    try:
        found = [plain(each) for each in value]
    except RecursionError:
        return REFUSED
    ragged = len({np.shape(each) for each in found if each is not REFUSED}) > 1
    return REFUSED if ragged or any(each is REFUSED for each in found) else found


def whole(value):
    """A whole number in Python's own; REFUSED where it is none."""
    number = plain(value)
    return int(number) if isinstance(number, float) and np.isfinite(number) and number == int(number) else REFUSED


def word(value):
    return value if isinstance(value, str) else REFUSED


def switch(value):
    return value if isinstance(value, bool) else REFUSED


def nothing(value):
    """Of arguments for which no hostile value is right."""
    return REFUSED


def is_refusal(error, name, value):
    """Whether a ValueError names the argument, or what in it is wrong by its name, in one line."""
    names = [name, *(key for key in value if isinstance(key, str))] if isinstance(value, dict) else [name]
    return any(re.search(rf"\b{each}\b", str(error)) for each in names) and "\n" not in str(error)


def same(a, b):
    """Whether two outcomes of a call are the same, but for rounding of the least type."""
    leaves = [jax.tree.leaves(outcome) for outcome in (a, b)]
    return len(leaves[0]) == len(leaves[1]) and all(map(_same, *leaves))


def _same(a, b):
    arrays = [isinstance(each, np.ndarray | np.generic | jax.Array | float | int) for each in (a, b)]
    if not all(arrays):
        return a == b
    a, b = (np.asarray(each, float) for each in (a, b))
    return a.shape == b.shape and np.allclose(a, b, rtol=2e-2, atol=1e-3, equal_nan=True)
