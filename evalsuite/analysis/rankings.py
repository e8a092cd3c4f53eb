"""``rankings.csv``: quantizers, and adapters, ranked over the domains that all of them saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from evalsuite.analysis._settings import Values
from evalsuite.analysis.claims import significant
from evalsuite.analysis.families import IN_COMMON, context_in_words
from evalsuite.analysis.outcomes import Combination, Outcomes
from evalsuite.metrics import group_means
from evalsuite.statistics import Ranking, exchange_test, friedman_nemenyi, rank_intervals

RANKING_COLUMNS = (
    *("task", "factor", "context", *IN_COMMON, "method", "error", "mean_rank", "among_best", "best_rank", "worst_rank"),
    *("statistic", "p", "shown", "critical_difference", "unit", "n", "methods", "note"),
)


def rankings_of(outcomes: Outcomes) -> pd.DataFrame:
    """Return the table; see :func:`evalsuite.analysis.rank`.

    Quantizers are ranked by calibration set, adapter and stream; adapters by quantizer, calibration set and stream.
    Each domain is a block, its value the mean error over images and seeds. Methods that did not see the images of
    the first one, or lack a seed of it, are left out. ``among_best``: not farther than the critical difference from
    the best mean rank. ``best_rank`` to ``worst_rank``: where a method may stand among all, given which of them
    Nemenyi's test tells apart at once. ``shown``: Friedman's test tells them apart.
    """
    families: dict[tuple[str, ...], list[Combination]] = {}
    for combination in outcomes.combinations:
        task, calibration, quantizer, adapter, stream = combination.labels.values()
        families.setdefault((task, "quantizer", calibration, adapter, stream), []).append(combination)
        families.setdefault((task, "adapter", quantizer, calibration, stream), []).append(combination)
    ranked: list[Values] = []
    for (_, factor, *_), members in families.items():
        alike = [member for member in members if member.shows_what(members[0])]
        if len(alike) > 1:
            varied = f"{factor}_label"
            names = alike[0].labels | {varied: None, "factor": factor}
            names |= {"context": context_in_words(names)}
            ranked += _ranked(names, [member.labels[varied] for member in alike], outcomes, alike)
    return pd.DataFrame(ranked, columns=list(RANKING_COLUMNS)).astype({"best_rank": "Int64", "worst_rank": "Int64"})


def _ranked(names: Values, methods: Sequence[str], outcomes: Outcomes, alike: list[Combination]) -> list[Values]:
    rows, wrong = outcomes.together(alike)
    by_domain, _ = group_means(wrong, rows.domain, len(rows.domains))
    # All domains show the same images and so go together: p is held to what the images allow as well.
    ranking = friedman_nemenyi(by_domain)
    ranking = replace(ranking, p=max(ranking.p, exchange_test(wrong, rows.image, rows.replicate)))
    best = ranking.mean_rank.min()
    intervals = _intervals(ranking)
    return [
        names
        | {
            "method": method,
            "error": float(error),
            "mean_rank": float(mean_rank),
            "among_best": _among_best(ranking, mean_rank - best),
            "best_rank": first,
            "worst_rank": last,
        }
        | _of_all(ranking)
        for method, error, mean_rank, (first, last) in zip(
            methods, wrong.mean(axis=0), ranking.mean_rank, intervals, strict=True
        )
    ]


def _among_best(ranking: Ranking, distance: float) -> bool | None:
    """Whether a method may be the best; ``None`` without a test. Unless all are told apart, every one may be."""
    return None if ranking.note else bool(distance <= ranking.critical_difference or not significant(ranking.p))


def _intervals(ranking: Ranking) -> list[tuple[int | None, int | None]]:
    """Return the best and the worst rank of each method; ``None`` without a test."""
    rank = ranking.mean_rank
    if ranking.note:
        return [(None, None)] * len(rank)
    apart = rank[None, :] - rank[:, None] > ranking.critical_difference
    found = rank_intervals(apart if significant(ranking.p) else np.zeros_like(apart))
    return [(int(first), int(last)) for first, last in found]


def _of_all(ranking: Ranking) -> Values:
    return {
        "statistic": ranking.statistic,
        "p": ranking.p,
        "shown": bool(significant(ranking.p)),
        "critical_difference": ranking.critical_difference,
        "unit": ranking.unit,
        "n": ranking.n,
        "methods": len(ranking.mean_rank),
        "note": ranking.note,
    }
