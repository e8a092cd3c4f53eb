"""What an audit found, in sentences."""

from __future__ import annotations

from typing import Any

import pandas as pd

from evalsuite.analysis.contests import contests_of
from evalsuite.registry import configure
from evalsuite.store import Run
from reports.frames.evidence import evidence
from reports.frames.methods import each_row
from reports.words.numbers import CONFIDENCE_PERCENT

GIVEN = "Intervals are over images, with the calibration draw (seed) taken as given."


def findings(run: Run, target: str) -> list[str]:
    """Say how the target compares with each of the others at each bit width, in sentences.

    A difference is claimed only where the test over domains, Holm-corrected over the comparisons of the target that
    are asked for, and the interval over images agree: all domains show the same images, so a test over domains alone
    would take one image for many.
    """
    trials = run.trials[run.trials["quantizer"] == configure("quantizers", target).name]
    lost = [_lost(trials)] if (trials["status"] != "done").any() else []
    if not (trials["status"] == "done").any():
        return lost
    labels = set(trials["quantizer_label"])
    analysed = evidence(run)
    summary = analysed.summary[analysed.summary["quantizer_label"].isin(labels)]
    contests = contests_of(analysed.comparisons, labels)
    asked = int(contests["p_holm"].notna().sum())
    return [
        *lost,
        *(_harm(row) for row in each_row(summary)),
        *(_contest(row, asked) for row in each_row(contests)),
        *([_resampled(summary)] if asked else []),
    ]


def _resampled(summary: pd.DataFrame) -> str:
    units = sorted(summary["unit"].unique())
    return GIVEN if units == ["image"] else f"Intervals are over {' and '.join(units)}, both resampled."


def _lost(trials: pd.DataFrame) -> str:
    lost = trials[trials["status"] != "done"]
    counts = " and ".join(f"{count} {status}" for status, count in lost["status"].value_counts(sort=False).items())
    first = lost.iloc[0]
    return (
        f"{len(lost)} of the {len(trials)} trials of the target gave no result ({counts}), "
        f"the first, {first['quantizer_label']}, because: {first['reason'].rstrip('.')}."
    )


def _harm(row: Any) -> str:
    """Say whether a row of ``summary.csv`` harms one class more than another."""
    label, p = row.quantizer_label, row.worst_drop_class_p_holm
    if pd.isna(p):
        return (
            f"{label}: {100 * row.error:.1f} % errors; whether it harms one class more than another "
            "could not be tested: there is no full-precision result to compare with."
        )
    drop = f"{label}: {100 * row.drop:.1f} points more errors than full precision on average"
    worst = f"{100 * row.worst_drop_class_value:.1f} in its worst class ({row.worst_drop_class})"
    chance = f"{100 * row.worst_drop_class_null:.1f} expected by chance, p = {p:.2g}"
    if row.worst_drop_class_shown:
        return f"{drop}, {worst}, more than chance alone gives ({chance})."
    return f"{drop}, {worst}; no evidence that it harms one class more than another ({chance})."


def _contest(row: Any, asked: int) -> str:
    """Say how the target compares with a rival; ``asked``: the comparisons that p is corrected over."""
    gap, low, high = (100 * value + 0.0 for value in (row.difference, row.low, row.high))  # no "-0.0"
    if pd.isna(row.p_holm):
        return f"{row.target} against {row.rival}: {gap:+.1f} points of mean error; no test ({row.note})."
    verdict = ("worse than" if low > 0 else "better than") if row.shown else "not distinguishable from"
    return (
        f"{row.target} is {verdict} {row.rival}: {gap:+.1f} points of mean error "
        f"({CONFIDENCE_PERCENT} % interval {low:+.1f} to {high:+.1f}; p = {row.p_holm:.2g} after Holm over "
        f"{asked} comparison{'s' * (asked > 1)}, {row.n} domains)."
    )
