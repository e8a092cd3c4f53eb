"""Negative flips: what a reference network gets right and another one wrong (Yan et al. 2021, arXiv:2011.09161)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalsuite.metrics import group_means

OF_A_GROUP = 4
"""Negative flips of a group that a run keeps pictures of and its report lists; ours."""


def negative_flips(wrong: ArrayLike, reference_wrong: ArrayLike) -> NDArray[np.bool_]:
    """Return (N,) whether a row is wrong (not 0) and the reference's is right (0)."""
    flips: NDArray[np.bool_] = (np.asarray(wrong) != 0) & (np.asarray(reference_wrong) == 0)
    return flips


def largest_drop(groups: NDArray[np.integer], wrong: ArrayLike, reference_wrong: ArrayLike) -> int:
    """Return the code of the group with the largest drop, the lowest of equals.

    Parameters
    ----------
    groups : (N,) codes; N is at least 1.
    wrong, reference_wrong : (N,) 1 where a row is wrong, else 0.
    """
    present, code = np.unique(groups, return_inverse=True)
    drops = np.asarray(wrong, np.int8) - np.asarray(reference_wrong, np.int8)
    means, _ = group_means(drops, code, len(present))
    return int(present[int(np.argmax(means))])


def surest(inside: NDArray[np.bool_], confidence: ArrayLike, *picture: ArrayLike, most: int = OF_A_GROUP) -> list[int]:
    """Return the places of the rows in which the network was surest, the surest first, each picture once.

    Parameters
    ----------
    inside : (N,) which rows may be chosen.
    confidence : (N,) of the network's prediction; NaN counts as 0.
    picture : (N,) whole numbers that together say what a row shows; they also decide among equals, the first before
        the others.
    """
    rows = np.flatnonzero(inside)
    sure = np.nan_to_num(np.asarray(confidence, np.float64)[rows])
    shown = np.column_stack([np.asarray(each)[rows] for each in picture])
    order = np.lexsort([*shown.T[::-1], -sure])
    _, first = np.unique(shown[order], axis=0, return_index=True)
    return [int(row) for row in rows[order[np.sort(first)[:most]]]]
