"""Which classes, domains and other groups quantization harms, and which of them more than chance explains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from reports import style
from reports.frames.evidence import evidence
from reports.frames.methods import KEYS, ORDER, readable, with_room
from reports.layout import even, lines, pages, panel, text_width, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evalsuite.store import Run

_ROW = 0.3  # inches
_ACROSS = 3
_LEAST = 1.2  # inches of a panel, whatever its labels take
_HEAD, _FOOT = 0.25, 0.38  # inches
_MANY = 50  # classes, whose dots are drawn smaller
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
        return pages(data, _height, ["task"], ["group"], ["network"])

    def draw(self, data: pd.DataFrame) -> Figure:
        """Draw a panel per task and grouping side by side, a row per network, a dot per group."""
        arranged = _lines(data)
        networks = data.drop_duplicates("network").sort_values("network_order")["network"]
        rows = {name: place + 0.5 for place, name in enumerate(networks)}
        across = max(map(len, arranged))
        left, gap = text_width([wrapped(name, _ROW) for name in rows]) + 0.12, 0.15
        width = style.COLUMN if across == 1 and left < style.COLUMN / 2 else style.PAGE
        width = max(width, left + across * (_LEAST + gap))
        inner = (width - left - gap * across) / across
        height = len(rows) * _ROW
        figure = Figure(figsize=(width, _height(data)))
        low, high = data[["drop", "mean_drop"]].min().min() * 100, data[["drop", "high"]].max().max() * 100
        margin = 0.05 * (high - low) or 1.0
        for line, place, (task, own) in (
            (k, n, each) for k, part in enumerate(arranged) for n, each in enumerate(part)
        ):
            x, y = left + place * (inner + gap), _HEAD + line * (height + _HEAD + _FOOT)
            axes = panel(figure, x, y, inner, height)
            axes.set(title=task, xlim=(low - margin, high + margin), ylim=(len(rows), 0))
            _panel(axes, own, rows, inner)
            axes.set_xlabel(f"drop of a {readable(str(own['group'].iloc[0]))} (points)")
            axes.set_yticks(list(rows.values()), [wrapped(name, _ROW) for name in rows] if place == 0 else [])
        return figure


def _lines(data: pd.DataFrame) -> list[list[tuple[str, pd.DataFrame]]]:
    """Arrange the panels: the groupings of a task side by side, or the tasks where there is one grouping."""
    panels = [(str(task), own) for (task, _), own in data.groupby(_PANEL, sort=False)]
    groups = data["group"].nunique()
    return lines(panels, even(groups, _ACROSS), ["task"]) if groups > 1 else lines(panels, _ACROSS, [])


def _height(data: pd.DataFrame) -> float:
    return len(_lines(data)) * (data["network"].nunique() * _ROW + _HEAD + _FOOT)


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
            away, side = (4, "left") if text_width([name]) + 4 / 72 < room else (-4, "right")
            halo = [withStroke(linewidth=1.5, foreground="white")]
            axes.annotate(name, place, (away, 0), textcoords="offset points", va="center", ha=side, path_effects=halo)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
