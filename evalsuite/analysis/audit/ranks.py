"""Where the target stands among its rivals: ranks over domains, with the ranks that the data allow; and costs."""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from evalsuite.analysis import claims as rule
from evalsuite.analysis._settings import Settings
from evalsuite.analysis.audit.contests import Plain, condition_of, method_name, panels_of
from evalsuite.analysis.comparisons import Pair, corrected, tested_pairs
from evalsuite.analysis.outcomes import Combination, Outcomes
from evalsuite.analysis.verdict import Cost, Rank
from evalsuite.metrics import group_means
from evalsuite.store import Run


def ranks_of(outcomes: Outcomes, target: Collection[str], plain: dict[str, Plain], settings: Settings) -> list[Rank]:
    """Return the ranks of all methods at equal bits, over domains, 1 the least error.

    ``best`` and ``worst`` follow from the pairs whose difference is shown, Holm-corrected over all pairs of the panel:
    a method's rank is at least one more than the number of methods shown to be better, and leaves behind it all shown
    to be worse (Mogstad, Romano, Shaikh and Wilhelm 2024, *Inference for Ranks*).
    """
    found = []
    for members in panels_of(outcomes, plain):
        alike = [each for each in members if each.shows_what(members[0])]
        if len(alike) < 2:
            continue
        rows, wrong = outcomes.together(alike)
        by_domain, _ = group_means(wrong, rows.domain, len(rows.domains))
        mean_rank = stats.rankdata(by_domain, axis=1).mean(axis=0)
        beaten = _beaten(outcomes, alike, settings)
        found += [
            Rank(
                condition=condition_of(each),
                method=method_name(each),
                is_target=each.quantizer in target,
                mean_rank=float(mean_rank[index]),
                best=1 + int(beaten[index].sum()),
                worst=len(alike) - int(beaten[:, index].sum()),
                error=float(wrong[:, index].mean()),
            )
            for index, each in enumerate(alike)
        ]
    return found


def _beaten(outcomes: Outcomes, members: list[Combination], settings: Settings) -> np.ndarray:
    """Return (M, M): whether the method of the row is shown to be worse than that of the column."""
    places = list(combinations(range(len(members)), 2))
    pairs = [Pair("quantizer", members[a], members[b]) for a, b in places]
    tested = tested_pairs(outcomes, pairs, settings)
    beaten = np.zeros((len(members), len(members)), np.bool_)
    for (a, b), values, p in zip(places, tested, corrected(tested), strict=True):
        if "difference" in values and rule.shown(p, values["low"], values["high"]):
            worse, better = (a, b) if values["difference"] > 0 else (b, a)
            beaten[worse, better] = True
    return beaten


def costs_of(run: Run, outcomes: Outcomes, target: Collection[str], plain: dict[str, Plain]) -> list[Cost]:
    """Return what the methods cost in the plain settings: medians over calibration draws."""
    trials = run.trials.set_index("trial")
    found = []
    for each in (each for members in panels_of(outcomes, plain) for each in members):
        rows = trials.loc[[outcome.trial for outcome in each.outcomes.values()]]
        found.append(
            Cost(
                condition=condition_of(each),
                method=method_name(each),
                is_target=each.quantizer in target,
                engine=str(rows["engine"].iloc[0]),
                quantize_seconds=_median(rows["quantize_seconds"]),
                seconds_per_image=_median(rows["adapt_seconds"] / rows["images"]),
                peak_bytes=None if rows["peak_bytes"].isna().all() else int(rows["peak_bytes"].max()),
            )
        )
    return found


def _median(values: pd.Series) -> float | None:
    median = values.astype(float).median()
    return None if pd.isna(median) else float(median)
