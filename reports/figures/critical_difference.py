"""Which of many methods rank apart: critical-difference diagrams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
from matplotlib.figure import Figure

from evalsuite.analysis.families import IN_COMMON, context_in_words
from reports import style
from reports.frames.evidence import evidence
from reports.frames.methods import each_row
from reports.frames.views import QUANTIZERS, first_stream, views
from reports.layout import pages, panel, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evalsuite.store import Run

_LINE = 0.145  # inches from one method's label to the next
_CD, _RULE = 0.08, 0.33  # inches below the heading
_HEAD, _GAP = 0.34, 0.12  # inches
_TOGETHER = ["task", "factor", *IN_COMMON]
_COLUMNS = [
    *(*_TOGETHER, "context", "method", "mean_rank", "error"),
    *("critical_difference", "p", "unit", "n"),
]


@dataclass(frozen=True)
class CriticalDifference:
    """Critical differences.

    Mean rank of each method over the domains, the lowest error ranking first, on the left (Demsar 2006). A bar joins
    methods that Nemenyi's test cannot tell apart at 5 %: their mean ranks differ by less than the critical difference
    CD, drawn above. Methods that no bar joins differ. Under the title: Friedman's test that all are alike.
    """

    order: ClassVar[int] = 70

    def data(self, run: Run) -> pd.DataFrame:
        """Return rows of ``rankings.csv``: quantizers under the first calibration set, adapters on the first network.

        For each task's first stream, where Friedman's test has a number; which network,
        :func:`reports.frames.views.views` says.
        """
        rankings = evidence(run).rankings
        shown = []
        chosen = first_stream(views(run))
        for keys, own in chosen[~chosen["reference"]].groupby(["task", "view"], sort=False):
            row = next(each_row(own))
            factor = "quantizer" if keys[1] == QUANTIZERS else "adapter"
            ranked = rankings["factor"].eq(factor) & rankings["critical_difference"].notna()
            for name in ("task", *IN_COMMON):
                ranked &= rankings[name].eq(getattr(row, name)) | (name == f"{factor}_label")
            shown.append(rankings[ranked].sort_values("mean_rank"))
        return pd.concat(shown, ignore_index=True)[_COLUMNS] if shown else pd.DataFrame(columns=_COLUMNS)

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task where one printed page is too small."""
        return pages(data, lambda own: sum(_height(each) for each in _diagrams(own)), ["task"])

    def draw(self, data: pd.DataFrame) -> Figure:
        """Draw a diagram per task and factor, one below the other."""
        diagrams = _diagrams(data)
        said = [_said(own) for own in diagrams]
        side = text_width([str(name) for name in data["method"]]) + text_width(["00.00"]) + 0.2
        width = max(style.COLUMN, 2 * side + 1.2, text_width(said))
        figure = Figure(figsize=(width, sum(map(_height, diagrams))))
        top = 0.0
        for own, below in zip(diagrams, said, strict=True):
            first, height = own.iloc[0], _height(own) - _HEAD - _GAP
            axes = panel(figure, side, top + _HEAD, width - 2 * side, height)
            place = 1 - (top + 0.14) / figure.get_figheight()
            figure.text(0, place, f"{first['task']}, {first['factor']}s", weight="bold", size=8, va="baseline")
            place -= 0.13 / figure.get_figheight()
            figure.text(0, place, below, color="#595959", va="baseline")
            _diagram(axes, own, height)
            top += height + _HEAD + _GAP
        return figure


def _diagrams(data: pd.DataFrame) -> list[pd.DataFrame]:
    return [own for _, own in data.groupby(_TOGETHER, sort=False, dropna=False)]


def _height(data: pd.DataFrame) -> float:
    """Inches that a diagram takes with its heading."""
    return _HEAD + _labels_at(len(cliques(data))) + _LINE * ((len(data) + 1) // 2 - 0.4) + _GAP


def _said(data: pd.DataFrame) -> str:
    """Say what a diagram's methods have in common, and what Friedman's test says of them."""
    first = data.iloc[0]
    tested = "p < 0.001" if first["p"] < 0.001 else f"p = {first['p']:.3f}"
    common = context_in_words(first.drop("stream_label").to_dict())
    return f"{common}; Friedman {tested}, {first['n']} {first['unit']}s"


def cliques(data: pd.DataFrame) -> list[tuple[float, float]]:
    """Return the longest stretches (first, last mean rank) of methods that are within one critical difference."""
    ranks, reach = sorted(data["mean_rank"]), float(data["critical_difference"].iloc[0])
    found: list[tuple[float, float]] = []
    for first in ranks:
        last = max(rank for rank in ranks if rank - first <= reach)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def _labels_at(bars: int) -> float:
    """Return where the first label stands, inches below the heading."""
    return _RULE + _LINE * (0.6 * bars + 0.9)


def _diagram(axes: Axes, data: pd.DataFrame, height: float) -> None:
    k, reach = len(data), float(data["critical_difference"].iloc[0])
    axes.set(xlim=(1, k), ylim=(height, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    line: dict[str, Any] = {"color": style.INK, "clip_on": False, "solid_capstyle": "butt"}
    axes.plot([1, k], [_RULE, _RULE], lw=0.8, **line)
    for rank in range(1, k + 1):
        axes.plot([rank, rank], [_RULE - 0.035, _RULE], lw=0.8, **line)
        axes.text(rank, _RULE - 0.05, str(rank), ha="center", va="bottom")
    shown, top = min(reach, k - 1), _CD
    axes.plot([k - shown, k], [top, top], lw=1.4, **line)
    axes.text(k - shown - (k - 1) * 0.02, top, f"CD {reach:.2f}", ha="right", va="center")
    bars = cliques(data)
    for place, (first, last) in enumerate(bars):
        y = _RULE + _LINE * 0.6 * (place + 0.7)
        pad = (k - 1) * 0.008
        axes.plot([first - pad, last + pad], [y, y], lw=2.2, **line)
    below = _labels_at(len(bars))
    half = (k + 1) // 2
    for place, row in enumerate(each_row(data.sort_values("mean_rank"))):
        left = place < half
        y = below + _LINE * (place if left else k - 1 - place)
        edge, side = (1 - (k - 1) * 0.02, "right") if left else (k + (k - 1) * 0.02, "left")
        axes.plot([row.mean_rank, row.mean_rank, edge], [_RULE, y, y], lw=0.6, **line | {"color": style.MUTED})
        label = f"{row.method}  {row.mean_rank:.2f}" if left else f"{row.mean_rank:.2f}  {row.method}"
        away = (edge + (k - 1) * (-0.012 if left else 0.012), y)
        axes.text(*away, label, ha=side, va="center", color=style.INK)
        axes.plot(row.mean_rank, _RULE, "o", ms=2.6, color=style.INK, clip_on=False)
