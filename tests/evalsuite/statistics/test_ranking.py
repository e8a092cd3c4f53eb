from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evalsuite import statistics
from evalsuite.errors import RequestError


def table(seed, n, k, effect=0.0):
    return np.random.default_rng(seed).normal(size=(n, k)) + effect * np.arange(k)


class TestFriedmanNemenyi:
    @pytest.mark.parametrize(("methods", "q"), [(3, 2.343), (5, 2.728), (10, 3.164)])
    def test_critical_difference_is_that_of_the_published_table(self, methods, q):
        # q at 5 %: table 5a of Demsar 2006.
        found = statistics.friedman_nemenyi(table(0, 15, methods))
        assert found.critical_difference == pytest.approx(q * np.sqrt(methods * (methods + 1) / 90), abs=2e-3)

    @settings(deadline=None, max_examples=25)
    @given(seed=st.integers(0, 1000), n=st.integers(6, 20), k=st.integers(3, 6), ties=st.booleans())
    def test_agrees_with_scipy_and_with_the_critical_difference(self, seed, n, k, ties):
        values = table(seed, n, k, 0.4)
        values = np.round(values) if ties else values
        found = statistics.friedman_nemenyi(values)
        expected = stats.friedmanchisquare(*values.T)
        assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
        assert found.mean_rank.sum() == pytest.approx(k * (k + 1) / 2)
        apart = np.abs(found.mean_rank[:, None] - found.mean_rank) > found.critical_difference
        np.testing.assert_array_equal(found.pairwise_p < 0.05, apart)

    def test_lowest_value_has_rank_one(self):
        found = statistics.friedman_nemenyi([[0.1, 0.2, 0.3]] * 8)
        np.testing.assert_array_equal(found.mean_rank, [1, 2, 3])
        assert found.p < 0.001
        assert (found.unit, found.n, found.note) == ("domain", 8, "")

    @pytest.mark.parametrize(
        ("values", "why"),
        [(np.eye(8)[:, :2], "at least 3"), (np.eye(5), "at least 6"), (np.ones((8, 4)), "same value in every block")],
    )
    def test_says_why_there_is_no_number(self, values, why):
        found = statistics.friedman_nemenyi(values)
        assert why in found.note
        assert np.isnan([found.p, found.statistic, found.critical_difference]).all()

    @pytest.mark.parametrize("values", [np.zeros(3), np.zeros((0, 3)), np.full((7, 3), np.nan)])
    def test_refuses_other_shapes(self, values):
        with pytest.raises(RequestError, match="finite values of k methods"):
            statistics.friedman_nemenyi(values)


class TestKendallsW:
    @settings(deadline=None, max_examples=25)
    @given(seed=st.integers(0, 1000), m=st.integers(2, 8), k=st.integers(3, 12), ties=st.booleans())
    def test_is_friedmans_statistic_rescaled(self, seed, m, k, ties):
        values = table(seed, m, k, 0.3)
        values = np.round(values) if ties and m > 3 else values
        found = statistics.kendalls_w(values)
        if m >= 3:  # scipy wants three
            expected = stats.friedmanchisquare(*values.T)
            assert found.w == pytest.approx(expected.statistic / (m * (k - 1)))
            assert found.p == pytest.approx(expected.pvalue)
        assert 0 <= found.w <= 1

    def test_is_one_for_equal_and_zero_for_opposite_rankings(self):
        assert statistics.kendalls_w([[1, 2, 3, 4]] * 3).w == 1
        assert statistics.kendalls_w([[1, 2, 3, 4], [4, 3, 2, 1]]).w == 0

    @pytest.mark.parametrize("values", [[[1, 2, 3]], [[1, 2], [2, 1]], [[1, 1, 1], [2, 2, 2]]])
    def test_says_why_there_is_no_number(self, values):
        found = statistics.kendalls_w(values)
        assert np.isnan(found.w)
        assert "needs at least 2 of 3" in found.note

    def test_refuses_other_shapes(self):
        with pytest.raises(RequestError, match="finite values of k groups"):
            statistics.kendalls_w([1.0, 2.0])


@given(st.tuples(st.lists(st.floats(1, 6), min_size=1, max_size=6), st.floats(0, 4)))
def test_rank_intervals_are_those_of_all_orders_that_are_possible(ranks: tuple[list[float], float]) -> None:
    mean, reach = np.array(ranks[0]), ranks[1]
    better = mean[None, :] - mean[:, None] > reach
    orders = [
        order
        for order in itertools.permutations(range(len(mean)))
        if not any(better[order[late], order[early]] for early, late in itertools.combinations(range(len(mean)), 2))
    ]
    places = np.array([[order.index(method) + 1 for method in range(len(mean))] for order in orders])
    expected = np.column_stack([places.min(axis=0), places.max(axis=0)])
    np.testing.assert_array_equal(statistics.rank_intervals(better), expected)


@pytest.mark.parametrize("better", [[[True]], [[False, True], [True, False]], [[False, True]]])
def test_what_is_no_order_has_no_ranks(better: list[list[bool]]) -> None:
    with pytest.raises(RequestError, match="better of shape"):
        statistics.rank_intervals(better)
