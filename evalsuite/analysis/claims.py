"""When an effect is claimed, once for tables, figures and sentences: the level, the rule, and what can reach it.

All functions take scalars or arrays alike and give ``False`` where there is no number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalsuite.metrics import FloatArray
from evalsuite.statistics import LEVEL

__all__ = [
    "CONFIDENCE",
    "LEVEL",
    "excludes_zero",
    "harmed",
    "least_permutation_p",
    "least_signed_rank_p",
    "out_of_reach",
    "shown",
    "significant",
]

CONFIDENCE = 1 - LEVEL
"""With what probability an interval holds."""

BoolArray = NDArray[np.bool_]


def significant(p: ArrayLike) -> BoolArray:
    """Tell where a test rejects; the whole claim where a test has no interval, as that of a worst group's drop."""
    return _numbers(p) < LEVEL


def excludes_zero(low: ArrayLike, high: ArrayLike) -> BoolArray:
    """Tell where an interval lies on one side of 0."""
    return (_numbers(low) > 0) | (_numbers(high) < 0)


def shown(p: ArrayLike, low: ArrayLike, high: ArrayLike) -> BoolArray:
    """Tell where a difference is claimed: the test rejects, and the interval excludes 0 (*ours*).

    Parameters
    ----------
    p : corrected by Holm within the question that is asked.
    low, high : of the interval of the difference.
    """
    return significant(p) & excludes_zero(low, high)


def harmed(p: ArrayLike, drop: ArrayLike) -> BoolArray:
    """Tell where a worst group is claimed to suffer: the test rejects, and the group loses something (*ours*).

    A network that helps all groups but one is told from chance as well; that group loses nothing.
    """
    return significant(p) & (_numbers(drop) > 0)


def out_of_reach(least_p: ArrayLike) -> BoolArray:
    """Tell where not even the least p that a test can have would be significant."""
    return _numbers(least_p) >= LEVEL


def least_permutation_p(tests: ArrayLike, permutations: int) -> FloatArray:
    """Return the least p that Holm's correction over so many permutation tests leaves; NaN where there is none."""
    number = _numbers(tests)
    return np.where(number > 0, np.minimum(1.0, number / (1 + permutations)), np.nan)


def least_signed_rank_p(pairs: ArrayLike, tests: ArrayLike) -> FloatArray:
    """Return the least p of Wilcoxon's two-sided test of n pairs that differ, 2^(1 - n), times Holm's first factor."""
    return np.asarray(2.0 ** (1 - _numbers(pairs)) * _numbers(tests))


def _numbers(values: Any) -> FloatArray:
    return np.asarray(values, np.float64)
