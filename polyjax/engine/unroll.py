"""Unroll a function of small matrices into scalar arithmetic: `W @ x` becomes W[0,0] x[0] + W[0,1] x[1] + ...

The models are tiny (18 weights), so that a batched matrix product is the wrong instruction on every machine. Unrolled,
each weight is a value of its own, which `vmap` turns into one long array over models and samples. A model is still
written once, in matrix notation: `unroll` traces it and replays its program entry by entry.

Only what keeps entries apart is supported: elementwise functions, sums, products, largest and smallest entries, and
moves of entries by constant indices (slices, stacks, `W[0]`, `.at[0].set`). Anything else raises NotImplementedError
with the operation's name; such a model runs on plain arrays.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from math import prod
from operator import add
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.extend.core import Jaxpr, JaxprEqn, Literal

Scalars = Callable[..., Any]  # of scalars, and arrays of one shape
Entries = np.ndarray  # of dtype object: every entry is a scalar


def unroll(f: Callable[..., Any], *examples: Any) -> Callable[..., list[list[Any]]]:
    """`f` as a function of scalars: one list of entries, in row-major order, for every leaf of the arguments, and
    one such list for every leaf of the result.

    `f` maps pytrees of arrays to a pytree of arrays; `jax.ShapeDtypeStruct` leaves are enough as examples.
    """
    closed = jax.make_jaxpr(f)(*examples)
    shapes = [leaf.shape for leaf in jax.tree.leaves(examples)]

    def unrolled(*leaves: Sequence[Any]) -> list[list[Any]]:
        args = [_entries(shape, leaf) for shape, leaf in zip(shapes, leaves, strict=True)]
        return [[*a.flat] for a in _replay(closed.jaxpr, closed.consts, args)]

    return unrolled


def scalars_of(tree: Any) -> list[list[jax.ShapeDtypeStruct]]:
    """For every leaf one list of its entries, as examples."""
    return [[jax.ShapeDtypeStruct((), leaf.dtype)] * prod(leaf.shape) for leaf in jax.tree.leaves(tree)]


class Staged(NamedTuple):
    """f(shared, own) as after(before(shared), own)."""

    before: Callable[[Any], Any]
    after: Callable[..., Any]


def split(f: Callable[[Any, Any], Any], shared: Any, own: Any) -> Staged:
    """Return `f` in two stages, of which the first does all that the shared argument decides alone, and returns it as a
    list of scalars.

    So that what depends on a sample alone, such as the target, is computed once and not again by every lane. The
    arguments are pytrees of scalars, `jax.ShapeDtypeStruct` as examples, and `f` does nothing but scalar arithmetic.
    """
    closed, result = jax.make_jaxpr(f, return_shape=True)(shared, own)
    jaxpr, constants = closed.jaxpr, dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    n_shared = len(jax.tree.leaves(shared))
    first, second, passed = _stages(jaxpr, jaxpr.invars[:n_shared], jaxpr.invars[n_shared:])

    def before(shared: Any) -> list[Any]:
        given = dict(zip(jaxpr.invars[:n_shared], jax.tree.leaves(shared), strict=True))
        return evaluate(first, constants | given, passed, bind)

    def after(values: list[Any], own: Any) -> Any:
        given = dict(zip([*passed, *jaxpr.invars[n_shared:]], [*values, *jax.tree.leaves(own)], strict=True))
        return jax.tree.unflatten(jax.tree.structure(result), evaluate(second, constants | given, jaxpr.outvars, bind))

    return Staged(before, after)


def _stages(
    jaxpr: Jaxpr, shared: Sequence[Any], own: Sequence[Any]
) -> tuple[list[JaxprEqn], list[JaxprEqn], list[Any]]:
    """Return the equations that depend on `shared` alone, the others, and the variables that the others need of the
    first."""
    alone = dependent(jaxpr.eqns, shared) - dependent(jaxpr.eqns, own)
    second, needed = useful([e for e in jaxpr.eqns if e.outvars[0] not in alone], jaxpr.outvars)
    passed = [v for v in [*shared, *(v for e in jaxpr.eqns for v in e.outvars)] if v in alone & needed]
    first, _ = useful([e for e in jaxpr.eqns if e.outvars[0] in alone], passed)
    return first, second, passed


# --- programs of JAX


def evaluate(
    equations: Iterable[JaxprEqn],
    values: dict[Any, Any],
    results: Iterable[Any],
    apply: Callable[[JaxprEqn, list[Any]], Iterable[Any]],
    literal: Callable[[Any], Any] = lambda value: value,
) -> list[Any]:
    """Return the results of equations, from the values of the variables that they begin with.

    `apply(equation, operands)` returns the outputs of one equation; `literal` makes an operand of a constant.
    """
    values = dict(values)

    def read(atom: Any) -> Any:
        return literal(atom.val) if isinstance(atom, Literal) else values[atom]

    for equation in equations:
        outputs = apply(equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in results]


def bind(equation: JaxprEqn, operands: list[Any]) -> list[Any]:
    """Apply an equation as JAX does."""
    outputs = equation.primitive.bind(*operands, **equation.params)
    return outputs if equation.primitive.multiple_results else [outputs]


def variables(atoms: Iterable[Any]) -> set[Any]:
    """Return the variables among atoms, which may be constants too."""
    return {atom for atom in atoms if not isinstance(atom, Literal)}


def dependent(equations: Iterable[JaxprEqn], sources: Iterable[Any]) -> set[Any]:
    """Return the variables that depend on the sources, themselves included."""
    reached = set(sources)
    for equation in equations:
        if not reached.isdisjoint(variables(equation.invars)):
            reached.update(equation.outvars)
    return reached


def useful(equations: Iterable[JaxprEqn], results: Iterable[Any]) -> tuple[list[JaxprEqn], set[Any]]:
    """Return the equations that the results need, and all variables that these read, the results included."""
    found: list[JaxprEqn] = []
    needed = variables(results)
    for equation in reversed([*equations]):
        if not needed.isdisjoint(equation.outvars):
            found.insert(0, equation)
            needed |= variables(equation.invars)
    return found, needed


# --- arrays of scalars


def _entries(shape: tuple[int, ...], values: Iterable[Any]) -> Entries:
    """An object array of that shape from its entries in row-major order."""
    a = np.empty(shape, object)
    for index, value in zip(np.ndindex(*shape), values, strict=True):
        a[index] = value
    return a


def _replay(jaxpr: Jaxpr, consts: Any, args: list[Entries]) -> list[Entries]:
    constants = [_entries(np.shape(c), np.ravel(c)) for c in consts]
    given = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *args), strict=True))
    equations, _ = useful(jaxpr.eqns, jaxpr.outvars)
    return evaluate(equations, given, jaxpr.outvars, _apply, lambda value: _entries((), [value]))


def _apply(eqn: JaxprEqn, operands: list[Entries]) -> list[Entries]:
    name = eqn.primitive.name
    if name in _CALLS:
        inner: Any = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        return _replay(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), operands)
    if name in _RULES:
        return [_RULES[name](eqn, *operands)]
    if name in _MOVES:
        return _moved(eqn, operands)
    if name == "optimization_barrier":
        return operands
    if name in _ELEMENTWISE:
        return [_elementwise(eqn, *operands)]
    if not any(isinstance(entry, jax.core.Tracer) for a in operands for entry in a.flat):
        return _of_constants(eqn, operands)
    raise NotImplementedError(f"{name} cannot be unrolled into scalar arithmetic")


def _of_constants(eqn: JaxprEqn, operands: list[Entries]) -> list[Entries]:
    """Apply any operation to constants, at once."""
    arrays = [np.asarray(_constant(eqn, a), _dtype(v)) for v, a in zip(eqn.invars, operands, strict=True)]
    with jax.ensure_compile_time_eval():
        return [_entries(np.shape(a), np.ravel(a)) for a in bind(eqn, arrays)]


def _elementwise(eqn: JaxprEqn, *operands: Entries) -> Entries:
    shape = _shape(eqn.outvars[0])
    operands = tuple(np.broadcast_to(a, shape) for a in operands)
    return _entries(shape, (_scalar(eqn, [a[index] for a in operands]) for index in np.ndindex(*shape)))


def _scalar(eqn: JaxprEqn, operands: list[Any]) -> Any:
    """Apply an elementwise operation; to constants at once, as indices must be constants."""
    if any(isinstance(a, jax.core.Tracer) for a in operands):
        return eqn.primitive.bind(*operands, **eqn.params)
    with jax.ensure_compile_time_eval():
        return eqn.primitive.bind(*operands, **eqn.params)


def _moved(eqn: JaxprEqn, operands: list[Entries]) -> list[Entries]:
    """Apply an operation that moves entries, by having it move their numbers, from 1 on. It also moves zeros, which
    shows what it reads where an index is out of bounds: 0, or else what is no zero."""
    moving = operands[: _MOVES[eqn.primitive.name]]
    entries = [entry for a in moving for entry in a.flat]
    ends = np.cumsum([a.size for a in moving])
    numbers = [np.arange(end - a.size, end).reshape(a.shape) + 1 for end, a in zip(ends, moving, strict=True)]
    zeros = [np.zeros(a.shape, _dtype(v)) for v, a in zip(eqn.invars, moving, strict=False)]
    constants = [_constant(eqn, a) for a in operands[len(moving) :]]
    with jax.ensure_compile_time_eval():
        moved, fills = (map(np.asarray, bind(eqn, [*a, *constants])) for a in (numbers, zeros))

    def entry(number: Any, fill: Any) -> Any:
        return fill if fill != 0 or number == 0 else entries[number - 1]

    return [_entries(a.shape, map(entry, a.flat, b.flat)) for a, b in zip(moved, fills, strict=True)]


def _constant(eqn: JaxprEqn, a: Entries) -> np.ndarray:
    """Return an operand that must not depend on anything, such as indices."""
    if any(isinstance(entry, jax.core.Tracer) for entry in a.flat):
        raise NotImplementedError(f"{eqn.primitive.name} by computed indices cannot be unrolled into scalar arithmetic")
    return np.array([np.asarray(entry) for entry in a.flat]).reshape(a.shape)


def _scatter(eqn: JaxprEqn, a: Entries, indices: Entries, updates: Entries) -> Entries:
    """Set, or add to, entries of `a`; an update whose index is out of bounds has no place, and is dropped."""
    dtype = _dtype(eqn.outvars[0])
    result, at, nowhere = a.copy(), _constant(eqn, indices), np.zeros(a.shape, dtype)
    for i in np.ndindex(*updates.shape):
        one = np.zeros(updates.shape, dtype)
        one[i] = 1
        with jax.ensure_compile_time_eval():
            [place] = bind(eqn, [nowhere, at, one])
        for target in map(tuple, np.argwhere(place)):
            result[target] = updates[i] if eqn.primitive.name == "scatter" else result[target] + updates[i]
    return result


def _iota(eqn: JaxprEqn) -> Entries:
    with jax.ensure_compile_time_eval():
        return _entries(_shape(eqn.outvars[0]), np.ravel(eqn.primitive.bind(**eqn.params)))


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _dtype(variable: Any) -> np.dtype[Any]:
    return np.dtype(variable.aval.dtype)


def _reduced(fold: Callable[[Any], Any]) -> Callable[..., Entries]:
    def rule(eqn: JaxprEqn, a: Entries) -> Entries:
        shape = _shape(eqn.outvars[0])
        rest = [i for i in range(a.ndim) if i not in eqn.params["axes"]]
        rows = a.transpose(*rest, *eqn.params["axes"]).reshape(prod(shape), -1)
        return _entries(shape, map(fold, rows))

    return rule


def _sum(values: Any) -> Any:
    """From the last to the first. Only the first feature's importance differs between lanes, so the terms of all
    others add up to a value that the lanes share."""
    return reduce(add, reversed([*values]))


def _dot_general(eqn: JaxprEqn, a: Entries, b: Entries) -> Entries:
    (contract_a, contract_b), (batch_a, batch_b) = eqn.params["dimension_numbers"]
    dtype = _dtype(eqn.outvars[0])

    def rows(a: Entries, batch: Sequence[int], contract: Sequence[int]) -> Entries:
        """[batch, free, contracted]"""
        free = [i for i in range(a.ndim) if i not in (*batch, *contract)]
        sizes = (prod(a.shape[i] for i in axes) for axes in (batch, free, contract))
        return a.transpose(*batch, *free, *contract).reshape(*sizes)

    pairs = zip(rows(a, batch_a, contract_a), rows(b, batch_b, contract_b), strict=True)
    products = (
        _sum(_as(dtype, x) * _as(dtype, y) for x, y in zip(r, c, strict=True)) for A, B in pairs for r in A for c in B
    )
    return _entries(_shape(eqn.outvars[0]), products)


def _as(dtype: Any, x: Any) -> Any:
    """A product may be asked for in a wider type than that of its factors."""
    return x if x.dtype == dtype else lax.convert_element_type(x, dtype)


def _reshape(eqn: JaxprEqn, a: Entries) -> Entries:
    order = eqn.params.get("dimensions")
    return a.transpose(order or range(a.ndim)).reshape(eqn.params["new_sizes"])


def _broadcast_in_dim(eqn: JaxprEqn, a: Entries) -> Entries:
    shape = [1] * len(eqn.params["shape"])
    for size, axis in zip(a.shape, eqn.params["broadcast_dimensions"], strict=True):
        shape[axis] = size
    return np.broadcast_to(a.reshape(shape), eqn.params["shape"])


_CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat2", "checkpoint")
_RULES: dict[str, Callable[..., Entries]] = {
    "reduce_sum": _reduced(_sum),
    "reduce_max": _reduced(partial(reduce, lax.max)),
    "reduce_min": _reduced(partial(reduce, lax.min)),
    "dot_general": _dot_general,
    "iota": _iota,
    "scatter": _scatter,
    "scatter-add": _scatter,
    "broadcast_in_dim": _broadcast_in_dim,
    "transpose": lambda eqn, a: a.transpose(eqn.params["permutation"]),
    "reshape": _reshape,
    "squeeze": lambda eqn, a: a.reshape(_shape(eqn.outvars[0])),
}
# Operations that move entries, and of how many operands; all others must be constants.
_MOVES: dict[str, int | None] = {
    "slice": 1,
    "dynamic_slice": 1,
    "gather": 1,
    "rev": 1,
    "split": 1,
    "unstack": 1,
    "pad": 2,
    "concatenate": None,
    "stack": None,
}
# What acts on every entry by itself; by name, since a program that mixes entries must never pass for one of these.
# fmt: off
_ELEMENTWISE = frozenset({
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh", "bessel_i0e",
    "bessel_i1e", "cbrt", "ceil", "clamp", "convert_element_type", "copy", "copy_p", "cos", "cosh", "digamma",
    "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "igamma", "igammac",
    "integer_pow", "is_finite", "le", "lgamma", "log", "log1p", "log2", "logistic", "lt", "max", "min", "mul", "ne",
    "neg", "nextafter", "not", "one_minus_square", "or", "polygamma", "polynomial", "pow", "reduce_precision",
    "rem", "round", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan",
    "tanh", "xor", "zeta",
})
# fmt: on
