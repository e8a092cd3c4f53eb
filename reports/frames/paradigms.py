"""Quantizers with equal bits, all else equal: the ways of calibrating that a study compares."""

from __future__ import annotations

import pandas as pd

from evalsuite.store import Run
from reports.frames.evidence import Evidence
from reports.frames.methods import KEYS
from reports.frames.rivals import best_of_rivals

_OF_DROP = ("value", "low", "high", "null", "p_holm", "shown")
_WORST = ["worst_drop_class", *(f"worst_drop_class_{name}" for name in _OF_DROP)]
_COLUMNS = [*KEYS, "bits", "bits_order", "unit", "error", "drop", "drop_low", "drop_high", *_WORST]


def paradigms(run: Run, evidence: Evidence) -> pd.DataFrame:
    """Return rows of ``summary.csv`` for bits with at least two quantizers, the lowest mean error of its bits first.

    Those without adaptation, under the study's first calibration set, in each task's first stream. ``best``,
    ``not_distinct`` and ``not_compared`` are those of :func:`reports.frames.rivals.best_of_rivals`.
    """
    own = pd.concat([evidence.methods, best_of_rivals(evidence)], axis=1)
    own = own[own["unadapted"] & ~own["full_precision"] & own["drop"].notna()]
    trials = run.trials[run.trials["weight_bits"].notna()]
    usual = trials.drop_duplicates("task")[["task", "stream_label", "calibration_label"]]
    own = own.merge(usual, on=["task", "stream_label", "calibration_label"])
    own = own[own.groupby(["task", "bits"])["quantizer_label"].transform("nunique") > 1]
    order = {bits: place for place, bits in enumerate(own["bits"].unique())}
    own = own.assign(bits_order=own["bits"].map(order))
    columns = [*_COLUMNS, "best", "not_distinct", "not_compared"]
    return own.sort_values(["task_order", "bits_order", "error"], kind="stable", ignore_index=True)[columns]
