from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from evalsuite import statistics
from evalsuite.errors import RequestError


def generator(seed=0):
    return np.random.default_rng(seed)


class TestWilcoxon:
    @pytest.mark.parametrize("n", [6, 15, 40, 80])
    def test_agrees_with_scipy_without_ties(self, n):
        a, b = generator(n).normal(0.3, 1, n), generator(n + 1).normal(size=n)
        found = statistics.wilcoxon_signed_rank(a, b)
        expected = stats.wilcoxon(a, b)
        assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
        assert found.statistic == expected.statistic
        assert (found.n, found.unit, found.test, found.note) == (n, "domain", "wilcoxon", "")

    def test_is_exact_with_ties(self):
        difference = np.array([0.1, 0.1, -0.1, 0.2, 0.2, 0.3, -0.2, 0.1])
        found = statistics.wilcoxon_signed_rank(difference, np.zeros(8))
        assert found.p == pytest.approx(stats.wilcoxon(difference).pvalue)  # by enumeration at this size

    def test_equal_differences_tie_in_spite_of_rounding(self):
        a, b = np.array([0.3, 0.2, 0.4, 0.7, 0.1, 0.9]), np.array([0.2, 0.1, 0.3, 0.6, 0.2, 0.8])
        found = statistics.wilcoxon_signed_rank(a, b)
        assert found.statistic == 3.5
        assert found.effect == pytest.approx((17.5 - 3.5) / 21)

    def test_pairs_without_a_difference_are_left_out(self):
        a, b = np.arange(1.0, 11), np.zeros(10)
        padded = statistics.wilcoxon_signed_rank(np.append(a, [4, 4]), np.append(b, [4, 4]))
        assert padded == statistics.wilcoxon_signed_rank(a, b)
        assert padded.n == 10
        assert padded.effect == 1.0

    @pytest.mark.parametrize("different", [0, 5])
    def test_gives_no_number_that_could_not_be_significant(self, different):
        found = statistics.wilcoxon_signed_rank(np.arange(15) < different, np.zeros(15))
        assert np.isnan([found.p, found.statistic, found.effect]).all()
        assert found.note == f"{different} of 15 pairs differ; p < 0.05 needs at least 6"

    def test_refuses_what_does_not_pair_up(self):
        with pytest.raises(RequestError, match=r"expected \(n,\) twice"):
            statistics.wilcoxon_signed_rank([1, 2], [1, 2, 3])


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_cliffs_delta_is_the_mann_whitney_statistic_rescaled(a, b):
    u = stats.mannwhitneyu(a, b).statistic
    assert statistics.cliffs_delta(a, b) == pytest.approx(2 * u / (len(a) * len(b)) - 1)


def test_cliffs_delta_needs_values():
    with pytest.raises(RequestError, match="expected at least one each"):
        statistics.cliffs_delta([], [1.0])


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_agrees_with_statsmodels(only_a, only_b):
    found = statistics.mcnemar_exact(only_a, only_b)
    assert found.n == only_a + only_b
    if found.n == 0:
        assert np.isnan(found.p)
        assert found.note
        return
    assert found.p == pytest.approx(mcnemar([[9, only_a], [only_b, 9]], exact=True).pvalue)
    assert found.effect == pytest.approx(only_a / found.n - 0.5)
    assert found.effect_name == "Cohen's g"


def test_mcnemar_refuses_negative_counts():
    with pytest.raises(RequestError, match="expected at least 0"):
        statistics.mcnemar_exact(-1, 3)


@settings(max_examples=10, deadline=None)  # a call of statsmodels' takes a tenth of a second
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=20))
def test_holm_agrees_with_statsmodels_and_passes_over_nan(tests):
    values = np.array([p if done else np.nan for p, done in tests])
    tested = ~np.isnan(values)
    found = statistics.holm(values)
    assert np.array_equal(np.isnan(found), ~tested)
    if tested.any():
        np.testing.assert_allclose(found[tested], multipletests(values[tested], method="holm")[1])
