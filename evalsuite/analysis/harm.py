"""Which groups lose more than chance explains, by the same permutations and the same correction as ``summary.csv``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalsuite.analysis._settings import Settings, differences
from evalsuite.analysis.claims import significant
from evalsuite.analysis.outcomes import Combination, Int8Array, Outcomes, Rows
from evalsuite.analysis.summary import null_of
from evalsuite.metrics import FloatArray, group_means


@dataclass(frozen=True, eq=False)
class Harm:
    """The drop of every group of one grouping, for M methods on the same rows."""

    names: list[str]
    images: NDArray[np.int64]
    """(G,) test images of the group."""
    drop: FloatArray
    """(G, M)"""
    p: FloatArray
    """(G, M): share of the permutations whose largest drop reaches the group's; that of the worst group is its p."""
    maxima: FloatArray
    """(permutations, M): the largest drops that chance gives, sorted."""

    def edge(self, column: int, factor: float) -> float:
        """Return a method's largest drop that is not significant; NaN where the permutations are too few for any.

        ``factor``: what the method's p is multiplied by, see :func:`holm_factors`.
        """
        return _edge(self.maxima[:, column], factor)


def harm(rows: Rows, drops: Int8Array, group: str, settings: Settings) -> Harm:
    """Hold every group against the largest drop that chance gives (Westfall and Young 1993, single step).

    Parameters
    ----------
    drops : (N, M) wrong minus the reference's wrong.
    """
    codes, names = rows.group(group)
    maxima = np.sort(null_of(rows, drops, codes, group, settings).maxima, axis=0)
    means, _ = group_means(drops, codes, len(names))
    reached = [_reached(own, mean) for own, mean in zip(maxima.T, means.T, strict=True)]
    shown = np.unique(np.column_stack([codes, rows.image]), axis=0)[:, 0]
    p = (1 + np.stack(reached, axis=1)) / (1 + len(maxima))
    return Harm(names, np.bincount(shown, minlength=len(names)), means, p, maxima)


@dataclass(frozen=True, eq=False)
class Harms:
    """A grouping of combinations that have their rows in common."""

    rows: Rows
    members: list[int]
    """Which combinations these are."""
    group: str
    drops: Int8Array
    """(N, M) wrong minus the reference's wrong."""
    harm: Harm


def harms(outcomes: Outcomes, members: Sequence[Combination], settings: Settings, most: int) -> Iterator[Harms]:
    """Hold combinations against their references, in each grouping of several groups that their rows have.

    ``most``: groups that a grouping other than the class may have.
    """
    pairs = [outcomes.paired_with_reference(each) for each in members]
    for rows, batch in outcomes.batches(
        (each.task, [own for own, _ in both]) for each, both in zip(members, pairs, strict=True)
    ):
        drops = differences([pairs[member] for member in batch])
        for group in settings.groups_of(outcomes):
            size = len(rows.group(group)[1]) if rows.has(group) else 0
            if size > 1 and (group == "class" or size <= most):
                yield Harms(rows, batch, group, drops, harm(rows, drops, group, settings))


def _reached(maxima: FloatArray, means: FloatArray) -> NDArray[np.int64]:
    """Count the maxima, sorted, that reach each mean; sums of fractions differ in the last digit with the order."""
    return len(maxima) - np.searchsorted(maxima, means - 1e-12 * np.abs(means))


def _edge(maxima: FloatArray, factor: float) -> float:
    """Return the largest drop that is not significant, NaN where there are too few permutations."""
    p = np.arange(1, len(maxima) + 2) / (1 + len(maxima))
    allowed = np.count_nonzero(significant(factor * p))  # maxima that a significant drop may be reached by, and one
    return float(maxima[-allowed]) if allowed else np.nan


def holm_factors(p: ArrayLike) -> FloatArray:
    """Return by what Holm's step-down procedure multiplies each of (M,) p-values before it looks at the level.

    ``factor * p`` is significant exactly where the corrected p is: what is rejected has M, M - 1, ..., all others the
    factor at which the procedure stopped. NaN is no test and stays NaN. Not :func:`evalsuite.statistics.holm`, whose
    corrected p is a running maximum and no multiple of the raw one: only a factor says where the edge of chance lies.
    """
    values = np.asarray(p, np.float64)
    factors = np.full(values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    own = np.arange(len(order), 0, -1).astype(np.float64)
    stops = np.flatnonzero(~significant(own * values[order]))
    if len(stops):
        own[stops[0] :] = own[stops[0]]
    factors[order] = own
    return factors
