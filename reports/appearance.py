"""How figures and tables look: what a reader may set, for the time that they are drawn."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style

from evalsuite.errors import RequestError, unknown_name
from evalsuite.study.report import Report

COLUMN = 3.4
"""Width of one column of a two-column paper, inches."""
PAGE = 7.0
"""Width of both columns, inches."""
TALL = 7.6
"""Height of a figure that, with its caption, fits a page of LaTeX's article, inches: what is taller goes on several."""
POINTS = 7.0
"""The size of text for which distances in the figures are given."""

_STYLE = Path(__file__).with_name("style.mplstyle")
_TEXTS = ("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize")
_TITLES = ("axes.titlesize", "figure.titlesize")
_TITLE = 8 / 7  # of the size of other text


@dataclass(frozen=True)
class Appearance:
    """The look of everything that is drawn; :meth:`of` reads it from what a study or reader asks for.

    Attributes
    ----------
    column, page : widths in inches of figures that fit a column, and of those that need both.
    style : a style of matplotlib's, by name or file, laid over ours.
    font_size : points; None: what the styles say.
    formats : of files.
    digits : after the point; None: as many as the interval's width carries.
    """

    column: float = COLUMN
    page: float = PAGE
    style: str = ""
    font_size: float | None = None
    formats: tuple[str, ...] = ("pdf", "png")
    digits: int | None = None

    @classmethod
    def of(cls, report: Report) -> Appearance:
        """Return the look that is asked for. Raises RequestError for a style that matplotlib does not know."""
        named = report.style and not report.style.endswith(".mplstyle")
        if named and report.style not in matplotlib.style.available:
            raise unknown_name("style of matplotlib's", report.style, matplotlib.style.available)
        width = report.inches
        column, page = (COLUMN, PAGE) if width is None else (width, width)
        return cls(column, page, report.style, report.font_size, report.formats, report.digits)

    @property
    def settings(self) -> dict[Any, Any]:
        """What is set in matplotlib beside the styles."""
        if self.font_size is None:
            return {}
        return dict.fromkeys(_TEXTS, self.font_size) | dict.fromkeys(_TITLES, self.font_size * _TITLE)


USUAL = Appearance()
_CURRENT: ContextVar[Appearance] = ContextVar("appearance")


def current() -> Appearance:
    """Return the look that is applied, by default the usual one."""
    return _CURRENT.get(USUAL)


@contextmanager
def applied(look: Appearance | None = None) -> Iterator[None]:
    """Apply a look while figures are drawn and saved; what was set before comes back afterwards.

    Raises RequestError if matplotlib cannot read the style.
    """
    look = current() if look is None else look
    token = _CURRENT.set(look)
    try:
        with mpl.rc_context():
            matplotlib.style.use(_STYLE)
            if look.style:
                _use(look.style)
            mpl.rcParams.update(look.settings)
            yield
    finally:
        _CURRENT.reset(token)


def _use(style: str) -> None:
    complaints = _Complaints()
    logger = logging.getLogger("matplotlib")
    logger.addHandler(complaints)
    try:
        matplotlib.style.use(style)
    except (OSError, ValueError) as error:
        raise RequestError(f"style {style}: matplotlib cannot read it ({error})") from error
    finally:
        logger.removeHandler(complaints)
    if complaints.said:  # it goes on without lines that it cannot read
        raise RequestError(f"style {style}: matplotlib cannot read it ({' '.join(complaints.said[0].split())})")


class _Complaints(logging.Handler):
    """Keeps the warnings that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def scaled(inches: float) -> float:
    """Return a distance that is meant for text of 7 points, for the size that is set."""
    return inches * float(mpl.rcParams["font.size"]) / POINTS
