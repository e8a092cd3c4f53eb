"""A fraction of the calibration images is changed: how many, which, and how that is written."""

from __future__ import annotations

import numpy as np

from evalsuite.errors import RequestError
from evalsuite.plugins import IntArray


def check_fraction(fraction: float) -> None:
    """Raise RequestError unless the fraction is above 0 and at most 1."""
    if not 0 < fraction <= 1:
        raise RequestError(f"contaminated fraction {fraction}: expected more than 0 and at most 1")


def number_changed(fraction: float, count: int, what: str) -> int:
    """Return the nearest whole number of images. Raises RequestError if that is none."""
    number = round(fraction * count)
    if number == 0:
        raise RequestError(f"{what}: {100 * fraction:g} % of {count} images is none: expected at least one")
    return number


def draw_changed(fraction: float, count: int, what: str, generator: np.random.Generator) -> IntArray:
    """Draw which of ``count`` images are changed: sorted positions."""
    return np.sort(generator.choice(count, number_changed(fraction, count, what), replace=False))


def share(fraction: float) -> str:
    """Return how a fraction is written after a name: nothing for all images, else for example `` on 25 %``."""
    return "" if fraction == 1 else f" on {100 * fraction:g} %"
