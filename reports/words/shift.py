"""Whether quantization costs more under shift than on clean images, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports.frames.methods import each_row
from reports.words.numbers import count, interval, is_missing, p_value, points

QUESTION = "Does quantization cost more under shift than on clean images?"


def of_shift(excess: pd.DataFrame) -> Iterator[str]:
    """Say of how many networks of one task it is shown that they lose more, or less, under shift, and of which most."""
    more = excess[excess["shown"] & (excess["excess"] > 0)]
    less = excess[excess["shown"] & (excess["excess"] < 0)]
    unclear = len(excess) - len(more) - len(less)
    if len(excess) > 1:
        yield (
            f"Against full precision, {len(more) or 'none'} of {count(len(excess), 'quantized network')} "
            f"{'loses' if len(more) == 1 else 'lose'} more under shift than on clean images, {len(less) or 'none'} "
            f"less; for {unclear or 'none'} no difference is shown."
        )
    if len(more):
        yield _most(more, "Most more")
    if len(less):
        yield _most(less, "Most less")
    if unclear == len(excess):
        yield _most(excess, "The largest difference, which is not shown")


def _most(excess: pd.DataFrame, what: str) -> str:
    """Name the network whose two drops are farthest apart, in whichever direction."""
    row: Any = next(each_row(excess.loc[[excess["excess"].abs().idxmax()]]))
    size, low, high = (row.excess, row.low, row.high) if row.excess >= 0 else (-row.excess, -row.high, -row.low)
    p = "not tested" if is_missing(row.p_holm) else p_value(row.p_holm)
    return (
        f"{what}: {row.network}, which loses {points(row.clean_drop)} on clean images and {points(row.shifted_drop)} "
        f"under shift, {points(size)} {'more' if row.excess >= 0 else 'less'} ({interval(low, high)}; {p})."
    )
