"""Bootstrap intervals that name what they resample."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from evalsuite.errors import RequestError
from evalsuite.metrics import FloatArray, exact_type, group_sums
from evalsuite.statistics._units import codes, columns, multinomial_counts


@dataclass(frozen=True, eq=False)
class Interval:
    """Means with bootstrap intervals; arrays of shape () for one column of values, (M,) for M."""

    estimate: FloatArray
    low: FloatArray
    high: FloatArray
    level: float
    unit: str
    n: int
    """Units resampled; of crossed units, the images."""

    def within(self, least: float, most: float) -> Interval:
        """Return it without what no mean can be: widened for few draws, an interval goes beyond all bounds."""
        return replace(self, low=np.maximum(self.low, least), high=np.minimum(self.high, most))


def interval_of(
    estimate: FloatArray, low: FloatArray, high: FloatArray, single: bool, level: float, unit: str, n: int
) -> Interval:
    """Build an interval from (M,) arrays; ``single``: of one column, whose results are scalars."""
    if single:
        estimate, low, high = estimate[0], low[0], high[0]
    return Interval(np.asarray(estimate), np.asarray(low), np.asarray(high), level, unit, n)


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
    array, single = columns(values, units=units)
    names, code = codes(units)
    n = len(names)
    sums = group_sums(array, code, n)
    rows = np.bincount(code, minlength=n)
    weighted = np.column_stack([sums, rows])
    weighted = weighted.astype(exact_type(weighted))
    means = np.empty((draws, array.shape[1]))
    for part, counts in multinomial_counts(n, draws, generator, weighted.dtype.type):
        totals = (counts @ weighted).astype(np.float64)
        means[part] = totals[:, :-1] / totals[:, -1:]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return interval_of(sums.sum(axis=0) / rows.sum(), low, high, single, level, unit, n)


def two_way_bootstrap(
    values: ArrayLike,
    images: ArrayLike,
    replicates: ArrayLike,
    generator: np.random.Generator,
    *,
    draws: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Bootstrap interval of the mean over test images and calibration draws, two crossed sources of variation.

    Parameters
    ----------
    values : (N,) or (N, M); rows of one (image, replicate) are averaged first, so every such cell counts alike.
    images, replicates : (N,) the row's test image and its calibration draw; every image must occur with every
        draw, at least two of each.
    draws : resamples; a resample draws images and calibration draws with replacement, independently.

    Notes
    -----
    The plain two-way ("pigeonhole") bootstrap, Owen 2007 (arXiv 0712.1111), counts the interaction three times, and
    with a handful of calibration draws its percentiles are too near. So, *ours*: the resampled means keep their
    shape, but their spread is set to that of the unbiased variance of a crossed layout, (draws' mean square +
    images' mean square - residual mean square) / cells, and widened by the quotient of Student's t quantile, with
    Satterthwaite's degrees of freedom, and the normal one.

    Raises RequestError if an image lacks a draw, or there are fewer than two of either.
    """
    array, single = columns(values, images=images, replicates=replicates)
    (image_names, image), (draw_names, draw) = codes(images), codes(replicates)
    n, d = len(image_names), len(draw_names)
    cell = draw * n + image
    sizes = np.bincount(cell, minlength=n * d)
    if n < 2 or d < 2 or sizes.min() == 0:
        raise RequestError(
            f"{n} images and {d} calibration draws, {np.count_nonzero(sizes)} of {n * d} pairs of them present: "
            "expected all pairs, at least two of each"
        )
    cells = (group_sums(array, cell, n * d) / sizes[:, None]).reshape(d, n, -1)
    means = np.empty((draws, array.shape[1]))
    for part, counts in multinomial_counts(n, draws, generator, np.float64):
        by_draw = np.stack([counts @ own for own in cells], axis=1) / n
        picked = generator.multinomial(d, np.full(d, 1 / d), size=len(counts))
        means[part] = np.einsum("bd,bdm->bm", picked, by_draw) / d
    estimate = cells.mean(axis=(0, 1))
    variance, freedom = _crossed_variance(cells)
    spread = means.std(axis=0)
    widening = stats.t.ppf((1 + level) / 2, freedom) / stats.norm.ppf((1 + level) / 2)
    scale = np.divide(np.sqrt(variance) * widening, spread, out=np.ones_like(spread), where=spread > 0)
    edges = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    low, high = estimate + (edges - means.mean(axis=0)) * scale
    return interval_of(estimate, low, high, single, level, f"image x {d} calibration draws", n)


def _crossed_variance(cells: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the variance of the mean of (d, n, M) crossed cells, (M,), and its degrees of freedom.

    Mean squares of the two-way layout without replication (Searle, Casella and McCulloch 1992, section 4.3);
    Satterthwaite 1946. A source whose estimated component is negative adds nothing.
    """
    d, n, _ = cells.shape
    mean = cells.mean(axis=(0, 1))
    of_draw, of_image = cells.mean(axis=1) - mean, cells.mean(axis=0) - mean
    residual = cells - mean - of_draw[:, None] - of_image[None]
    draws = n * np.square(of_draw).sum(axis=0) / (d - 1)
    images = d * np.square(of_image).sum(axis=0) / (n - 1)
    rest = np.square(residual).sum(axis=(0, 1)) / ((d - 1) * (n - 1))
    excess_draws, excess_images = np.maximum(draws - rest, 0), np.maximum(images - rest, 0)
    total = excess_draws + excess_images + rest
    parts = np.square(excess_draws) / (d - 1) + np.square(excess_images) / (n - 1)
    parts = parts + np.square(rest) / ((d - 1) * (n - 1))
    freedom = np.divide(np.square(total), parts, out=np.full_like(total, float(n - 1)), where=parts > 0)
    return total / (n * d), np.minimum(freedom, n - 1)
