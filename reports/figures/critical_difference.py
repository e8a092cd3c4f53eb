"""Which of many methods rank apart: critical-difference diagrams."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from evalsuite.analysis.families import IN_COMMON, context_in_words
from reports import style
from reports.frames.methods import each_row
from reports.frames.rankings import chosen_rankings
from reports.layout import Canvas, broken, column, line_height, pages, text_width
from reports.words.numbers import p_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_LINE = 0.145  # inches from one method's label to the next
_CD, _RULE = 0.08, 0.33  # inches below the heading
_GAP, _LEAST = 0.14, 0.8  # inches below a diagram, and of its rule
_TOGETHER = ["task", "factor", *IN_COMMON]
_COLUMNS = [
    *(*_TOGETHER, "context", "method", "mean_rank", "error"),
    *("place", "before", "critical_difference", "p", "unit", "n", "methods"),
]


@dataclass(frozen=True)
class CriticalDifference:
    """Critical differences.

    Mean rank of each method over the domains, the lowest error ranking first, on the left (Demsar 2006). A bar joins
    methods that are not told apart at 5 %: their mean ranks differ by less than the critical difference CD of Nemenyi's
    test, drawn above, or too few images differ. Methods that no bar joins differ. Ranks are among all methods
    that were run. Under the title: the test that all are alike.
    """

    order: ClassVar[int] = 70

    def data(self, run: Run) -> pd.DataFrame:
        """Return :func:`reports.frames.rankings.chosen_rankings`."""
        return chosen_rankings(run)[_COLUMNS]

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task where one printed page is too small."""
        return pages(data, lambda own: sum(plan.height for plan in _plans(own, column())), ["task"])

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw a diagram per task and factor, one below the other."""
        plans = _plans(data, column(ax))
        canvas = Canvas.of(column(ax), sum(plan.height for plan in plans), ax)
        top = 0.0
        for plan in plans:
            below = top + plan.head
            title, said = plan.said
            canvas.heading(0, top + line_height(title) * 8 / 7 + 0.02, title)
            canvas.text(0, below - style.scaled(0.05), said, color="#595959", va="bottom")
            axes = canvas.panel(plan.side, below, canvas.width - 2 * plan.side, plan.inner)
            _diagram(axes, plan, canvas.width - 2 * plan.side)
            top += plan.height
        return canvas.whole


@dataclass(frozen=True, eq=False)
class _Plan:
    """Where the parts of a diagram go, in inches."""

    data: pd.DataFrame
    """The best first."""
    said: tuple[str, str]
    """Title and what is below it."""
    labels: list[str]
    side: float
    """Room for the labels, on either side."""

    @property
    def head(self) -> float:
        """Height of what is said."""
        return line_height(self.said[0]) * 8 / 7 + line_height(self.said[1]) + style.scaled(0.1)

    @property
    def half(self) -> int:
        """How many labels stand on the left."""
        return (len(self.labels) + 1) // 2

    @property
    def first(self) -> float:
        """Where the first label stands below the head."""
        return style.scaled(_RULE + _LINE * (0.6 * len(cliques(self.data)) + 0.9))

    def places(self) -> list[float]:
        """Return where the middle of each label stands, below the head: on the left downwards, on the right up."""
        heights = [line_height(label) + style.scaled(0.025) for label in self.labels]
        places = []
        for part in (heights[: self.half], heights[: self.half - 1 : -1]):
            edges = [self.first - style.scaled(_LINE) / 2 + sum(part[:k]) for k in range(len(part))]
            middles = [edge + height / 2 for edge, height in zip(edges, part, strict=True)]
            places.append(middles)
        return places[0] + places[1][::-1]

    @property
    def inner(self) -> float:
        """Height of the diagram itself."""
        ends = [y + line_height(label) / 2 for y, label in zip(self.places(), self.labels, strict=True)]
        return max(ends)

    @property
    def height(self) -> float:
        """Height of all, and the gap below."""
        return self.head + self.inner + style.scaled(_GAP)


def _plans(data: pd.DataFrame, width: float) -> list[_Plan]:
    plans = []
    number, least = text_width(["00.00"]), style.scaled(_LEAST)
    for _, own in data.groupby(_TOGETHER, sort=False, dropna=False):
        first = own.iloc[0]
        title = broken(f"{first['task']}, {first['factor']}s", width * 7 / 8, bold=True)
        own = own.sort_values("mean_rank")
        labels = [broken(str(name), (width - least) / 2 - number - 0.2) for name in own["method"]]
        side = max(style.scaled(0.5), text_width(labels) + number + 0.2)
        plans.append(_Plan(own, (title, broken(_said(own), width)), labels, side))
    return plans


def _said(data: pd.DataFrame) -> str:
    """Say what a diagram's methods have in common, and what the test says that all are alike."""
    first = data.iloc[0]
    common = context_in_words(first.drop("stream_label").to_dict())
    return f"{common}; all alike: {p_value(first['p'])}, {first['n']}\N{NO-BREAK SPACE}{first['unit']}s"


def cliques(data: pd.DataFrame) -> list[tuple[float, float]]:
    """Return the longest stretches (first, last mean rank) of methods no two of which are told apart."""
    ordered = data.sort_values("place")
    ranks, places = list(ordered["mean_rank"]), list(ordered["place"])
    behind = [json.loads(names) for names in ordered["before"]]
    found: list[tuple[float, float]] = []
    reached = 0
    for first in range(len(ranks)):
        last = first
        while last + 1 < len(ranks) and not any(places[last + 1] in behind[k] for k in range(first, last + 1)):
            last += 1
        if last > max(first, reached):
            found.append((ranks[first], ranks[last]))
        reached = max(reached, last)
    return found


def _diagram(axes: Axes, plan: _Plan, inches: float) -> None:
    data, height = plan.data, plan.inner
    k, reach = max(2, len(data), int(data["methods"].iloc[0])), float(data["critical_difference"].iloc[0])
    rule, top = style.scaled(_RULE), style.scaled(_CD)
    axes.set(xlim=(1, k), ylim=(height, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    line: dict[str, Any] = {"color": style.INK, "clip_on": False, "solid_capstyle": "butt"}
    axes.plot([1, k], [rule, rule], lw=0.8, **line)
    every = next(n for n in range(1, k + 1) if n * inches / (k - 1) > text_width([str(k)]) + 0.04 or n == k)
    for rank in range(1, k + 1):
        axes.plot([rank, rank], [rule - 0.035, rule], lw=0.8, **line)
        if (rank - 1) % every == 0:
            axes.text(rank, rule - 0.05, str(rank), ha="center", va="bottom")
    shown, inch = min(reach, k - 1), (k - 1) / inches
    axes.plot([k - shown, k], [top, top], lw=1.4, **line)
    axes.text(k - shown - 0.04 * inch, top, f"CD {reach:.2f}", ha="right", va="center")
    for place, (first, last) in enumerate(cliques(data)):
        y = rule + style.scaled(_LINE) * 0.6 * (place + 0.7)
        axes.plot([first - 0.015 * inch, last + 0.015 * inch], [y, y], lw=2.2, **line)
    for place, (row, y, label) in enumerate(zip(each_row(data), plan.places(), plan.labels, strict=True)):
        left = place < plan.half
        edge, side = (1 - 0.04 * inch, "right") if left else (k + 0.04 * inch, "left")
        axes.plot([row.mean_rank, row.mean_rank, edge], [rule, y, y], lw=0.6, **line | {"color": style.MUTED})
        away = -1 if left else 1
        text: dict[str, Any] = {"ha": side, "va": "center", "color": style.INK}
        axes.text(edge + away * 0.03 * inch, y, f"{row.mean_rank:.2f}", **text)
        axes.text(edge + away * (text_width(["00.00"]) + 0.1) * inch, y, label, **text, linespacing=1.0)
        axes.plot(row.mean_rank, rule, "o", ms=2.6, color=style.INK, clip_on=False)
