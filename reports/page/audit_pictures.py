"""The two pictures of an audit's page: differences from the rivals, and what each class loses."""

from __future__ import annotations

import base64
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
from reports.layout import panel, text_width, wrapped
from reports.words.audit_page import TITLES, short, signed
from reports.words.numbers import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE, NARROW = 4.9, 2.7
"""Inches of a picture beside another, and on a telephone."""
_REM_PER_INCH = 8
_MOST_ROWS = 24
_ROW, _HEAD, _FOOT, _GAP = 0.24, 0.42, 0.42, 0.2
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
        found.append(_of_differences(apart, several=len(verdict.tasks) > 1))
    if len(lost):
        found.append(_of_losses(lost, several=len(verdict.tasks) > 1))
    return found


def _of_differences(data: pd.DataFrame, *, several: bool) -> Picture:
    data = data.assign(label=[_label(row, several) for row in each_row(data)])
    rows = list(dict.fromkeys(data["label"]))
    shown = data[data["label"].isin(rows[:_MOST_ROWS])]
    left = (
        f" The first {_MOST_ROWS} of {len(rows)} rows; the others are in the tables." if len(rows) > _MOST_ROWS else ""
    )
    told = [
        f"{TITLES[row.question]}, {row.label}: {row.standing}, {signed(row.estimate / 100)} points "
        f"({signed(row.low / 100)} to {signed(row.high / 100)})."
        for row in each_row(shown)
    ]
    return Picture(
        "differences",
        "Against each rival",
        f"The target's error minus the rival's, with intervals; left of zero the target errs less.{left}",
        " ".join(
            ["Differences from each rival.", *told[:12], *(["More rows are in the tables."] if len(told) > 12 else [])]
        ),
        _source(lambda: draw_differences(shown, WIDE)),
        _source(lambda: draw_differences(shown, NARROW)),
        WIDE * _REM_PER_INCH,
        NARROW * _REM_PER_INCH,
    )


def _of_losses(data: pd.DataFrame, *, several: bool) -> Picture:
    kind, condition = str(data["kind"].iloc[0]), str(data["bits"].iloc[0])
    if several:
        condition = f"{condition}, {short(str(data['task'].iloc[0]))}"
    number_, most = len(data), int(data["number"].iloc[0])
    which = f"the {number_} largest of {most}" if most > number_ else f"all {most}"
    told = [
        f"{readable(str(row.name))} {number(row.drop)}{' (claimed)' if row.shown else ''}" for row in each_row(data)
    ]
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


def _label(row: Any, several: bool) -> str:
    label = f"{short(row.rival, 28)} {row.bits}".strip()
    return f"{label}, {short(row.task, 28)}" if several else label


def _source(draw: Callable[[], MatplotlibFigure]) -> str:
    with style.applied():
        return f"data:image/svg+xml;base64,{base64.b64encode(style.svg(draw())).decode()}"


def draw_differences(data: pd.DataFrame, width: float) -> MatplotlibFigure:
    """Draw dot and interval of each difference: a panel per question, a row per rival and bit width.

    Parameters
    ----------
    data : :func:`reports.frames.audit.differences` with a column ``label``.
    width : inches; panels stand side by side where there is room, else one below the other.
    """
    rows = {str(label): place + 0.5 for place, label in enumerate(dict.fromkeys(data["label"]))}
    labels = [wrapped(label, 2 * _ROW) if len(label) > 20 else label for label in rows]
    panels = [(question, own) for question in PICTURED if len(own := data[data["question"] == question])]
    side_by_side = width >= WIDE
    across = len(panels) if side_by_side else 1
    room = min(text_width(labels) + 0.12, 0.45 * width)
    inner = (width - room - 0.1 - (across - 1) * _GAP) / across
    height = len(rows) * _ROW
    down = -(-len(panels) // across)
    figure = MatplotlibFigure(figsize=(width, down * (_HEAD + height + _FOOT) + 0.12))
    for place, (question, own) in enumerate(panels):
        line, column = divmod(place, across)
        axes = panel(figure, room + column * (inner + _GAP), _HEAD + line * (height + _HEAD + _FOOT), inner, height)
        _difference_panel(axes, own, rows)
        axes.set_title(TITLES[question], pad=11)
        axes.set_yticks(list(rows.values()), labels if column == 0 else [""] * len(labels))
        axes.set_xlabel("target minus rival (points)")
    handles = [_handle(standing) for standing in _MARKS if (data["standing"] == standing).any()]
    figure.legend(handles=handles, loc="lower left", ncols=len(handles), columnspacing=1.0, handletextpad=0.3)
    return figure


def _difference_panel(axes: Axes, data: pd.DataFrame, rows: dict[str, float]) -> None:
    low, high = min(0.0, data["low"].min()), max(0.0, data["high"].max())
    margin = 0.08 * (high - low) or 1.0
    low, high = low - margin, high + margin
    axes.set(xlim=(low, high), ylim=(len(rows), 0))
    axes.axvspan(low, 0, color=_BETTER_SIDE, lw=0)
    axes.axvspan(0, high, color=_WORSE_SIDE, lw=0)
    axes.axvline(0, color=style.INK, lw=0.8)
    place = axes.get_xaxis_transform()
    axes.annotate("errs less", (low, 1), (0, 3), xycoords=place, textcoords="offset points", color=_BETTER)
    axes.annotate("errs more", (high, 1), (0, 3), xycoords=place, textcoords="offset points", color=_WORSE, ha="right")
    for row in each_row(data):
        marker, fill = _MARKS[row.standing]
        edge = style.INK if row.standing in ("not told apart", "not tested") else fill
        y = rows[row.label]
        axes.plot([row.low, row.high], [y, y], color=edge, lw=1.3, solid_capstyle="butt")
        axes.plot(row.estimate, y, marker, mfc=fill, mec=edge, ms=5)
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
    names = [short(readable(str(name)), 22) for name in data["name"]]
    row, top, foot = 0.19, 0.1, 0.45
    room = min(text_width(names, bold=True) + 0.12, 0.45 * width)
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
    axes.axvline(0, color=style.INK, lw=0.6)
    axes.set(ylim=(len(data) - 0.5, -0.5), xlabel="loss against full precision (points)")
    axes.set_yticks(range(len(data)), names)
    for label, each in zip(axes.get_yticklabels(), each_row(data), strict=True):
        label.set_fontweight("bold" if each.shown else "normal")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure
