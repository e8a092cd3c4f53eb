"""Intervals and tests: pure functions that take an explicit generator and name what they resample or count.

Every result says its unit of replication and how many of them there were. Rows of one test image (its
corruptions, its calibration draws) are dependent; nothing here treats them as independent.
"""

from evalsuite.statistics._level import LEVEL
from evalsuite.statistics.aggregates import (
    interquartile_mean,
    interquartile_mean_interval,
    middle_half,
    performance_profile,
)
from evalsuite.statistics.bounds import Bounds, difference_bounds, group_bounds, largest_mean_bounds, mean_bounds
from evalsuite.statistics.intervals import Interval, paired_bootstrap, two_way_bootstrap
from evalsuite.statistics.paired import PairedTest, cliffs_delta, holm, mcnemar_exact, wilcoxon_signed_rank
from evalsuite.statistics.power import Need, detection_rate, draws_needed, images_needed
from evalsuite.statistics.ranking import Concordance, Ranking, friedman_nemenyi, kendalls_w, rank_intervals
from evalsuite.statistics.swaps import (
    WorstGroupDifference,
    exchange_test,
    pairwise_exchange_test,
    swap_test,
    worst_group_difference,
)
from evalsuite.statistics.worst_groups import WorstGroupNull, worst_group_null

__all__ = [
    "LEVEL",
    "Bounds",
    "Concordance",
    "Interval",
    "Need",
    "PairedTest",
    "Ranking",
    "WorstGroupDifference",
    "WorstGroupNull",
    "cliffs_delta",
    "detection_rate",
    "difference_bounds",
    "draws_needed",
    "exchange_test",
    "friedman_nemenyi",
    "group_bounds",
    "holm",
    "images_needed",
    "interquartile_mean",
    "interquartile_mean_interval",
    "kendalls_w",
    "largest_mean_bounds",
    "mcnemar_exact",
    "mean_bounds",
    "middle_half",
    "paired_bootstrap",
    "pairwise_exchange_test",
    "performance_profile",
    "rank_intervals",
    "swap_test",
    "two_way_bootstrap",
    "wilcoxon_signed_rank",
    "worst_group_difference",
    "worst_group_null",
]
