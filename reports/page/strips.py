"""A row of a table as a picture: a dot and a diamond with their intervals, on an axis that all rows share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from reports.words.numbers import is_missing, number

_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 25, 50, 100)
"""Points between two ticks."""
_MOST_TICKS = 6


@dataclass(frozen=True)
class Axis:
    """From fractions to places in % of a strip's width."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float]) -> Axis:
        """Return an axis with room for values that are numbers, and for 0."""
        known = [float(value) for value in values if not is_missing(value)]
        low, high = min(0.0, *known, 0.0), max(0.0, *known, 0.0)
        room = 0.04 * (high - low) or 0.01
        return cls(low - room, high + room)

    def place(self, value: float) -> float:
        """Return where a value stands."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def maybe(self, value: float | None) -> float | None:
        """Return where a value stands; None where it is missing."""
        return None if value is None or is_missing(value) else self.place(value)

    def both(self, low: float | None, high: float | None) -> tuple[float, float] | None:
        """Return where an interval stands; None where an end is missing."""
        if low is None or high is None or is_missing(low) or is_missing(high):
            return None
        return self.place(low), self.place(high)

    @property
    def zero(self) -> float:
        """Where 0 stands."""
        return self.place(0.0)

    @property
    def ticks(self) -> tuple[tuple[float, str], ...]:
        """Places and labels, in points."""
        step = next((each for each in _TICKS if 100 * (self.high - self.low) / each <= _MOST_TICKS), 200)
        first, last = int(np.ceil(100 * self.low / step)), int(np.floor(100 * self.high / step))
        return tuple((self.place(k * step / 100), number(k * step, int(step < 1))) for k in range(first, last + 1))


@dataclass(frozen=True)
class Mark:
    """A value on a strip and its interval, places in %, and the colour it has."""

    place: float | None
    span: tuple[float, float] | None
    kind: str
    """``mean``; ``beyond``, ``within``; ``better``, ``worse``."""


@dataclass(frozen=True)
class Strip:
    """What is drawn: a dot above a diamond, on the band of what chance can give."""

    axis: Axis
    dot: Mark
    diamond: Mark
    said: str
    """The same in words, for those who do not see it."""
    band: tuple[float, float] | None = None
