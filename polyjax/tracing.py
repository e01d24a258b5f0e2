"""Tracing what the user gave, with errors in words that name it."""

from collections.abc import Callable
from typing import Any

import jax

BRANCHES = "branches on a value, where jnp.where would do"
WORDS: dict[type[Exception], str] = {  # of JAX's errors that say little to who has not read of tracing
    jax.errors.TracerBoolConversionError: BRANCHES,
    jax.errors.TracerArrayConversionError: "needs NumPy arrays, where jax.numpy would do",
    jax.errors.ConcretizationTypeError: "needs the value of an array, which is not known when it is compiled",
}


def traced(what: str, f: Callable[..., Any], *arguments: Any) -> Any:
    """Return the shapes that a function of JAX returns. Raises ValueError in words that name it where it fails."""
    try:
        return jax.eval_shape(lambda *given: f(*given), *arguments)  # ufuncs of NumPy cannot be kept
    except Exception as error:  # whatever the user's code raises
        must = "must be made of jax.numpy operations, for shapes as the contract of Model has them"
        raise ValueError(f"{what} {must}, but {explained(error)}") from error


def explained(error: Exception) -> str:
    """Return what the user's code does, by the error that tracing it ends in."""
    words = next((words for kind, words in WORDS.items() if isinstance(error, kind)), None)
    if "truth value of an array" in str(error):  # of more than one number
        words = BRANCHES
    return words or f"raises {type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
