"""How many images or calibration draws would tell two methods apart, from what is recorded of them.

*Ours.* What counts as told is the whole rule of a claim (:mod:`evalsuite.analysis.claims`): the test over domains and
that within images both reject at the corrected level, and the interval of the mean excludes 0. It asks for more than a
formula for one test does; so the rule is applied to simulated studies (:mod:`evalsuite.statistics._experiments`).

The size of the difference decides. Where none is given it is the recorded one, which is itself uncertain: two methods
that are not told apart have a small one by selection as well as by nature. A size of interest, such as one point, gives
an answer that depends on the recorded variance only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from evalsuite.errors import RequestError
from evalsuite.metrics import FloatArray
from evalsuite.statistics._experiments import Measured, Studies, measured, studies
from evalsuite.statistics._level import LEVEL
from evalsuite.statistics.bounds import apart, inflation, share_bounds
from evalsuite.statistics.paired import EXACT_PAIRS, LEAST_PAIRS, signed_rank_cdf
from evalsuite.statistics.swaps import EXACT_IMAGES, LEAST_IMAGES, sign_flips, with_noise

_MISS = LEVEL / 2
_STEP = 2**0.5  # of the grid of sizes; between its points the rate is interpolated
_FEW = 25  # images that differ, for which the exchanges are counted one by one


@dataclass(frozen=True)
class Need:
    """How many units would tell a difference; see :func:`images_needed` and :func:`draws_needed`."""

    unit: Literal["image", "calibration draw"]
    power: float
    """The probability of a claim that ``number`` gives."""
    number: int | None
    """None where not even ``most`` would do, or none is known to; ``note`` says why."""
    most: int
    """Up to how many was searched."""
    size: float
    """The difference that is to be told."""
    rate: float
    """The simulated rate of claims at ``most``; NaN where there is none."""
    note: str = ""


def detection_rate(
    differences: ArrayLike,
    images: ArrayLike,
    domains: ArrayLike,
    replicates: ArrayLike,
    n_images: int,
    *,
    generator: np.random.Generator,
    level: float = LEVEL,
    n_draws: int | None = None,
    size: float | None = None,
    repetitions: int = 500,
) -> float:
    """Return the share of simulated studies that claim a difference, of either sign.

    Parameters
    ----------
    differences : (N,) of -1, 0 and 1: wrong minus the other's wrong.
    images, domains, replicates : (N,) the row's test image, domain and calibration draw, crossed.
    n_images : test images of a simulated study.
    level : what the uncorrected p must be below: that of the claim divided by the number of tests in the family, which
        is Holm's first factor. The interval's does not change.
    n_draws : calibration draws of a simulated study; by default as many as recorded. A single recorded draw says
        nothing of how draws vary, and then only one is possible.
    size : mean difference of the simulated studies; by default the recorded one. Images are weighted to reach it.

    Raises RequestError for an incomplete crossing, other differences, a size that no weights reach, or numbers below 1.
    """
    _numbers(level, repetitions, images=n_images, draws=1 if n_draws is None else n_draws)
    found = measured(differences, images, domains, replicates, size)
    return _rate(found, n_images, _possible(found, n_draws), level, repetitions, generator)


def images_needed(
    differences: ArrayLike,
    images: ArrayLike,
    domains: ArrayLike,
    replicates: ArrayLike,
    *,
    generator: np.random.Generator,
    level: float = LEVEL,
    power: float = 0.8,
    most: int = 100_000,
    n_draws: int | None = None,
    size: float | None = None,
    repetitions: int = 500,
) -> Need:
    """Return the least number of test images whose studies claim a difference with probability ``power``.

    A study of so many images shows them under the recorded domains. See :func:`detection_rate` for the rest.
    """
    _numbers(level, repetitions, power, most=most)
    found = measured(differences, images, domains, replicates, size)
    draws = _possible(found, n_draws)

    def rate(n: int) -> float:
        return _rate(found, n, draws, level, repetitions, generator)

    return _need("image", found, rate, draws, level, power, LEAST_IMAGES, max(most, LEAST_IMAGES))


def draws_needed(
    differences: ArrayLike,
    images: ArrayLike,
    domains: ArrayLike,
    replicates: ArrayLike,
    *,
    generator: np.random.Generator,
    level: float = LEVEL,
    power: float = 0.8,
    most: int = 200,
    n_images: int | None = None,
    size: float | None = None,
    repetitions: int = 500,
) -> Need:
    """Return the least number of calibration draws whose studies claim a difference with probability ``power``.

    Of ``n_images`` test images, by default as many as recorded. Needs two recorded draws. See :func:`detection_rate`.
    """
    n = len(np.unique(np.asarray(images))) if n_images is None else n_images
    _numbers(level, repetitions, power, most=most, images=n)
    found = measured(differences, images, domains, replicates, size)
    if found.draws == 1:
        return Need("calibration draw", power, None, most, _size(found), np.nan, "one draw does not say how draws vary")

    def rate(draws: int) -> float:
        return _rate(found, n, draws, level, repetitions, generator)

    return _need("calibration draw", found, rate, found.draws, level, power, 2, max(most, 2))


def _numbers(level: float, repetitions: int, power: float = 0.5, **least_one: int) -> None:
    if not (0 < level < 1 and 0 < power < 1):
        raise RequestError(f"level {level:g}, power {power:g}: expected above 0, below 1")
    for name, number in {"repetitions": repetitions, **least_one}.items():
        if number < 1:
            raise RequestError(f"{name} {number}: expected at least 1")


def _possible(found: Measured, draws: int | None) -> int:
    if draws is not None and draws > 1 and found.draws == 1:
        raise RequestError(
            f"{draws} calibration draws: expected 1, as a single recorded draw does not say how they vary"
        )
    return found.draws if draws is None else draws


def _size(found: Measured) -> float:
    gains, losses = found.chance @ found.shares
    return float(gains - losses)


def _need(
    unit: Literal["image", "calibration draw"],
    found: Measured,
    rate: Callable[[int], float],
    draws: int,
    level: float,
    power: float,
    least: int,
    most: int,
) -> Need:
    once = found.rows == 1 and draws == 1
    if not once and found.domains < LEAST_PAIRS:
        note = f"{found.domains} domains: the test over domains needs at least {LEAST_PAIRS}"
        return Need(unit, power, None, most, _size(found), np.nan, note)
    least_p = 2.0 ** (1 - found.domains)
    if not once and least_p >= level:
        note = f"{found.domains} domains: the test over domains gives no p below {least_p:.2g}, {level:.2g} is asked"
        return Need(unit, power, None, most, _size(found), np.nan, note)
    number, at_most = _search(rate, power, least, most)
    note = "" if number is not None else f"{most} would not do: {at_most:.0%} of the studies claim a difference"
    return Need(unit, power, number, most, _size(found), at_most, note)


def _search(rate: Callable[[int], float], power: float, least: int, most: int) -> tuple[int | None, float]:
    """Return the least number whose rate is ``power``, which rises, and the rate at ``most``.

    Halves a geometric grid; between the last two points the normal quantile of the rate is taken as linear in the
    square root of the number, as that of a test's power is.
    """
    at_most = rate(most)
    if at_most < power:
        return None, at_most
    at_least = rate(least)
    if at_least >= power:
        return least, at_most
    low, high, rates = least, most, [at_least, at_most]
    while high > low * _STEP and high - low > 1:
        middle = round((low * high) ** 0.5)
        found = rate(middle)
        if found < power:
            low, rates[0] = middle, found
        else:
            high, rates[1] = middle, found
    of_low, of_high, wanted = (float(special.ndtri(min(max(each, 0.001), 0.999))) for each in (*rates, power))
    part = (wanted - of_low) / (of_high - of_low)
    return int(np.ceil((low**0.5 + part * (high**0.5 - low**0.5)) ** 2)), at_most


def _rate(found: Measured, n: int, draws: int, level: float, repetitions: int, generator: np.random.Generator) -> float:
    claims = [
        _rejected(found, each, level) & _excludes_zero(found, each)
        for each in studies(found, n, draws, repetitions, generator)
    ]
    return float(np.concatenate(claims).mean())


def _rejected(found: Measured, each: Studies, level: float) -> NDArray[np.bool_]:
    """Tell which studies' tests reject: McNemar's of images seen once, else Wilcoxon's and that of exchanges."""
    if found.rows == 1 and each.draws == 1:
        gains, losses = (np.rint(each.times @ found.shares[:, side]) for side in (0, 1))
        together = gains + losses
        p = np.minimum(2 * stats.binom.cdf(np.minimum(gains, losses), together, 0.5), 1)
        return np.asarray((together > 0) & (p < level))
    return np.asarray((_signed_rank_p(each.by_domain) < level) & (_exchange_p(found, each) < level))


def _signed_rank_p(by_domain: FloatArray) -> FloatArray:
    """Return Wilcoxon's p of (R, D) differences, 1 where there is none; ties only as in their mean ranks."""
    values = np.round(by_domain, 12)
    sizes = np.where(values == 0, -1.0, np.abs(values))
    none = np.count_nonzero(values == 0, axis=1)
    ranks = stats.rankdata(sizes, axis=1) - none[:, None]
    rises, falls = (np.where(side, ranks, 0).sum(axis=1) for side in (values > 0, values < 0))
    p = np.ones(len(values))
    for number in np.unique(values.shape[1] - none):
        own = none == values.shape[1] - number
        if number < LEAST_PAIRS:
            continue
        if number <= EXACT_PAIRS:
            below = signed_rank_cdf(np.arange(1.0, number + 1))
            p[own] = 2 * below[np.rint(2 * np.minimum(rises, falls)[own]).astype(np.int64)]
        else:
            spread = np.sqrt(np.square(np.where(sizes[own] > 0, ranks[own], 0)).sum(axis=1)) / 2
            p[own] = 2 * stats.norm.sf(np.abs(rises - falls)[own] / 2 / spread)
    return np.minimum(p, 1)


def _exchange_p(found: Measured, each: Studies) -> FloatArray:
    """Return p of :func:`evalsuite.statistics.swap_test`, 1 where there is none.

    Of 26 to 300 images that differ it is the normal approximation with a correction for continuity.
    """
    unit = found.rows * each.draws
    sums = (each.shares[..., 0] - each.shares[..., 1]) * unit
    differing = np.abs(found.shares[:, 0] - found.shares[:, 1]) > 1e-9
    differ = each.times @ differing
    size = np.abs((each.times * sums).sum(axis=1))
    spread = np.sqrt((each.times * np.square(sums)).sum(axis=1))
    correction = np.where(differ <= EXACT_IMAGES, 1.0, 0.0)
    above = np.divide(np.maximum(size - correction, 0), spread, out=np.zeros_like(size), where=spread > 0)
    p = np.minimum(2 * stats.norm.sf(above), 1)
    for study in np.flatnonzero((differ >= LEAST_IMAGES) & (differ <= _FEW)):
        whole = np.rint(np.abs(sums[study])).astype(np.int64)
        each_image = np.repeat(whole, each.times[study].astype(np.int64))
        p[study] = sign_flips(each_image[each_image > 0], round(size[study]))
    if each.draws > 1:
        of_draws = (each.off[..., 0] - each.off[..., 1]).std(axis=1, ddof=1) / np.sqrt(each.draws) * unit * each.n
        noisy = of_draws > 1e-12
        noised = with_noise(size[noisy], spread[noisy], of_draws[noisy], each.draws - 1)
        p[noisy] = np.maximum(p[noisy], noised)
    return np.asarray(np.where(differ >= LEAST_IMAGES, p, 1.0))


def _excludes_zero(found: Measured, each: Studies) -> NDArray[np.bool_]:
    """Tell whose interval excludes 0: that of :func:`evalsuite.statistics.mean_bounds`, from the sums over images.

    The bootstrap's is seldom wider.
    """
    n, draws, mean = each.n, each.draws, each.mean
    rest = each.shares - mean[:, None]
    squares = np.square(rest)
    second = np.einsum("rk,rks->rs", each.times, squares)
    fourth = np.einsum("rk,rks->rs", each.times, np.square(squares))
    excess = n * fourth - np.square(second)
    freedom = np.divide(2 * n * np.square(second), excess, out=np.full_like(mean, max(n - 1, 1)), where=excess > 0)
    inflated = inflation(np.clip(freedom, 1, max(n - 1, 1)), _MISS)
    scale = n**2 * max(n - 1, 1) / n
    largest = mean * (1 - mean)
    of_draws = np.square(each.off).sum(axis=1) / (draws * max(draws - 1, 1))
    added = np.zeros_like(mean)
    if draws > 1:
        inside = n * (draws - 1) * np.diag(found.inside)
        shared = (draws * second + inside + n * np.square(each.off).sum(axis=1)) / (n * draws * (n * draws - 1))
        added = np.maximum(of_draws * inflation(np.full_like(mean, draws - 1), _MISS) - shared, 0)
    known = []
    for unseen in (mean, 1 - mean):
        between = np.minimum((second / scale + np.square(unseen / n)) * inflated, largest / n)
        variance = np.maximum(between, largest / (n * draws * found.rows)) + added
        known.append(np.divide(largest, variance, out=np.full_like(mean, n), where=variance > 0))
    low, high = share_bounds(mean, known[0], known[1], _MISS, _MISS)
    shared_by_images = np.einsum("rk,rk,rk->r", each.times, rest[..., 0], rest[..., 1]) / scale
    together = _scaled(shared_by_images, second / scale)
    if draws > 1:
        product = each.off.prod(axis=2).sum(axis=1) / (draws * (draws - 1))
        together = np.minimum(together, _scaled(shared_by_images + product, second / scale + of_draws))
    difference = mean[:, 0] - mean[:, 1]
    down = apart(mean[:, 0] - low[:, 0], high[:, 1] - mean[:, 1], together)
    up = apart(high[:, 0] - mean[:, 0], mean[:, 1] - low[:, 1], together)
    return np.asarray((difference - down > 0) | (difference + up < 0))


def _scaled(product: FloatArray, squares: FloatArray) -> FloatArray:
    """Return the correlation, 0 where it is positive, or not known."""
    scale = np.sqrt(squares.prod(axis=1))
    return np.asarray(np.minimum(np.divide(product, scale, out=np.zeros_like(scale), where=scale > 0), 0))
