"""Figures with a row per network and some panels side by side: a block per task, one below the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.lines import Line2D

from reports import style
from reports.layout import Canvas, broken, column, legend_height, line_height, pages, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 0.2  # inches
_HEAD, _FOOT, _ABOVE = 0.11, 0.53, 0.05  # inches
_EDGE = 0.1  # inches, for half a label of the last panel


@dataclass(frozen=True)
class RowPanels:
    """How the panels of one figure lie.

    Attributes
    ----------
    count : of panels in a block.
    marks : by the words of the legend, how a mark is drawn; two columns of them.
    gap : between panels, in inches.
    most : share of the width that the networks' names may take.
    """

    count: int
    marks: Mapping[str, Mapping[str, Any]]
    gap: float
    most: float

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut data with columns ``task`` and ``network`` by task, by network where one printed page is too small."""
        return pages(data, lambda own: self._height(own, column()), ["task"], ["network"])

    def draw(
        self, data: pd.DataFrame, ax: Axes | None, block: Callable[[Sequence[Axes], pd.DataFrame, list[str]], None]
    ) -> Figure:
        """Let ``block`` draw each task's rows: its panels, its data, and the networks, whose places are their rows."""
        width = column(ax)
        labels = self._labels(data, width)
        left = text_width(list(labels.values())) + 0.1
        gap = style.scaled(self.gap)
        inner = (width - left - (self.count - 1) * gap - style.scaled(_EDGE)) / self.count
        canvas = Canvas.of(width, self._height(data, width), ax)
        top = self._legend_height(width)
        for task, own in data.groupby("task", sort=False):
            heading = broken(str(task), width * 7 / 8, bold=True)
            top += line_height(heading) + style.scaled(_HEAD)
            names = list(own["network"].unique())
            height = len(names) * _row_height(labels)
            panels = [canvas.panel(left + k * (inner + gap), top, inner, height) for k in range(self.count)]
            block(panels, own, names)
            _as_rows(panels, [labels[name] for name in names])
            canvas.heading(0, top - 0.05, heading)
            top += height + style.scaled(_FOOT)
        canvas.legend(self._handles(), 2)
        return canvas.whole

    def _labels(self, data: pd.DataFrame, width: float) -> dict[str, str]:
        return {str(name): broken(str(name), self.most * width) for name in data["network"].unique()}

    def _height(self, data: pd.DataFrame, width: float) -> float:
        row, whole = _row_height(self._labels(data, width)), self._legend_height(width)
        for task, own in data.groupby("task", sort=False):
            heading = broken(str(task), width * 7 / 8, bold=True)
            whole += line_height(heading) + own["network"].nunique() * row + style.scaled(_HEAD + _FOOT)
        return whole

    def _legend_height(self, width: float) -> float:
        return legend_height(self._handles(), width, 2) + style.scaled(_ABOVE)

    def _handles(self) -> list[Line2D]:
        return [Line2D([], [], ls="", label=name, **mark) for name, mark in self.marks.items()]


def _row_height(labels: Mapping[str, str]) -> float:
    return max([style.scaled(_ROW), *(line_height(label) + 0.04 for label in labels.values())])


def _as_rows(panels: Sequence[Axes], labels: Sequence[str]) -> None:
    for axes in panels:
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_yticks([])
    panels[0].set_yticks(range(len(labels)), labels)
