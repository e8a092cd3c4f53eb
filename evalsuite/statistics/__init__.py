"""Intervals and tests: pure functions that take an explicit generator and name what they resample or count.

Every result says its unit of replication and how many of them there were. Rows of one test image (its
corruptions, its calibration draws) are dependent; nothing here treats them as independent.
"""

from evalsuite.statistics.aggregates import interquartile_mean, interquartile_mean_interval, performance_profile
from evalsuite.statistics.intervals import Interval, paired_bootstrap, two_way_bootstrap
from evalsuite.statistics.paired import PairedTest, cliffs_delta, holm, mcnemar_exact, wilcoxon_signed_rank
from evalsuite.statistics.ranking import Concordance, Ranking, friedman_nemenyi, kendalls_w
from evalsuite.statistics.worst_groups import (
    WorstGroupDifference,
    WorstGroupNull,
    resampled_worst_groups,
    worst_group_difference,
    worst_group_null,
)

__all__ = [
    "Concordance",
    "Interval",
    "PairedTest",
    "Ranking",
    "WorstGroupDifference",
    "WorstGroupNull",
    "cliffs_delta",
    "friedman_nemenyi",
    "holm",
    "interquartile_mean",
    "interquartile_mean_interval",
    "kendalls_w",
    "mcnemar_exact",
    "paired_bootstrap",
    "performance_profile",
    "resampled_worst_groups",
    "two_way_bootstrap",
    "wilcoxon_signed_rank",
    "worst_group_difference",
    "worst_group_null",
]
