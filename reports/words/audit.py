"""What an audit found, in sentences."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from evalsuite.registry import configure
from evalsuite.statistics import holm
from evalsuite.store import Run

ALPHA = 0.05
GIVEN = "Intervals are over images, with the calibration draw (seed) taken as given."


def findings(run: Run, target: str) -> list[str]:
    """Say how the target compares with each of the others at each bit width, in sentences.

    A difference is claimed only where the test over domains, Holm-corrected over the comparisons of the target that
    are asked for, and the interval over images agree: all domains show the same images, so a test over domains alone
    would take one image for many.
    """
    from evalsuite.analysis import analyse

    trials = run.trials[run.trials["quantizer"] == configure("quantizers", target).name]
    lost = [_lost(trials)] if (trials["status"] != "done").any() else []
    if not (trials["status"] == "done").any():
        return lost
    own = set(trials["quantizer_label"])
    analysis = analyse(run)
    summary = analysis.summary.to_dict("records")
    comparisons = analysis.comparisons.to_dict("records")
    alike = [row for row in comparisons if row["factor"] == "quantizer" and (row["a"] in own) != (row["b"] in own)]
    contests = [row for row in alike if _bits(row["a"]) == _bits(row["b"])]
    corrected = holm([row["p"] for row in contests])
    asked = int(np.count_nonzero(~np.isnan(corrected)))
    return [
        *lost,
        *(_harm(row) for row in summary if row["quantizer_label"] in own),
        *(_contest(row, own, float(p), asked) for row, p in zip(contests, corrected, strict=True)),
        *([_resampled(summary, own)] if asked else []),
    ]


def _resampled(summary: list[dict[Hashable, Any]], own: set[str]) -> str:
    units = sorted({row["unit"] for row in summary if row["quantizer_label"] in own})
    return GIVEN if units == ["image"] else f"Intervals are over {' and '.join(units)}, both resampled."


def _lost(trials: pd.DataFrame) -> str:
    lost = trials[trials["status"] != "done"]
    counts = " and ".join(f"{count} {status}" for status, count in lost["status"].value_counts(sort=False).items())
    first = lost.iloc[0]
    return (
        f"{len(lost)} of the {len(trials)} trials of the target gave no result ({counts}), "
        f"the first, {first['quantizer_label']}, because: {first['reason'].rstrip('.')}."
    )


def _harm(row: Mapping[Hashable, Any]) -> str:
    label, p = row["quantizer_label"], row["worst_drop_class_p_holm"]
    if pd.isna(p):
        return (
            f"{label}: {100 * row['error']:.1f} % errors; whether it harms one class more than another "
            "could not be tested: there is no full-precision result to compare with."
        )
    drop = f"{label}: {100 * row['drop']:.1f} points more errors than full precision on average"
    worst = f"{100 * row['worst_drop_class_value']:.1f} in its worst class ({row['worst_drop_class']})"
    chance = f"{100 * row['worst_drop_class_null']:.1f} expected by chance, p = {p:.2g}"
    if p < ALPHA:
        return f"{drop}, {worst}, more than chance alone gives ({chance})."
    return f"{drop}, {worst}; no evidence that it harms one class more than another ({chance})."


def _contest(row: Mapping[Hashable, Any], own: set[str], p: float, asked: int) -> str:
    """Say how the target compares; ``p``: corrected over the ``asked`` comparisons of the audit."""
    mine, other, sign = (row["a"], row["b"], 1) if row["a"] in own else (row["b"], row["a"], -1)
    gap = 100 * sign * row["difference"] + 0.0  # no "-0.0"
    if np.isnan(p):
        return f"{mine} against {other}: {gap:+.1f} points of mean error; no test ({row['note']})."
    low, high = sorted(100 * sign * row[edge] + 0.0 for edge in ("low", "high"))
    distinct = p < ALPHA and (low > 0 or high < 0)
    verdict = ("worse than" if low > 0 else "better than") if distinct else "not distinguishable from"
    return (
        f"{mine} is {verdict} {other}: {gap:+.1f} points of mean error "
        f"(95 % interval {low:+.1f} to {high:+.1f}; p = {p:.2g} after Holm over {asked} comparison{'s' * (asked > 1)}, "
        f"{row['n']} domains)."
    )


def _bits(label: str) -> str:
    return label.rpartition(" ")[2]
