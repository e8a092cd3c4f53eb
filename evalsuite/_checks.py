"""What arrays of numbers must be before anything is computed from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalsuite.errors import RequestError


def finite(**arrays: ArrayLike) -> tuple[NDArray[Any], ...]:
    """Return the arrays; raises RequestError, by name, where one is not of numbers or holds NaN or infinity.

    A NaN compares with nothing: it would drop out of counts and ranks in silence, on the side that looks best.
    """
    return tuple(_finite(name, np.asarray(values)) for name, values in arrays.items())


def comparable(**arrays: ArrayLike) -> tuple[NDArray[Any], ...]:
    """Return the arrays, which may also be of text or other labels; raises RequestError where one holds NaN."""
    return tuple(
        _finite(name, array) if array.dtype.kind in "fc" else array
        for name, array in ((name, np.asarray(values)) for name, values in arrays.items())
    )


def _finite(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind in "biu":
        return array
    if array.dtype.kind != "f":
        raise RequestError(f"{name}: {array.dtype} values; expected numbers")
    sound = np.isfinite(array)
    if not sound.all():
        place = ", ".join(map(str, np.argwhere(~sound)[0]))
        at = f"[{place}]" if place else ""
        raise RequestError(
            f"{name}: {np.count_nonzero(~sound)} of {array.size} values are NaN or infinite, {name}{at} the first; "
            "expected finite numbers: leave such rows out of all arrays"
        )
    return array
