"""What becomes of a network on an engine, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from evalsuite.analysis.claims import excludes_zero
from reports.frames.engines import over_all_images
from reports.frames.methods import each_row
from reports.words.numbers import CONFIDENCE_PERCENT, count, interval, is_missing, number, p_value, percent, points
from reports.words.verdict import named_class

QUESTION = "Does the worst class survive deployment?"
_SPACE = "\N{NO-BREAK SPACE}"


def of_engines(gaps: pd.DataFrame) -> Iterator[str]:
    """Say of each network on an engine what differs from its simulation; ``gaps``: of one task."""
    for row in each_row(over_all_images(gaps)):
        yield _flips(row)
        yield from _classes(row)


def _flips(row: Any) -> str:
    if row.flips == 0:
        text = f"{row.network} names the class that its simulation names for each of {count(int(row.images), 'image')}"
    else:
        low, high = number(row.flips_low * 100), number(row.flips_high * 100)
        text = (
            f"{row.network} names another class than its simulation for {percent(row.flips)} of what it is shown "
            f"({CONFIDENCE_PERCENT}{_SPACE}% interval {low} to {high}), most often of {named_class(row.most_flipped)} "
            f"({percent(row.class_flips)})"
        )
    threads = "" if is_missing(row.threads) else f" with {count(int(row.threads), 'thread')}"
    text += f"; its mean error changes by {points(row.change)} ({interval(row.change_low, row.change_high)}"
    text += ")" if excludes_zero(row.change_low, row.change_high) else ", which includes 0)"
    if is_missing(row.latency_ratio):
        text += f"; it took {number(row.milliseconds, 2)}{_SPACE}ms an image of the stream{threads}"
    else:
        text += (
            f"; in batches of 16 it takes {number(row.latency_ms, 2)}{_SPACE}ms an image{threads}, "
            f"{number(row.latency_ratio, 2)} times as long as the network in full precision on the same engine"
        )
    return f"{text}."


def _classes(row: Any) -> Iterator[str]:
    """Say where another class is the worst, or a class suffers beyond chance."""
    if row.worst_class != row.simulated_worst_class:
        yield (
            f"The worst class of {row.network} differs: {named_class(row.worst_class)} "
            f"({percent(row.worst_error)} wrong), in the simulation {named_class(row.simulated_worst_class)} "
            f"({percent(row.simulated_worst_error)}); which class is the worst is not tested."
        )
    if row.shown:
        yield (
            f"On {row.engine} the error of {named_class(row.most_changed)} rises by {points(row.class_change)}, more "
            f"than chance explains where all classes change alike ({p_value(row.class_change_p_holm)})."
        )
