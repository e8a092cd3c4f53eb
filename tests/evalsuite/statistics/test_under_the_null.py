"""The tests themselves, by simulation: how often they reject a true null, how often intervals cover the truth.

Sizes are those of the quick study: 300 test images, 10 classes, 15 domains. One thousand simulations each, so that a
rate of 5 % is known to 0.7 points.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evalsuite import statistics

SIMULATIONS = 1000
IMAGES, CLASSES, DOMAINS, DRAWS = 300, 10, 15, 5
TRUTH = 0.1 * (0.7 - 0.3)  # the mean of paired_differences

pytestmark = pytest.mark.slow


def rejection_rate(p):
    values = np.asarray(p)
    assert values.shape == (SIMULATIONS,)
    return np.mean(values <= 0.05)


def paired_differences(generator, count):
    """Wrong minus the reference's wrong, (domains * images, count), without any effect of class or domain.

    Two networks disagree in about one row of ten, more often on images that are hard; seven of ten disagreements
    are to the first one's disadvantage.
    """
    hard = stats.norm.cdf(generator.normal(size=(1, IMAGES, count)))
    differ = generator.random((DOMAINS, IMAGES, count)) < 0.2 * hard
    harmed = np.where(generator.random(differ.shape) < 0.7, 1, -1)
    return (differ * harmed).astype(np.int8).reshape(DOMAINS * IMAGES, count)


def test_paired_bootstrap_covers():
    images = np.tile(np.arange(IMAGES), DOMAINS)
    covered = []
    for block in range(20):
        generator = np.random.default_rng(block)
        values = paired_differences(generator, SIMULATIONS // 20)
        found = statistics.paired_bootstrap(values, images, generator, draws=1000)
        covered.extend((found.low <= TRUTH) & (found.high >= TRUTH))
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize(("of_draws", "of_images", "noise"), [(1, 3, 1), (0.3, 0, 3), (0.1, 1, 1)])
def test_two_way_bootstrap_covers(of_draws, of_images, noise):
    # Draws move the error by points, images by tens of points: the spread of draws is given in image terms.
    images, draws = np.tile(np.arange(IMAGES), DRAWS), np.repeat(np.arange(DRAWS), IMAGES)
    generator = np.random.default_rng(7)
    covered = []
    for _ in range(SIMULATIONS):
        values = of_draws * generator.normal(size=(DRAWS, 1)) / 10 + of_images * generator.normal(size=IMAGES)
        values = values + noise * generator.normal(size=(DRAWS, IMAGES))
        found = statistics.two_way_bootstrap(values.ravel(), images, draws, generator, draws=400)
        covered.append(found.low <= 0 <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_interquartile_mean_covers():
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(SIMULATIONS):
        scores = np.arange(DOMAINS) / 10 + generator.normal(size=(10, DOMAINS)) / 10
        found = statistics.interquartile_mean_interval(scores, generator, draws=500)
        covered.append(found.low <= stats.trim_mean(np.arange(DOMAINS) / 10, 0.25) <= found.high)
    # The middle half is chosen anew in every resample, among few seeds: a little narrow, as is known of it.
    assert 0.90 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize("grouped_by", ["class", "domain"])
def test_worst_group_null_rejects_rarely_and_finds_what_is_planted(grouped_by):
    images = np.tile(np.arange(IMAGES), DOMAINS)
    groups = images % CLASSES if grouped_by == "class" else np.repeat(np.arange(DOMAINS), IMAGES)
    p, power = [], []
    for block in range(SIMULATIONS // 50):
        generator = np.random.default_rng(block)
        values = paired_differences(generator, 50)
        p.extend(statistics.worst_group_null(values, groups, images, generator, permutations=300).p)
        if block < 4:
            inside = (groups == 3)[:, None] & (generator.random(values.shape) < 0.1)
            planted = values + inside  # an excess of 10 points in one group
            found = statistics.worst_group_null(planted, groups, images, generator, permutations=300)
            power.extend((found.p <= 0.05) & (found.group == 3))
    assert 0.035 <= rejection_rate(p) <= 0.065
    assert np.mean(power) > 0.9


def test_wilcoxon_never_rejects_too_often():
    # Exact: with 15 domains the rate stays a little below 5 % by its discreteness.
    generator = np.random.default_rng(0)
    p = [
        statistics.wilcoxon_signed_rank(generator.normal(size=DOMAINS), np.zeros(DOMAINS)).p for _ in range(SIMULATIONS)
    ]
    assert 0.03 <= rejection_rate(p) <= 0.065


def test_mcnemar_is_conservative():
    # Exact and discrete: well below 5 % for the few images in which two networks differ.
    generator = np.random.default_rng(0)
    differ = generator.binomial(IMAGES, 0.1, SIMULATIONS)
    p = [
        statistics.mcnemar_exact(only, n - only).p
        for n, only in zip(differ, generator.binomial(differ, 0.5), strict=True)
    ]
    assert 0.005 <= rejection_rate(p) <= 0.05


@pytest.mark.parametrize("methods", [3, 6])
def test_friedman_and_nemenyi_reject_rarely(methods):
    generator = np.random.default_rng(0)
    p, nemenyi = [], []
    for _ in range(SIMULATIONS):
        found = statistics.friedman_nemenyi(generator.normal(size=(DOMAINS, methods)))
        p.append(found.p)
        nemenyi.append(found.pairwise_p.min())
    assert 0.035 <= rejection_rate(p) <= 0.065
    assert 0.025 <= rejection_rate(nemenyi) <= 0.065  # all pairs at once: conservative for few blocks


def test_kendalls_w_rejects_rarely():
    # The chi-squared approximation is conservative for few rankings (Legendre 2005).
    generator = np.random.default_rng(0)
    p = [statistics.kendalls_w(generator.normal(size=(DRAWS, CLASSES))).p for _ in range(SIMULATIONS)]
    assert 0.02 <= rejection_rate(p) <= 0.065


def test_holm_keeps_the_familywise_rate():
    generator = np.random.default_rng(0)
    p = [statistics.holm(generator.random(8)).min() for _ in range(SIMULATIONS)]
    assert 0.035 <= rejection_rate(p) <= 0.065


def crossed(seed, per_class, rate, domains, draws, methods, count, classes=10):
    """Errors of methods that are equally good; the rows of an image go together, so do those of a method's draw."""
    generator = np.random.default_rng(seed)
    n, shift = per_class * classes, 0.15 * (draws > 1)
    hard = np.sqrt(0.6) * generator.normal(size=(1, 1, n, count))
    found = []
    for _ in range(methods):
        own = shift * generator.normal(size=(draws, 1, 1, count))
        noise = np.sqrt(0.4) * generator.normal(size=(draws, domains, n, count))
        limit = stats.norm.ppf(rate) * np.sqrt(1 + shift**2)
        found.append((hard + own + noise < limit).astype(np.int8).reshape(-1, count))
    image = np.tile(np.arange(n), domains * draws)
    return found, image, image % classes, np.repeat(np.arange(draws), domains * n)


def most(count):
    """Return the rate that an exact test at 5 % exceeds once in a thousand simulations."""
    return stats.binom.ppf(0.999, count, 0.05) / count


@pytest.mark.parametrize(("domains", "draws"), [(1, 1), (15, 1), (15, 5)])
@pytest.mark.parametrize(("per_class", "rate"), [(1, 0.3), (2, 0.1), (5, 0.1), (20, 0.01), (20, 0.5)])
def test_two_methods_alike_are_rarely_told_apart(per_class, rate, domains, draws):
    # benchmarks/levels.py has the whole grid.
    count = 200
    (a, b), image, label, draw = crossed(1, per_class, rate, domains, draws, 2, count)
    generator = np.random.default_rng(0)
    worst = statistics.worst_group_difference(a, b, label, image, draw, generator, permutations=199)
    error = statistics.mean_bounds(a, image, draw, signed=False)
    difference = statistics.mean_bounds(a - b, image, draw)
    swapped = statistics.swap_test(a - b, image, draw)
    rates = {
        "worst class p": np.mean(worst.p <= 0.05),
        "worst class interval": np.mean((worst.low > 0) | (worst.high < 0)),
        "error interval": np.mean((error.low > rate) | (error.high < rate)),
        "difference interval": np.mean((difference.low > 0) | (difference.high < 0)),
        "swap p": np.mean(swapped <= 0.05),
    }
    assert max(rates.values()) <= most(count), rates
