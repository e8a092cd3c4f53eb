"""Intervals and tests: pure functions that take an explicit generator and name what they resample or count.

Every result says its unit of replication and how many of them there were. Rows of one test image (its
corruptions, its calibration draws) are dependent; nothing here treats them as independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats

from evalsuite.errors import RequestError
from evalsuite.metrics import COLUMNS, FloatArray, exact_type, group_means, group_sums

_ELEMENTS = 2_000_000  # random numbers held at once
_EXACT_PAIRS = 50  # beyond, the normal approximation is good to the third digit
_LEAST_PAIRS = 6  # with five, even five differences of one sign have p = 0.0625


@dataclass(frozen=True, eq=False)
class Interval:
    """Means with bootstrap intervals; arrays of shape () for one column of values, (M,) for M."""

    estimate: FloatArray
    low: FloatArray
    high: FloatArray
    level: float
    unit: str
    n: int
    """Units resampled."""


@dataclass(frozen=True, eq=False)
class WorstGroupNull:
    """The largest group mean against its distribution where all groups are alike; shapes () or (M,)."""

    observed: FloatArray
    group: NDArray[np.int64]
    """The group's code, the lowest of equals."""
    null: FloatArray
    """Expectation of the largest group mean under the null."""
    p: FloatArray
    unit: str
    """``image``: whole images change groups; ``group within image``: an image's groups change places."""
    n: int
    """Images."""
    permutations: int


@dataclass(frozen=True)
class PairedTest:
    """A test of paired values. Where there is no number, ``note`` says why."""

    test: str
    unit: str
    n: int
    """Pairs that the test uses: those with a difference."""
    statistic: float
    p: float
    effect: float
    effect_name: str
    note: str = ""


def _codes(values: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    unique, inverse = np.unique(np.asarray(values), return_inverse=True)
    return unique, inverse.astype(np.int64)


def _columns(values: ArrayLike, **others: ArrayLike) -> tuple[NDArray[Any], bool]:
    array = np.asarray(values)
    if array.ndim not in (1, 2) or len(array) == 0:
        raise RequestError(f"values of shape {array.shape}: expected (N,) or (N, M) with N at least 1")
    for name, other in others.items():
        if np.shape(other) != (len(array),):
            raise RequestError(f"{name} of shape {np.shape(other)}: expected ({len(array)},)")
    return (array[:, None], True) if array.ndim == 1 else (array, False)


def paired_bootstrap(
    values: ArrayLike,
    units: ArrayLike,
    generator: np.random.Generator,
    *,
    draws: int = 10_000,
    level: float = 0.95,
    unit: str = "image",
) -> Interval:
    """Percentile bootstrap interval of the mean, resampling units with all their rows (cluster bootstrap).

    Parameters
    ----------
    values : (N,) or (N, M); M columns share the draws. For a paired comparison give paired differences.
    units : (N,) which unit (test image) a row belongs to.
    draws : resamples; memory grows with draws x M.

    Notes
    -----
    A draw gives every unit a multinomial count; the mean is the ratio of weighted sums and weighted numbers
    of rows, so units may have unequal numbers of rows. Efron and Tibshirani 1993, chapter 13.
    """
    columns, single = _columns(values, units=units)
    names, codes = _codes(units)
    n = len(names)
    sums = group_sums(columns, codes, n)
    rows = np.bincount(codes, minlength=n)
    weighted = np.column_stack([sums, rows])
    weighted = weighted.astype(exact_type(weighted))
    means = np.empty((draws, columns.shape[1]))
    chunk = max(1, _ELEMENTS // n)
    for start in range(0, draws, chunk):
        stop = min(start + chunk, draws)
        drawn = generator.integers(0, n, (stop - start, n), dtype=np.int32)
        drawn += n * np.arange(stop - start, dtype=np.int32)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        totals = (counts.astype(weighted.dtype) @ weighted).astype(np.float64)
        means[start:stop] = totals[:, :-1] / totals[:, -1:]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    estimate = sums.sum(axis=0) / rows.sum()
    if single:
        estimate, low, high = estimate[0], low[0], high[0]
    return Interval(np.asarray(estimate), np.asarray(low), np.asarray(high), level, unit, n)


def worst_group_null(
    differences: ArrayLike,
    groups: ArrayLike,
    images: ArrayLike,
    generator: np.random.Generator,
    *,
    permutations: int = 2000,
) -> WorstGroupNull:
    """Permutation null of the largest group mean of paired differences.

    A maximum over many small groups is high by sampling noise alone. This says how high, where quantization
    harms all groups alike, and how often noise alone gives what was observed:
    p = (1 + number of permuted maxima >= observed) / (1 + permutations).

    Parameters
    ----------
    differences : (N,) or (N, M) paired differences, for example wrong minus the reference's wrong; M columns
        (methods) share the permutations.
    groups : (N,) group codes.
    images : (N,) test image of the row.

    Notes
    -----
    The construction is ours, no paper's. Rows of one image are dependent, so single rows are never exchanged.
    The rows of an image in a group make a *cell*, which stays whole, its number of rows included. If every
    image is in one group (class), cells are exchanged between images; a group keeps its number of images. If
    some image is in several (domain), cells are exchanged within each image, so that what an image is like
    cancels; images that are in one group only then stay in place. That is valid, but without power if most
    images are in one group.
    """
    columns, single = _columns(differences, groups=groups, images=images)
    names, group = _codes(groups)
    image_names, image = _codes(images)
    n_groups = len(names)
    cell_keys, cell = _codes(image * n_groups + group)
    cell_image, cell_group = cell_keys // n_groups, cell_keys % n_groups
    n_cells = len(cell_keys)
    within = n_cells > len(image_names)
    blocks = _blocks(cell_image if within else np.zeros(n_cells, np.int64))

    means, _ = group_means(columns, group, n_groups)
    observed = means.max(axis=0)
    cells = np.column_stack([np.bincount(cell, minlength=n_cells), group_sums(columns, cell, n_cells)])
    cells = cells.astype(exact_type(cells))
    slot = np.argsort(np.argsort(cell_group, kind="stable"))  # where a cell's place is in group order
    ends = np.cumsum(np.bincount(cell_group, minlength=n_groups))

    maxima = np.empty((permutations, columns.shape[1]))
    chunk = max(1, min(_ELEMENTS // n_cells, _ELEMENTS // (COLUMNS * n_groups)))
    for start in range(0, permutations, chunk):
        stop = min(start + chunk, permutations)
        order = np.empty((stop - start, n_cells), np.int32)
        for members in blocks:
            shuffle = np.argsort(generator.random((stop - start, *members.shape)), axis=-1)
            moved = np.take_along_axis(members[None], shuffle, axis=-1)
            order[:, slot[members].ravel()] = moved.reshape(stop - start, -1)
        maxima[start:stop] = _largest_means(order, ends, cells)
    # Sums of fractions may differ in their last digit with the order; whole numbers do not.
    reached = maxima >= observed - 1e-12 * np.abs(observed)
    p = (1 + reached.sum(axis=0)) / (1 + permutations)
    worst, null = names[means.argmax(axis=0)], maxima.mean(axis=0)
    if single:
        observed, worst, null, p = observed[0], worst[0], null[0], p[0]
    return WorstGroupNull(
        np.asarray(observed),
        np.asarray(worst),
        np.asarray(null),
        np.asarray(p),
        unit="group within image" if within else "image",
        n=len(image_names),
        permutations=permutations,
    )


def _blocks(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Positions of equal labels, a row per label, in one array (labels, size) per size."""
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    return [order[starts[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes)]


def _largest_means(order: NDArray[np.int32], ends: NDArray[np.int64], cells: NDArray[Any]) -> FloatArray:
    """Largest group mean (P, M) where the cells lie in each of P orders (P, cells), groups ending at ``ends``."""
    count, n_cells = order.shape
    stops = (np.arange(count)[:, None] * n_cells + ends).ravel()
    pointers = np.concatenate([[0], stops]).astype(np.int32)
    ones = np.ones(order.size, cells.dtype)
    chosen = sparse.csr_array((ones, order.ravel(), pointers), shape=(len(stops), n_cells))
    sizes = (chosen @ cells[:, 0]).astype(np.float64)[:, None]
    largest = []
    for start in range(1, cells.shape[1], COLUMNS):
        sums = chosen @ np.ascontiguousarray(cells[:, start : start + COLUMNS])
        largest.append((sums / sizes).reshape(count, len(ends), -1).max(axis=1))
    return np.concatenate(largest, axis=1)


def wilcoxon_signed_rank(a: ArrayLike, b: ArrayLike, *, unit: str = "domain") -> PairedTest:
    """Two-sided Wilcoxon signed-rank test of (n,) paired values, with the matched-pairs rank-biserial correlation.

    Differences are taken to 12 decimals; pairs without one are left out (Wilcoxon's own rule), and equal
    differences share their mean rank. Up to 50 pairs p is exact, given the ranks; beyond, it is the normal
    approximation without continuity correction. With fewer than six differing pairs p cannot fall below
    0.05: no number, but a note. The effect is Kerby's (2014) (R+ - R-) / (R+ + R-), which is 1 where ``a``
    is larger in every pair.
    """
    if np.ndim(a) != 1 or np.shape(a) != np.shape(b):
        raise RequestError(f"pairs of shapes {np.shape(a)} and {np.shape(b)}: expected (n,) twice")
    # Equal differences of rates, such as 0.3 - 0.2 and 0.2 - 0.1, are to tie.
    difference = np.round(np.asarray(a, np.float64) - np.asarray(b, np.float64), 12)
    different = difference[difference != 0]
    n = len(different)
    name = "matched-pairs rank-biserial correlation"
    if n < _LEAST_PAIRS:
        note = f"{n} of {len(difference)} pairs differ; p < 0.05 needs at least {_LEAST_PAIRS}"
        return PairedTest("wilcoxon", unit, n, np.nan, np.nan, np.nan, name, note)
    ranks = stats.rankdata(np.abs(different))
    rises, falls = float(ranks[different > 0].sum()), float(ranks[different < 0].sum())
    statistic = min(rises, falls)
    if n <= _EXACT_PAIRS:
        p = min(1.0, 2 * _signed_rank_cdf(ranks, statistic))
    else:
        spread = np.sqrt(np.sum(ranks**2)) / 2
        p = float(2 * stats.norm.sf(abs(rises - falls) / 2 / spread))
    return PairedTest("wilcoxon", unit, n, statistic, p, (rises - falls) / (rises + falls), name)


def _signed_rank_cdf(ranks: FloatArray, statistic: float) -> float:
    """P(R <= statistic) for R the sum of the ranks that a fair coin picks, tied ranks included.

    Adds the ranks to the distribution one by one (Streitberg and Roehmel 1986). scipy does so without ties
    only; with ties it approximates, or takes half a second to enumerate 13 pairs.
    """
    doubled = np.rint(2 * ranks).astype(np.int64)  # mean ranks are halves
    probability = np.zeros(int(doubled.sum()) + 1)
    probability[0] = 1
    for rank in doubled:
        probability[rank:] += probability[:-rank].copy()
        probability /= 2
    return float(probability[: round(2 * statistic) + 1].sum())


def cliffs_delta(a: ArrayLike, b: ArrayLike) -> float:
    """P(a > b) - P(a < b) for independent (n,) and (m,) values (Cliff 1993); -1..1."""
    first, second = np.asarray(a, np.float64), np.sort(np.asarray(b, np.float64))
    if first.size == 0 or second.size == 0:
        raise RequestError(f"{first.size} and {second.size} values: expected at least one each")
    below = np.searchsorted(second, first, side="left")
    above = len(second) - np.searchsorted(second, first, side="right")
    return float((below - above).mean() / len(second))


def mcnemar_exact(only_a: int, only_b: int, *, unit: str = "image") -> PairedTest:
    """Exact McNemar test: units that only ``a`` got wrong against units that only ``b`` got wrong.

    Give one count per independent unit: not several corruptions of one image. The effect is Cohen's g, the
    share of ``only_a`` among the units that differ, less one half.
    """
    n = only_a + only_b
    if min(only_a, only_b) < 0:
        raise RequestError(f"counts {only_a} and {only_b}: expected at least 0")
    if n == 0:
        note = "no unit that one got right and the other wrong"
        return PairedTest("mcnemar", unit, 0, np.nan, np.nan, np.nan, "Cohen's g", note)
    p = float(stats.binomtest(only_a, n).pvalue)
    return PairedTest("mcnemar", unit, n, float(min(only_a, only_b)), p, only_a / n - 0.5, "Cohen's g")


def holm(p: ArrayLike) -> FloatArray:
    """Holm's (1979) step-down adjusted p-values of (m,) tests; a NaN is no test and stays NaN."""
    values = np.asarray(p, np.float64)
    adjusted = np.full(values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1)
    return adjusted
