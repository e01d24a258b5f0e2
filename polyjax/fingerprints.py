"""Fingerprints that distinguish functions of the user's by what they compute, since two may share a name."""

import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.typing import ArrayLike


def fingerprint(f: Callable[..., Any], *arguments: Any) -> str:
    """Return a number that tells functions apart by what they compute, the same in every process of one version of
    JAX."""
    program = jax.make_jaxpr(f)(*arguments)
    text = re.sub(r"0x[0-9a-f]+", "", str(program))  # addresses of objects
    return f"{zlib.crc32(b''.join([text.encode(), *map(content, _constants(program))])):08x}"


def _constants(program: ClosedJaxpr | Jaxpr) -> Iterator[ArrayLike]:
    """Yield the arrays that a program holds, and those of the programs in it, such as of jitted functions. Its text
    does not show them, as it shows single numbers."""
    if isinstance(program, ClosedJaxpr):
        yield from program.consts
        program = program.jaxpr
    for equation in program.eqns:
        yield from (v.val for v in equation.invars if isinstance(v, Literal) and np.ndim(v.val))
        for value in jax.tree.leaves(equation.params):
            if isinstance(value, ClosedJaxpr | Jaxpr):
                yield from _constants(value)


def content(array: ArrayLike) -> bytes:
    """Return the numbers of an array, or of random keys, which numpy does not know."""
    if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return np.asarray(array).tobytes()
