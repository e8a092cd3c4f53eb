"""Two or more methods on the same images: tests that exchange the methods within images, all rows of one together.

If the methods are equally good, an image might as well have met them under each other's names. That holds for any
number of images, groups and rows of an image; nothing is assumed of how the rows of an image go together.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from evalsuite.errors import RequestError
from evalsuite.metrics import FloatArray, exact_type, group_means, group_sums
from evalsuite.statistics._level import LEVEL
from evalsuite.statistics._units import ELEMENTS, codes, columns
from evalsuite.statistics.bounds import difference_bounds, largest_mean_bounds

EXACT_IMAGES = 300  # beyond, the normal approximation is good to the third digit
_NODES = 64  # of a quadrature
LEAST_IMAGES = 6  # with five, even five differences of one sign have p = 0.0625


@dataclass(frozen=True, eq=False)
class WorstGroupDifference:
    """The worst group mean of one method minus that of another, each its own group; shapes () or (M,)."""

    estimate: FloatArray
    low: FloatArray
    high: FloatArray
    p: FloatArray
    """NaN where the data are too few for any p of 0.05 or less; ``note`` says so."""
    level: float
    unit: str
    n: int
    """Images."""
    note: tuple[str, ...] = ()
    """Of each column, empty where there is a p."""


def worst_group_difference(
    a: ArrayLike,
    b: ArrayLike,
    groups: ArrayLike,
    images: ArrayLike,
    replicates: ArrayLike,
    generator: np.random.Generator,
    *,
    permutations: int = 2000,
    level: float = 0.95,
) -> WorstGroupDifference:
    """Compare the worst group of two methods on the same rows.

    Parameters
    ----------
    a, b : (N,) or (N, M), column against column, 0..1: whether a prediction was wrong.
    groups : (N,) group codes; an image may be in one (class) or in several (domain).
    images : (N,) test image of the row.
    replicates : (N,) calibration draw of the row.
    permutations : random exchanges of the two methods within images, the same for all columns.

    Notes
    -----
    *Ours.* p is that of the absolute difference of the largest group means where both methods are exchanged, all rows
    of an image together, with probability 1/2; the sample itself is counted. It keeps its level for methods that are
    alike; methods that differ in other groups than the worst may be told apart too. Several calibration draws vary as
    well: their noise, the deviation of the draws' differences over the root of their number with Student's t of one
    degree less, is added to each exchange, so that p can only grow.

    The interval goes from the least to the largest difference within the 97.5 % intervals of
    :func:`largest_mean_bounds` of either method: it holds whatever their groups are like and for classes of one image,
    and is wide. It is not the inversion of the test.

    Where fewer than six images differ, or even the largest difference that exchanges can make is not rare enough,
    p could not fall to 0.05: it is NaN, and ``note`` says so.

    Raises RequestError for shapes that do not fit or values beyond 0..1.
    """
    (first, single), (second, _) = columns(a, groups=groups, images=images, replicates=replicates), columns(b)
    if first.shape != second.shape:
        raise RequestError(f"a of shape {first.shape}, b of shape {second.shape}: expected the same")
    seeds = codes(replicates)[1]
    difference, p, notes = swapped_worst_groups(first, second, groups, images, seeds, generator, permutations)
    each = (1 + level) / 2
    of_a, of_b = (largest_mean_bounds(side, groups, images, seeds, level=each) for side in (first, second))
    bounds = difference_bounds(of_a, of_b)
    results = (difference, bounds.low, bounds.high, p)
    estimate, low, high, p = (np.asarray(result[0] if single else result) for result in results)
    draws = int(seeds.max()) + 1
    unit = "image" + (f" x {draws} calibration draws" if draws > 1 else "")
    return WorstGroupDifference(estimate, low, high, p, level, unit, len(np.unique(np.asarray(images))), notes)


def swapped_worst_groups(
    a: NDArray[Any],
    b: NDArray[Any],
    groups: ArrayLike,
    images: ArrayLike,
    replicates: NDArray[np.int64],
    generator: np.random.Generator,
    permutations: int = 2000,
) -> tuple[FloatArray, FloatArray, tuple[str, ...]]:
    """Return difference, p and note of each column of (N, M) ``a`` and ``b``; see :func:`worst_group_difference`."""
    (_, group), (names, image) = codes(groups), codes(images)
    g, n, m = int(group.max()) + 1, len(names), a.shape[1]
    whole = a.dtype.kind in "biu" and b.dtype.kind in "biu"
    gap = np.subtract(a, b, dtype=np.int16 if whole else np.float64)
    (of_a, _), (of_b, _) = group_means(a, group, g), group_means(b, group, g)
    observed = of_a.max(axis=0) - of_b.max(axis=0)
    differ = np.count_nonzero(group_sums(np.abs(gap), image, n), axis=0)
    middle = (of_a + of_b) / 2
    swapped = np.empty((permutations, m))
    for part, signs in _signs(n, permutations, generator):
        largest, second = np.full((2, len(signs), m), -np.inf)
        for half, center in zip(_half_gaps(gap, group, image, signs), middle, strict=True):
            np.maximum(largest, center + half, out=largest)
            np.maximum(second, center - half, out=second)
        swapped[part] = largest - second
    noise, freedom = _noise_of_draws(a, b, group, replicates, of_a.argmax(axis=0), of_b.argmax(axis=0))
    swapped, size = np.abs(swapped), np.abs(observed)
    tolerance = 1e-9
    attainable = (swapped >= np.maximum(swapped.max(axis=0), size) - tolerance).mean(axis=0)
    # A size below 0 would count the two tails' overlap twice.
    p = (1 + _beyond(swapped, np.maximum(size - tolerance, 0), noise, freedom)) / (1 + permutations)
    notes = tuple(_note(int(count), float(least)) for count, least in zip(differ, attainable, strict=True))
    return observed, np.where([bool(note) for note in notes], np.nan, p), notes


def _signs(n: int, permutations: int, generator: np.random.Generator) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    chunk = max(1, 4 * ELEMENTS // n)
    for start in range(0, permutations, chunk):
        stop = min(start + chunk, permutations)
        yield slice(start, stop), generator.integers(0, 2, (stop - start, n), np.int8).astype(np.float32) * 2 - 1


def _half_gaps(
    gap: NDArray[Any], group: NDArray[np.int64], image: NDArray[np.int64], signs: NDArray[np.float32]
) -> Iterator[FloatArray]:
    """Yield for each group half the difference of its two means, (P, M), under each of the (P, images) signs."""
    order = np.argsort(group, kind="stable")
    for inside in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        members, own = np.unique(image[inside], return_inverse=True)
        sums = group_sums(gap[inside], own, len(members))
        sums = sums.astype(exact_type(sums))
        yield (signs[:, members] @ sums).astype(np.float64) / (2 * len(inside))


def _noise_of_draws(
    a: NDArray[Any],
    b: NDArray[Any],
    group: NDArray[np.int64],
    draw: NDArray[np.int64],
    worst_a: NDArray[np.intp],
    worst_b: NDArray[np.intp],
) -> tuple[FloatArray, int]:
    """Return the standard error of the difference over calibration draws, (M,), and its degrees of freedom.

    Of the means of the two groups named, draw by draw; 0 without several draws that show both.
    """
    d, g, m = int(draw.max()) + 1, int(group.max()) + 1, a.shape[1]
    if d == 1:
        return np.zeros(m), 1
    cells = draw * g + group
    of_a, of_b = (group_means(side, cells, d * g)[0].reshape(d, g, m) for side in (a, b))
    each = np.arange(m)
    gaps = of_a[:, worst_a, each] - of_b[:, worst_b, each]
    shown = np.isfinite(gaps).all(axis=1)
    if np.count_nonzero(shown) < 2:
        return np.zeros(m), 1
    kept = gaps[shown]
    return kept.std(axis=0, ddof=1) / np.sqrt(len(kept)), len(kept) - 1


def _beyond(swapped: FloatArray, size: FloatArray, noise: FloatArray, freedom: int) -> FloatArray:
    """Return how many of the (P, M) exchanged differences are at least as large, (M,), each with the draws' noise."""
    count = np.count_nonzero(swapped >= size, axis=0).astype(np.float64)
    noisy = noise > 0
    if noisy.any():
        away, scale = swapped[:, noisy], noise[noisy]
        tails = special.stdtr(freedom, (away - size[noisy]) / scale) + special.stdtr(
            freedom, -(away + size[noisy]) / scale
        )
        count[noisy] = np.maximum(np.minimum(tails, 1).sum(axis=0), count[noisy])
    return np.asarray(count, np.float64)


def _note(differ: int, attainable: float) -> str:
    if differ < LEAST_IMAGES:
        return f"the two differ on {differ} image{'s' * (differ != 1)}; p < {LEVEL:g} needs at least {LEAST_IMAGES}"
    if attainable > LEVEL:
        return f"too few images a class: no exchange of the two gives p below {attainable:.2f}"
    return ""


def swap_test(differences: ArrayLike, images: ArrayLike, replicates: ArrayLike) -> FloatArray:
    """Return two-sided p-values that paired differences have mean 0, exchanging the two methods within images.

    Parameters
    ----------
    differences : (N,) or (N, M), whole numbers such as wrong minus the other's wrong.
    images : (N,) test image of the row, whose rows change signs together.
    replicates : (N,) calibration draw of the row.

    Returns
    -------
    (M,) p; NaN where no p of 0.05 or less could be reached: fewer than six images differ.

    Notes
    -----
    Fisher's randomisation test of the images' sums, exact up to 300 images that differ, normal beyond. Several
    calibration draws vary as well: their noise, with Student's t, is added to that of the exchanges, where that gives
    the larger p (*ours*; Behrens and Fisher's sum, which is conservative).
    """
    array, _ = columns(differences, images=images, replicates=replicates)
    if not np.array_equal(array, np.rint(array)):
        raise RequestError("differences: expected whole numbers, such as wrong minus the other's wrong")
    (names, image), (_, draw) = codes(images), codes(replicates)
    sums = group_sums(array, image, len(names))
    total, d = sums.sum(axis=0), int(draw.max()) + 1
    spread = np.sqrt(np.square(sums).sum(axis=0))
    by_draw = group_sums(array, draw, d)
    noise = by_draw.std(axis=0, ddof=1) * np.sqrt(d) if d > 1 else np.zeros_like(total)
    found = np.full(len(total), np.nan)
    for column in range(len(total)):
        own = np.abs(sums[:, column])
        differ = np.rint(own[own > 0]).astype(np.int64)
        if len(differ) < LEAST_IMAGES:
            continue
        size = abs(float(total[column]))
        if len(differ) <= EXACT_IMAGES:
            p = sign_flips(differ, round(size))
        else:
            p = float(2 * stats.norm.sf(size / spread[column]))
        if noise[column] > 0:
            p = max(p, float(with_noise(size, spread[column], noise[column], d - 1)[0]))
        found[column] = p
    return found


def with_noise(size: ArrayLike, spread: ArrayLike, noise: ArrayLike, freedom: int) -> FloatArray:
    """P(|spread * normal + noise * Student's t| >= size), (M,), by Gauss-Hermite quadrature over the normal."""
    nodes, weights = _quadrature()
    sizes, spreads, noises = np.atleast_1d(size, spread, noise)
    above = special.stdtr(freedom, (spreads * nodes[:, None] - sizes) / noises)
    below = special.stdtr(freedom, -(spreads * nodes[:, None] + sizes) / noises)
    return np.asarray(np.minimum(1.0, weights @ (above + below) / weights.sum()))


@functools.cache
def _quadrature() -> tuple[FloatArray, FloatArray]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)  # some ms each time, and pairs are thousands
    return nodes, weights


def sign_flips(sizes: NDArray[np.int64], size: int) -> float:
    """P(|sum of the sizes with random signs| >= size), by adding them to the distribution one by one."""
    probability = np.zeros(int(sizes.sum()) + 1)  # of the sum of those that count as positive
    probability[0] = 1
    for step in sizes:
        probability[step:] += probability[:-step].copy()
        probability /= 2
    sums = 2 * np.arange(len(probability)) - len(probability) + 1
    return float(min(1.0, probability[np.abs(sums) >= size].sum()))


def exchange_test(values: ArrayLike, images: ArrayLike, replicates: ArrayLike) -> float:
    """Return p that k methods have one mean, (N, k) values, exchanging the methods within images.

    Cochran's Q (1950) of the images' sums, which need not be 0 or 1: chi-squared. With several calibration draws the
    draws' variance (methods x draws, residual) is added and F taken for it, where that gives the larger p (*ours*).
    NaN where fewer than six images tell any two methods apart.
    """
    return _exchange_p(*_sums_and_cells(values, images, replicates))


def pairwise_exchange_test(values: ArrayLike, images: ArrayLike, replicates: ArrayLike) -> NDArray[np.float64]:
    """Return (k, k) p that two methods have one mean, each pair by :func:`exchange_test` alone; NaN on the diagonal."""
    sums, cells = _sums_and_cells(values, images, replicates)
    found = np.full((sums.shape[1], sums.shape[1]), np.nan)
    for pair in itertools.combinations(range(sums.shape[1]), 2):
        found[pair] = found[pair[::-1]] = _exchange_p(sums[:, pair], cells[:, pair])
    return found


def _sums_and_cells(
    values: ArrayLike, images: ArrayLike, replicates: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums of each image, (n, k), and of each calibration draw, (d, k)."""
    array, _ = columns(values, images=images, replicates=replicates)
    (names, image), (draws, draw) = codes(images), codes(replicates)
    numbers = array.astype(np.float64)
    return group_sums(numbers, image, len(names)), group_sums(numbers, draw, len(draws))


def _exchange_p(sums: NDArray[np.float64], cells: NDArray[np.float64]) -> float:
    k, d = sums.shape[1], len(cells)
    inside = np.square(sums - sums.mean(axis=1, keepdims=True)).sum(axis=1)
    if np.count_nonzero(inside > 1e-12) < LEAST_IMAGES or k < 2:
        return np.nan
    of_images = inside.sum() / (k - 1)
    between = np.square(sums.sum(axis=0) - sums.sum() / k).sum()
    p = float(stats.chi2.sf(between / of_images, k - 1))
    if d == 1:
        return p
    rest = cells - cells.mean(axis=0) - cells.mean(axis=1, keepdims=True) + cells.mean()
    freedom = (d - 1) * (k - 1)
    of_draws = d * np.square(rest).sum() / freedom
    return max(p, float(stats.f.sf(between / (k - 1) / (of_images + of_draws), k - 1, freedom)))
