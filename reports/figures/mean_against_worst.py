"""What the average hides: mean drop, worst-class drop, and the worst class that chance alone would give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import style
from reports.evidence import evidence, with_room
from reports.layout import Rows, pages, panel, title
from reports.methods import KEYS, ORDER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evalsuite.store import Run

_ROW = 0.17  # inches
_ACROSS = 3
_LEAST = 1.2  # inches of a panel, whatever its labels take
_GAP, _FOOT, _LEGEND = 0.15, 0.38, 0.36  # inches
_PANEL = ["task", "stream_label"]
_MEAN: dict[str, Any] = {"ls": "", "marker": "o", "ms": 3.2, "color": style.INK}
_BEYOND: dict[str, Any] = {"ls": "", "marker": "D", "ms": 3.4, "color": style.ALERT, "mew": 0}
_WITHIN: dict[str, Any] = {"ls": "", "marker": "D", "ms": 3.4, "color": style.MUTED, "mew": 0}
_NULL: dict[str, Any] = {"ls": "", "marker": "D", "ms": 3.4, "mfc": "white", "mec": style.INK, "mew": 0.6}
_CLASS = ["worst_drop_class", *(f"worst_drop_class_{name}" for name in ("value", "low", "high", "null", "p_holm"))]


@dataclass(frozen=True)
class MeanAgainstWorst:
    """Mean drop against worst-class drop.

    How many points of accuracy a method loses against the full-precision, unadapted network: on average
    (circle) and in its worst class (filled diamond), with 95 % bootstrap intervals over images. The worst of
    several classes is bad by chance alone; the hollow diamond is the worst class to expect where all classes
    are harmed alike. Only the distance between the two diamonds speaks of unequal harm; the filled one is
    coloured where the permutation test calls it more than chance (Holm-corrected p < 0.05).
    """

    def data(self, run: Run) -> pd.DataFrame:
        """Return the drops of ``summary.csv`` by method, as fractions, without the references (0 by definition)."""
        methods = with_room(evidence(run)).methods
        shown = methods[~(methods["full_precision"] & methods["unadapted"]) & methods["drop"].notna()]
        return shown[[*KEYS, "network", *ORDER, "drop", "drop_low", "drop_high", *_CLASS]].reset_index(drop=True)

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task, by stream, by network where one printed page is too small."""
        return pages(data, lambda own: _Plan.of(own).height, ["task"], ["stream_label"], ["network"])

    def draw(self, data: pd.DataFrame) -> Figure:
        """Draw a panel per task and stream, a row per method."""
        plan = _Plan.of(data)
        figure = Figure(figsize=(plan.width, plan.height))
        limits = 100 * min(0, data["drop_low"].min()), 100 * data[_CLASS[1:-1]].max().max()
        margin = 0.04 * (limits[1] - limits[0]) or 1.0
        below = _LEGEND
        for line in range(0, len(plan.panels), plan.across):
            part = plan.panels[line : line + plan.across]
            below += plan.head(part)
            for place, (name, own) in enumerate(part):
                axes = panel(figure, plan.left + place * (plan.inner + _GAP), below, plan.inner, plan.tall)
                axes.set(xlim=(limits[0] - margin, limits[1] + margin), xlabel="drop (points)")
                axes.set_title(name)
                if place == 0:
                    plan.rows.label(axes)
                else:
                    axes.set(ylim=(plan.rows.height, 0), yticks=[])
                    axes.spines["left"].set_visible(False)
                _draw_rows(axes, own, plan.rows)
            below += plan.tall + _FOOT
        _legend(figure, 2 if plan.width < style.PAGE else 4)
        return figure


@dataclass(frozen=True, eq=False)
class _Plan:
    """Where everything goes, in inches."""

    panels: list[tuple[str, pd.DataFrame]]
    """Titles and data."""
    rows: Rows
    across: int
    width: float
    left: float
    """Left edge of the first panel."""
    inner: float
    """Width of a panel."""

    @classmethod
    def of(cls, data: pd.DataFrame) -> _Plan:
        panels, rows = list(data.groupby(_PANEL, sort=False)), Rows.of(data, _ROW)
        streams = data["stream_label"].nunique()
        across = min(len(panels), _ACROSS, streams if streams > 1 else _ACROSS)
        left = rows.label_width
        width = style.COLUMN if across == 1 and left < style.COLUMN / 2 else style.PAGE
        width = max(width, left + across * (_LEAST + _GAP))
        inner = (width - left - _GAP * across) / across
        names = [f"{task}\n{stream}" if streams > 1 else str(task) for (task, stream), _ in panels]
        titled = [(title(name, inner), own) for name, (_, own) in zip(names, panels, strict=True)]
        return cls(titled, rows, across, width, left, inner)

    @property
    def tall(self) -> float:
        """Height of a panel."""
        return self.rows.height * _ROW

    def head(self, panels: list[tuple[str, pd.DataFrame]]) -> float:
        """Height of the titles of panels that stand side by side."""
        return 0.13 + 0.125 * max(name.count("\n") + 1 for name, _ in panels)

    @property
    def height(self) -> float:
        """Height of the figure."""
        lines = [self.panels[line : line + self.across] for line in range(0, len(self.panels), self.across)]
        return _LEGEND + sum(self.head(line) + self.tall + _FOOT for line in lines)


def _draw_rows(axes: Axes, data: pd.DataFrame, rows: Rows) -> None:
    axes.axvline(0, color=style.MUTED, lw=0.6)
    y = rows.centre(data)
    percent = data.drop(columns=["worst_drop_class_p_holm"]).select_dtypes("number") * 100
    beyond = (data["worst_drop_class_p_holm"] < 0.05).to_numpy()
    colours = [style.ALERT if yes else style.MUTED for yes in beyond]
    worst = percent["worst_drop_class_value"]
    axes.hlines(y, percent["drop"], worst, color=style.FAINT, lw=2.4, zorder=0)
    axes.hlines(y, percent["drop_low"], percent["drop_high"], color=style.INK, lw=0.8)
    axes.hlines(y, percent["worst_drop_class_low"], percent["worst_drop_class_high"], color=colours, lw=0.8)
    axes.plot(percent["worst_drop_class_null"], y, **_NULL)
    axes.plot(percent["drop"], y, **_MEAN)
    axes.plot(worst[beyond], y[beyond], **_BEYOND)
    axes.plot(worst[~beyond], y[~beyond], **_WITHIN)


def _legend(figure: Figure, columns: int) -> None:
    """Explain the four marks, above the panels."""
    marks = {
        "mean": _MEAN,
        "worst class, beyond chance": _BEYOND,
        "worst class, within chance": _WITHIN,
        "worst class expected by chance": _NULL,
    }
    handles = [Line2D([], [], label=label, **mark) for label, mark in marks.items()]
    figure.legend(handles=handles, loc="upper left", ncols=columns, handletextpad=0.1, columnspacing=1.2)
