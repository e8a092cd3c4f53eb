"""No function of arrays gives a number from NaN or infinity: what compares with nothing drops out in silence."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from evalsuite import metrics, statistics
from evalsuite.errors import RequestError

ROWS = np.arange(12)
PAIR = np.linspace(0, 1, 12)
ONCE = (ROWS, 0 * ROWS, 0 * ROWS)


def draw():
    return np.random.default_rng(0)


CALLS = {
    "cliffs_delta": lambda v: statistics.cliffs_delta(v, PAIR),
    "cliffs_delta of b": lambda v: statistics.cliffs_delta(PAIR, v),
    "wilcoxon_signed_rank": lambda v: statistics.wilcoxon_signed_rank(v, PAIR + 1),
    "wilcoxon_signed_rank of b": lambda v: statistics.wilcoxon_signed_rank(PAIR + 1, v),
    "worst_group_null": lambda v: statistics.worst_group_null(v, ROWS % 3, ROWS, draw(), permutations=9),
    "worst_group_null of groups": lambda v: statistics.worst_group_null(PAIR, v, ROWS, draw(), permutations=9),
    "worst_group_difference": lambda v: statistics.worst_group_difference(v, PAIR, ROWS % 3, ROWS, 0 * ROWS, draw()),
    "worst_group_difference of b": lambda v: statistics.worst_group_difference(
        PAIR, v, ROWS % 3, ROWS, 0 * ROWS, draw()
    ),
    "paired_bootstrap": lambda v: statistics.paired_bootstrap(v, ROWS, draw(), draws=9),
    "two_way_bootstrap": lambda v: statistics.two_way_bootstrap(v, ROWS % 6, ROWS // 6, draw(), draws=9),
    "group_bounds": lambda v: statistics.group_bounds(v, ROWS % 3, ROWS),
    "mean_bounds": lambda v: statistics.mean_bounds(v, ROWS),
    "largest_mean_bounds": lambda v: statistics.largest_mean_bounds(v, ROWS % 3, ROWS),
    "swap_test": lambda v: statistics.swap_test(v, ROWS, 0 * ROWS),
    "detection_rate": lambda v: statistics.detection_rate(v, *ONCE, 9, generator=draw(), repetitions=9),
    "images_needed": lambda v: statistics.images_needed(v, *ONCE, generator=draw(), repetitions=9),
    "draws_needed": lambda v: statistics.draws_needed(v, *ONCE, generator=draw(), repetitions=9),
    "exchange_test": lambda v: statistics.exchange_test(np.column_stack([v, PAIR, PAIR]), ROWS, 0 * ROWS),
    "pairwise_exchange_test": lambda v: statistics.pairwise_exchange_test(np.column_stack([v, PAIR]), ROWS, 0 * ROWS),
    "friedman_nemenyi": lambda v: statistics.friedman_nemenyi(v.reshape(4, 3)),
    "kendalls_w": lambda v: statistics.kendalls_w(v.reshape(4, 3)),
    "interquartile_mean": statistics.interquartile_mean,
    "middle_half": statistics.middle_half,
    "interquartile_mean_interval": lambda v: statistics.interquartile_mean_interval(v.reshape(4, 3), draw(), draws=9),
    "performance_profile": lambda v: statistics.performance_profile(v.reshape(4, 3), [0.5], draw(), draws=9),
    "performance_profile of thresholds": lambda v: statistics.performance_profile([[0.1]], v, draw(), draws=9),
    "error": lambda v: metrics.error(v, PAIR),
    "drop": lambda v: metrics.drop(v, PAIR),
    "adaptation_gain": lambda v: metrics.adaptation_gain(PAIR, v),
    "flip_rate": lambda v: metrics.flip_rate(v, PAIR),
    "negative_log_likelihood": metrics.negative_log_likelihood,
    "brier": lambda v: metrics.brier(v.reshape(4, 3), [0, 1, 2, 0]),
    "mean_corruption_error": lambda v: metrics.mean_corruption_error(v.reshape(4, 3), np.ones((4, 3))),
    "forgetting": lambda v: metrics.forgetting(v.reshape(4, 3)),
    "change_detection": lambda v: metrics.change_detection(v, [0, 6], [1]),
    "group_means": lambda v: metrics.group_means(v, ROWS % 3, 3),
    "worst_group": lambda v: metrics.worst_group(v, 1 + ROWS),
}
OF_WHOLE_NUMBERS = {"swap_test", "change_detection", "detection_rate", "images_needed", "draws_needed"}
MCNEMAR = "mcnemar_exact"
NAN_IS_DOCUMENTED = {"holm", "cvar", "between_group_deviation"}
NOT_CALLED = {
    "difference_bounds",
    "exact_type",
    "group_sums",
    "rank_intervals",
    "ece",
}  # of checked or truth values; ece has own tests


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", CALLS)
def test_is_refused_by_name(name, bad):
    CALLS[name](PAIR.round() if name in OF_WHOLE_NUMBERS else PAIR.copy())
    values = PAIR.copy()
    values[4] = bad
    with pytest.raises(RequestError, match=r"NaN|finite"):
        CALLS[name](values)


@pytest.mark.parametrize("only_a", [np.nan, 1.5])
def test_counts_are_whole(only_a):
    with pytest.raises(RequestError, match="whole numbers"):
        statistics.mcnemar_exact(only_a, 3)


def test_what_leaves_nan_out_refuses_infinity_and_what_is_no_p():
    assert metrics.cvar([np.nan, 0.2, 0.4], 1) == pytest.approx(0.3)
    assert metrics.between_group_deviation([np.nan, 0.2, 0.4]) == pytest.approx(0.1)
    for measure in (lambda v: metrics.cvar(v, 0.5), metrics.between_group_deviation):
        with pytest.raises(RequestError, match="infinite"):
            measure([0.1, np.inf])
    with pytest.raises(RequestError, match="expected 0 to 1"):
        statistics.holm([0.1, 1.1])


def test_every_public_function_of_arrays_is_tried():
    tried = {name.split(" ")[0] for name in CALLS} | {MCNEMAR} | NAN_IS_DOCUMENTED | NOT_CALLED
    public = {name for name in statistics.__all__ if inspect.isfunction(getattr(statistics, name))}
    public |= {
        name
        for name, value in vars(metrics).items()
        if inspect.isfunction(value) and value.__module__ == metrics.__name__ and not name.startswith("_")
    }
    assert public - tried == set()
