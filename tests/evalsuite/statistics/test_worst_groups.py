from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evalsuite import statistics
from evalsuite.errors import RequestError
from evalsuite.metrics import group_means

SIMULATIONS = 200
MOST_REJECTIONS = stats.binom.ppf(0.999, SIMULATIONS, 0.05)


def generator(seed=0):
    return np.random.default_rng(seed)


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

    def test_dealing_counts_and_moving_cells_give_one_distribution(self, monkeypatch):
        images = np.arange(4000)
        values, groups = generator().integers(-1, 2, (4000, 2)), images % 5
        dealt = statistics.worst_group_null(values, groups, images, generator(1), permutations=3000)
        monkeypatch.setattr("evalsuite.statistics.worst_groups._NS_PER_DEAL", np.inf)
        moved = statistics.worst_group_null(values, groups, images, generator(2), permutations=3000)
        np.testing.assert_allclose(dealt.null, moved.null, rtol=0.02)
        np.testing.assert_allclose(dealt.p, moved.p, atol=0.03)
        monkeypatch.undo()
        alone = statistics.worst_group_null(values[:, 1], groups, images, generator(1), permutations=3000)
        assert alone.p == dealt.p[1]
        assert alone.null == pytest.approx(dealt.null[1])

    def test_one_group_is_never_worse_than_the_others(self):
        found = statistics.worst_group_null([1, 0, 1], [5, 5, 5], [0, 1, 2], generator(), permutations=20)
        assert (found.group, found.p) == (5, 1.0)

    def test_permutations_in_several_chunks(self, monkeypatch):
        simulated = dependent_domains(0)
        whole = statistics.worst_group_null(*simulated, generator(), permutations=25)
        monkeypatch.setattr("evalsuite.statistics.worst_groups.ELEMENTS", 64 * 8 * 4)
        assert statistics.worst_group_null(*simulated, generator(), permutations=25).null == whole.null

    def test_refuses_columns_of_unequal_length(self):
        with pytest.raises(RequestError, match=r"images of shape \(2,\): expected \(3,\)"):
            statistics.worst_group_null([1, 0, 1], [0, 0, 1], [0, 1], generator())
