"""Numbers as people read them: per cent and points kept apart, no p-value of zero, no false digits."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evalsuite.analysis.claims import CONFIDENCE, LEVEL

NOTHING = "\N{EN DASH}"
"""Stands where there is no number."""
MINUS = "\N{MINUS SIGN}"
CONFIDENCE_PERCENT = f"{100 * CONFIDENCE:g}"
"""With what probability an interval holds, in %."""
_SPACE = "\N{NO-BREAK SPACE}"


def is_missing(value: float | None) -> bool:
    """Tell whether there is no number."""
    return value is None or math.isnan(value)


def number(value: float | None, digits: int = 1) -> str:
    """Write a number with a true minus sign; no "-0.0"."""
    if value is None or math.isnan(value):
        return NOTHING
    text = f"{abs(value):.{digits}f}"
    return MINUS + text if value < 0 and float(text) else text


def percent(fraction: float | None) -> str:
    """Write a rate: 0.123 is 12.3 %."""
    return number(fraction if fraction is None else fraction * 100) + _SPACE + "%"


def points(fraction: float | None) -> str:
    """Write a difference of two rates: 0.031 is 3.1 points."""
    return number(fraction if fraction is None else fraction * 100) + _SPACE + "points"


def p_value(p: float) -> str:
    """Write p = 0.012, or p < 0.001 below that; see :func:`p_bound`."""
    bound = p_bound(p)
    return f"p{_SPACE}={_SPACE}{p:.3f}" if bound is None else f"p{_SPACE}<{_SPACE}{bound:g}"


def p_cell(p: float) -> str:
    """Write 0.012, or < 0.001 below that, as a cell of a column of p-values; see :func:`p_bound`."""
    bound = p_bound(p)
    return f"{p:.3f}" if bound is None else f"< {bound:g}"


def p_bound(p: float) -> float | None:
    """Return what p is written to be less than: three digits must not hide on which side of the level it lies."""
    return next((bound for bound in (0.001, LEVEL) if p < bound <= max(round(p, 3), 0.001)), None)


def interval(low: float, high: float) -> str:
    """Write the interval of a difference, in points, without the unit."""
    return f"{CONFIDENCE_PERCENT}{_SPACE}% interval {number(low * 100)} to {number(high * 100)}"


def count(n: int, singular: str, plural: str | None = None) -> str:
    """Write a number of things: 1 class, 2 classes."""
    return f"{n:,}{_SPACE}{singular if n == 1 else plural or singular + 's'}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Join words: a; a and b; a, b and c."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
