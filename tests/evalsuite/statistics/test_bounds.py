from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from evalsuite import statistics
from evalsuite.errors import RequestError


@settings(deadline=None)
@given(st.integers(1, 300), st.data())
def test_of_one_row_an_image_is_clopper_and_pearsons(n, data):
    hits = data.draw(st.integers(0, n))
    found = statistics.mean_bounds(np.arange(n) < hits, np.arange(n), signed=False)
    low, high = proportion_confint(hits, n, method="beta")
    assert found.low[0] == pytest.approx(0 if hits == 0 else low, abs=1e-9)
    assert found.high[0] == pytest.approx(1 if hits == n else high, abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.integers(-1, 1), min_size=1, max_size=60), st.integers(1, 15), st.integers(1, 4))
def test_never_has_no_width_and_turns_its_sign(gaps, domains, draws):
    values = np.tile(gaps, domains * draws)
    images = np.tile(np.arange(len(gaps)), domains * draws)
    replicates = np.repeat(np.arange(draws), len(gaps) * domains)
    found = statistics.mean_bounds(values, images, replicates)
    turned = statistics.mean_bounds(-values, images, replicates)
    assert found.mean[0] == pytest.approx(np.mean(gaps))
    assert -1 <= found.low[0] <= found.mean[0] <= found.high[0] <= 1
    assert found.high[0] - found.low[0] > 0.01
    assert found.low[0] == pytest.approx(-turned.high[0])


def test_rows_of_one_image_that_agree_count_once():
    gaps = np.random.default_rng(0).integers(-1, 2, 80)
    once = statistics.mean_bounds(gaps, np.arange(80))
    copies = statistics.mean_bounds(np.tile(gaps, 15), np.tile(np.arange(80), 15))
    np.testing.assert_allclose(copies.low, once.low, atol=0.03)
    assert copies.high[0] - copies.low[0] >= once.high[0] - once.low[0] - 1e-9


def test_is_the_normal_interval_where_images_are_many():
    draw = np.random.default_rng(1)
    chance = draw.beta(1, 3, 20_000)
    wrong = (draw.random((15, 20_000)) < chance).ravel()
    images = np.tile(np.arange(20_000), 15)
    found = statistics.mean_bounds(wrong, images, signed=False)
    half = 1.96 * wrong.reshape(15, -1).mean(axis=0).std() / np.sqrt(20_000)
    assert found.high[0] - found.low[0] == pytest.approx(2 * half, rel=0.01)


def test_rows_inside_are_a_subset():
    draw = np.random.default_rng(2)
    values, images, inside = draw.integers(-1, 2, (300, 2)), np.tile(np.arange(60), 5), draw.random((300, 2)) < 0.5
    found = statistics.mean_bounds(values, images, inside=inside)
    for column in range(2):
        own = inside[:, column]
        alone = statistics.mean_bounds(values[own, column], images[own])
        assert found.mean[column] == pytest.approx(alone.mean[0])
        assert found.low[column] == pytest.approx(alone.low[0], abs=0.02)


def test_the_largest_mean_is_bounded_by_all_groups():
    draw = np.random.default_rng(3)
    groups, images = np.arange(400) % 8, np.arange(400)
    wrong = draw.random((400, 1000)) < 0.2
    found = statistics.largest_mean_bounds(wrong, groups, images)
    assert np.mean((found.low > 0.2) | (found.high < 0.2)) < 0.05
    assert (found.mean > 0.2).mean() > 0.95  # as the largest of eight is


@pytest.mark.parametrize("values", [[0.5, 2.0], [np.nan, 0.0]])
def test_refuses_what_is_no_error(values):
    with pytest.raises(RequestError, match="expected"):
        statistics.mean_bounds(values, [0, 1])
