from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import cochrans_q

from evalsuite import statistics
from evalsuite.errors import RequestError


def generator(seed=0):
    return np.random.default_rng(seed)


def two_methods(seed, gap=0.0, draws=1, images=600, classes=6, columns=None):
    """Errors of two methods alike in all classes; ``gap`` is added to the second class of the first method."""
    draw = generator(seed)
    image = np.tile(np.arange(images), draws)
    label = image % classes
    shape = len(image) if columns is None else (len(image), columns)
    hard = np.tile(draw.beta(0.5, 1.5, images), draws)
    chances = (np.clip(hard + extra * (label == 1), 0, 1) for extra in (gap, 0.0))
    a, b = (draw.random(shape) < (chance if columns is None else chance[:, None]) for chance in chances)
    return a, b, label, image, np.repeat(np.arange(draws), images)


def largest(values, groups):
    return max(values[groups == group].mean() for group in np.unique(groups))


class TestWorstGroupDifference:
    def test_is_that_of_the_largest_means(self):
        a, b, label, image, replicate = two_methods(0, gap=0.2, draws=3)
        found = statistics.worst_group_difference(a, b, label, image, replicate, generator(), permutations=500)
        assert found.estimate == pytest.approx(largest(a, label) - largest(b, label))
        assert found.low < found.estimate < found.high
        assert (found.unit, found.n, found.note) == ("image x 3 calibration draws", 600, ("",))

    def test_p_agrees_with_all_exchanges(self):
        # Ten images under three domains each: every one of the 1,024 exchanges, rows of an image together.
        draw = generator(5)
        image, label = np.tile(np.arange(10), 3), np.tile(np.arange(10), 3) % 2
        a, b = (draw.random(30) < 0.4 + 0.5 * (label == 0)), draw.random(30) < 0.3
        gaps = []
        for kept in itertools.product([False, True], repeat=10):
            own = np.array(kept)[image]
            gaps.append(largest(np.where(own, a, b), label) - largest(np.where(own, b, a), label))
        observed = largest(a, label) - largest(b, label)
        expected = np.mean(np.abs(gaps) >= abs(observed) - 1e-9)
        found = statistics.worst_group_difference(a, b, label, image, 0 * image, generator(), permutations=8000)
        assert found.p == pytest.approx(expected, abs=0.015)

    def test_one_image_that_differs_is_no_evidence(self):
        label = np.arange(20) % 10
        a = np.zeros(20)
        a[3] = 1
        found = statistics.worst_group_difference(a, 0 * a, label, np.arange(20), 0 * label, generator())
        assert np.isnan(found.p)
        assert found.note == ("the two differ on 1 image; p < 0.05 needs at least 6",)
        assert found.low < 0 < found.estimate == 0.5 <= found.high

    def test_classes_of_one_image_have_no_p_but_a_wide_interval(self):
        draw = generator(1)
        a, b = draw.random((2, 40)) < 0.4
        found = statistics.worst_group_difference(a, b, np.arange(40), np.arange(40), np.zeros(40), draw)
        assert np.isnan(found.p)
        assert "too few images a class" in found.note[0]
        assert found.high - found.low > 0.5

    def test_columns_do_not_depend_on_each_other_and_swapping_turns_the_sign(self):
        a, b, *rest = two_methods(1, gap=0.1)
        both = statistics.worst_group_difference(np.column_stack([a, b]), np.column_stack([b, a]), *rest, generator(3))
        alone = statistics.worst_group_difference(a, b, *rest, generator(3))
        assert both.estimate[0] == alone.estimate == -both.estimate[1]
        assert both.low[0] == alone.low == pytest.approx(-both.high[1])
        assert both.p[0] == alone.p
        assert both.p[1] == pytest.approx(float(alone.p), abs=0.03)

    def test_seeds_that_show_other_images_are_pooled(self):
        label = np.array([0, 0, 0, 1, 0, 1, 1, 1])
        wrong = np.array([1, 1, 0, 0, 0, 1, 0, 0])
        image, replicate = np.array([0, 1, 2, 3, 0, 4, 5, 6]), np.repeat([0, 1], 4)
        found = statistics.worst_group_difference(wrong, 0 * wrong, label, image, replicate, generator())
        assert found.estimate == 0.5

    def test_what_cannot_be_compared_is_refused(self):
        a, b, label, image, replicate = two_methods(0, draws=2, images=12)
        with pytest.raises(RequestError, match="expected the same"):
            statistics.worst_group_difference(a[:, None].repeat(2, 1), b[:, None], label, image, replicate, generator())

    @pytest.mark.parametrize("draws", [1, 4])
    def test_finds_a_planted_worst_class(self, draws):
        found = statistics.worst_group_difference(*two_methods(0, 0.4, draws, columns=60), generator(1))
        assert np.mean(found.p <= 0.05) > 0.9


class TestSwapTest:
    def test_agrees_with_scipys_randomisation_of_signs(self):
        draw = generator(2)
        image = np.tile(np.arange(12), 5)
        values = draw.integers(-1, 3, 60)
        sums = np.bincount(image, weights=values)
        expected = stats.permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=np.inf)
        assert statistics.swap_test(values, image, 0 * image)[0] == pytest.approx(expected.pvalue)

    def test_is_mcnemars_for_one_row_an_image(self):
        values = np.repeat([1, -1, 0], [14, 5, 80])
        expected = statistics.mcnemar_exact(14, 5).p
        assert statistics.swap_test(values, np.arange(99), np.zeros(99))[0] == pytest.approx(expected)

    def test_exact_and_normal_meet(self, monkeypatch):
        values = generator(3).integers(-1, 2, 280)
        exact = statistics.swap_test(values, np.arange(280), np.zeros(280))
        monkeypatch.setattr("evalsuite.statistics.swaps.EXACT_IMAGES", 10)
        normal = statistics.swap_test(values, np.arange(280), np.zeros(280))
        np.testing.assert_allclose(exact, normal, rtol=0.15)

    def test_needs_six_images_and_whole_numbers(self):
        assert np.isnan(statistics.swap_test(np.repeat([1, 0], [75, 25]), np.arange(100) // 15, np.zeros(100))[0])
        with pytest.raises(RequestError, match="expected whole numbers"):
            statistics.swap_test([0.5, 1], [0, 1], [0, 0])

    def test_draws_that_disagree_make_p_larger(self):
        gaps = np.concatenate([np.repeat([1, 0], [60, 40]), np.repeat([-1, 0], [30, 70])])
        image, draw = np.tile(np.arange(100), 2), np.repeat([0, 1], 100)
        together = statistics.swap_test(gaps, image, 0 * draw)
        assert statistics.swap_test(gaps, image, draw) > together


class TestExchangeTest:
    def test_is_cochrans_q_for_one_row_an_image(self):
        wrong = (generator(4).random((200, 4)) < [0.2, 0.25, 0.3, 0.35]).astype(int)
        expected = cochrans_q(wrong).pvalue
        assert statistics.exchange_test(wrong, np.arange(200), np.zeros(200)) == pytest.approx(expected)

    def test_rows_of_an_image_count_once(self):
        wrong = (generator(4).random((200, 4)) < [0.2, 0.25, 0.3, 0.35]).astype(int)
        once = statistics.exchange_test(wrong, np.arange(200), np.zeros(200))
        copies = statistics.exchange_test(np.tile(wrong, (15, 1)), np.tile(np.arange(200), 15), np.zeros(3000))
        assert copies == pytest.approx(once)

    def test_needs_images_that_tell_methods_apart(self):
        assert np.isnan(statistics.exchange_test(np.ones((30, 3)), np.arange(30), np.zeros(30)))


@pytest.mark.parametrize("draws", [2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_every_p_is_a_probability_where_draws_differ_and_the_whole_does_not(seed, draws):
    """What one method gains in a draw the other gains in the next: every exchange is as large as nothing, p is 1."""
    draw = generator(seed)
    image, replicate = np.tile(np.arange(60), draws), np.repeat(np.arange(draws), 60)
    label = image % 3
    one, other = draw.random(60) < 0.3, draw.random(60) < 0.5
    elsewhere = [np.roll(errors, 3) for errors in (one, other)]  # on other images of the same class
    a, b = np.tile(np.r_[one, elsewhere[1]], draws // 2), np.tile(np.r_[other, elsewhere[0]], draws // 2)
    exchanged = statistics.worst_group_difference(a, b, label, image, replicate, generator(), permutations=200)
    gaps = a.astype(np.int8) - b
    others = [*statistics.swap_test(gaps, image, replicate), statistics.exchange_test(np.c_[a, b], image, replicate)]
    assert exchanged.estimate == pytest.approx(0)
    assert np.asarray(exchanged.p) == 1
    assert all(0 <= p <= 1 for p in others if not np.isnan(p))
