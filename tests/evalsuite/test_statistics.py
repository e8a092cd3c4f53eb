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
from evalsuite.metrics import group_means

SIMULATIONS = 200
MOST_REJECTIONS = stats.binom.ppf(0.999, SIMULATIONS, 0.05)


def generator(seed=0):
    return np.random.default_rng(seed)


class TestBootstrap:
    def test_agrees_with_scipy_where_every_unit_has_one_row(self):
        values = generator().integers(0, 2, 80) - generator(1).integers(0, 2, 80)
        found = statistics.paired_bootstrap(values, np.arange(80), generator(2), draws=20_000)
        expected = stats.bootstrap(
            (values,), np.mean, n_resamples=20_000, method="percentile", rng=generator(3)
        ).confidence_interval
        assert found.estimate == pytest.approx(values.mean())
        assert found.low == pytest.approx(expected.low, abs=0.013)
        assert found.high == pytest.approx(expected.high, abs=0.013)
        assert (found.unit, found.n, found.level) == ("image", 80, 0.95)

    def test_rows_of_a_unit_move_together(self):
        own = generator().integers(0, 2, 60)
        once = statistics.paired_bootstrap(own, np.arange(60), generator(1))
        copies = statistics.paired_bootstrap(np.tile(own, 15), np.tile(np.arange(60), 15), generator(1))
        assert (copies.low, copies.high, copies.n) == (once.low, once.high, 60)
        naive = statistics.paired_bootstrap(np.tile(own, 15), np.arange(900), generator(1))
        assert naive.high - naive.low < 0.5 * (once.high - once.low)

    def test_units_with_unequal_rows_agree_with_a_loop(self):
        units = np.repeat(np.arange(30), generator().integers(1, 8, 30))
        values = generator(1).normal(size=len(units)) + units / 10
        found = statistics.paired_bootstrap(values, units, generator(2), draws=4000, level=0.8)
        rows, draw = [values[units == unit] for unit in range(30)], generator(3)
        means = [np.concatenate([rows[unit] for unit in draw.integers(0, 30, 30)]).mean() for _ in range(4000)]
        np.testing.assert_allclose([found.low, found.high], np.quantile(means, [0.1, 0.9]), atol=0.06)

    @pytest.mark.parametrize("whole", [True, False])
    def test_a_column_does_not_depend_on_the_others(self, whole):
        units = np.tile(np.arange(20), 3)
        values = generator().integers(-1, 2, (60, 5)) if whole else generator().normal(size=(60, 5))
        together = statistics.paired_bootstrap(values, units, generator(1), draws=300)
        assert together.estimate.shape == (5,)
        for column in range(5):
            alone = statistics.paired_bootstrap(values[:, column], units, generator(1), draws=300)
            np.testing.assert_allclose(together.low[column], alone.low, rtol=1e-12)
            np.testing.assert_allclose(together.high[column], alone.high, rtol=1e-12)

    def test_draws_in_several_chunks(self, monkeypatch):
        values, units = generator().integers(0, 2, 50), np.arange(50)
        whole = statistics.paired_bootstrap(values, units, generator(1), draws=333)
        monkeypatch.setattr(statistics, "_ELEMENTS", 50 * 10)
        assert statistics.paired_bootstrap(values, units, generator(1), draws=333).low == whole.low

    @pytest.mark.parametrize(("values", "units"), [(np.zeros((2, 2, 2)), [0, 1]), ([], []), ([1, 2], [1])])
    def test_refuses_shapes_that_do_not_fit(self, values, units):
        with pytest.raises(RequestError, match=r"expected \("):
            statistics.paired_bootstrap(values, units, generator())


def dependent_classes(seed):
    """Differences without any class effect; the rows of an image, of which there are 4 to 12, mostly agree."""
    draw = generator(seed)
    images = np.repeat(np.arange(60), draw.integers(4, 13, 60))
    own = draw.choice([-1, 0, 1], 60, p=[0.1, 0.6, 0.3])
    rows = np.where(draw.random(len(images)) < 0.9, own[images], draw.integers(-1, 2, len(images)))
    return rows, images % 6, images


def dependent_domains(seed, excess=0.0):
    """Differences of 120 images under 8 domains in 3 draws, which all agree; the last domain may be harmed more."""
    draw = generator(seed)
    image, domain = np.divmod(np.arange(120 * 8), 8)
    chance = np.repeat(draw.beta(0.3, 0.5, 120), 8) + excess * (domain == 7)
    cells = (draw.random(len(image)) < chance).astype(int)
    return np.tile(cells, 3), np.tile(domain, 3), np.tile(image, 3)


def rejections(simulate, **arguments):
    found = []
    for seed in range(SIMULATIONS):
        rows, groups, images = simulate(seed, **arguments)
        found.append(statistics.worst_group_null(rows, groups, images, generator(seed), permutations=99).p)
    return np.array(found)


class TestWorstGroupNull:
    @pytest.mark.parametrize("simulate", [dependent_classes, dependent_domains])
    def test_p_is_uniform_where_there_is_no_excess(self, simulate):
        p = rejections(simulate)
        assert np.sum(p <= 0.05) <= MOST_REJECTIONS
        assert 0.45 < p.mean() < 0.6  # equal maxima make it a little larger than uniform

    def test_exchanging_single_rows_would_find_an_excess_in_noise(self):
        naive = rejections(lambda seed: (*dependent_classes(seed)[:2], np.arange(len(dependent_classes(seed)[0]))))
        assert np.sum(naive <= 0.05) > 2 * MOST_REJECTIONS

    def test_exchanging_each_draw_of_an_image_by_itself_would_find_an_excess_in_noise(self):
        def apart(seed):
            rows, domain, image = dependent_domains(seed)
            return rows, domain, image + 120 * (np.arange(len(rows)) // 960)

        assert np.sum(rejections(apart) <= 0.05) > 2 * MOST_REJECTIONS

    def test_finds_a_domain_that_is_harmed_more(self):
        p = rejections(dependent_domains, excess=0.2)
        assert np.mean(p <= 0.05) > 0.9

    def test_finds_a_class_that_is_harmed_more(self):
        rows, classes, images = dependent_classes(0)
        harmed = np.where(classes == 4, np.maximum(rows, images % 5 > 0), rows)
        found = statistics.worst_group_null(harmed, classes * 10, images, generator())
        assert found.group == 40
        assert found.p < 0.01
        assert found.observed == pytest.approx(harmed[classes == 4].mean())
        assert found.observed > found.null > harmed.mean()
        assert (found.unit, found.n, found.permutations) == ("image", 60, 2000)

    def test_unit_follows_from_whether_groups_vary_within_images(self):
        rows, domain, image = dependent_domains(0)
        within = statistics.worst_group_null(rows, domain, image, generator(), permutations=9)
        assert within.unit == "group within image"
        one_each = image % 8 == domain
        between = statistics.worst_group_null(
            rows[one_each], domain[one_each], image[one_each], generator(), permutations=9
        )
        assert between.unit == "image"

    def test_what_an_image_is_like_cancels_within_images(self):
        # Every image is harmed under all domains or none: no arrangement within images changes a mean.
        image, domain = np.divmod(np.arange(40), 4)
        found = statistics.worst_group_null(image % 3 == 0, domain, image, generator(), permutations=50)
        assert (float(found.observed), float(found.null), float(found.p)) == (0.4, pytest.approx(0.4), 1.0)

    def test_images_under_unequal_numbers_of_domains(self):
        rows, domain, image = (part[: 40 * 8] for part in dependent_domains(3))
        kept = (domain < 4) | (image % 2 == 0) | (image == 7)
        kept &= (image != 9) | (domain == 2)
        rows, domain, image = rows[kept], domain[kept], image[kept]
        found = statistics.worst_group_null(rows, domain, image, generator(), permutations=4000)
        draw, maxima = generator(1), []
        for _ in range(4000):
            shuffled = rows.copy()
            for own in (np.flatnonzero(image == each) for each in range(40)):
                shuffled[own] = draw.permutation(rows[own])
            maxima.append(group_means(shuffled, domain, 8)[0].max())
        assert found.null == pytest.approx(np.mean(maxima), abs=0.004)
        assert found.p == pytest.approx(np.mean(np.array(maxima) >= found.observed - 1e-12), abs=0.03)

    def test_whole_images_carry_their_rows_along(self):
        rows, classes, images = dependent_classes(1)
        found = statistics.worst_group_null(rows, classes, images, generator(), permutations=4000)
        sums, sizes = np.bincount(images, weights=rows), np.bincount(images)
        draw, maxima = generator(1), []
        for _ in range(4000):
            order = draw.permutation(60)
            groups = np.arange(60) % 6
            maxima.append((np.bincount(groups, sums[order]) / np.bincount(groups, sizes[order])).max())
        assert found.null == pytest.approx(np.mean(maxima), abs=0.006)
        assert found.p == pytest.approx(np.mean(np.array(maxima) >= found.observed - 1e-12), abs=0.03)

    @pytest.mark.parametrize("whole", [True, False])
    def test_a_column_does_not_depend_on_the_others(self, whole):
        _, domain, image = dependent_domains(0)
        draw = generator(1)
        values = draw.integers(-1, 2, (2880, 70)) if whole else draw.normal(size=(2880, 70))
        together = statistics.worst_group_null(values, domain, image, generator(2), permutations=30)
        for column in (0, 1, 69):
            alone = statistics.worst_group_null(values[:, column], domain, image, generator(2), permutations=30)
            np.testing.assert_allclose(together.null[column], alone.null, rtol=1e-12)
            assert together.p[column] == alone.p
            assert together.group[column] == alone.group

    def test_one_group_is_never_worse_than_the_others(self):
        found = statistics.worst_group_null([1, 0, 1], [5, 5, 5], [0, 1, 2], generator(), permutations=20)
        assert (found.group, found.p) == (5, 1.0)

    def test_permutations_in_several_chunks(self, monkeypatch):
        simulated = dependent_domains(0)
        whole = statistics.worst_group_null(*simulated, generator(), permutations=25)
        monkeypatch.setattr(statistics, "_ELEMENTS", 64 * 8 * 4)
        assert statistics.worst_group_null(*simulated, generator(), permutations=25).null == whole.null

    def test_refuses_columns_of_unequal_length(self):
        with pytest.raises(RequestError, match=r"images of shape \(2,\): expected \(3,\)"):
            statistics.worst_group_null([1, 0, 1], [0, 0, 1], [0, 1], generator())


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
