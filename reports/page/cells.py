"""Tables of a page: columns with a head, cells with a text to read and a value to sort by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.frames.methods import each_row, readable
from reports.words.columns import COLUMNS, How
from reports.words.numbers import NOTHING, count, is_missing, number, p_cell

if TYPE_CHECKING:
    from reports.page.strips import Axis, Strip

_TESTS = {"wilcoxon": "Wilcoxon", "mcnemar": "McNemar"}


@dataclass(frozen=True)
class Cell:
    """What is read, and what is sorted by (empty: at the end)."""

    text: str
    value: str
    href: str = ""
    """Where it leads, if anywhere; quoted as an address is."""
    strip: Strip | None = None
    """What is drawn before the text."""
    kind: str = ""
    """Of the colours: ``better``, ``worse`` or none."""


@dataclass(frozen=True)
class Column:
    """A head and how a row of the frame becomes a cell."""

    label: str
    cell: Callable[[Any], Cell]
    numeric: bool = False
    axis: Axis | None = None
    """Of the strips in its cells; its ticks stand under the head."""
    wide: bool = False
    """Whether its text may break into lines."""
    holds: str = ""
    """What it holds: its name in :data:`reports.words.columns.COLUMNS`, by default the field it is made of."""

    @property
    def how(self) -> How:
        """How its numbers are made. Raises KeyError if nothing is said of what it holds."""
        return COLUMNS[self.holds]


@dataclass(frozen=True)
class Table:
    """A table of the page; the first cell of a row is its head."""

    name: str
    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    marks: Sequence[str] = ()
    """Of each row the method combinations that it is about, where the page can be filtered by them."""
    explained: bool = False
    """Whether it says how each of its columns is made."""

    @property
    def hows(self) -> list[tuple[str, How]]:
        """Label of every column, and how it is made."""
        return [(column.label, column.how) for column in self.columns]


def table_of(
    name: str,
    title: str,
    caption: str,
    columns: Sequence[Column],
    frame: pd.DataFrame,
    marks: Callable[[pd.DataFrame], Sequence[str]] | None = None,
    *,
    explained: bool = False,
) -> Table:
    """Make a table of a frame's rows."""
    rows = [[each.cell(row) for each in columns] for row in each_row(frame)]
    return Table(name, title, caption, columns, rows, marks(frame) if marks else (), explained)


def text_column(label: str, field: str, *, wide: bool = False, holds: str = "") -> Column:
    """A text, a dash where there is none."""

    def cell(row: Any) -> Cell:
        value = getattr(row, field)
        text = str(value) if isinstance(value, str) and value else NOTHING
        return Cell(text, "" if text == NOTHING else text)

    return Column(label, cell, wide=wide, holds=holds or field)


def worded_column(label: str, words: Callable[[dict[str, Any]], str], *, wide: bool = True, holds: str = "") -> Column:
    """What is said of a row, made of several of its fields."""

    def cell(row: Any) -> Cell:
        text = words(vars(row))
        return Cell(text, text)

    return Column(label, cell, wide=wide, holds=holds)


def number_column(
    label: str, field: str, *, scale: float = 1.0, digits: int = 1, grouped: bool = False, holds: str = ""
) -> Column:
    """A number times ``scale``; ``grouped``: a whole number with its thousands apart."""

    def cell(row: Any) -> Cell:
        value = getattr(row, field)
        if is_missing(value):
            return Cell(NOTHING, "")
        return Cell(f"{value:,.0f}" if grouped else number(value * scale, digits), repr(float(value)))

    return Column(label, cell, numeric=True, holds=holds or field)


def interval_column(label: str, field: str, low: str, high: str, *, holds: str = "") -> Column:
    """A rate or difference with its interval, if it has one, times 100."""

    def cell(row: Any) -> Cell:
        value, *edges = (getattr(row, name) for name in (field, low, high))
        if is_missing(value):
            return Cell(NOTHING, "")
        text = number(value * 100)
        if not any(map(is_missing, edges)):
            text += f" ({' to '.join(number(edge * 100) for edge in edges)})"
        return Cell(text, repr(float(value)))

    return Column(label, cell, numeric=True, holds=holds or field)


def p_column(label: str, field: str, *, holds: str = "") -> Column:
    """A p-value."""

    def cell(row: Any) -> Cell:
        value = getattr(row, field)
        if is_missing(value):
            return Cell(NOTHING, "")
        return Cell(p_cell(value), repr(float(value)))

    return Column(label, cell, numeric=True, holds=holds or field)


def group_column(label: str, field: str, *, holds: str = "") -> Column:
    """The name of a group, as people write it."""

    def cell(row: Any) -> Cell:
        value = getattr(row, field)
        return Cell(readable(value), value) if isinstance(value, str) else Cell(NOTHING, "")

    return Column(label, cell, holds=holds or field)


def units_column(label: str, test: str = "", *, holds: str = "") -> Column:
    """How many of what a test used: 15 domains; ``test``: the field that names it."""

    def cell(row: Any) -> Cell:
        used = count(int(row.n), row.unit)
        name = _TESTS.get(getattr(row, test), getattr(row, test)) if test else ""
        return Cell(f"{name}, {used}" if name else used, repr(float(row.n)))

    return Column(label, cell, numeric=True, holds=holds or test)


def share_column(label: str, field: str, total: str) -> Column:
    """How many of how many."""

    def cell(row: Any) -> Cell:
        own, most = int(getattr(row, field)), int(getattr(row, total))
        return Cell(f"{own:,} of {most:,}", repr(own / most))

    return Column(label, cell, numeric=True, holds=field)
