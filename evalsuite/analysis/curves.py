"""``severities.csv`` and ``profiles.csv``: curves of the methods of a view, each with its band."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalsuite.analysis._settings import Settings
from evalsuite.analysis.outcomes import COMBINATION, Outcome, Outcomes, Rows, pooled
from evalsuite.analysis.views import LINE, combinations_of, first_stream, views_of
from evalsuite.metrics import FloatArray, group_means
from evalsuite.statistics import performance_profile
from evalsuite.store import Run

_KEYS = (*LINE, *(name for name in COMBINATION if name not in LINE))
SEVERITY_COLUMNS = (*_KEYS, "severity", "error", "low", "high", "corruptions", "unit")
PROFILE_COLUMNS = (*_KEYS, "threshold", "share", "low", "high", "seeds", "domains")
_STEPS = 100
_LEAST = 3
"""Severities, or domains, that make a curve."""


def severities_of(run: Run, outcomes: Outcomes, settings: Settings) -> pd.DataFrame:
    """Return the mean error at each severity of the corruptions that were shown at all of them; 0 is clean.

    Returns
    -------
    A row per (task, view, line, severity), for each task's first stream; at least three severities. ``corruptions``
    is the number of them that the mean is over, ``low`` and ``high`` the 95 % interval over ``unit``. Fractions.
    """
    chosen = first_stream(views_of(run, outcomes, settings))
    trials: list[list[Outcome]] = [list(each.outcomes.values()) for each in combinations_of(outcomes, chosen)]
    frames = []
    for rows, members in outcomes.batches(zip(chosen["task"], trials, strict=True)):
        severity, corruptions = _severities(rows)
        levels = np.unique(severity[severity >= 0])
        if len(levels) < _LEAST:
            continue
        wrong = np.column_stack([pooled(trials[member]) for member in members])
        for level in levels:
            generator = settings.generator("reports", rows.task, "severity")
            interval = settings.interval(wrong, rows, generator, np.flatnonzero(severity == level), signed=False)
            values: dict[str, Any] = {"error": interval.estimate, "low": interval.low, "high": interval.high}
            values |= {"severity": int(level), "corruptions": corruptions if level else 0, "unit": interval.unit}
            frames.append(chosen.iloc[members][list(_KEYS)].assign(**values))
    if not frames:
        return pd.DataFrame(columns=list(SEVERITY_COLUMNS))
    table = pd.concat(frames).reset_index(names="place")
    return table.sort_values(["place", "severity"], ignore_index=True)[list(SEVERITY_COLUMNS)]


def profiles_of(run: Run, outcomes: Outcomes, settings: Settings) -> pd.DataFrame:
    """Return performance profiles (Agarwal et al. 2021, arXiv:2108.13264): the share of pairs below each error.

    Returns
    -------
    A row per (task, view, line, threshold), for each task's first stream; at least three domains. ``share`` is that of
    the (seed, domain) pairs whose error is at most ``threshold``, ``low`` and ``high`` its 95 % bootstrap interval over
    seeds within each domain. Fractions.
    """
    chosen = first_stream(views_of(run, outcomes, settings))
    scores = [_scores(list(each.outcomes.values())) for each in combinations_of(outcomes, chosen)]
    largest = max((score.max() for score in scores if score.size), default=0.0)
    thresholds = np.linspace(0, math.ceil(largest * 10) / 10, _STEPS + 1)
    frames = []
    for (_, line), score in zip(chosen.iterrows(), scores, strict=True):
        if score.shape[1] < _LEAST:
            continue
        generator = settings.generator("reports", line["task"], "profile")
        profile = performance_profile(score, thresholds, generator, draws=settings.bootstrap)
        values = {"threshold": thresholds, "share": profile.estimate, "low": profile.low, "high": profile.high}
        facts = {name: line[name] for name in _KEYS} | {"seeds": score.shape[0], "domains": score.shape[1]}
        frames.append(pd.DataFrame(values).assign(**facts))
    columns = list(PROFILE_COLUMNS)
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def _scores(trials: list[Outcome]) -> FloatArray:
    """Return the errors (seeds, domains); empty where seeds show different domains."""
    if len({trial.layout.domains for trial in trials}) != 1:
        return np.empty((0, 0))
    return np.stack([group_means(each.wrong, each.layout.domain, len(each.layout.domains))[0] for each in trials])


def _severities(rows: Rows) -> tuple[NDArray[np.int64], int]:
    """Return each row's severity, -1 where its corruption was not shown at all of them; and the number that were."""
    shown: dict[str, set[int]] = {}
    for name, severity in rows.domains:
        if severity:
            shown.setdefault(name, set()).add(severity)
    everything = set().union(*shown.values()) if shown else set()
    kept = {name for name, severities in shown.items() if severities == everything}
    levels = np.array([severity if severity == 0 or name in kept else -1 for name, severity in rows.domains])
    return levels[rows.domain], len(kept)
