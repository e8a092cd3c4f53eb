"""What another calibration set does to each quantizer, on average and in the worst class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
from matplotlib.lines import Line2D

from evalsuite.analysis.claims import excludes_zero, significant
from reports import style
from reports.frames.calibration_sets import effects
from reports.frames.methods import as_rows
from reports.layout import Canvas, broken, column, legend_height, line_height, page, pages, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_DODGE = 0.062  # inches from one quantizer to the next within a row
_LEAST = 0.16  # inches of a row
_HEAD, _FOOT = 0.1, 0.5  # inches, between blocks and below the last
_LABELS = 0.4  # of the width, for labels
_TALL = 4.6  # inches beyond which the factors go into two columns
_MOST = 12  # sets of one factor
_PANELS = {
    "mean": ("difference", "low", "high", "mean error"),
    "worst": ("worst_change", "worst_low", "worst_high", "worst-class drop"),
}


@dataclass(frozen=True)
class CalibrationEffects:
    """What another calibration set changes.

    Points that each calibration set adds to the mean error, and to the drop of the worst class, against the study's
    first set, for every quantizer without adaptation; to the right of 0 the set harms. Grouped by what differs from
    the first set; of more than 12 sets of a group, those with the largest changes. Lines are 95 % intervals of the
    paired difference over test images and, where there are several, calibration draws. Filled: for the mean,
    Holm-corrected p < 0.05 over domains, or images shown once (within a quantizer), and an interval without 0; for the
    worst class, which is not tested, an interval without 0. Its two worst classes, which may be different ones, are
    taken as given.
    """

    order: ClassVar[int] = 40

    def data(self, run: Run) -> pd.DataFrame:
        """Return rows of :func:`reports.frames.calibration_sets.effects`, one per (task, calibration set, quantizer).

        Of more than 12 sets of one task and factor, those that change the mean error most for some quantizer.
        """
        changed = effects(run)
        size = changed["difference"].abs().astype(float)
        largest = size.groupby([changed["task"], changed["calibration_label"]]).transform("max")
        sets = changed.assign(largest=largest).drop_duplicates(["task", "calibration_label"])
        place = sets.groupby(["task", "factor"])["largest"].rank(ascending=False, method="first")
        kept = sets.loc[place <= _MOST, ["task", "calibration_label"]]
        return changed.merge(kept, on=["task", "calibration_label"])

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task, by factor where one printed page is too small."""
        return pages(data, lambda own: _Plan.of(own).height, ["task"], ["factor"])

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw two panels per factor, a row per calibration set, a marker per quantizer; a block of factors a task."""
        plan = _Plan.of(data, ax)
        width, inner, heights = plan.width, plan.inner, plan.heights
        canvas = Canvas.of(width * len(plan.columns), plan.height, ax)
        limits = {name: _limits(data, low, high) for name, (_, low, high, _) in _PANELS.items()}
        for place, part in enumerate(plan.columns):
            top = plan.legend
            for k in part:
                own, heading = plan.blocks[k], plan.headings[k]
                top += line_height(heading) + style.scaled(_HEAD)
                height = heights[k] - line_height(heading) - style.scaled(_HEAD)
                axes = [
                    canvas.panel(place * width + plan.left + side * (inner + 0.1), top, inner, height)
                    for side in (0, 1)
                ]
                _block(axes, own, plan, limits, last=k == part[-1])
                canvas.text(place * width, top - 0.03, heading, weight="bold", va="bottom")
                top += height
        canvas.legend(_handles(data))
        return canvas.whole


@dataclass(frozen=True, eq=False)
class _Plan:
    """Where everything goes, in inches."""

    blocks: list[pd.DataFrame]
    heights: list[float]
    """Of the blocks, their names included."""
    columns: list[range]
    """Which blocks stand one below the other."""
    headings: list[str]
    """Of the blocks, broken into lines."""
    levels: dict[str, str]
    """The labels of sets, broken into lines."""
    row: float
    width: float
    """Of a column."""
    left: float
    """Room for the labels of the sets."""
    inner: float
    """Width of a panel."""
    legend: float
    """Height of the legend."""

    @classmethod
    def of(cls, data: pd.DataFrame, ax: Axes | None = None) -> _Plan:
        blocks = [own for _, own in data.groupby(["task", "factor"], sort=False)]
        several, quantizers = data["task"].nunique() > 1, data["quantizer_order"].nunique()
        rows = sum(own["calibration_label"].nunique() for own in blocks) * max(_LEAST, _DODGE * quantizers + 0.06)
        wide = rows + len(blocks) * 0.22 > _TALL and len(blocks) > 1 and page(ax) >= 1.5 * style.COLUMN
        width = page(ax) / 2 if wide else column(ax)
        levels = {str(name): broken(str(name), _LABELS * width) for name in data["level"].unique()}
        tallest = max(line_height(label) + 0.03 for label in levels.values())
        row = max(style.scaled(_LEAST), _DODGE * quantizers + 0.06, tallest)
        names = [f"{own['task'].iloc[0]}: " * several + str(own["factor"].iloc[0]) for own in blocks]
        headings = [broken(name, width - 0.1, bold=True) for name in names]
        heights = [
            own["calibration_label"].nunique() * row + line_height(heading) + style.scaled(_HEAD)
            for own, heading in zip(blocks, headings, strict=True)
        ]
        columns = _split(heights) if wide else [range(len(blocks))]
        left = text_width(list(levels.values())) + 0.1
        legend = legend_height(_handles(data), width * len(columns)) + style.scaled(0.06)
        return cls(blocks, heights, columns, headings, levels, row, width, left, (width - left - 0.2) / 2, legend)

    @property
    def height(self) -> float:
        """Height of the figure."""
        blocks = max(sum(self.heights[k] for k in part) for part in self.columns)
        return self.legend + blocks + style.scaled(_FOOT)


def _handles(data: pd.DataFrame) -> list[Line2D]:
    quantizers = data.drop_duplicates("quantizer_order").sort_values("quantizer_order")
    looks = [(str(row["quantizer_label"]), style.look(row["quantizer_order"])) for row in as_rows(quantizers)]
    return [Line2D([], [], ls="", marker=own.marker, ms=3.4, color=own.colour, label=name) for name, own in looks]


def _split(heights: list[float]) -> list[range]:
    """Cut the blocks into two columns whose taller one is as low as can be."""
    cut = min(range(1, len(heights)), key=lambda k: max(sum(heights[:k]), sum(heights[k:])))
    return [range(cut), range(cut, len(heights))]


def _limits(data: pd.DataFrame, low: str, high: str) -> tuple[float, float]:
    least, most = min(0.0, data[low].min() * 100), max(0.0, data[high].max() * 100)
    margin = 0.05 * (most - least) or 1.0
    return least - margin, most + margin


def _block(axes: list[Axes], data: pd.DataFrame, plan: _Plan, limits: dict[str, Any], *, last: bool) -> None:
    sets = data.drop_duplicates("calibration_label")
    places = {label: k for k, label in enumerate(sets["calibration_label"])}
    orders = sorted(data["quantizer_order"].unique())
    for panel_axes, (name, (value, low, high, label)) in zip(axes, _PANELS.items(), strict=True):
        panel_axes.axvline(0, color=style.MUTED, lw=0.6, zorder=0)
        for each in as_rows(data):
            look = style.look(each["quantizer_order"])
            aside = (orders.index(each["quantizer_order"]) - (len(orders) - 1) / 2) * _DODGE / plan.row
            y = places[each["calibration_label"]] + aside
            shown = excludes_zero(each[low], each[high]) and (name == "worst" or significant(each["p_holm"]))
            panel_axes.hlines(y, each[low] * 100, each[high] * 100, color=look.colour, lw=0.7)
            fill = look.colour if shown else "white"
            panel_axes.plot(each[value] * 100, y, look.marker, ms=3, mfc=fill, mec=look.colour, mew=0.6)
        for y in range(1, len(sets)):
            panel_axes.axhline(y - 0.5, color=style.FAINT, lw=0.5, zorder=0)
        panel_axes.set(xlim=limits[name], ylim=(len(sets) - 0.5, -0.5))
        panel_axes.spines["left"].set_visible(False)
        panel_axes.tick_params(axis="y", length=0)
        if last:
            panel_axes.set_xlabel(f"{label}\n(change, points)")
        else:
            panel_axes.tick_params(labelbottom=False)
    axes[0].set_yticks(range(len(sets)), [plan.levels[str(name)] for name in sets["level"]])
    axes[1].set_yticks([])
