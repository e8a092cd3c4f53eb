"""LaTeX floats that fit a column: measured in TeX's own font, cut by columns and by rows where they are too large."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import ArrayLike

from reports import style

_COLUMN = 3.17  # inches: the narrowest usual column, of LaTeX's own two-column article
_SMALL, _POINTS = 8.0, 72.27  # \footnotesize of a paper in 10 points; TeX's points an inch
_FONT = FontProperties(family="cmr10", size=_SMALL)
_SEPARATION = 3.0  # points on either side of a column
_MOST = 40.0  # lines of a float
_RULE = 0.7  # lines that a rule takes
_LEAST = 0.42  # of the width, which a label may always take; a column of values never takes more than the rest


@dataclass(frozen=True)
class Column:
    """A column of values."""

    head: str
    align: str = "r"


@dataclass(frozen=True)
class Block:
    """Rows under a title: a label and as many cells as there are columns."""

    title: str
    rows: tuple[tuple[str, ...], ...]


def digits_for(low: ArrayLike, high: ArrayLike) -> int:
    """Return the digits after the point that values in per cent carry whose intervals have these ends, fractions.

    Two digits of the interval's half-width, the median one (*ours*); what the reader asked for goes before.
    """
    asked = style.current().digits
    if asked is not None:
        return asked
    half = np.abs(np.asarray(high, np.float64) - np.asarray(low, np.float64)) * 50
    half = half[np.isfinite(half) & (half > 0)]
    return int(np.clip(1 - math.floor(math.log10(float(np.median(half)))), 0, 3)) if len(half) else 1


def floats(name: str, caption: str, label: str, columns: Sequence[Column], blocks: Sequence[Block]) -> str:
    """Return the floats of a table, one below the other: none wider than a column, none higher than a page.

    Parameters
    ----------
    name : of the reference ``tab:NAME``; that of a later float has its number behind it.
    label : head of the first column, which every float has.
    """
    look = style.current()
    asked = look.column != style.COLUMN
    width = (look.column if asked else _COLUMN) * _POINTS
    environment = "table*" if width > 1.5 * _COLUMN * _POINTS else "table"
    found = [
        (part, chosen)
        for chosen in _across(columns, blocks, label, width)
        for part in _down(_with(blocks, chosen), width)
    ]
    texts = []
    for number, (part, chosen) in enumerate(found, start=1):
        said = caption if len(found) == 1 else f"{caption} Part {number} of {len(found)}."
        own = name.replace("_", "-") + (f"-{number}" if number > 1 else "")
        texts.append(_float(environment, own, said, label, [columns[k] for k in chosen], part, width))
    return "\n".join(texts)


def _across(columns: Sequence[Column], blocks: Sequence[Block], label: str, width: float) -> list[list[int]]:
    """Choose which columns stand in one float."""
    widths = [min(own, _most(width)) for own in _widths(columns, blocks)]
    room = width - _label_width(label, blocks, width, min(widths, default=0.0))
    parts: list[list[int]] = [[]]
    for k, own in enumerate(widths):
        if parts[-1] and sum(widths[each] for each in parts[-1]) + own > room:
            parts.append([])
        parts[-1].append(k)
    return parts


def _widths(columns: Sequence[Column], blocks: Sequence[Block]) -> list[float]:
    """Return the points that columns of values take where none of their cells is broken into lines."""
    return [_column_width(own.head, [row[k] for b in blocks for row in b.rows]) for k, own in enumerate(columns, 1)]


def _most(width: float) -> float:
    """Points that a column of values takes at most."""
    return (1 - _LEAST) * width


def _with(blocks: Sequence[Block], chosen: Sequence[int]) -> list[Block]:
    return [replace(own, rows=tuple((row[0], *(row[k + 1] for k in chosen)) for row in own.rows)) for own in blocks]


def _down(blocks: Sequence[Block], width: float) -> list[list[Block]]:
    """Cut blocks into floats of so many lines; a block that is longer has its title again."""
    parts: list[list[Block]] = [[]]
    used = 0.0
    for block in blocks:
        title = _RULE + _lines(block.title, 0.8 * width)
        whole = title + sum(_high(row, width) for row in block.rows)
        if used and used + whole > _MOST >= whole:
            parts.append([])
            used = 0.0
        rows: list[tuple[str, ...]] = []
        for row in block.rows:
            own = _high(row, width) + (0.0 if rows else title)
            if used and used + own > _MOST:
                if rows:
                    parts[-1].append(replace(block, rows=tuple(rows)))
                    rows, own = [], own + title
                parts.append([])
                used = 0.0
            rows.append(row)
            used += own
        parts[-1].append(replace(block, rows=tuple(rows)))
    return parts


def _high(row: Sequence[str], width: float) -> int:
    """Return the lines of a row: those of its label, or of a cell that is broken."""
    return max(_lines(row[0], _LEAST * width), *(_lines(cell, _most(width) - 2 * _SEPARATION) for cell in row[1:]), 1)


def _lines(text: str, points: float) -> int:
    return math.ceil(1.1 * text_points(text) / points)


def _label_width(label: str, blocks: Sequence[Block], width: float, least: float) -> float:
    wanted = _column_width(label, [row[0] for own in blocks for row in own.rows])
    return min(wanted, max(_LEAST * width, width - least))


def _float(
    environment: str,
    name: str,
    caption: str,
    label: str,
    columns: Sequence[Column],
    blocks: Sequence[Block],
    width: float,
) -> str:
    wide, most = _widths(columns, blocks), _most(width)
    own = [min(each, most) for each in wide]
    aligned = [_aligned(each, points, most) for each, points in zip(columns, wide, strict=True)]
    room = width - sum(own)
    wanted = _column_width(label, [row[0] for each in blocks for row in each.rows])
    ragged = r">{\raggedright\arraybackslash}p"
    first = "l" if wanted <= room else rf"{ragged}{{{room - 2 * _SEPARATION:.0f}pt}}"
    whole = width - 2 * _SEPARATION
    lines = [
        r"% needs \usepackage{booktabs,array}",
        rf"\begin{{{environment}}}",
        rf"\centering\footnotesize\setlength{{\tabcolsep}}{{{_SEPARATION:g}pt}}",
        rf"\caption{{{caption}}}\label{{tab:{name}}}",
        rf"\begin{{tabular}}{{@{{}}{first}{''.join(aligned)}@{{}}}}",
        r"\toprule",
        line([label, *(each.head for each in columns)]),
    ]
    used = min(whole, sum(own) + min(wanted, room))
    for block in blocks:
        size = rf"{{@{{}}{ragged}{{{used - _SEPARATION:.0f}pt}}@{{}}}}"
        title = rf"\multicolumn{{{len(columns) + 1}}}{{@{{}}l@{{}}}}{{\textit{{{block.title}}}}}"
        if text_points(block.title) > used:
            title = rf"\multicolumn{{{len(columns) + 1}}}{size}{{\textit{{{block.title}}}}}"
        lines += [r"\midrule", title + r" \\", *(line(row) for row in block.rows)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", rf"\end{{{environment}}}", ""])


def _aligned(column: Column, points: float, most: float) -> str:
    """Return how a column is set: as it is, or in lines where it would be too wide."""
    if points <= most:
        return column.align
    ragged = r"\raggedleft" if column.align == "r" else r"\raggedright"
    return rf">{{{ragged}\arraybackslash}}p{{{most - 2 * _SEPARATION:.0f}pt}}"


def line(cells: Sequence[str]) -> str:
    """Return a row of a tabular."""
    return " & ".join(cells) + r" \\"


def _column_width(head: str, cells: Sequence[str]) -> float:
    return max(map(text_points, [head, *cells])) + 2 * _SEPARATION


@functools.lru_cache(maxsize=2**14)
def text_points(tex: str) -> float:
    """Return the width in points of TeX of a piece of LaTeX in footnote size, commands being taken off."""
    bold = r"\textbf" in tex
    tex = re.sub(r"\\text[a-z]+\{\}", "+", tex)
    plain = re.sub(r"\\scriptsize|\\textbf|\\textit|\\,|[{}$^]", "", tex)
    plain = re.sub(r"\\(?:dagger|ast|pm)", "+", plain)
    plain = plain.replace("\\", "")
    return _width(plain) * (1.15 if bold else 1.03) + 0.5


def _width(text: str) -> float:
    """Return the points of a line, without drawing it."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, _FONT, ismath=False)
    return float(width) * _POINTS / 72 if text.strip() else 0.0
