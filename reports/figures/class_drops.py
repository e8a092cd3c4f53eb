"""Which classes, domains and other groups quantization harms, and which of them more than chance explains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pandas as pd
from matplotlib.patheffects import withStroke

from reports import style
from reports.frames.evidence import evidence
from reports.frames.methods import KEYS, ORDER, readable, with_room
from reports.layout import Canvas, broken, column, even, line_height, lines, page, pages, text_width, title, x_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_ROW = 0.3  # inches
_ACROSS = 3
_LEAST = 1.2  # inches of a panel, whatever its labels take
_GAP, _HEAD, _FOOT = 0.15, 0.11, 0.38  # inches, between panels, above and below
_MANY = 50  # classes, whose dots are drawn smaller
_AWAY = 4  # points between a dot and its name
_PANEL = ["task", "group"]
_METHOD = ["task", "stream_label", "network", *ORDER]
_COLUMNS = [*_METHOD, "group", "name", "name_order", "images", "drop", "mean_drop", "p", "factor", "high", "beyond"]


@dataclass(frozen=True)
class ClassDrops:
    """Drop of every class, domain or other group against what chance alone would give.

    A dot is a group, a row a quantized network without adaptation; the line is the mean drop. The grey band reaches
    from there to the largest drop that chance explains, where quantization harms all groups alike. A diamond beyond
    it is a group that loses more: p < 0.05, corrected over the groups (largest drops of the permutations) and, by
    Holm, over the networks with the same calibration set, as for the worst group of ``summary.csv``; the worst one is
    named. Without a band the permutations are too few to tell.
    """

    order: ClassVar[int] = 20

    def data(self, run: Run) -> pd.DataFrame:
        """Return a row per (task, network, grouping, group), for the first stream of the task that is done.

        ``group`` is the grouping, ``name`` the group's. ``drop`` is a fraction: error minus the full-precision error
        on the same images, over all domains and seeds. ``p`` is corrected over the groups, ``factor`` is what Holm's
        correction multiplies it by, ``high`` the largest drop that is not ``beyond`` chance.
        """
        result = evidence(run)
        methods = result.methods[result.methods["unadapted"] & ~result.methods["full_precision"]]
        drawn = with_room(methods[methods["drop"].notna()]).drop_duplicates(["task", "network"])
        drawn = drawn[[*KEYS, "network", *ORDER, "drop"]].rename(columns={"drop": "mean_drop"})
        drops = result.estimates["group_drops"].rename(columns={"shown": "beyond"})
        places = {group: place for place, group in enumerate(result.groups)}
        frame = drops.merge(drawn, on=KEYS)
        frame = frame.assign(place=frame["group"].map(places))
        by = ["task_order", "place", *ORDER[1:], "name_order"]
        return frame.sort_values(by, ignore_index=True)[_COLUMNS]

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task, by grouping, by network where one printed page is too small."""
        return pages(data, lambda own: _Plan.of(own).height, ["task"], ["group"], ["network"])

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw a panel per task and grouping side by side, a row per network, a dot per group."""
        plan = _Plan.of(data, ax)
        inner, height = plan.inner, len(plan.rows) * plan.row
        canvas = Canvas.of(plan.width, plan.height, ax)
        low, high = data[["drop", "mean_drop"]].min().min() * 100, data[["drop", "high"]].max().max() * 100
        margin = 0.05 * (high - low) or 1.0
        left, right = low - margin, max(high + margin, _end(data, low - margin, inner))
        y = 0.0
        for part in plan.lines:
            y += plan.head(part)
            for place, (task, own) in enumerate(part):
                axes = canvas.panel(plan.left + place * (inner + _GAP), y, inner, height)
                axes.set(xlim=(left, right), ylim=(len(plan.rows), 0))
                axes.set_title(title(task, inner))
                _panel(axes, own, plan.rows, inner)
                x_label(axes, f"drop of a {readable(str(own['group'].iloc[0]))} (points)")
                axes.set_yticks(list(plan.rows.values()), plan.labels if place == 0 else [])
            y += height + style.scaled(_FOOT)
        return canvas.whole


@dataclass(frozen=True, eq=False)
class _Plan:
    """Where everything goes, in inches."""

    lines: list[list[tuple[str, pd.DataFrame]]]
    """Task and data of the panels that stand side by side."""
    rows: dict[str, float]
    """Where the middle of each network's row is, in rows."""
    labels: list[str]
    row: float
    width: float
    left: float
    inner: float
    """Width of a panel."""

    @classmethod
    def of(cls, data: pd.DataFrame, ax: Axes | None = None) -> _Plan:
        networks = data.drop_duplicates("network").sort_values("network_order")["network"]
        panels, groups = data.groupby(_PANEL, sort=False).ngroups, data["group"].nunique()
        wanted = even(groups if groups > 1 else panels, _ACROSS)
        wide = wanted > 1 or text_width([str(name) for name in networks]) > style.COLUMN / 2
        width = page(ax) if wide else column(ax)
        labels = [broken(str(name), 0.4 * width if width < 1.5 * style.COLUMN else 1.6) for name in networks]
        left = text_width(labels) + 0.12
        across = max(1, min(wanted, int((width - left) / (style.scaled(_LEAST) + _GAP))))
        row = max([style.scaled(_ROW), *(line_height(label) + 0.04 for label in labels)])
        rows = {str(name): place + 0.5 for place, name in enumerate(networks)}
        return cls(_lines(data, across), rows, labels, row, width, left, (width - left - _GAP * across) / across)

    def head(self, panels: list[tuple[str, pd.DataFrame]]) -> float:
        """Height of the titles of panels that stand side by side."""
        lines = max(line_height(title(task, self.inner)) for task, _ in panels)
        return lines * 8 / 7 + style.scaled(_HEAD)

    @property
    def height(self) -> float:
        """Height of the figure."""
        return sum(self.head(line) + len(self.rows) * self.row + style.scaled(_FOOT) for line in self.lines)


def _lines(data: pd.DataFrame, across: int) -> list[list[tuple[str, pd.DataFrame]]]:
    """Arrange the panels: the groupings of a task side by side, or the tasks where there is one grouping."""
    panels = [(str(task), own) for (task, _), own in data.groupby(_PANEL, sort=False)]
    return lines(panels, across, ["task"] if data["group"].nunique() > 1 else [])


def _end(data: pd.DataFrame, start: float, inches: float) -> float:
    """Return where an axis from ``start`` on ends, so that the names of the worst groups stand beside their dots.

    A name that would take almost half of the panel stands where it may.
    """
    worst = data[data["beyond"].astype(bool)].sort_values("drop").drop_duplicates([*_PANEL, "network"], keep="last")
    taken = [(text_width([str(name)]) + 2 * _AWAY / 72) / inches for name in worst["name"]]
    ends = [
        start + (100 * drop - start) / (1 - own) for drop, own in zip(worst["drop"], taken, strict=True) if own < 0.45
    ]
    return max(ends, default=start)


def _panel(axes: Axes, data: pd.DataFrame, rows: dict[str, float], inches: float) -> None:
    axes.axvline(0, color=style.MUTED, lw=0.6)
    for network, own in data.groupby("network", sort=False):
        y, percent = rows[str(network)], own[["drop", "mean_drop", "high"]] * 100
        mean, high = percent["mean_drop"].iloc[0], percent["high"].iloc[0]
        axes.barh(y, high - mean, 0.7, mean, color=style.FAINT)
        axes.plot([mean] * 2, [y - 0.35, y + 0.35], color=style.INK, lw=1)
        aside = y + ((own["name_order"] * 0.618) % 1 - 0.5) * 0.5  # spread evenly, the same on every drawing
        beyond = own["beyond"].astype(bool)
        size = 2.6 if len(own) <= _MANY else 1.6
        axes.plot(percent["drop"][~beyond], aside[~beyond], "o", ms=size, mfc="white", mec=style.INK, mew=0.6)
        axes.plot(percent["drop"][beyond], aside[beyond], "D", ms=size + 0.6, color=style.ALERT, mew=0)
        worst = int(percent["drop"].to_numpy().argmax())
        if beyond.iloc[worst]:
            place = (percent["drop"].iloc[worst], aside.iloc[worst])
            name = str(own["name"].iloc[worst])
            left, right = axes.get_xlim()
            room = (right - place[0]) / (right - left) * inches
            away, side = (_AWAY, "left") if text_width([name]) + _AWAY / 72 < room else (-_AWAY, "right")
            halo = [withStroke(linewidth=1.5, foreground="white")]
            axes.annotate(name, place, (away, 0), textcoords="offset points", va="center", ha=side, path_effects=halo)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
