"""Intervals of means of errors and of their differences that hold for few images and rare errors as well.

A percentile bootstrap of a sample without an error has no width, and that of a few errors is too narrow. The bounds
here are those of the binomial distribution, for the number of images that would know the mean as well as these do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from evalsuite.errors import RequestError
from evalsuite.metrics import COLUMNS, FloatArray, group_sums
from evalsuite.statistics._units import codes, columns


@dataclass(frozen=True, eq=False)
class Bounds:
    """Group means with their intervals, (G, M) each; groups in the order of their sorted codes."""

    mean: FloatArray
    low: FloatArray
    high: FloatArray


def group_bounds(
    values: ArrayLike,
    groups: ArrayLike,
    images: ArrayLike,
    replicates: ArrayLike | None = None,
    *,
    below: float = 0.025,
    above: float = 0.025,
    inside: ArrayLike | None = None,
    signed: bool = True,
) -> Bounds:
    """Return the means of groups with bounds that each hold for one group and side.

    Parameters
    ----------
    values : (N,) or (N, M), -1..1: errors, or differences of errors. What is above 0 and what is below are bounded as
        shares and then subtracted.
    groups : (N,) group codes.
    images : (N,) the row's test image; the rows of an image may move together.
    replicates : (N,) the row's calibration draw, whose rows may move together as well.
    below, above : probability with which the lower, the upper bound may miss.
    inside : (N, M), the rows that a column's means are of; by default all.
    signed : differences, which may be below 0 even if none of these is; else errors, 0..1.

    Notes
    -----
    Of a share: Clopper and Pearson's bounds with the effective number of images p (1 - p) / variance (Korn and
    Graubard 1998, Survey Methodology 24). The variance is that between images, with Student's t for the normal
    quantile, whose degrees of freedom follow from the kurtosis, but never above p (1 - p) / images, the largest that
    values of 0..1 can have; with several calibration draws that between draws is added, less what both share (Cameron,
    Gelbach and Miller 2011), with t of draws - 1 degrees. Of a difference: from the bounds of both shares by the square
    root of summed squares (MOVER; Zou and Donner 2008), with the shares' correlation over images, or over images and
    draws together, where that is negative. Putting these together is *ours*; ``benchmarks/levels.py``
    measures what they miss.

    Raises RequestError for values beyond -1..1 or shapes that do not fit.
    """
    array, _ = columns(values, groups=groups, images=images)
    least = -1 if signed else 0
    if array.min() < least or array.max() > 1:
        raise RequestError(f"values from {array.min()} to {array.max()}: expected {least} to 1")
    if array.dtype.kind not in "fi":
        array = array.astype(np.int8)
    layout = _Layout.of(groups, images, replicates)
    blocks = [slice(start, start + COLUMNS) for start in range(0, array.shape[1], COLUMNS)]
    kept = [layout if inside is None else layout.of_rows(np.asarray(inside)[:, block]) for block in blocks]
    parts = [_bounds(array[:, block], own, below, above, signed) for block, own in zip(blocks, kept, strict=True)]
    return Bounds(
        *(np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("mean", "low", "high"))
    )


def _bounds(array: NDArray[Any], layout: _Layout, below: float, above: float, signed: bool) -> Bounds:
    if layout.inside is not None:
        array = array * layout.inside
    gains = _Share.of(np.maximum(array, 0), layout, below, above)
    if not signed:
        return Bounds(gains.mean, gains.low, gains.high)
    losses = _Share.of(np.maximum(-array, 0), layout, above, below)
    together = _correlation(gains, losses, layout)
    mean = gains.mean - losses.mean
    low = mean - apart(gains.mean - gains.low, losses.high - losses.mean, together)
    high = mean + apart(gains.high - gains.mean, losses.mean - losses.low, together)
    return Bounds(mean, np.maximum(low, -1), np.minimum(high, 1))


def mean_bounds(
    values: ArrayLike,
    images: ArrayLike,
    replicates: ArrayLike | None = None,
    *,
    level: float = 0.95,
    inside: ArrayLike | None = None,
    signed: bool = True,
) -> Bounds:
    """Return the means of (N,) or (N, M) values with two-sided intervals, (M,) each; see :func:`group_bounds`."""
    miss = (1 - level) / 2
    one = np.zeros(np.shape(images), np.int8)
    found = group_bounds(values, one, images, replicates, below=miss, above=miss, inside=inside, signed=signed)
    return Bounds(found.mean[0], found.low[0], found.high[0])


def largest_mean_bounds(
    values: ArrayLike,
    groups: ArrayLike,
    images: ArrayLike,
    replicates: ArrayLike | None = None,
    *,
    level: float = 0.95,
    signed: bool = False,
) -> Bounds:
    """Return the largest group mean of each column with an interval of the largest *true* group mean, (M,) each.

    The largest upper bound of a group is above the truth whenever that of the truly worst group is: it needs no
    correction. The largest lower bound must hold for all groups at once (Bonferroni). *Ours.*
    """
    miss = (1 - level) / 2
    _, group = codes(groups)
    found = group_bounds(values, group, images, replicates, below=miss / (group.max() + 1), above=miss, signed=signed)
    return Bounds(found.mean.max(axis=0), found.low.max(axis=0), found.high.max(axis=0))


def difference_bounds(a: Bounds, b: Bounds) -> Bounds:
    """Return a - b with the interval from its least to its largest value within the bounds of a and b.

    It misses no more often than both together, whatever their dependence and bias: for 95 %, give bounds of 97.5 %.
    """
    return Bounds(a.mean - b.mean, a.low - b.high, a.high - b.low)


@dataclass(frozen=True, eq=False)
class _Layout:
    """Which clusters the rows belong to: an image's, a draw's and an image and draw's rows within a group."""

    groups: NDArray[np.int64]
    n_groups: int
    rows: FloatArray
    """(G, 1)."""
    images: _Clusters
    draws: _Clusters | None
    cells: _Clusters | None
    inside: NDArray[Any] | None = None
    """(N, M) the rows that count in a column; then ``rows`` are (G, M), those of clusters (K, M)."""

    @classmethod
    def of(cls, groups: ArrayLike, images: ArrayLike, replicates: ArrayLike | None) -> _Layout:
        (_, group), (_, image) = codes(groups), codes(images)
        g = int(group.max()) + 1
        rows = np.bincount(group, minlength=g)[:, None].astype(np.float64)
        own = _Clusters.of(group, image, g)
        draw = None if replicates is None else codes(replicates)[1]
        if draw is None or draw.max() == 0:
            return cls(group, g, rows, own, None, None)
        cell = image * (int(draw.max()) + 1) + draw
        return cls(group, g, rows, own, _Clusters.of(group, draw, g), _Clusters.of(group, cell, g))

    def of_rows(self, inside: NDArray[Any]) -> _Layout:
        """Return the layout of those rows of each column."""
        kept = inside.astype(np.int8)
        images, draws, cells = (
            part and replace(part, rows=group_sums(kept, part.code, len(part.group)))
            for part in (self.images, self.draws, self.cells)
        )
        rows = group_sums(kept, self.groups, self.n_groups)
        return replace(self, rows=rows, images=images or self.images, draws=draws, cells=cells, inside=kept)


@dataclass(frozen=True, eq=False)
class _Clusters:
    """Rows that may move together, within a group."""

    code: NDArray[np.int64]
    """(N,) the row's cluster."""
    group: NDArray[np.int64]
    """(K,) the cluster's group."""
    rows: FloatArray
    """(K, 1)."""
    number: FloatArray
    """(G, 1) clusters in a group."""

    @classmethod
    def of(cls, group: NDArray[np.int64], unit: NDArray[np.int64], n_groups: int) -> _Clusters:
        units = int(unit.max()) + 1
        keys, code = codes(group * units + unit)
        own = keys // units
        number = np.bincount(own, minlength=n_groups)[:, None].astype(np.float64)
        return cls(code, own, np.bincount(code)[:, None].astype(np.float64), number)

    def residuals(self, values: FloatArray, mean: FloatArray) -> FloatArray:
        """Return the clusters' sums less what they would be at their group's mean, (K, M)."""
        return group_sums(values, self.code, len(self.group)) - self.rows * mean[self.group]

    def variance(self, residuals: FloatArray, rows: FloatArray) -> FloatArray:
        """Return the variance of the group means, (G, M), as if only these clusters were drawn; 0 for one cluster."""
        squares = group_sums(np.square(residuals), self.group, len(rows))
        return squares / rows**2 * self.number / np.maximum(self.number - 1, 1)

    def products(self, a: FloatArray, b: FloatArray, rows: FloatArray) -> FloatArray:
        """Return covariance and variances of the group means of two shares, (3, G, M)."""
        sums = np.stack([group_sums(part, self.group, len(rows)) for part in (a * b, a * a, b * b)])
        return np.asarray(sums / rows**2 * self.number / np.maximum(self.number - 1, 1))


@dataclass(frozen=True, eq=False)
class _Share:
    """Means of values of 0..1 with their bounds, (G, M), and the images' residuals."""

    mean: FloatArray
    low: FloatArray
    high: FloatArray
    spread: FloatArray
    of_draws: FloatArray | None
    """Residuals of the calibration draws, where there are several."""

    @classmethod
    def of(cls, values: FloatArray, layout: _Layout, below: float, above: float) -> _Share:
        mean = group_sums(values, layout.groups, layout.n_groups) / layout.rows
        residuals = layout.images.residuals(values, mean)
        of_low = _effective_images(values, mean, residuals, layout, below, mean)
        of_high = _effective_images(values, mean, residuals, layout, above, 1 - mean)
        low, high = share_bounds(mean, of_low, of_high, below, above)
        of_draws = None if layout.draws is None else layout.draws.residuals(values, mean)
        return cls(mean, low, high, residuals, of_draws)


def share_bounds(
    mean: FloatArray, of_low: FloatArray, of_high: FloatArray, below: float, above: float
) -> tuple[FloatArray, FloatArray]:
    """Return Clopper and Pearson's bounds of shares, known as well as by so many images on either side."""
    hits, caught = np.clip(of_low * mean, 0, of_low), np.clip(of_high * mean, 0, of_high)
    low = np.where(hits > 0, special.betaincinv(np.maximum(hits, 1e-12), of_low - hits + 1, below), 0.0)
    unseen = np.maximum(of_high - caught, 1e-12)
    high = np.where(caught < of_high, special.betaincinv(caught + 1, unseen, 1 - above), 1.0)
    return np.minimum(low, mean), np.maximum(high, mean)


def _effective_images(
    values: FloatArray, mean: FloatArray, residuals: FloatArray, layout: _Layout, miss: float, unseen: FloatArray
) -> FloatArray:
    """Return how many independent images of 0 or 1 would know the mean as well, (G, M).

    ``unseen``: the residual of an image on the far side of the bound, of which a small sample may hold none by chance;
    one of them counts.
    """
    largest = mean * (1 - mean)
    images = layout.images.number
    between = layout.images.variance(residuals, layout.rows) + np.square(unseen / images)
    variance = np.minimum(between * inflation(_freedom(residuals, layout), miss), largest / images)
    variance = np.where(images > 1, variance, largest)
    variance = np.maximum(variance, largest / layout.rows)
    if layout.draws is not None and layout.cells is not None:
        draws, cells = layout.draws, layout.cells
        of_draws = draws.variance(draws.residuals(values, mean), layout.rows)
        shared = cells.variance(cells.residuals(values, mean), layout.rows)
        inflated = of_draws * inflation(np.maximum(draws.number - 1, 1), miss)
        variance = variance + np.maximum(inflated - shared, 0)
    return np.divide(largest, variance, out=np.broadcast_to(images, mean.shape).copy(), where=variance > 0)


def _freedom(residuals: FloatArray, layout: _Layout) -> FloatArray:
    """Return the degrees of freedom of the variance between images: 2 n / (kurtosis - 1), at most n - 1."""
    clusters, g = layout.images, layout.n_groups
    squares = np.square(residuals)
    second, fourth = group_sums(squares, clusters.group, g), group_sums(np.square(squares), clusters.group, g)
    n = clusters.number
    excess = n * fourth - np.square(second)
    most = np.maximum(n - 1, 1)
    freedom = np.divide(2 * n * np.square(second), excess, out=np.tile(most, second.shape[1]), where=excess > 0)
    return np.asarray(np.clip(freedom, 1, most))


def inflation(freedom: FloatArray, miss: float) -> FloatArray:
    """Return the squared quotient of Student's quantile and the normal one."""
    return np.asarray(np.square(special.stdtrit(freedom, 1 - miss) / stats.norm.ppf(1 - miss)))


def _correlation(a: _Share, b: _Share, layout: _Layout) -> FloatArray:
    """Return the correlation of the two shares, 0 where it is positive, or not known."""
    products = layout.images.products(a.spread, b.spread, layout.rows)
    found = _scaled(products)
    if layout.draws is not None and a.of_draws is not None and b.of_draws is not None:
        products = products + layout.draws.products(a.of_draws, b.of_draws, layout.rows)
        found = np.minimum(found, _scaled(products))
    return np.minimum(found, 0)


def _scaled(products: FloatArray) -> FloatArray:
    scale = np.sqrt(products[1] * products[2])
    return np.asarray(np.divide(products[0], scale, out=np.zeros_like(scale), where=scale > 0))


def apart(one: FloatArray, other: FloatArray, correlation: FloatArray) -> FloatArray:
    """Return how far a difference's bound is from it, from how far those of both shares are (MOVER)."""
    return np.sqrt(np.square(one) + np.square(other) - 2 * correlation * one * other)
