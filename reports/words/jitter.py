"""Jitter in words: what one last digit of the norms' weights changes, where a run has measured it."""

from __future__ import annotations

import pandas as pd


def jitter_note(summary: pd.DataFrame) -> list[str]:
    """Return a sentence on the largest jitter of ``summary.csv``; nothing where none was measured."""
    measured = summary[summary["jitter_flip_rate"].notna()]
    if measured.empty:
        return []
    worst = measured.sort_values("jitter_error").iloc[-1]
    return [
        "With every norm's weights changed by one part in ten million, up to "
        f"{100 * measured['jitter_flip_rate'].max():.2g} % of a network's predictions change, and its error by "
        f"{100 * worst['jitter_error']:.2g} points (standard deviation; largest with {worst['quantizer_label']} under "
        f"{worst['adapter_label']}). Differences of that size are rounding, not methods."
    ]
