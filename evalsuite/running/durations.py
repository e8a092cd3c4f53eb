"""How long work takes, estimated from work of the same kind that is done."""

from __future__ import annotations

from collections.abc import Sequence


class Durations:
    """Mean durations by kind of work; a kind is a sequence of names, the one that decides most first."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], tuple[float, int]] = {}

    def add(self, kind: Sequence[str], seconds: float) -> None:
        """Take note of an item of a kind that took so many seconds."""
        for length in range(len(kind) + 1):
            total, count = self._sums.get(tuple(kind[:length]), (0.0, 0))
            self._sums[tuple(kind[:length])] = total + seconds, count + 1

    def of(self, kind: Sequence[str]) -> float | None:
        """Return the mean of the items that have most of a kind's names, from the first, in common; None without any.

        Ours: means of the nearest kind that has been seen.
        """
        for length in range(len(kind), -1, -1):
            total, count = self._sums.get(tuple(kind[:length]), (0.0, 0))
            if count:
                return total / count
        return None


def in_words(seconds: float | None) -> str:
    """Return an estimated time in words."""
    if seconds is None:
        return "unknown time"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
