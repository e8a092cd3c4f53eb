"""Quantizers at equal bits: which way of calibrating is best on average, and which spares the worst class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
from matplotlib.lines import Line2D

from reports import style
from reports.frames.evidence import evidence
from reports.frames.methods import as_rows
from reports.frames.paradigms import paradigms
from reports.layout import Canvas, broken, column, legend_height, line_height, pages, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_ROW = 0.175  # inches
_GAP = 0.45  # of a row, between bits
_HEAD, _FOOT, _ABOVE = 0.11, 0.53, 0.05  # inches
_MOST = 0.36  # of the width, for labels


@dataclass(frozen=True)
class ParadigmComparison:
    """Calibration paradigms at equal bits.

    Drop of quantizers with equal bits, under the study's first calibration set and without adaptation. Left, the mean
    drop: black is the lowest mean error of its bits and what is not shown to differ from it (p < 0.05 over domains, or
    images shown once, Holm within these quantizers, and an interval without 0), grey what is shown to be worse, hollow
    what no test compares with it (another engine, other images). Right, the worst class: coloured where it is beyond
    chance (permutation p < 0.05, Holm within the rows of a task), the short bar being the worst class to expect where
    all classes are harmed alike. Lines are 95 % intervals over test images and, where there are several, calibration
    draws.
    """

    order: ClassVar[int] = 30

    def data(self, run: Run) -> pd.DataFrame:
        """Return :func:`reports.frames.paradigms.paradigms`."""
        return paradigms(run, evidence(run))

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task, by bits where one printed page is too small."""
        return pages(data, lambda own: _height(own, column()), ["task"], ["bits"])

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw two panels per task, a row per quantizer, the lowest mean error of its bits first."""
        blocks = [own.reset_index(drop=True) for _, own in data.groupby("task", sort=False)]
        width = column(ax)
        labels = _labels(data, width)
        left = text_width(list(labels.values())) + 0.1
        gap, edge = style.scaled(0.2), style.scaled(0.1)
        inner = (width - left - gap - edge) / 2
        canvas = Canvas.of(width, _height(data, width), ax)
        top = legend_height(_handles(data), width, 2) + style.scaled(_ABOVE)
        for own in blocks:
            place = _places(own)
            heading = broken(str(own["task"].iloc[0]), width * 7 / 8, bold=True)
            top += line_height(heading) + style.scaled(_HEAD)
            height = (place[-1] + 1) * _row(labels)
            mean, worst = (canvas.panel(left + k * (inner + gap), top, inner, height) for k in (0, 1))
            _mean(mean, own, place)
            _worst(worst, own, place)
            for axes in (mean, worst):
                axes.set_ylim(place[-1] + 0.6, -0.6)
                axes.axvline(0, color=style.MUTED, lw=0.6, zorder=0)
                axes.spines["left"].set_visible(False)
                axes.tick_params(axis="y", length=0)
            mean.set_yticks(place, [labels[str(name)] for name in own["quantizer_label"]])
            worst.set_yticks([])
            mean.set_xlabel("mean drop\n(points)")
            worst.set_xlabel("worst-class drop\n(points)")
            canvas.heading(0, top - 0.05, heading)
            top += height + style.scaled(_FOOT)
        canvas.legend(_handles(data), 2)
        return canvas.whole


def _labels(data: pd.DataFrame, width: float) -> dict[str, str]:
    return {str(name): broken(str(name), _MOST * width) for name in data["quantizer_label"].unique()}


def _row(labels: dict[str, str]) -> float:
    return max([style.scaled(_ROW), *(line_height(label) + 0.03 for label in labels.values())])


def _height(data: pd.DataFrame, width: float) -> float:
    row, whole = _row(_labels(data, width)), legend_height(_handles(data), width, 2) + style.scaled(_ABOVE)
    for task, own in data.groupby("task", sort=False):
        heading = broken(str(task), width * 7 / 8, bold=True)
        whole += line_height(heading) + (_places(own)[-1] + 1) * row + style.scaled(_HEAD + _FOOT)
    return whole


def _places(data: pd.DataFrame) -> list[float]:
    new = (data["bits"] != data["bits"].shift()).cumsum() - 1
    return [float(row + _GAP * block) for row, block in enumerate(new)]


def _mean(axes: Axes, data: pd.DataFrame, places: list[float]) -> None:
    for y, row in zip(places, as_rows(data), strict=True):
        colour = style.INK if row["best"] or row["not_distinct"] else style.MUTED
        axes.hlines(y, row["drop_low"] * 100, row["drop_high"] * 100, color=colour, lw=0.8)
        fill = "white" if row["not_compared"] else colour
        axes.plot(row["drop"] * 100, y, "o", ms=3.6 if not row["best"] else 4.6, color=colour, mfc=fill)


def _worst(axes: Axes, data: pd.DataFrame, places: list[float]) -> None:
    for y, row in zip(places, as_rows(data), strict=True):
        colour = style.ALERT if row["worst_drop_class_shown"] else style.MUTED
        low, high = (row[f"worst_drop_class_{edge}"] * 100 for edge in ("low", "high"))
        axes.hlines(y, low, high, color=colour, lw=0.8)
        axes.plot(row["worst_drop_class_null"] * 100, y, **style.EXPECTED)
        mark = style.BEYOND_CHANCE if row["worst_drop_class_shown"] else style.WITHIN_CHANCE
        axes.plot(row["worst_drop_class_value"] * 100, y, **mark)


def _handles(data: pd.DataFrame) -> list[Line2D]:
    # Columns are filled first: the marks of a panel stand one below the other.
    marks: dict[str, Mapping[str, Any]] = {
        "lowest mean of its bits": {"marker": "o", "ms": 4.6, "color": style.INK},
        "not shown to be worse": {"marker": "o", "ms": 3.6, "color": style.INK},
        "shown to be worse": {"marker": "o", "ms": 3.6, "color": style.MUTED},
        "not compared with it": {"marker": "o", "ms": 3.6, "color": style.MUTED, "mfc": "white"},
        "worst class, beyond chance": style.BEYOND_CHANCE,
        "worst class, within chance": style.WITHIN_CHANCE,
        "worst class expected by chance": style.EXPECTED,
    }
    if not data["not_compared"].any():
        del marks["not compared with it"]
    return [Line2D([], [], **{"ls": "", **mark}, label=name) for name, mark in marks.items()]
