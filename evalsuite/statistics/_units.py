"""What a row belongs to: codes of units and groups, arrays of one or several columns, and resampled units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalsuite._checks import comparable, finite
from evalsuite.errors import RequestError

ELEMENTS = 2_000_000
"""Random numbers held at once."""


def codes(values: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the different values, sorted, and each row's index into them."""
    (labels,) = comparable(codes=values)
    unique, inverse = np.unique(labels, return_inverse=True)
    return unique, inverse.astype(np.int64)


def columns(values: ArrayLike, **others: ArrayLike) -> tuple[NDArray[Any], bool]:
    """Return (N,) or (N, M) values as (N, M), and whether they were one column.

    Raises RequestError for other shapes, if one of ``others`` is not (N,), or where one holds NaN.
    """
    (array,) = finite(values=values)
    comparable(**others)
    if array.ndim not in (1, 2) or len(array) == 0:
        raise RequestError(f"values of shape {array.shape}: expected (N,) or (N, M) with N at least 1")
    for name, other in others.items():
        if np.shape(other) != (len(array),):
            raise RequestError(f"{name} of shape {np.shape(other)}: expected ({len(array)},)")
    return (array[:, None], True) if array.ndim == 1 else (array, False)


def multinomial_counts(
    n: int, draws: int, generator: np.random.Generator, kind: type[np.floating[Any]]
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield how often each of n units is drawn in n draws with replacement, for some of the resamples at a time."""
    chunk = max(1, ELEMENTS // n)
    for start in range(0, draws, chunk):
        stop = min(start + chunk, draws)
        drawn = generator.integers(0, n, (stop - start, n), dtype=np.int32)
        counts = np.empty(drawn.shape, kind)
        for own, picked in zip(counts, drawn, strict=True):  # one resample at a time fits the processor's cache
            own[:] = np.bincount(picked, minlength=n)
        yield slice(start, stop), counts
