"""Early errors in the user's words: which argument, what it must be, what it was."""

from typing import Any

import jax
import numpy as np


def require(ok: Any, name: str, must: str, value: Any) -> None:
    """Raise `ValueError("<name> must <must>, but is <value>")` unless `ok` holds everywhere.

    `ok` may be a boolean or an array of booleans; where it is traced by JAX, whose values are not known yet, nothing
    is checked.
    """
    if isinstance(ok, jax.core.Tracer):
        return
    if not np.all(ok):
        raise ValueError(f"{name} must {must}, but is {_shown(ok, value)}")


def _shown(ok: Any, value: Any) -> str:
    """Return the first offending element of an array, or the value itself."""
    if np.ndim(ok) and np.shape(ok) == np.shape(value):
        index = tuple(int(i) for i in np.argwhere(~np.asarray(ok))[0])
        return f"{np.asarray(value)[index]} at index {index[0] if len(index) == 1 else index}"
    return repr(value)
