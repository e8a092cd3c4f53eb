"""The values of a verdict as plain frames: a row per claim, loss, rank or cost, its condition in columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

import pandas as pd
from pydantic import BaseModel

from evalsuite.analysis.verdict import Claim, Condition, Cost, GroupDrop, Question, Rank, Verdict

DIFFERENCE_COLUMNS = ("question", "task", "bits", "rival", "standing", "estimate", "low", "high")
LOSS_COLUMNS = ("kind", "name", "task", "bits", "drop", "low", "high", "by_chance", "p_holm", "shown", "number")
PICTURED: tuple[Question, ...] = ("mean", "worst class")
"""Questions of the picture of differences."""


def flat(values: Iterable[Claim | GroupDrop | Rank | Cost], kind: type[BaseModel]) -> pd.DataFrame:
    """Return a row per value of a kind, with the fields of its condition as columns."""
    fields = [name for name in kind.model_fields if name != "condition"]
    columns = list(dict.fromkeys([*Condition.model_fields, *fields]))
    rows = [vars(each.condition) | {name: getattr(each, name) for name in fields} for each in values]
    return pd.DataFrame(rows, columns=columns)


def questions(verdict: Verdict) -> dict[Question, pd.DataFrame]:
    """Return the claims of every question that was asked, in the order of the questions."""
    found = {}
    for question in get_args(Question):
        claims = [claim for claim in verdict.claims if claim.question == question]
        if claims:
            found[question] = flat(claims, Claim)
    return found


def differences(verdict: Verdict) -> pd.DataFrame:
    """Return the differences that have an interval, of the questions of the mean and of the worst class.

    Returns
    -------
    Columns ``question``, ``task``, ``bits``, ``rival``, ``standing``, ``estimate``, ``low`` and ``high`` in points.
    """
    claims = flat([claim for claim in verdict.claims if claim.question in PICTURED], Claim)
    claims = claims.dropna(subset=["estimate", "low", "high"])[list(DIFFERENCE_COLUMNS)].reset_index(drop=True)
    return claims.assign(**{name: claims[name].astype(float) * 100 for name in ("estimate", "low", "high")})


def losses(verdict: Verdict, most: int = 16) -> pd.DataFrame:
    """Return the largest losses of the classes, or else the domains, in the condition of the largest one.

    Returns
    -------
    Columns ``kind``, ``name``, ``task``, ``bits``, ``drop``, ``low``, ``high`` and ``by_chance`` in points,
    ``p_holm``, ``shown`` and ``number``: how many groups of this kind the condition has.
    """
    for kind in ("class", "domain", "group"):
        drops = [drop for drop in verdict.drops if drop.kind == kind]
        if drops:
            worst = max(drops, key=lambda drop: (drop.shown, drop.drop))
            own = [drop for drop in drops if drop.condition == worst.condition]
            frame = flat(own, GroupDrop).sort_values("drop", ascending=False, kind="stable", ignore_index=True)
            points: dict[str, Any] = {
                name: frame[name].astype(float) * 100 for name in ("drop", "low", "high", "by_chance")
            }
            return frame.assign(number=len(own), **points).head(most)[list(LOSS_COLUMNS)]
    return pd.DataFrame(columns=list(LOSS_COLUMNS))
