"""LaTeX floats that fit a column, or both: measured in TeX's own font, cut by columns and rows where too large."""

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

_COLUMN, _PAGE = 3.17, 6.48  # inches: a column of LaTeX's own two-column article, narrower than most, and both
_SMALL, _POINTS = 8.0, 72.27  # \footnotesize of a paper in 10 points; TeX's points an inch
_FONT = FontProperties(family="cmr10", size=_SMALL)
_SEPARATION = 3.0  # points on either side of a column
_MOST = 40.0  # lines of a float
_USUAL, _BOLD = 1.07, 1.24  # of the width of cmr10: that of cmr8, cmti8 and of cmbx8, whose letters are wider
_SCRIPT = 0.94  # of that: \scriptsize, whose letters are wider for their height
_SURE = 0.9  # of a measured width: what it is at least, so that no title makes the last column wider
_RULE = 0.7  # lines that a rule takes
_LEAST = 0.3  # of the width, which a label may always take; a column of values never takes more than the rest
_RAGGED, _STACK = r">{\raggedright\arraybackslash}p", r"\shortstack"
_CAPTION = (
    r"\setlength{\abovecaptionskip}{0pt}\setlength{\belowcaptionskip}{4pt}"  # article's caption stands on the rule
)


@dataclass(frozen=True)
class Column:
    """A column of values."""

    head: str
    align: str = "r"


@dataclass(frozen=True)
class Block:
    """Rows under a title: a label and as many cells as there are columns.

    What blocks that follow each other have in common stands ``above`` the first of them.
    """

    title: str
    rows: tuple[tuple[str, ...], ...]
    above: str = ""


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


def floats(name: str, title: str, caption: str, label: str, columns: Sequence[Column], blocks: Sequence[Block]) -> str:
    """Return the floats of a table, one below the other: none wider than a column or, where that keeps it whole, both.

    None is higher than a page.

    Parameters
    ----------
    name : of the reference ``tab:NAME``; that of a later float has its number behind it.
    title, caption : what is shown, which every float says, and how to read it, which the first alone does.
    label : head of the first column, which every float has.
    """
    width, columns, across = _arranged(columns, blocks, label)
    environment = "table*" if width > 1.5 * _COLUMN * _POINTS else "table"
    found = []
    for chosen in across:
        own = [columns[k] for k in chosen]
        part = _with(blocks, chosen)
        found += [(own, rows) for rows in _down(part, width - _taken(own, part, width), width)]
    texts = []
    for number, (own, rows) in enumerate(found, start=1):
        said = f"{title} {caption}" if number == 1 else title
        said += f" Part {number} of {len(found)}" if len(found) > 1 else ""
        said += "." if number == 1 < len(found) else ""
        key = name.replace("_", "-")
        said += rf"; signs as in Table~\ref{{tab:{key}}}." if number > 1 else ""
        key += f"-{number}" if number > 1 else ""
        texts.append(_float(environment, rf"\caption{{{said}}}\label{{tab:{key}}}", label, own, rows, width))
    return "\n".join(texts)


def _arranged(
    columns: Sequence[Column], blocks: Sequence[Block], label: str
) -> tuple[float, list[Column], list[list[int]]]:
    """Choose a width in points, heads in one line or several, and which columns stand in one float.

    The first choice that keeps the columns together is taken: a column of the paper, then with broken heads, then both
    columns with broken heads. Where a width is asked for there is no other.
    """
    look = style.current()
    widths = [look.column] if look.column != style.COLUMN else [_COLUMN, _PAGE]
    broken = [
        replace(own, head=_broken(own.head, [row[k] for block in blocks for row in block.rows], own.align))
        for k, own in enumerate(columns, 1)
    ]
    choices = [(widths[0] * _POINTS, list(columns)), *((points * _POINTS, broken) for points in widths)]
    found = [(width, heads, _across(heads, blocks, label, width)) for width, heads in choices]
    return next((choice for choice in found if len(choice[2]) == 1), found[-1])


def _broken(head: str, cells: Sequence[str], align: str) -> str:
    """Break a head between words into lines no wider than its cells, or than its longest word."""
    words = head.split(" ")
    room = max(map(text_points, [*words, *cells]))
    lines = words[:1]
    for word in words[1:]:
        longer = f"{lines[-1]} {word}"
        lines[-1:] = [longer] if text_points(longer) <= room else [lines[-1], word]
    return rf"{_STACK}[{align}]{{" + r"\\ ".join(lines) + "}" if len(lines) > 1 else head


def _across(columns: Sequence[Column], blocks: Sequence[Block], label: str, width: float) -> list[list[int]]:
    """Choose which columns stand in one float; a label is broken into lines rather than columns kept apart."""
    widths = [min(own, _most(width)) for own in _widths(columns, blocks)]
    room = width - min(_column_width(label, [row[0] for own in blocks for row in own.rows]), _LEAST * width)
    parts = _packed(widths, room, len(widths))
    even = _packed(widths, room, -(-len(widths) // len(parts)))
    return even if len(even) == len(parts) else parts


def _packed(widths: Sequence[float], room: float, most: int) -> list[list[int]]:
    """Put columns into parts, in their order, as many as have room but no more than ``most``."""
    parts: list[list[int]] = [[]]
    for k, own in enumerate(widths):
        if parts[-1] and (len(parts[-1]) == most or sum(widths[each] for each in parts[-1]) + own > room):
            parts.append([])
        parts[-1].append(k)
    return parts


def _taken(columns: Sequence[Column], blocks: Sequence[Block], width: float) -> float:
    """Return the points that the columns of values of one float take."""
    return sum(min(own, _most(width)) for own in _widths(columns, blocks))


def _widths(columns: Sequence[Column], blocks: Sequence[Block]) -> list[float]:
    """Return the points that columns of values take where none of their cells is broken into lines."""
    return [_column_width(own.head, [row[k] for b in blocks for row in b.rows]) for k, own in enumerate(columns, 1)]


def _most(width: float) -> float:
    """Points that a column of values takes at most."""
    return (1 - _LEAST) * width


def _with(blocks: Sequence[Block], chosen: Sequence[int]) -> list[Block]:
    return [replace(own, rows=tuple((row[0], *(row[k + 1] for k in chosen)) for row in own.rows)) for own in blocks]


def _down(blocks: Sequence[Block], room: float, width: float) -> list[list[Block]]:
    """Cut blocks into floats of so many lines; a block that is longer has its title again.

    Parameters
    ----------
    room : points that labels have.
    """
    parts: list[list[Block]] = [[]]
    used = 0.0
    for block in blocks:
        whole = _titled(block, parts[-1], width) + sum(_high(row, room, width) for row in block.rows)
        if used and used + whole > _MOST >= whole:
            parts.append([])
            used = 0.0
        rows: list[tuple[str, ...]] = []
        for row in block.rows:
            own = _high(row, room, width) + (0.0 if rows else _titled(block, parts[-1], width))
            if used and used + own > _MOST:
                if rows:
                    parts[-1].append(replace(block, rows=tuple(rows)))
                    rows = []
                parts.append([])
                used, own = 0.0, _high(row, room, width) + _titled(block, [], width)
            rows.append(row)
            used += own
        parts[-1].append(replace(block, rows=tuple(rows)))
    return parts


def _titled(block: Block, before: Sequence[Block], width: float) -> float:
    """Return the lines above a block's rows, behind the blocks before it in its float."""
    above = block.above and not (before and before[-1].above == block.above)
    return _RULE + _lines(block.title, 0.8 * width) + (_lines(block.above, 0.8 * width) if above else 0)


def _high(row: Sequence[str], room: float, width: float) -> int:
    """Return the lines of a row: those of its label, or of a cell that is broken."""
    return max(_lines(row[0], room), *(_lines(cell, _most(width) - 2 * _SEPARATION) for cell in row[1:]), 1)


def _lines(text: str, points: float) -> int:
    return math.ceil(1.1 * text_points(text) / points)


def _float(
    environment: str, caption: str, label: str, columns: Sequence[Column], blocks: Sequence[Block], width: float
) -> str:
    most = _most(width)
    aligned = [_aligned(own, points, most) for own, points in zip(columns, _widths(columns, blocks), strict=True)]
    room = width - _taken(columns, blocks, width)
    wanted = _column_width(label, [row[0] for each in blocks for row in each.rows])
    first = "l" if wanted <= room else rf"{_RAGGED}{{{room - 2 * _SEPARATION:.0f}pt}}"
    lines = [
        r"% needs \usepackage{booktabs,array}",
        rf"\begin{{{environment}}}",
        rf"\centering{_CAPTION}",
        caption,
        rf"\footnotesize\setlength{{\tabcolsep}}{{{_SEPARATION:g}pt}}",
        rf"\begin{{tabular}}{{@{{}}{first}{''.join(aligned)}@{{}}}}",
        r"\toprule",
        line([label, *(each.head for each in columns)]),
    ]
    used = _SURE * (width - room + min(wanted, room))
    before = ""
    for block in blocks:
        lines.append(r"\addlinespace" if block.above and block.above == before else r"\midrule")
        if block.above != before:
            lines.append(_title(block.above, r"\textbf", len(columns) + 1, used))
        lines += [_title(block.title, r"\textit", len(columns) + 1, used), *map(line, block.rows)]
        before = block.above
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", rf"\end{{{environment}}}", ""])


def _title(text: str, shape: str, columns: int, points: float) -> str:
    """Return a row of one cell, in lines where it would be wider than so many points."""
    text = rf"{shape}{{{text}}}"
    broken = text_points(text) > points
    size = rf"{{@{{}}{_RAGGED}{{{points - _SEPARATION:.0f}pt}}@{{}}}}" if broken else "{@{}l@{}}"
    return line([rf"\multicolumn{{{columns}}}{size}{{{text}}}"])


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
    if tex.startswith(_STACK):
        return max(map(text_points, tex[len(_STACK) + 4 : -1].split(r"\\ ")))
    if r"{\scriptsize" in tex:
        usual, small = tex.split(r"{\scriptsize", 1)
        return (text_points(usual) if usual else 0.0) + _SCRIPT * text_points(small)
    bold = r"\textbf" in tex
    tex = re.sub(r"\\text[a-z]+\{\}", "+", tex).replace("$-$", "+").replace("$<$", "+")  # as wide as a plus
    plain = re.sub(r"\\textbf|\\textit|\\,|[{}$^]", "", tex)
    plain = re.sub(r"\\(?:dagger|ast|pm)", "+", plain)
    plain = plain.replace("\\", "")
    plain = re.sub("[<=]", " + ", plain)  # a relation has room on both sides
    return _width(plain) * (_BOLD if bold else _USUAL) + 0.5


def _width(text: str) -> float:
    """Return the points of a line, without drawing it."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, _FONT, ismath=False)
    return float(width) * _POINTS / 72 if text.strip() else 0.0
