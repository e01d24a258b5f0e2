"""Expressions, as a TOML file or the command line has them: numbers, lists, names, arithmetic, and calls such as
"geomspace(0.01, 1, 40)"."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from polyjax.checks import meant

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


class Words(NamedTuple):
    """What the expressions of a field may have: the values of names, and functions by name."""

    names: Mapping[str, Any]
    functions: Mapping[str, Callable[..., Any]]


def text(value: Any) -> str:
    """Return a value of TOML as the text of an expression: text as it is, and a list by its elements."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(text, value))}]"
    return value if isinstance(value, str) else repr(value)


def as_whole(value: float) -> float:
    """Return a whole number as an integer, with which shapes can be made."""
    return int(value) if value == int(value) else value


def parsed(field: str, source: str) -> ast.expr:
    """Return an expression. Raises ValueError, naming the field, for what is none."""
    try:
        found = ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{field} must be an expression, but is {source!r}") from None
    for node in ast.walk(found):
        if isinstance(node, ast.Pow) or not isinstance(node, ast.expr) or _is_known(node):
            continue
        raise ValueError(f"{field} must be made of numbers, lists, names, + - * / ** and calls, but is {source!r}")
    return found


def _is_known(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=value):
            return isinstance(value, int | float)
        case ast.Call(func=function, args=arguments):
            return isinstance(function, ast.Name) and not any(isinstance(each, ast.Starred) for each in arguments)
        case ast.UnaryOp(op=sign) | ast.BinOp(op=sign):
            return type(sign) in OPERATORS
    return isinstance(node, ast.Name | ast.List | ast.Tuple)


def names_in(expression: ast.expr) -> set[str]:
    """Return the names in an expression, but for those of the functions that it calls."""
    called = {id(node.func) for node in ast.walk(expression) if isinstance(node, ast.Call)}
    return {node.id for node in ast.walk(expression) if isinstance(node, ast.Name) and id(node) not in called}


def value(field: str, expression: ast.expr, words: Words) -> Any:
    """Return the value of an expression. Raises ValueError, naming the field, for names that do not exist, and for
    arguments that a function does not take."""

    def of(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=constant):
                return constant
            case ast.Name(id=name):
                return _found(field, name, words.names, "name")
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                return [of(each) for each in elements]
            case ast.UnaryOp(op=sign, operand=operand):
                return OPERATORS[type(sign)](of(operand))
            case ast.BinOp(left=left, op=sign, right=right):
                return OPERATORS[type(sign)](of(left), of(right))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=options):
                function = _found(field, name, words.functions, "function")
                return function(*map(of, arguments), **{str(each.arg): of(each.value) for each in options})
        raise AssertionError(node)

    try:
        return of(expression)
    except (TypeError, ArithmeticError) as error:
        raise ValueError(f"{field} cannot be {ast.unparse(expression)}: {error}") from error


def _found(field: str, name: str, among: Mapping[str, Any], kind: str) -> Any:
    """Return what has a name. Raises ValueError with the names that there are, and the one that was meant."""
    if name in among:
        return among[name]
    all_names = f"; there are {', '.join(among)}" if among else ""
    raise ValueError(f"{field} has no {kind} {name}{meant(name, among) or all_names}")
