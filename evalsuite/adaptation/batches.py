"""Numbers of batches as adapters say them in a trial's row: single ones, or ranges where there are many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Return rising numbers as ranges ``[first, stop]`` without a gap, ``stop`` excluded."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number:
            ranges[-1][1] = number + 1
        else:
            ranges.append([number, number + 1])
    return ranges


def flags(numbers: Sequence[int | Sequence[int]], batches: int) -> NDArray[np.bool_]:
    """Return for each of so many batches whether it is among ``numbers``, which may hold ranges ``[first, stop]``."""
    among = np.zeros(batches, np.bool_)
    for number in numbers:
        first, stop = (number, number + 1) if isinstance(number, int) else number
        among[first:stop] = True
    return among


def renumbered(numbers: Sequence[Any], at: Sequence[int]) -> list[int]:
    """Return numbers of batches, and those in ranges ``[first, stop]``, by their numbers in ``at``."""
    spread = [range(*number) if isinstance(number, list) else (number,) for number in numbers]
    return [at[number] for group in spread for number in group]


def later(numbers: Any, by: int) -> Any:
    """Return numbers of batches, or nested lists of such, counted from ``by`` batches earlier."""
    return [later(number, by) for number in numbers] if isinstance(numbers, list) else numbers + by
