from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evalsuite import metrics
from evalsuite.errors import RequestError

group_values = hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-1, 1, width=32))


def test_error_drop_and_flip_rate_count_rows():
    labels, quantized, full = [0, 1, 2, 3], [0, 1, 0, 0], [0, 2, 2, 0]
    assert metrics.error(labels, quantized) == 0.5
    wrong, reference = np.not_equal(labels, quantized), np.not_equal(labels, full)
    assert metrics.drop(wrong, reference) == 0.0
    assert metrics.drop([1, 1, 0, 1], reference) == 0.25
    assert metrics.flip_rate(quantized, full) == 0.5


def test_negative_log_likelihood_averages_in_double_precision():
    loss = np.full(2**21, 0.1, np.float32)
    assert metrics.negative_log_likelihood(loss) == pytest.approx(float(np.float32(0.1)), rel=1e-12)


@pytest.mark.parametrize("pair", [([], []), ([1, 2], [1]), ([[1]], [[1]])])
def test_rows_must_match(pair):
    with pytest.raises(RequestError, match=r"expected one shape \(N,\)"):
        metrics.error(*pair)


@settings(deadline=None)
@given(data=st.data(), n=st.integers(1, 60), columns=st.sampled_from([None, 1, 3, 70]), whole=st.booleans())
def test_group_means_agree_with_pandas(data, n, columns, whole):
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    groups = generator.integers(0, 5, n)
    shape = (n,) if columns is None else (n, columns)
    values = generator.integers(-1, 2, shape).astype(np.int8) if whole else generator.normal(size=shape)
    means, sizes = metrics.group_means(values, groups, 6)
    expected = pd.DataFrame(values.astype(float)).groupby(groups).mean().reindex(range(6))
    np.testing.assert_allclose(means.reshape(6, -1), expected.to_numpy(), atol=1e-12)
    assert sizes.tolist() == np.bincount(groups, minlength=6).tolist()


@pytest.mark.parametrize("groups", [[0, 3], [-1, 0], [0]])
def test_group_means_refuse_codes_out_of_range(groups):
    with pytest.raises(RequestError, match="expected 2 integers from 0 to 2"):
        metrics.group_means([1.0, 2.0], np.array(groups), 3)


def test_group_sums_do_not_overflow_small_integers():
    values = np.ones((400, 2), np.int8)
    assert metrics.group_sums(values, np.zeros(400, int), 1).tolist() == [[400.0, 400.0]]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([2**23, 1], np.int32), np.float64),
        (np.array([2**22, 1], np.int32), np.float32),
        (np.array([-(2**23), 1.0]), np.float64),
        (np.array([1.0, 0.5]), np.float64),
        (np.array([True]), np.float32),
    ],
)
def test_float32_is_used_only_where_it_sums_exactly(values, kind):
    assert metrics.exact_type(values) is kind


def test_worst_group_never_is_an_empty_one():
    means, sizes = metrics.group_means([-0.5, -0.25, -0.5], np.array([0, 2, 2]), 4)
    assert metrics.worst_group(means, sizes) == metrics.WorstGroup(2, -0.375, 2)
    with pytest.raises(RequestError, match="all 2 groups are empty"):
        metrics.worst_group([np.nan, np.nan], [0, 0])


def test_worst_group_is_the_first_of_equals():
    assert metrics.worst_group([0.1, 0.4, 0.4], [3, 2, 9]).index == 1


@settings(deadline=None)
@given(values=group_values, level=st.floats(0.01, 1))
def test_cvar_lies_between_mean_and_maximum(values, level):
    assert values.mean() - 1e-12 <= metrics.cvar(values, level) <= values.max() + 1e-12


@settings(deadline=None)
@given(values=group_values, levels=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)))
def test_cvar_falls_as_more_groups_count(values, levels):
    narrow, wide = sorted(levels)
    assert metrics.cvar(values, narrow) >= metrics.cvar(values, wide) - 1e-12


@settings(deadline=None)
@given(values=group_values, percent=st.integers(1, 100))
def test_cvar_splits_the_last_group_by_its_fraction(values, percent):
    hundredths = np.sort(np.repeat(values, 100))[::-1]
    expected = hundredths[: percent * len(values)].mean()
    assert metrics.cvar(values, percent / 100) == pytest.approx(expected, abs=1e-12)


def test_cvar_and_deviation_leave_empty_groups_out():
    assert metrics.cvar([0.1, np.nan, 0.5, 0.3], 1 / 3) == pytest.approx(0.5)
    assert metrics.between_group_deviation([0.1, np.nan, 0.5]) == pytest.approx(0.2)
    with pytest.raises(RequestError, match="no group has a value"):
        metrics.between_group_deviation([np.nan])


@pytest.mark.parametrize("level", [0, 1.5])
def test_cvar_refuses_an_impossible_level(level):
    with pytest.raises(RequestError, match="expected more than 0 and at most 1"):
        metrics.cvar([0.1], level)


def test_ece_of_known_confidences():
    sure = np.full(10, 0.8)
    assert metrics.ece(sure, np.arange(10) < 8) == pytest.approx(0.0)
    assert metrics.ece(sure, np.arange(10) < 5) == pytest.approx(0.3)
    # Over- and underconfidence in different bins do not cancel.
    assert metrics.ece([0.9, 0.9, 0.5, 0.5], [1, 0, 1, 1], bins=10) == pytest.approx(0.45)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bins=st.integers(1, 20))
def test_ece_agrees_with_a_loop_over_bins_and_ignores_the_order(seed, bins):
    generator = np.random.default_rng(seed)
    sure, right = generator.uniform(size=50), generator.integers(0, 2, 50)
    expected = 0.0
    for low, high in zip(np.arange(bins) / bins, (np.arange(bins) + 1) / bins, strict=True):
        inside = (sure > low) & (sure <= high)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert metrics.ece(sure, right, bins=bins) == pytest.approx(expected)
    order = generator.permutation(50)
    for binning in ("width", "mass"):
        first = metrics.ece(sure, right, bins=bins, binning=binning)
        assert first == pytest.approx(metrics.ece(sure[order], right[order], bins=bins, binning=binning))


@pytest.mark.parametrize("bins", [3, 5, 10, 15, 20, 100])
def test_a_confidence_on_an_edge_is_in_the_bin_below_it_in_every_precision(bins):
    # As many right as each bin's lower edge says: every bin is overconfident by its width.
    nominal = np.arange(1, bins + 1) / bins
    sure = np.repeat(nominal, bins)
    right = np.concatenate([np.arange(bins) < k for k in range(bins)])
    for kind in (np.float16, np.float32, np.float64):
        assert metrics.ece(sure.astype(kind), right, bins=bins) == pytest.approx(1 / bins, abs=1e-3)
        assert metrics.ece(sure.astype(kind).astype(np.float64), right, bins=bins) == pytest.approx(1 / bins, abs=1e-3)
        assert metrics.ece(nominal.astype(kind), np.ones(bins), bins=bins) == pytest.approx(
            (1 - 1 / bins) / 2, abs=1e-3
        )
        # Alternating signs part the bins: two neighbours in one bin would cancel.
        signs = np.arange(bins) % 2
        expected = np.abs(signs - nominal).mean()
        assert metrics.ece(nominal.astype(kind), signs, bins=bins) == pytest.approx(expected, abs=1e-3)
        assert metrics.ece(nominal.astype(kind), signs, bins=bins, binning="mass") == pytest.approx(expected, abs=1e-3)


def test_ten_nominal_confidences_in_ten_bins():
    sure = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], np.float32)
    assert metrics.ece(sure, np.ones(10), bins=10) == pytest.approx(0.45, abs=1e-6)
    assert metrics.ece(sure, np.arange(10) % 2, bins=10) == pytest.approx(0.45, abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(n=st.integers(1, 60), bins=st.integers(1, 20), kind=st.sampled_from([np.float16, np.float32, np.float64]))
def test_bins_of_equal_mass_hold_equal_numbers_of_rows(n, bins, kind):
    sure = (np.arange(n * bins) / (n * bins)).astype(kind)
    if len(np.unique(sure)) < n * bins:
        return
    # Right as often as the mean confidence of each bin says, in exact sums: no gap is left.
    means = sure.astype(np.float64).reshape(bins, n).mean(axis=1)
    for right in (np.zeros(n * bins), np.tile(np.arange(n) % 2, bins)):
        expected = np.abs(right.reshape(bins, n).mean(axis=1) - means).mean()
        assert metrics.ece(sure, right, bins=bins, binning="mass") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "wording"),
    [
        ({"bins": 0}, "bins = 0"),
        ({"bins": -3}, "bins = -3"),
        ({"bins": 2.5}, "bins = 2.5"),
        ({"bins": True}, "bins = True"),
        ({"binning": "uniform"}, "'width' or 'mass'"),
        ({"confidence": [50.0, 99.0]}, "from 0 to 1"),
        ({"confidence": [0.5, np.nan]}, "finite"),
        ({"confidence": [0.5, -0.1]}, "from 0 to 1"),
        ({"confidence": ["0.5", "a"]}, "from 0 to 1"),
        ({"correct": [0, 100]}, "true or false"),
        ({"correct": [0, np.nan]}, "finite"),
    ],
)
def test_ece_refuses_what_it_cannot_mean(change, wording):
    given = {"confidence": [0.5, 0.9], "correct": [0, 1]} | change
    with pytest.raises(RequestError, match=wording):
        metrics.ece(given.pop("confidence"), given.pop("correct"), **given)


def test_what_is_no_probability_no_label_or_no_group_is_refused():
    for call in (
        lambda: metrics.brier([[50.0, 50.0]], [0]),
        lambda: metrics.brier([[np.nan, 0.5]], [0]),
        lambda: metrics.brier([[0.5, 0.5]], [0.0]),
        lambda: metrics.group_means([1.0, 2.0], [0.0, 1.5], 2),
        lambda: metrics.worst_group([np.nan, 0.5], [3, 3]),
        lambda: metrics.change_detection([0, 1], [0, 1], [0.7]),
    ):
        with pytest.raises(RequestError, match="expected"):
            call()


def test_bins_of_equal_mass_part_what_one_bin_of_equal_width_hides():
    sure, right = np.repeat([0.99, 0.995], 10), np.repeat([0, 1], 10)
    assert metrics.ece(sure, right, bins=2) == pytest.approx(0.4925)
    assert metrics.ece(sure, right, bins=2, binning="mass") == pytest.approx((0.99 + 0.005) / 2)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), n=st.integers(1, 20), classes=st.integers(2, 6))
def test_brier_is_the_mean_squared_distance_from_the_unit_vector(seed, n, classes):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(classes), n)
    labels = generator.integers(0, classes, n)
    expected = np.square(probabilities - np.eye(classes)[labels]).sum(axis=1).mean()
    assert metrics.brier(probabilities, labels) == pytest.approx(expected)


def test_brier_agrees_with_sklearn_for_two_classes():
    from sklearn.metrics import brier_score_loss

    sure = np.random.default_rng(0).random(50)
    labels = np.random.default_rng(1).integers(0, 2, 50)
    found = metrics.brier(np.column_stack([1 - sure, sure]), labels)
    assert found == pytest.approx(2 * brier_score_loss(labels, sure))


@pytest.mark.parametrize(("shape", "labels"), [((0, 2), []), ((2,), [0, 1]), ((2, 2), [0, 2]), ((2, 2), [0])])
def test_brier_refuses_what_does_not_fit(shape, labels):
    with pytest.raises(RequestError, match="expected"):
        metrics.brier(np.zeros(shape), labels)


def test_mean_corruption_error_weighs_corruptions_by_the_reference():
    reference = np.array([[0.1, 0.3], [0.4, 0.8]])
    assert metrics.mean_corruption_error(reference, reference) == 1
    assert metrics.mean_corruption_error([[0.2, 0.6], [0.4, 0.8]], reference) == pytest.approx(1.5)


@pytest.mark.parametrize(("own", "reference"), [([[0.1]], [[0.0]]), ([0.1], [0.1]), ([[0.1]], [[0.1, 0.2]])])
def test_mean_corruption_error_refuses(own, reference):
    with pytest.raises(RequestError):
        metrics.mean_corruption_error(own, reference)


def test_forgetting_compares_with_the_best_earlier_round():
    np.testing.assert_allclose(metrics.forgetting([[0.5, 0.2], [0.3, 0.4], [0.4, 0.1]]), [0.1, -0.1])
    with pytest.raises(RequestError, match="at least two rounds"):
        metrics.forgetting([[0.5, 0.2]])


def test_adaptation_gain_is_positive_where_adaptation_helps():
    assert metrics.adaptation_gain([1, 1, 0, 1], [0, 1, 0, 0]) == 0.5


STRETCHES = np.repeat([0, 1, 2, 1], 20)  # of 20 images; batches of 10 are pure, of 15 straddle


@pytest.mark.parametrize(
    ("reported", "within", "expected"),
    [
        ([2, 4, 6], 1, (3, 3, 0, 4)),
        ([3, 5], 1, (0, 3, 2, 4)),
        ([3, 5], 2, (2, 3, 0, 1)),
        ([1, 2, 3], 1, (1, 3, 2, 4)),
        ([], 1, (0, 3, 0, 4)),
    ],
)
def test_changes_are_hit_missed_or_imagined(reported, within, expected):
    found = metrics.change_detection(STRETCHES, np.arange(0, 80, 10), reported, within=within)
    assert (found.hits, found.changes, found.alarms, found.others) == expected


def test_a_change_is_where_a_batch_first_shows_the_domain():
    found = metrics.change_detection(STRETCHES, np.arange(0, 80, 15), [1, 2, 4])
    assert found == metrics.ChangeDetection(hits=3, changes=3, alarms=0, others=2)


def test_batches_that_were_not_judged_can_be_missed_but_are_no_false_alarms():
    judged = np.array([1, 1, 0, 1, 1, 1, 1, 0], bool)
    found = metrics.change_detection(STRETCHES, np.arange(0, 80, 10), [4], judged)
    assert found == metrics.ChangeDetection(hits=1, changes=3, alarms=0, others=3)
    assert judged[0]


def test_a_reset_hides_a_change_and_ends_the_wait_for_a_report():
    starts = np.arange(0, 80, 10)  # changes with batches 2, 4 and 6
    between = metrics.change_detection(STRETCHES, starts, [3], resets=np.arange(8) == 3, within=8)
    assert between == metrics.ChangeDetection(hits=0, changes=3, alarms=0, others=1)
    at_change = metrics.change_detection(STRETCHES, starts, [4], resets=np.arange(8) == 4)
    assert at_change == metrics.ChangeDetection(hits=0, changes=2, alarms=0, others=4)
    with pytest.raises(RequestError, match="resets"):
        metrics.change_detection(STRETCHES, np.arange(0, 80, 10), [], resets=[True])


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 9), within=st.integers(1, 4))
def test_every_report_after_the_first_batch_is_a_hit_or_an_alarm(seed, size, within):
    generator = np.random.default_rng(seed)
    domain = np.repeat(generator.integers(0, 3, 12), 5)
    starts = np.arange(0, len(domain), size)
    everywhere = metrics.change_detection(domain, starts, np.arange(len(starts)), within=within)
    assert everywhere.hits == everywhere.changes
    assert everywhere.alarms == everywhere.others
    assert everywhere.changes + everywhere.others <= len(starts) - 1


@pytest.mark.parametrize(
    "arguments", [([0, 1], [1], []), ([0, 1], [0, 2], []), ([0, 1], [], []), ([0, 1], [0, 1], [], [True])]
)
def test_batches_must_lie_in_the_stream(arguments):
    with pytest.raises(RequestError, match="expected"):
        metrics.change_detection(*arguments)


@pytest.mark.parametrize("reported", [[-1], [2]])
def test_reports_from_batches_that_are_not_there_are_refused(reported):
    with pytest.raises(RequestError, match="expected numbers of batches, 0 to 1"):
        metrics.change_detection([0, 0, 1, 1], [0, 2], reported)
