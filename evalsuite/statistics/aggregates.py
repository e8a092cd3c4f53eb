"""Scores of many seeds and domains as a whole: interquartile mean and performance profiles.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", arXiv 2108.13264.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evalsuite._checks import finite
from evalsuite.errors import RequestError
from evalsuite.metrics import FloatArray
from evalsuite.statistics.bounds import mean_bounds
from evalsuite.statistics.intervals import Interval, interval_of

_UNIT = "seed within domain"


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of all scores: 25 % trimmed on either side."""
    values = np.asarray(scores, np.float64).ravel()
    if values.size == 0 or not np.isfinite(values).all():
        raise RequestError(f"{values.size} scores: expected at least one, all finite")
    return float(stats.trim_mean(values, 0.25))


def middle_half(scores: ArrayLike) -> NDArray[np.bool_]:
    """Return which scores the interquartile mean is of; of equals, the first in order."""
    (values,) = finite(scores=np.asarray(scores, np.float64))
    cut = int(0.25 * values.size)
    kept = np.zeros(values.size, np.bool_)
    kept[np.argsort(values, axis=None, kind="stable")[cut : values.size - cut]] = True
    return kept.reshape(values.shape)


def interquartile_mean_interval(
    scores: ArrayLike, generator: np.random.Generator, *, draws: int = 2000, level: float = 0.95
) -> Interval:
    """Interquartile mean of (seeds, domains) scores with its stratified bootstrap interval.

    Seeds are drawn with replacement within each domain, as domains are fixed (arXiv 2108.13264, section 4.1). With
    one seed the interval is empty: low and high are NaN. It is of these images, and too narrow for a handful of seeds
    or where the domains of a seed go together: ``summary.csv`` has that of :func:`evalsuite.statistics.mean_bounds`.
    """
    return _stratified(scores, _interquartile_means, generator, draws, level, single=True)


def _interquartile_means(scores: FloatArray) -> FloatArray:
    means: FloatArray = np.asarray(stats.trim_mean(scores, 0.25, axis=1))
    return means.reshape(-1, 1)


def performance_profile(
    scores: ArrayLike, thresholds: ArrayLike, generator: np.random.Generator, *, draws: int = 2000, level: float = 0.95
) -> Interval:
    """Share of (seeds, domains) scores that are at most each of (T,) thresholds, with pointwise intervals.

    The run-score distribution of arXiv 2108.13264, section 4.2, for errors: a method is better whose curve rises
    earlier. Shapes of the result: (T,). The domains of a seed may go together, and a share may be 0 or 1: an end is
    never nearer than that of :func:`evalsuite.statistics.mean_bounds`, seeds for images.
    """
    (limits,) = finite(thresholds=np.asarray(thresholds, np.float64))

    def profile(resampled: FloatArray) -> FloatArray:
        ordered = np.sort(resampled, axis=1)
        below = [np.searchsorted(row, limits, side="right") for row in ordered]
        shares: FloatArray = np.asarray(below, np.float64) / ordered.shape[1]
        return shares

    found = _stratified(scores, profile, generator, draws, level, single=False)
    if found.n == 1:
        return found
    table = np.asarray(scores, np.float64)
    seeds = np.repeat(np.arange(len(table)), table.shape[1])
    least = mean_bounds(table.reshape(-1, 1) <= limits, seeds, level=level, signed=False)
    return replace(found, low=np.minimum(found.low, least.low), high=np.maximum(found.high, least.high))


def _stratified(
    scores: ArrayLike,
    statistic: Callable[[FloatArray], FloatArray],
    generator: np.random.Generator,
    draws: int,
    level: float,
    *,
    single: bool,
) -> Interval:
    table = np.asarray(scores, np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise RequestError(f"scores of shape {table.shape}: expected finite (seeds, domains)")
    seeds, domains = table.shape
    estimate = statistic(table.reshape(1, -1))[0]
    if seeds > 1:
        picked = generator.integers(0, seeds, (draws, seeds, domains))
        resampled = np.take_along_axis(table[None], picked, axis=1).reshape(draws, -1)
        low, high = np.quantile(statistic(resampled), [(1 - level) / 2, (1 + level) / 2], axis=0)
    else:
        low = high = np.full_like(estimate, np.nan)
    return interval_of(estimate, low, high, single, level, _UNIT, seeds)
