"""The rankings that are shown: a task's quantizers, and its adapters on the network with the fewest bits."""

from __future__ import annotations

import json

import pandas as pd

from evalsuite.analysis.families import IN_COMMON
from evalsuite.store import Run
from reports.frames.evidence import evidence
from reports.frames.methods import each_row
from reports.frames.views import QUANTIZERS, first_stream, views


def chosen_rankings(run: Run) -> pd.DataFrame:
    """Return rows of ``rankings.csv``: quantizers under the first calibration set, adapters on the first network.

    For each task's first stream, where Friedman's test has a number, the lowest mean rank first; which network,
    :func:`reports.frames.views.views` says. ``place`` numbers the rows of a ranking from 0, ``best`` are those of the
    best mean rank, ``before`` holds the places of the methods that one is shown to rank before, a JSON list.
    """
    rankings = evidence(run).rankings
    shown = [_placed(rankings.iloc[:0])]
    chosen = first_stream(views(run))
    for keys, own in chosen[~chosen["reference"]].groupby(["task", "view"], sort=False):
        row = next(each_row(own))
        factor = "quantizer" if keys[1] == QUANTIZERS else "adapter"
        ranked = rankings["factor"].eq(factor) & rankings["critical_difference"].notna()
        for name in ("task", *IN_COMMON):
            ranked &= rankings[name].eq(getattr(row, name)) | (name == f"{factor}_label")
        shown.append(_placed(rankings[ranked].sort_values("mean_rank")))
    return pd.concat(shown, ignore_index=True)


def _placed(ranking: pd.DataFrame) -> pd.DataFrame:
    """Say by place instead of name which methods are behind, for names may be changed."""
    place = {method: number for number, method in enumerate(ranking["method"])}
    behind = [json.dumps([place[name] for name in json.loads(names)]) for names in ranking["before"]]
    best = ranking["mean_rank"] == ranking["mean_rank"].min()
    return ranking.assign(place=range(len(ranking)), best=best, before=behind)
