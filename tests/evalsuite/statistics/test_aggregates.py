from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evalsuite import statistics
from evalsuite.errors import RequestError


def generator(seed=0):
    return np.random.default_rng(seed)


def test_interquartile_mean_is_that_of_the_middle_half():
    assert statistics.interquartile_mean([0, 1, 2, 3, 4, 5, 6, 100]) == 3.5
    assert statistics.interquartile_mean([[2.0]]) == 2


def test_interquartile_interval_shrinks_with_seeds_and_covers_the_estimate():
    scores = generator().normal(size=(40, 15))
    many = statistics.interquartile_mean_interval(scores, generator(1))
    few = statistics.interquartile_mean_interval(scores[:4], generator(1))
    assert many.estimate == pytest.approx(statistics.interquartile_mean(scores))
    assert many.low < many.estimate < many.high
    assert many.high - many.low < 0.6 * (few.high - few.low)
    assert (many.unit, many.n) == ("seed within domain", 40)


def test_what_differs_between_domains_only_gives_no_width():
    scores = np.tile(np.arange(15.0), (5, 1))
    found = statistics.interquartile_mean_interval(scores, generator())
    assert found.low == found.high == found.estimate == stats.trim_mean(np.arange(15), 0.25)


def test_one_seed_has_no_interval():
    found = statistics.interquartile_mean_interval([[0.1, 0.2, 0.4]], generator())
    assert np.isnan([found.low, found.high]).all()


def test_performance_profile_is_the_empirical_distribution():
    scores = generator().random((6, 10))
    limits = np.linspace(0, 1, 7)
    found = statistics.performance_profile(scores, limits, generator(1), draws=300)
    np.testing.assert_allclose(found.estimate, [(scores <= limit).mean() for limit in limits])
    assert (found.low <= found.estimate).all()
    assert (found.estimate <= found.high).all()
    assert found.high[-1] == 1
    assert 0.5 < found.low[-1] < 1  # six seeds at or below the last threshold do not make all seeds so


@pytest.mark.parametrize("scores", [[], [[np.nan]], [1.0, 2.0]])
def test_scores_that_do_not_fit(scores):
    with pytest.raises(RequestError, match="expected"):
        statistics.performance_profile(scores, [0.5], generator())


def test_interquartile_mean_needs_finite_scores():
    with pytest.raises(RequestError, match="all finite"):
        statistics.interquartile_mean([np.inf])
