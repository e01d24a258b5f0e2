"""A function of scalars, such as `unroll` makes, on vectors over models: as a kernel runs it.

What all models share stays scalar, and is brought to the shape of vectors only where an operation has both.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from polyjax.engine.unroll import Scalars, evaluate


def on_vectors(f: Scalars, *examples: Any) -> Scalars:
    """Return `f`, a function of pytrees of scalars, for leaves that are scalars or arrays of one shape.

    Constants are folded; what kernel languages do not know is written in what they do (`_REWRITTEN`). `examples` have
    the structure of the arguments, with `jax.ShapeDtypeStruct` leaves. Results may be constants, or scalars.
    """
    closed, result = jax.make_jaxpr(f, return_shape=True)(*examples)
    constants = dict(zip(closed.jaxpr.constvars, map(_number, closed.consts), strict=True))

    def on_values(*args: Any) -> Any:
        given = constants | dict(zip(closed.jaxpr.invars, jax.tree.leaves(args), strict=True))
        results = evaluate(closed.jaxpr.eqns, given, closed.jaxpr.outvars, _operation, _number)
        return jax.tree.unflatten(jax.tree.structure(result), results)

    return on_values


def _number(constant: Any) -> Any:
    return np.asarray(constant)[()]


def _operation(eqn: JaxprEqn, operands: list[Any]) -> list[Any]:
    operation = _REWRITTEN.get(eqn.primitive.name, lambda *a, **params: eqn.primitive.bind(*_alike(*a), **params))
    if any(isinstance(a, jax.Array) for a in operands):
        return [operation(*operands, **eqn.params)]
    with jax.ensure_compile_time_eval():
        return [_number(operation(*operands, **eqn.params))]


def _alike(*operands: Any) -> list[Any]:
    """Return scalars brought to the shape of the vectors among them."""
    shape = np.broadcast_shapes(*map(np.shape, operands))
    return [a if np.shape(a) == shape else jnp.broadcast_to(a, shape) for a in operands]


def _quotient(x: Any, y: Any) -> Any:
    """Divide by what all models share as multiplying by its inverse, which is taken once."""
    shared = np.ndim(x) and not np.ndim(y) and jnp.issubdtype(y.dtype, jnp.floating)
    return lax.mul(*_alike(x, 1 / y)) if shared else lax.div(*_alike(x, y))


def _power(x: Any, y: int) -> Any:
    """Return x^y by repeated squaring; y is not 0, which jax simplifies itself."""
    if y < 0:
        return 1 / _power(x, -y)
    if y == 1:
        return x
    half = _power(x, y // 2)
    return half * half * x if y % 2 else half * half


# What not every kernel language knows, in operations that all do.
_REWRITTEN: dict[str, Callable[..., Any]] = {
    "add_any": lambda x, y: lax.add(*_alike(x, y)),
    "square": lambda x: x * x,
    "div": _quotient,
    "integer_pow": _power,
    "logistic": lambda x, accuracy=None: 1 / (1 + jnp.exp(-x)),
    "stop_gradient": lambda x: x,
    "copy": lambda x: x,
    "copy_p": lambda x: x,
}
