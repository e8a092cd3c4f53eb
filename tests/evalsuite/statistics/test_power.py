from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evalsuite import statistics
from evalsuite.errors import RequestError
from evalsuite.statistics import _experiments, power


def generator(seed=0):
    return np.random.default_rng(seed)


def layout(images, domains=8, draws=1):
    """Images, domains and draws of the rows, crossed."""
    draw, domain, image = (part.ravel() for part in np.indices((draws, domains, images)))
    return image, domain, draw


def differences(seed, images, domains=8, draws=1, gap=0.05, rate=0.2, shift=0.0, columns=None):
    """Paired differences by the probit model of ``benchmarks/levels.py``; a method's draws deviate by ``shift``."""
    random, many = generator(seed), columns or 1
    hard = np.sqrt(0.4) * random.normal(size=(images, many))
    sides = []
    for error in (rate + gap, rate):
        taste, own = np.sqrt(0.3) * random.normal(size=hard.shape), shift * random.normal(size=(draws, 1, 1, many))
        rest = np.sqrt(0.3) * random.normal(size=(draws, domains, images, many))
        sides.append(hard + taste + own + rest < stats.norm.ppf(error) * np.sqrt(1 + shift**2))
    found = np.subtract(*sides, dtype=np.int8).reshape(-1, many)
    return found[:, 0] if columns is None else found


def claimed(gaps, image, domain, draw, level=0.05):
    """Apply the rule of a claim with the public functions, column by column."""
    bounds, swapped = statistics.mean_bounds(gaps, image, draw), statistics.swap_test(gaps, image, draw)
    means = np.stack([gaps[domain == each].mean(axis=0) for each in np.unique(domain)])
    p = [statistics.wilcoxon_signed_rank(own, 0 * own).p for own in means.T]
    return (np.maximum(p, swapped) < level) & ((bounds.low > 0) | (bounds.high < 0))


class TestKnownAnswers:
    def test_one_method_always_wrong_needs_what_the_tests_can_reach(self):
        rows = layout(20)
        ones = np.ones(len(rows[0]), np.int8)
        # Six exchanges of one sign have p = 2^-5, eight 2^-7: below 0.05 and 0.01.
        assert statistics.images_needed(ones, *rows, generator=generator()).number == 6
        assert statistics.images_needed(ones, *rows, generator=generator(), level=0.01).number == 8

    def test_mcnemar_of_images_seen_once_is_the_binomial_power(self):
        # 30 % of the images differ, two thirds of them in one way: the power follows from two binomials.
        gaps = np.repeat([1, -1, 0], [200, 100, 700])
        rows = np.arange(1000), np.zeros(1000), np.zeros(1000)
        differ = np.arange(1, 301)
        weights = stats.binom.pmf(differ, 300, 0.3)
        critical = stats.binom.isf(0.025, differ, 0.5)
        above, below = stats.binom.sf(critical, differ, 2 / 3), stats.binom.cdf(differ - critical - 1, differ, 2 / 3)
        expected = weights @ (above + below)
        found = statistics.detection_rate(gaps, *rows, 300, generator=generator(), repetitions=8000)
        assert found == pytest.approx(expected, abs=0.03)

    def test_equal_methods_are_claimed_to_differ_at_most_at_the_level(self):
        rows, gaps = layout(300), differences(1, 300, gap=0.0)
        found = statistics.detection_rate(gaps, *rows, 500, generator=generator(), size=0.0, repetitions=3000)
        assert found < 0.065
        need = statistics.images_needed(gaps, *rows, generator=generator(), size=0.0)
        assert (need.number, need.most) == (None, 100_000)
        assert "would not do" in need.note

    def test_no_difference_at_all_has_no_number(self):
        rows = layout(50)
        need = statistics.images_needed(np.zeros(len(rows[0]), np.int8), *rows, generator=generator())
        assert (need.number, need.size, need.rate) == (None, 0.0, 0.0)


class TestTheNumber:
    rows, gaps = layout(300), differences(0, 300)

    def need(self, gaps=None, **options):
        chosen = self.gaps if gaps is None else gaps
        return statistics.images_needed(chosen, *self.rows, generator=generator(), **options).number

    def test_the_rate_rises_with_images(self):
        rates = [
            statistics.detection_rate(self.gaps, *self.rows, n, generator=generator(), size=0.04)
            for n in (50, 150, 400, 1000)
        ]
        assert np.all(np.diff(rates) > 0.05)
        assert rates[-1] > 0.9

    def test_is_where_the_rate_is_the_power(self):
        for wanted in (0.5, 0.8, 0.9):
            number = self.need(size=0.04, power=wanted)
            found = statistics.detection_rate(
                self.gaps, *self.rows, number, generator=generator(7), size=0.04, repetitions=4000
            )
            assert found == pytest.approx(wanted, abs=0.06)

    def test_grows_with_what_is_asked(self):
        usual = self.need(size=0.04)
        assert self.need(size=0.04, level=0.01) > 1.2 * usual
        assert self.need(size=0.04, power=0.95) > 1.2 * usual
        assert 3 < self.need(size=0.02) / usual < 5  # the square of the size, as a variance over n has it

    def test_the_sign_does_not_matter(self):
        assert self.need(-self.gaps, size=-0.04) == pytest.approx(self.need(size=0.04), rel=0.15)

    def test_the_order_and_names_of_rows_do_not_matter(self):
        order = generator(3).permutation(len(self.gaps))
        image, domain, draw = (part[order] for part in self.rows)
        renamed = np.array([f"image {each}" for each in image])
        assert statistics.images_needed(
            self.gaps[order], renamed, domain, draw, generator=generator()
        ) == statistics.images_needed(self.gaps, *self.rows, generator=generator())

    def test_none_beyond_the_most(self):
        assert self.need(size=0.04, most=self.need(size=0.04) // 2) is None


class TestCalibrationDraws:
    rows, gaps = layout(300, draws=5), differences(2, 300, draws=5, shift=0.08)

    def test_limit_what_images_can_tell(self):
        images = statistics.images_needed(self.gaps, *self.rows, generator=generator(), size=0.03)
        assert images.number is None
        draws = statistics.draws_needed(self.gaps, *self.rows, generator=generator(), size=0.03, n_images=3000)
        assert draws.number > 5
        rates = [
            statistics.detection_rate(
                self.gaps, *self.rows, 3000, n_draws=n, generator=generator(1), size=0.03, repetitions=2000
            )
            for n in (3, draws.number)
        ]
        assert rates[0] < 0.5
        assert rates[1] == pytest.approx(0.8, abs=0.07)

    def test_variance_of_draws_is_that_planted(self):
        random = generator(4)
        own = random.normal(0, 0.05, (40, 1, 1))
        values = random.random((40, 8, 400)) < 0.3 + own
        gaps = values.astype(np.int8).ravel()
        found = _experiments.measured(gaps, *layout(400, draws=40), None)
        assert found.between[0, 0] == pytest.approx(own.var(ddof=1), rel=0.15)
        assert found.inside[0, 0] == pytest.approx(0.21 / 8, rel=0.1)
        assert np.abs(found.between[1]).max() == 0

    def test_one_draw_does_not_say_how_draws_vary(self):
        rows, gaps = layout(60), differences(0, 60)
        need = statistics.draws_needed(gaps, *rows, generator=generator())
        assert need.number is None
        assert "one draw" in need.note
        with pytest.raises(RequestError, match="single recorded draw"):
            statistics.detection_rate(gaps, *rows, 60, generator=generator(), n_draws=3)


class TestAgainstTheRule:
    """Simulated from the sums, a study claims what the tables' functions claim of all its rows."""

    @pytest.mark.parametrize(("domains", "draws", "shift"), [(8, 1, 0.0), (8, 4, 0.05)])
    def test_rates_agree_where_the_truth_is_recorded(self, domains, draws, shift):
        many = differences(5, 4000, domains, draws, gap=0.06, shift=shift)
        rows = layout(4000, domains, draws)
        small = layout(120, domains, draws)
        fresh = differences(6, 120, domains, draws, gap=0.06, shift=shift, columns=300)
        expected = claimed(fresh, *small).mean()
        found = statistics.detection_rate(many, *rows, 120, generator=generator(), size=0.06, repetitions=2000)
        assert 0.1 < expected < 0.95
        assert found == pytest.approx(expected, abs=0.12)

    @pytest.mark.parametrize(("decimals", "apart"), [(6, 1e-9), (1, 0.08)])  # with ties it is near
    def test_signed_rank_p_is_wilcoxons(self, decimals, apart):
        for domains in (9, 60):
            values = np.round(generator(2).normal(0.3, 1, (60, domains)), decimals)
            values[:, 0] = 0
            found = power._signed_rank_p(values)
            expected = [statistics.wilcoxon_signed_rank(own, 0 * own).p for own in values]
            assert np.allclose(found, expected, rtol=0, atol=apart)

    def test_planted_difference_is_told_in_about_four_of_five_studies(self):
        """The bar of ``benchmarks/power.py``, short: three pilots of 200 images, 40 studies of each."""
        found = []
        for seed in range(3):
            need = statistics.images_needed(
                differences(10 + seed, 200), *layout(200), generator=generator(seed), size=0.05
            )
            fresh = differences(20 + seed, need.number, columns=40)
            found.append(claimed(fresh, *layout(need.number)))
        assert 0.65 < np.mean(found) < 0.93


class TestRefusals:
    rows, gaps = layout(30), differences(0, 30)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"power": 1.0}, "power 1"),
            ({"level": 0.0}, "level 0"),
            ({"most": 0}, "most 0"),
            ({"repetitions": 0}, "repetitions 0"),
            ({"size": 2.0}, "size 2"),
        ],
    )
    def test_numbers_that_mean_nothing(self, options, words):
        with pytest.raises(RequestError, match=words):
            statistics.images_needed(self.gaps, *self.rows, generator=generator(), **options)

    def test_differences_that_are_none(self):
        with pytest.raises(RequestError, match="-1, 0 and 1"):
            statistics.images_needed(0.5 * self.gaps, *self.rows, generator=generator())

    def test_rows_that_are_not_crossed(self):
        image, domain, draw = (part[:-1] for part in self.rows)
        with pytest.raises(RequestError, match="every image equally often"):
            statistics.images_needed(self.gaps[:-1], image, domain, draw, generator=generator())

    def test_too_few_domains_for_the_test_over_them(self):
        need = statistics.images_needed(differences(0, 30, domains=3), *layout(30, 3), generator=generator())
        assert need.number is None
        assert "at least 6" in need.note

    def test_too_few_domains_for_the_corrected_level(self):
        # Of eight domains p is 2^-7 at least, above 0.05 / 10.
        need = statistics.images_needed(differences(0, 30), *layout(30), generator=generator(), level=0.005)
        assert need.number is None
        assert "8 domains" in need.note
