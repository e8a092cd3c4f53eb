"""Fixed orders by which data sets are split, the same for ever."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evalsuite.randomness import Key, numpy_generator


def words(count: int, *keys: Key) -> NDArray[np.uint64]:
    """Return ``count`` random 64-bit words of the generator of ``keys``.

    Raw words, because numpy promises that their stream never changes, and promises it of nothing else (NEP 19).
    """
    bits: NDArray[np.uint64] = numpy_generator(0, *keys).bit_generator.random_raw(count)
    return bits


def shuffled(count: int, *keys: Key) -> NDArray[np.int64]:
    """Return 0..count-1 in the random order of ``keys``."""
    return np.argsort(words(count, *keys), kind="stable")
