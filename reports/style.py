"""One look for all figures: sizes of a printed column, colours that survive colour blindness and grey print."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from evalsuite.files import replacing
from reports.appearance import COLUMN, PAGE, TALL, Appearance, applied, current, scaled

__all__ = ["ALERT", "BEYOND_CHANCE", "COLUMN", "EXPECTED", "FAINT", "INK", "MUTED", "PAGE", "TALL", "WITHIN_CHANCE"]
__all__ += ["TOLD", "Appearance", "Look", "applied", "current", "look", "luminance", "save", "scaled", "svg"]

INK = "#262626"
MUTED = "#8c8c8c"
FAINT = "#e6e6e6"
ALERT = "#D55E00"
"""For what goes beyond chance; no adapter has this colour."""
BEYOND_CHANCE: Mapping[str, Any] = {"ls": "", "marker": "D", "ms": 3.4, "color": ALERT, "mew": 0}
WITHIN_CHANCE: Mapping[str, Any] = {"ls": "", "marker": "D", "ms": 3.4, "mfc": "white", "mec": INK, "mew": 0.6}
EXPECTED: Mapping[str, Any] = {"ls": "", "marker": "|", "ms": 6, "color": INK, "mew": 0.9}
"""Marks of a worst group: shown to be beyond chance, not shown to be, and the one to expect by chance."""

TOLD: Any = (0, (3, 1.5))
"""Line of an oracle, which is told the labels; it has no marker."""

# Okabe & Ito's palette without yellow, which fades on white paper, and without ALERT, then wine, olive and indigo of
# Tol's muted one. Dark grey comes first: it is the unadapted network in every figure.
_COLOURS = ("#404040", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#882255", "#999933", "#332288")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES: tuple[Any, ...] = ("-", (0, (6, 1)), (0, (1, 1)))


@dataclass(frozen=True)
class Look:
    """Colour, marker and line of one method, the same in every figure; the marker alone tells it apart in grey."""

    colour: str
    marker: str
    line: Any = "-"


def look(order: int) -> Look:
    """Return the look of the method at place ``order`` of the study (0: unadapted).

    63 places differ, the first nine in colour.

    A colour that comes again has another line, for lines are seen before their markers.
    """
    line = _LINES[order // len(_COLOURS) % len(_LINES)]
    return Look(_COLOURS[order % len(_COLOURS)], _MARKERS[order % len(_MARKERS)], line)


def luminance(colour: tuple[float, ...]) -> float:
    """Return the relative luminance (WCAG 2) of an sRGB colour, channels 0..1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def save(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all; the same figure gives the same bytes (no date inside)."""
    dates = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    with replacing(path) as temporary:
        figure.savefig(temporary, metadata=dates.get(path.suffix))


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG with its text as outlines, so that it looks the same without our fonts."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
