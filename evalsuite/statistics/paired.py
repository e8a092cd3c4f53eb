"""Tests of pairs, effect sizes beside them, and Holm's correction for many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from evalsuite._checks import finite
from evalsuite.errors import RequestError
from evalsuite.metrics import FloatArray
from evalsuite.statistics._level import LEVEL

EXACT_PAIRS = 50  # beyond, the normal approximation is good to the third digit
LEAST_PAIRS = 6  # with five, even five differences of one sign have p = 0.0625


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
    a, b = finite(a=a, b=b)
    # Equal differences of rates, such as 0.3 - 0.2 and 0.2 - 0.1, are to tie.
    difference = np.round(np.asarray(a, np.float64) - np.asarray(b, np.float64), 12)
    different = difference[difference != 0]
    n = len(different)
    name = "matched-pairs rank-biserial correlation"
    if n < LEAST_PAIRS:
        note = f"{n} of {len(difference)} pairs differ{'s' * (n == 1)}; p < {LEVEL:g} needs at least {LEAST_PAIRS}"
        return PairedTest("wilcoxon", unit, n, np.nan, np.nan, np.nan, name, note)
    ranks = stats.rankdata(np.abs(different))
    rises, falls = float(ranks[different > 0].sum()), float(ranks[different < 0].sum())
    statistic = min(rises, falls)
    if n <= EXACT_PAIRS:
        p = min(1.0, 2 * float(signed_rank_cdf(ranks)[round(2 * statistic)]))
    else:
        spread = np.sqrt(np.sum(ranks**2)) / 2
        p = float(2 * stats.norm.sf(abs(rises - falls) / 2 / spread))
    return PairedTest("wilcoxon", unit, n, statistic, p, (rises - falls) / (rises + falls), name)


def signed_rank_cdf(ranks: FloatArray) -> FloatArray:
    """P(R <= s / 2), s = 0, 1, ..., for R the sum of the ranks that a fair coin picks, tied ranks included.

    Adds the ranks to the distribution one by one (Streitberg and Roehmel 1986). scipy does so without ties
    only; with ties it approximates, or takes half a second to enumerate 13 pairs.
    """
    doubled = np.rint(2 * ranks).astype(np.int64)  # mean ranks are halves
    probability = np.zeros(int(doubled.sum()) + 1)
    probability[0] = 1
    for rank in doubled:
        probability[rank:] += probability[:-rank].copy()
        probability /= 2
    return np.asarray(np.cumsum(probability))


def cliffs_delta(a: ArrayLike, b: ArrayLike) -> float:
    """P(a > b) - P(a < b) for independent (n,) and (m,) values (Cliff 1993); -1..1."""
    if np.size(a) == 0 or np.size(b) == 0:
        raise RequestError(f"{np.size(a)} and {np.size(b)} values: expected at least one each")
    first, second = finite(a=a, b=b)
    second = np.sort(second)
    below = np.searchsorted(second, first, side="left")
    above = len(second) - np.searchsorted(second, first, side="right")
    return float((below - above).mean() / len(second))


def mcnemar_exact(only_a: int, only_b: int, *, unit: str = "image") -> PairedTest:
    """Exact McNemar test: units that only ``a`` got wrong against units that only ``b`` got wrong.

    Give one count per independent unit: not several corruptions of one image. The effect is Cohen's g, the
    share of ``only_a`` among the units that differ, less one half.
    """
    if not (only_a >= 0 and only_b >= 0) or int(only_a) != only_a or int(only_b) != only_b:
        raise RequestError(f"counts {only_a} and {only_b}: expected at least 0, whole numbers")
    n = int(only_a) + int(only_b)
    if n == 0:
        note = "no unit that one got right and the other wrong"
        return PairedTest("mcnemar", unit, 0, np.nan, np.nan, np.nan, "Cohen's g", note)
    p = float(stats.binomtest(only_a, n).pvalue)
    return PairedTest("mcnemar", unit, n, float(min(only_a, only_b)), p, only_a / n - 0.5, "Cohen's g")


def holm(p: ArrayLike) -> FloatArray:
    """Holm's (1979) step-down adjusted p-values of (m,) tests; a NaN is no test and stays NaN.

    Raises RequestError for what is not 0..1.
    """
    values = np.asarray(p, np.float64)
    if ((values < 0) | (values > 1)).any():
        raise RequestError(f"p-values from {np.nanmin(values)} to {np.nanmax(values)}: expected 0 to 1, or NaN")
    adjusted = np.full(values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1)
    return adjusted
