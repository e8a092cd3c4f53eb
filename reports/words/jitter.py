"""Jitter in words: what one last digit of the norms' weights changes, where a run has measured it."""

from __future__ import annotations

import pandas as pd


def jitter_note(summary: pd.DataFrame) -> list[str]:
    """Return a sentence on the largest jitter of ``summary.csv``; nothing where none was measured."""
    measured = summary[summary["jitter_flip_rate"].notna()]
    if measured.empty:
        return []
    flips = measured.sort_values("jitter_flip_rate", kind="stable").iloc[-1]
    error = measured.sort_values("jitter_error", kind="stable").iloc[-1]
    return [
        "With every norm's weights changed by one part in ten million, up to "
        f"{100 * flips['jitter_flip_rate']:.2g} % of a network's predictions change ({_of(flips)}), and its error by "
        f"up to {100 * error['jitter_error']:.2g} points (standard deviation; {_of(error)}). Differences of that size "
        "are rounding, not methods."
    ]


def _of(row: pd.Series) -> str:
    return f"{row['quantizer_label']} under {row['adapter_label']}"
