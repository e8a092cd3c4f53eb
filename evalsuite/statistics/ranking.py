"""Many methods at once: Friedman's test, Nemenyi's critical difference, agreement of rankings."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evalsuite.errors import RequestError
from evalsuite.metrics import FloatArray
from evalsuite.statistics._level import LEVEL

_LEAST_BLOCKS = 6  # below, the chi-squared approximation of Friedman's statistic is poor (Demsar 2006)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Methods ranked within each block; rank 1 is the lowest value, the lowest error.

    Attributes
    ----------
    mean_rank : (k,).
    statistic, p : Friedman's test of k equal methods; NaN where ``note`` says why there is none.
    pairwise_p : (k, k) Nemenyi's p of each pair, 1 on the diagonal; NaN without a Friedman test.
    critical_difference : mean ranks farther apart than this differ at ``alpha`` (two-sided, all pairs at once).
    unit, n : what a block is, and how many there are.
    """

    mean_rank: FloatArray
    statistic: float
    p: float
    pairwise_p: FloatArray
    critical_difference: float
    alpha: float
    unit: str
    n: int
    note: str = ""


def friedman_nemenyi(values: ArrayLike, *, alpha: float = LEVEL, unit: str = "domain") -> Ranking:
    """Rank k methods on n blocks, (n, k) values, all measured on the same blocks (Friedman 1937; Nemenyi 1963).

    Equal values share their mean rank; Friedman's statistic is corrected for ties, Nemenyi's is not, as usual
    (Demsar 2006, Statistical comparisons of classifiers over multiple data sets). With fewer than three methods
    or six blocks, or if no block tells any two methods apart, there is no number, but a note.

    Raises RequestError for another shape or values that are not finite.
    """
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise RequestError(f"values of shape {table.shape}: expected (n, k) finite values of k methods on n blocks")
    n, k = table.shape
    mean_rank = stats.rankdata(np.round(table, 12), axis=1).mean(axis=0)
    note = ""
    if k < 3:
        note = f"{k} methods; Friedman's test needs at least 3"
    elif n < _LEAST_BLOCKS:
        note = f"{n} blocks ({unit}); the approximation needs at least {_LEAST_BLOCKS}"
    elif (np.ptp(np.round(table, 12), axis=1) == 0).all():
        note = "all methods have the same value in every block"
    if note:
        return Ranking(mean_rank, np.nan, np.nan, np.full((k, k), np.nan), np.nan, alpha, unit, n, note)
    from scikit_posthocs import posthoc_nemenyi_friedman  # here: it loads pandas and statsmodels

    test = stats.friedmanchisquare(*np.round(table, 12).T)
    pairwise = posthoc_nemenyi_friedman(np.round(table, 12)).to_numpy(np.float64)
    step = np.sqrt(k * (k + 1) / (6 * n))
    critical = float(_studentized_quantile(alpha, k) / np.sqrt(2) * step)
    return Ranking(mean_rank, float(test.statistic), float(test.pvalue), pairwise, critical, alpha, unit, n)


@functools.lru_cache(maxsize=64)
def _studentized_quantile(alpha: float, k: int) -> float:
    """Return the quantile 1 - alpha of k means' studentized range; a root of integrals, so that a table keeps it."""
    return float(stats.studentized_range.ppf(1 - alpha, k, np.inf))


@dataclass(frozen=True)
class Concordance:
    """Kendall's W of m rankings of k things, 0 (none) to 1 (all alike), and the test of no agreement."""

    w: float
    p: float
    unit: str
    n: int
    """Rankings."""
    note: str = ""


def kendalls_w(values: ArrayLike, *, unit: str = "calibration draw") -> Concordance:
    """Agreement of m rankings of k groups, (m, k) values, corrected for ties (Kendall and Babington Smith 1939).

    p is of the chi-squared approximation m (k - 1) W; with fewer than two rankings, three groups, or rankings
    that are all ties there is no number, but a note.
    """
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise RequestError(f"values of shape {table.shape}: expected (m, k) finite values of k groups in m rankings")
    m, k = table.shape
    ranks = stats.rankdata(np.round(table, 12), axis=1)
    ties = sum(float(np.sum(sizes**3 - sizes)) for sizes in (np.unique(row, return_counts=True)[1] for row in ranks))
    spread = m**2 * (k**3 - k) - m * ties
    if m < 2 or k < 3 or spread <= 0:
        note = f"{m} rankings of {k} groups: Kendall's W needs at least 2 of 3, not all tied"
        return Concordance(np.nan, np.nan, unit, m, note)
    deviations = np.square(ranks.sum(axis=0) - m * (k + 1) / 2).sum()
    w = float(12 * deviations / spread)
    return Concordance(w, float(stats.chi2.sf(m * (k - 1) * w, k - 1)), unit, m)


def rank_intervals(better: ArrayLike) -> NDArray[np.int64]:
    """Return the best and the worst rank that each of k methods may have, given which are shown to be better.

    A method stands behind all that are better than it and before all that are worse; the others may come in any
    order. Where the differences hold all at once with probability 1 - alpha, as Nemenyi's do, so do the intervals
    (Mogstad, Romano, Shaikh and Wilhelm 2024, *Inference for Ranks with Applications to Mobility across
    Neighbourhoods and Academic Achievement across Countries*, Review of Economic Studies 91(1), 476-518,
    doi:10.1093/restud/rdad006).

    Parameters
    ----------
    better : (k, k) of bool; ``better[i, j]``: i is shown to be better than j. A strict order: no circles, and
        transitive.

    Returns
    -------
    (k, 2), ranks from 1.

    Raises
    ------
    RequestError
        For another shape, or two methods each better than the other.
    """
    order = np.asarray(better, bool)
    if order.ndim != 2 or order.shape[0] != order.shape[1] or (order & order.T).any():
        raise RequestError(f"better of shape {order.shape}: expected (k, k), no two methods each better than the other")
    return np.column_stack([1 + order.sum(axis=0), len(order) - order.sum(axis=1)]).astype(np.int64)
