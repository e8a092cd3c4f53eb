from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evalsuite import statistics
from evalsuite.errors import RequestError


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
        monkeypatch.setattr("evalsuite.statistics._units.ELEMENTS", 50 * 10)
        assert statistics.paired_bootstrap(values, units, generator(1), draws=333).low == whole.low

    @pytest.mark.parametrize(("values", "units"), [(np.zeros((2, 2, 2)), [0, 1]), ([], []), ([1, 2], [1])])
    def test_refuses_shapes_that_do_not_fit(self, values, units):
        with pytest.raises(RequestError, match=r"expected \("):
            statistics.paired_bootstrap(values, units, generator())


class TestTwoWayBootstrap:
    def crossed(self, seed, draws=5, images=60, columns=None):
        draw = generator(seed)
        shape = (draws, images) if columns is None else (draws, images, columns)
        values = draw.normal(size=(draws, 1)) + draw.normal(size=(1, images)) + draw.normal(size=shape[:2])
        values = values if columns is None else values[..., None] + draw.normal(size=columns)
        flat = values.reshape(draws * images, *values.shape[2:])
        return flat, np.tile(np.arange(images), draws), np.repeat(np.arange(draws), images)

    def test_variance_is_that_of_the_crossed_layout(self):
        # statsmodels' mixed models fit the same components; here they are known.
        widths = []
        for seed in range(60):
            values, images, draws = self.crossed(seed)
            found = statistics.two_way_bootstrap(values, images, draws, generator(1), draws=300)
            widths.append(float(found.high - found.low))
        expected = 2 * stats.t.ppf(0.975, 4) * np.sqrt(1 / 5 + 1 / 60 + 1 / 300)
        assert np.sqrt(np.mean(np.square(widths))) == pytest.approx(expected, rel=0.15)

    def test_is_wider_than_images_alone_where_draws_differ(self):
        values, images, draws = self.crossed(3)
        both = statistics.two_way_bootstrap(values, images, draws, generator(1), draws=1000)
        alone = statistics.paired_bootstrap(values, images, generator(1), draws=1000)
        assert both.estimate == pytest.approx(float(alone.estimate))
        assert both.high - both.low > 2 * (alone.high - alone.low)
        assert (both.unit, both.n) == ("image x 5 calibration draws", 60)

    def test_is_that_of_images_where_draws_are_alike(self):
        values, images = generator().normal(size=400), np.tile(np.arange(400), 6)
        both = statistics.two_way_bootstrap(np.tile(values, 6), images, np.repeat(np.arange(6), 400), generator(1))
        alone = statistics.paired_bootstrap(values, np.arange(400), generator(1))
        np.testing.assert_allclose([both.low, both.high], [alone.low, alone.high], atol=0.004)

    def test_rows_of_a_cell_are_averaged_and_columns_are_independent(self):
        values, images, draws = self.crossed(5, images=12, columns=3)
        twice = np.concatenate([values, values]), np.tile(images, 2), np.tile(draws, 2)
        once = statistics.two_way_bootstrap(values, images, draws, generator(1), draws=200)
        again = statistics.two_way_bootstrap(*twice, generator(1), draws=200)
        np.testing.assert_allclose(once.low, again.low)
        for column in range(3):
            alone = statistics.two_way_bootstrap(values[:, column], images, draws, generator(1), draws=200)
            np.testing.assert_allclose(once.high[column], alone.high)

    def test_no_variation_gives_no_width(self):
        found = statistics.two_way_bootstrap(np.ones(20), np.tile(np.arange(10), 2), np.repeat([0, 1], 10), generator())
        assert found.low == found.estimate == found.high == 1

    @pytest.mark.parametrize(("images", "draws"), [([0, 1, 0], [0, 0, 1]), ([0, 1, 2], [0, 0, 0]), ([0, 0], [0, 1])])
    def test_refuses_a_layout_that_is_not_crossed(self, images, draws):
        with pytest.raises(RequestError, match="expected all pairs, at least two of each"):
            statistics.two_way_bootstrap(np.zeros(len(images)), images, draws, generator())
