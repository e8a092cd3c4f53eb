"""The two pictures of an audit's page: differences from the rivals, and what each class loses."""

from __future__ import annotations

import base64
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.lines import Line2D

from evalsuite.analysis.verdict import Verdict
from reports import style
from reports.frames.audit import PICTURED, differences, losses
from reports.frames.methods import each_row, readable
from reports.layout import panel, text_width
from reports.words.audit_tiles import TITLES, short, signed
from reports.words.numbers import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE, NARROW = 5.8, 2.7
"""Inches of a picture beside another, and on a telephone."""
_REM_PER_INCH = 8
_MOST_TOLD = 12  # differences in the alternative text
_ROW_KEY = ["task", "bits", "rival"]
_CLAIMED = ("better", "worse")
_LEAST, _LONGEST = 5, 48  # characters of a name in a label
_ROW, _HEAD, _FOOT, _GAP = 0.24, 0.42, 0.42, 0.2
_FEW, _TALL_ROW = 6, 0.36  # rows that have more room beside the other picture
_BETTER, _WORSE = "#0072B2", style.ALERT
_BETTER_SIDE, _WORSE_SIDE = "#eef5fa", "#fcf1e9"
_MARKS: dict[str, tuple[str, str]] = {
    "better": ("^", _BETTER),
    "worse": ("v", _WORSE),
    "not told apart": ("o", "white"),
    "not tested": ("o", style.FAINT),
}


@dataclass(frozen=True)
class Picture:
    """A picture as the page shows it: for wide screens and print, and for narrow ones."""

    name: str
    title: str
    caption: str
    alt: str
    wide: str
    narrow: str
    width: float
    """Of the wide one, in rem."""
    narrow_width: float


def pictures(verdict: Verdict) -> list[Picture]:
    """Return the pictures for which the verdict has numbers."""
    found = []
    apart, lost = differences(verdict), losses(verdict)
    if len(apart):
        found.append(_of_differences(apart))
    if len(lost):
        found.append(_of_losses(lost, several=len(verdict.tasks) > 1))
    return found


def _of_differences(data: pd.DataFrame) -> Picture:
    shown = gravest(data)
    rows, kept = (len(each.drop_duplicates(_ROW_KEY)) for each in (data, shown))
    left = f" {kept} of {rows} rows, claims first; the others are in the tables." if rows > kept else ""
    several = data["task"].nunique() > 1
    told = [
        f"{TITLES[row.question]}, {_label(row, several, _LONGEST)}: {row.standing}, {_points(row)}."
        for row in each_row(shown.sort_values("standing", key=lambda each: ~each.isin(_CLAIMED), kind="stable"))
    ]
    more = ["More rows are in the tables."] if len(told) > _MOST_TOLD else []
    return Picture(
        "differences",
        "Against each rival",
        f"The target's error minus the rival's, with intervals; left of zero the target errs less.{left}",
        " ".join(["Differences from each rival.", *told[:_MOST_TOLD], *more]),
        _source(lambda: draw_differences(shown, WIDE)),
        _source(lambda: draw_differences(shown, NARROW)),
        WIDE * _REM_PER_INCH,
        NARROW * _REM_PER_INCH,
    )


def _points(row: Any) -> str:
    size, low, high = (signed(value / 100) for value in (row.estimate, row.low, row.high))
    return f"{size} points ({low} to {high})"


def gravest(data: pd.DataFrame, most: int = 24) -> pd.DataFrame:
    """Return the rows that a picture has room for, those of a claim before the others, in the order they had."""
    place = data.groupby(_ROW_KEY, sort=False).ngroup()
    claimed = set(place[data["standing"].isin(_CLAIMED)])
    return data[place.isin(sorted(place.unique(), key=lambda each: (each not in claimed, each))[:most])]


def _of_losses(data: pd.DataFrame, *, several: bool) -> Picture:
    kind, condition = str(data["kind"].iloc[0]), str(data["bits"].iloc[0])
    if several:
        condition = f"{condition}, {short(str(data['task'].iloc[0]))}"
    number_, most = len(data), int(data["number"].iloc[0])
    which = f"the {number_} largest of {most}" if most > number_ else f"all {most}"
    told = [f"{_name(row)} {number(row.drop)}{' (claimed)' if row.shown else ''}" for row in each_row(data)]
    source = _source(lambda: draw_losses(data, NARROW))
    return Picture(
        "losses",
        f"What each {kind} loses",
        f"Error minus that of full precision at {condition}, in points, {which}; filled and bold: claimed. Dashed: the "
        "largest loss that chance alone would give.",
        f"Loss in points by {kind} at {condition}: {', '.join(told)}.",
        source,
        source,
        NARROW * _REM_PER_INCH,
        NARROW * _REM_PER_INCH,
    )


def _name(row: Any) -> str:
    return readable(row.name) if row.kind == "domain" else str(row.name)


def _label(row: Any, several: bool, most: int) -> str:
    label = f"{short(row.rival, most)} {row.bits}".strip()
    return f"{label}, {short(row.task, most)}" if several else label


def _source(draw: Callable[[], MatplotlibFigure]) -> str:
    with style.applied():
        return f"data:image/svg+xml;base64,{base64.b64encode(style.svg(draw())).decode()}"


def _fitted(shortened: Callable[[int], list[str]], inches: float) -> list[str]:
    """Return labels of names with as many characters as fit, bold; ``shortened``: from characters to labels."""
    lengths = range(_LEAST, _LONGEST + 1)
    found = bisect_left(lengths, True, key=lambda most: text_width(shortened(most), bold=True) > inches)
    return shortened(lengths[max(0, found - 1)])


def draw_differences(data: pd.DataFrame, width: float) -> MatplotlibFigure:
    """Draw dot and interval of each difference: a panel per question, a row per rival, bit width and task.

    Parameters
    ----------
    data : :func:`reports.frames.audit.differences`.
    width : inches; panels stand side by side where there is room, else one below the other.
    """
    data = data.assign(y=data.groupby(_ROW_KEY, sort=False).ngroup() + 0.5)
    named, several = list(each_row(data.drop_duplicates("y"))), data["task"].nunique() > 1
    labels = _fitted(lambda most: [_label(row, several, most) for row in named], 0.42 * width)
    panels = [(question, own) for question in PICTURED if len(own := data[data["question"] == question])]
    side_by_side = width >= WIDE
    across = len(panels) if side_by_side else 1
    room = text_width(labels) + 0.12
    inner = (width - room - 0.1 - (across - 1) * _GAP) / across
    height = len(labels) * (_TALL_ROW if side_by_side and len(labels) <= _FEW else _ROW)
    down = -(-len(panels) // across)
    figure = MatplotlibFigure(figsize=(width, down * (_HEAD + height + _FOOT) + 0.12))
    for place, (question, own) in enumerate(panels):
        line, column = divmod(place, across)
        axes = panel(figure, room + column * (inner + _GAP), _HEAD + line * (height + _HEAD + _FOOT), inner, height)
        _difference_panel(axes, own, len(labels))
        axes.set_title(TITLES[question], pad=11)
        axes.set_yticks([row.y for row in named], labels if column == 0 else [""] * len(labels))
        axes.set_xlabel("target minus rival (points)")
    handles = [_handle(standing) for standing in _MARKS if (data["standing"] == standing).any()]
    figure.legend(handles=handles, loc="lower left", ncols=len(handles), columnspacing=1.0, handletextpad=0.3)
    return figure


def _difference_panel(axes: Axes, data: pd.DataFrame, rows: int) -> None:
    low, high = min(0.0, data["low"].min()), max(0.0, data["high"].max())
    margin = 0.08 * (high - low) or 1.0
    low, high = low - margin, high + margin
    axes.set(xlim=(low, high), ylim=(rows, 0))
    axes.axvspan(low, 0, color=_BETTER_SIDE, lw=0)
    axes.axvspan(0, high, color=_WORSE_SIDE, lw=0)
    axes.axvline(0, color=style.INK, lw=0.8)
    place = axes.get_xaxis_transform()
    axes.annotate("errs less", (low, 1), (0, 3), xycoords=place, textcoords="offset points", color=_BETTER)
    axes.annotate("errs more", (high, 1), (0, 3), xycoords=place, textcoords="offset points", color=_WORSE, ha="right")
    for row in each_row(data):
        marker, fill = _MARKS[row.standing]
        edge = style.INK if row.standing in ("not told apart", "not tested") else fill
        axes.plot([row.low, row.high], [row.y, row.y], color=edge, lw=1.3, solid_capstyle="butt")
        axes.plot(row.estimate, row.y, marker, mfc=fill, mec=edge, ms=5)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _handle(standing: str) -> Line2D:
    marker, fill = _MARKS[standing]
    edge = style.INK if standing in ("not told apart", "not tested") else fill
    return Line2D([], [], marker=marker, mfc=fill, mec=edge, color=edge, ms=5, lw=0, label=standing)


def draw_losses(data: pd.DataFrame, width: float) -> MatplotlibFigure:
    """Draw a bar and its interval per group, what is claimed filled, and the line of chance.

    Parameters
    ----------
    data : :func:`reports.frames.audit.losses`.
    width : inches.
    """
    names = _fitted(lambda most: [short(_name(row), most) for row in each_row(data)], 0.42 * width)
    row, top, foot = 0.19, 0.24, 0.45
    room = text_width(names, bold=True) + 0.12
    height = len(data) * row
    figure = MatplotlibFigure(figsize=(width, top + height + foot))
    axes = panel(figure, room, top, width - room - 0.3, height)
    for place, each in enumerate(each_row(data)):
        colour = style.ALERT if each.shown else "white"
        edge = style.ALERT if each.shown else style.MUTED
        axes.barh(place, each.drop, 0.66, color=colour, ec=edge, lw=0.8)
        if not (pd.isna(each.low) or pd.isna(each.high)):
            axes.plot([each.low, each.high], [place, place], color=style.INK, lw=0.9)
        end = max(value for value in (each.drop, each.high, 0.0) if not pd.isna(value))
        weight = "bold" if each.shown else "normal"
        axes.annotate(number(each.drop), (end, place), (3, 0), textcoords="offset points", va="center", weight=weight)
    chance = data["by_chance"].max()
    if not pd.isna(chance):
        axes.axvline(chance, color=style.INK, lw=0.8, ls=(0, (3, 2)))
        top_edge = axes.get_xaxis_transform()
        axes.annotate("by chance", (chance, 1), (0, 2), xycoords=top_edge, textcoords="offset points", ha="center")
    axes.axvline(0, color=style.INK, lw=0.6)
    axes.set(ylim=(len(data) - 0.5, -0.5), xlabel="loss against full precision (points)")
    axes.set_yticks(range(len(data)), names)
    for label, each in zip(axes.get_yticklabels(), each_row(data), strict=True):
        label.set_fontweight("bold" if each.shown else "normal")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure
