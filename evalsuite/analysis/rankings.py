"""``rankings.csv``: quantizers, and adapters, ranked over the domains that all of them saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalsuite.analysis._settings import Values
from evalsuite.analysis.claims import significant
from evalsuite.analysis.families import IN_COMMON, context_in_words
from evalsuite.analysis.outcomes import Combination, Int8Array, Outcomes, Rows
from evalsuite.hashing import canonical_json
from evalsuite.metrics import group_means
from evalsuite.statistics import (
    Ranking,
    exchange_test,
    friedman_nemenyi,
    holm,
    pairwise_exchange_test,
    rank_intervals,
)
from evalsuite.statistics.swaps import LEAST_IMAGES

RANKING_COLUMNS = (
    *("task", "factor", "context", *IN_COMMON, "method", "error", "mean_rank", "before", "among_best"),
    *("best_rank", "worst_rank"),
    *("statistic", "p", "shown", "critical_difference", "unit", "n", "methods", "note"),
)


def rankings_of(outcomes: Outcomes) -> pd.DataFrame:
    """Return the table; see :func:`evalsuite.analysis.rank`.

    Quantizers are ranked by calibration set, adapter and stream; adapters by quantizer, calibration set and stream.
    Each domain is a block, its value the mean error over images and seeds. Methods that did not see the images of
    the first one, or not after the same seeds, are left out. Two methods are told apart where Nemenyi's test does and
    so does exchanging them within images (Holm over all pairs of the panel): domains that show the same images go
    together, and tell methods apart by one image as if each were a find of its own. ``before``: the methods that one is
    shown to rank before, a JSON list. ``among_best``: not told apart from the method of the best mean rank.
    ``best_rank`` to ``worst_rank``: where a method may stand among all, given which are told apart. ``shown``:
    Friedman's test, and exchanging within images, tell them apart.
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
    ranking = _held_to_images(friedman_nemenyi(by_domain), wrong, rows)
    better = _better(ranking, wrong, rows)
    intervals, best = rank_intervals(better), int(ranking.mean_rank.argmin())
    found = []
    for index, method in enumerate(methods):
        values: Values = {
            "method": method,
            "error": float(wrong[:, index].mean()),
            "mean_rank": float(ranking.mean_rank[index]),
            "before": canonical_json([other for other, behind in zip(methods, better[index], strict=True) if behind]),
            "among_best": not better[best, index],
            "best_rank": int(intervals[index, 0]),
            "worst_rank": int(intervals[index, 1]),
        }
        if ranking.note:
            values |= dict.fromkeys(["before", "among_best", "best_rank", "worst_rank"])
        found.append(names | values | _of_all(ranking))
    return found


def _held_to_images(ranking: Ranking, wrong: Int8Array, rows: Rows) -> Ranking:
    """Return a ranking with the larger p of domains and of images; without a test where either has none."""
    if ranking.note:
        return ranking
    p = exchange_test(wrong, rows.image, rows.replicate)
    if np.isnan(p):
        note = f"fewer than {LEAST_IMAGES} images tell any two methods apart"
        return replace(ranking, statistic=np.nan, p=np.nan, critical_difference=np.nan, note=note)
    return replace(ranking, p=max(ranking.p, p))


def _better(ranking: Ranking, wrong: Int8Array, rows: Rows) -> NDArray[np.bool_]:
    """Return (k, k): whether the method of the row is shown to rank before that of the column."""
    rank = ranking.mean_rank
    if ranking.note or not significant(ranking.p):
        return np.zeros((len(rank), len(rank)), np.bool_)
    p = pairwise_exchange_test(wrong, rows.image, rows.replicate)
    above = np.triu_indices(len(rank), 1)
    p[above] = holm(np.where(np.isnan(p[above]), 1.0, p[above]))
    p.T[above] = p[above]
    farther = rank[None, :] - rank[:, None] > ranking.critical_difference
    return np.asarray(farther & significant(p))


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
