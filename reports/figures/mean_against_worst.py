"""What the average hides: mean drop, worst-group drop, and the worst group that chance alone would give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
from matplotlib.lines import Line2D

from evalsuite.analysis.claims import significant
from reports import style
from reports.frames.evidence import evidence, with_room
from reports.frames.methods import KEYS, ORDER, readable
from reports.layout import Canvas, Rows, column, even, legend_height, lines, page, pages, title, x_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_ROW = 0.16  # inches
_ACROSS = 3
_LEAST = 1.2  # inches of a panel, whatever its labels take
_GAP, _FOOT, _LEGEND = 0.2, 0.38, 0.06  # inches
_PANEL = ["task", "stream_label", "group"]
_MEAN: dict[str, Any] = {"ls": "", "marker": "o", "ms": 3.2, "color": style.INK}
_WORST = {
    "worst_drop_{}": "worst",
    "worst_drop_{}_value": "worst_drop",
    "worst_drop_{}_low": "worst_low",
    "worst_drop_{}_high": "worst_high",
    "worst_drop_{}_null": "null",
    "worst_drop_{}_p_holm": "p_holm",
}
_COLUMNS = [*KEYS, "network", *ORDER, "group", "drop", "drop_low", "drop_high", *_WORST.values(), "family"]


@dataclass(frozen=True)
class MeanAgainstWorst:
    """Mean drop against worst-group drop.

    How many points of accuracy a method loses against the full-precision, unadapted network: on average
    (circle) and in its worst class, domain or other group (diamond), with 95 % intervals over
    images. The worst of several groups is bad by chance alone; the short bar is the worst group to expect where
    all are harmed alike. Only the distance between bar and diamond speaks of unequal harm; the diamond is filled and
    coloured where the permutation test calls it more than chance (Holm-corrected p < 0.05).
    """

    order: ClassVar[int] = 10

    def data(self, run: Run) -> pd.DataFrame:
        """Return the drops of ``summary.csv`` by method and group, as fractions.

        Without the references, which lose nothing by definition, and without groupings of one group.
        """
        found = with_room(evidence(run))
        methods = found.methods
        shown = methods[~(methods["full_precision"] & methods["unadapted"]) & methods["drop"].notna()]
        frames = []
        for group in found.groups:
            several = shown[f"worst_{group}_size"] < shown["images"] * shown["seeds"]
            columns = {column.format(group): name for column, name in _WORST.items()}
            frames.append(shown[several].rename(columns=columns).assign(group=group)[_COLUMNS])
        order = {task: place for place, task in enumerate(shown["task"].unique())}
        joined = pd.concat(frames, ignore_index=True)
        return joined.sort_values("task", key=lambda names: names.map(order), kind="stable", ignore_index=True)

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task, by stream, by group, by network where one printed page is too small.

        A page of one stream of several says so, in the column ``one_of_streams``, and names it.
        """
        streams = data.groupby("task")["stream_label"].transform("nunique")
        data = data.assign(one_of_streams=streams > 1)
        return pages(data, lambda own: _Plan.of(own).height, ["task"], ["stream_label"], ["group"], ["network"])

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw a panel per task, stream and grouping, a row per method."""
        plan = _Plan.of(data, ax)
        canvas = Canvas.of(plan.width, plan.height, ax)
        limits = (
            100 * min(0, data[["drop_low", "worst_low"]].min().min()),
            100 * data[["worst_drop", "worst_high", "null"]].max().max(),
        )
        margin = 0.04 * (limits[1] - limits[0]) or 1.0
        below = plan.legend
        for part in plan.lines:
            below += plan.head(part)
            for place, (name, own) in enumerate(part):
                axes = canvas.panel(plan.left + place * (plan.inner + _GAP), below, plan.inner, plan.tall)
                axes.set(xlim=(limits[0] - margin, limits[1] + margin))
                x_label(axes, "drop (points)")
                axes.set_title(name)
                if place == 0:
                    plan.rows.label(axes)
                else:
                    axes.set(ylim=(plan.rows.height, 0), yticks=[])
                    axes.spines["left"].set_visible(False)
                _draw_rows(axes, own, plan.rows)
            below += plan.tall + style.scaled(_FOOT)
        canvas.legend(_handles())
        return canvas.whole


@dataclass(frozen=True, eq=False)
class _Plan:
    """Where everything goes, in inches."""

    lines: list[list[tuple[str, pd.DataFrame]]]
    """Titles and data of the panels that stand side by side."""
    rows: Rows
    width: float
    left: float
    """Left edge of the first panel."""
    inner: float
    """Width of a panel."""

    @classmethod
    def of(cls, data: pd.DataFrame, ax: Axes | None = None) -> _Plan:
        panels = list(data.groupby(_PANEL, sort=False))
        named = data["stream_label"].nunique() > 1 or bool(data.get("one_of_streams", pd.Series(dtype=bool)).any())
        several = [column for column in _PANEL[:0:-1] if data[column].nunique() > 1]
        across = even(data[several[0]].nunique() if several else len(panels), _ACROSS)
        together = _PANEL[: _PANEL.index(several[0])] if several else []
        rows = Rows.of(data, _ROW)
        width = column(ax) if across == 1 and rows.label_width < column(ax) / 2 else page(ax)
        rows = Rows.of(data, _ROW, (0.62 if width < 1.5 * style.COLUMN else 0.5) * width)
        left = rows.label_width
        across = max(1, min(across, int((width - left) / (style.scaled(_LEAST) + _GAP))))
        inner = (width - left - _GAP * across) / across
        names = [
            "\n".join([str(task), *([str(stream)] if named else []), *_grouped(str(group), data)])
            for (task, stream, group), _ in panels
        ]
        titled = [(title(name, inner), own) for name, (_, own) in zip(names, panels, strict=True)]
        return cls(lines(titled, across, together), rows, width, left, inner)

    @property
    def legend(self) -> float:
        """Height of the legend and of the room below it."""
        return legend_height(_handles(), self.width) + style.scaled(_LEGEND)

    @property
    def tall(self) -> float:
        """Height of a panel."""
        return self.rows.height * self.rows.inches

    def head(self, panels: list[tuple[str, pd.DataFrame]]) -> float:
        """Height of the titles of panels that stand side by side."""
        return style.scaled(0.13 + 0.125 * max(name.count("\n") + 1 for name, _ in panels))

    @property
    def height(self) -> float:
        """Height of the figure."""
        return self.legend + sum(self.head(line) + self.tall + style.scaled(_FOOT) for line in self.lines)


def _grouped(group: str, data: pd.DataFrame) -> list[str]:
    """Return the line of a title that names the grouping, where there are several."""
    return [f"worst {readable(group)}"] if data["group"].nunique() > 1 else []


def _draw_rows(axes: Axes, data: pd.DataFrame, rows: Rows) -> None:
    axes.axvline(0, color=style.MUTED, lw=0.6)
    y = rows.centre(data)
    percent = data.drop(columns=["p_holm"]).select_dtypes("number") * 100
    beyond = significant(data["p_holm"])
    colours = [style.ALERT if yes else style.MUTED for yes in beyond]
    worst = percent["worst_drop"]
    axes.hlines(y, percent["drop"], worst, color=style.FAINT, lw=2.4, zorder=0)
    axes.hlines(y, percent["drop_low"], percent["drop_high"], color=style.INK, lw=0.8)
    axes.hlines(y, percent["worst_low"], percent["worst_high"], color=colours, lw=0.8)
    axes.plot(percent["null"], y, **style.EXPECTED)
    axes.plot(percent["drop"], y, **_MEAN)
    axes.plot(worst[beyond], y[beyond], **style.BEYOND_CHANCE)
    axes.plot(worst[~beyond], y[~beyond], **style.WITHIN_CHANCE)


def _handles() -> list[Line2D]:
    marks = {
        "mean": _MEAN,
        "worst group, beyond chance": style.BEYOND_CHANCE,
        "worst group, within chance": style.WITHIN_CHANCE,
        "worst group expected by chance": style.EXPECTED,
    }
    return [Line2D([], [], label=label, **mark) for label, mark in marks.items()]
