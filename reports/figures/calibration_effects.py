"""What another calibration set does to each quantizer, on average and in the worst class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evalsuite.analysis.claims import excludes_zero, significant
from reports import style
from reports.frames.calibration_sets import effects
from reports.frames.methods import as_rows
from reports.layout import pages, panel, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evalsuite.store import Run

_DODGE = 0.062  # inches from one quantizer to the next within a row
_LEAST = 0.16  # inches of a row
_HEAD = 0.22  # inches of a factor's name
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
    the first set; of more than 12 sets of a group, those with the largest changes. Lines are 95 % bootstrap
    intervals of the paired difference over test images and, where there are several, calibration draws. Filled: for
    the mean, Holm-corrected p < 0.05 over domains (within a quantizer) and an interval without 0; for the worst
    class, which is not tested, an interval without 0. Its two worst classes, which may be different ones, are taken
    as given.
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

    def draw(self, data: pd.DataFrame) -> Figure:
        """Draw two panels per factor, a row per calibration set, a marker per quantizer; a block of factors a task."""
        plan = _Plan.of(data)
        column, inner, heights = plan.left + 2 * plan.inner + 0.2, plan.inner, plan.heights
        figure = Figure(figsize=(column * len(plan.columns), plan.height))
        limits = {name: _limits(data, low, high) for name, (_, low, high, _) in _PANELS.items()}
        for place, part in enumerate(plan.columns):
            top = plan.legend
            for k in part:
                own, height = plan.blocks[k], heights[k] - _HEAD
                axes = [
                    panel(figure, place * column + plan.left + side * (inner + 0.1), top + _HEAD, inner, height)
                    for side in (0, 1)
                ]
                _block(axes, own, plan.row, limits, last=k == part[-1])
                title = str(own["factor"].iloc[0])
                if data["task"].nunique() > 1:
                    title = f"{own['task'].iloc[0]}: {title}"
                x, y = place * column / figure.get_figwidth(), 1 - (top + _HEAD - 0.03) / figure.get_figheight()
                figure.text(x, y, title, weight="bold", va="bottom")
                top += heights[k]
        handles = [
            Line2D([], [], ls="", marker=look.marker, ms=3.4, color=look.colour, label=label)
            for label, look in plan.looks
        ]
        figure.legend(handles=handles, loc="upper left", ncols=plan.across, handletextpad=0.1, columnspacing=1.0)
        return figure


@dataclass(frozen=True, eq=False)
class _Plan:
    """Where everything goes, in inches."""

    blocks: list[pd.DataFrame]
    heights: list[float]
    """Of the blocks, their names included."""
    columns: list[range]
    """Which blocks stand one below the other."""
    row: float
    left: float
    """Room for the labels of the sets."""
    inner: float
    """Width of a panel."""
    looks: list[tuple[str, style.Look]]
    across: int
    """Names of quantizers side by side."""

    @classmethod
    def of(cls, data: pd.DataFrame) -> _Plan:
        quantizers = data.drop_duplicates("quantizer_order").sort_values("quantizer_order")
        row = max(_LEAST, _DODGE * len(quantizers) + 0.06)
        blocks = [own for _, own in data.groupby(["task", "factor"], sort=False)]
        heights = [own["calibration_label"].nunique() * row + _HEAD for own in blocks]
        columns = _split(heights) if sum(heights) > _TALL and len(blocks) > 1 else [range(len(blocks))]
        left = text_width([str(name) for name in data["level"]]) + 0.1
        width = style.PAGE if len(columns) > 1 else style.COLUMN
        inner = max(0.85, (width / len(columns) - left - 0.2) / 2)
        looks = [
            (label, style.look(order))
            for label, order in quantizers[["quantizer_label", "quantizer_order"]].itertuples(index=False, name=None)
        ]
        room = (left + 2 * inner + 0.2) * len(columns)
        across = max(1, int(room / (text_width([label for label, _ in looks]) + 0.3)))
        return cls(blocks, heights, columns, row, left, inner, looks, across)

    @property
    def legend(self) -> float:
        """Height of the legend."""
        return 0.14 * -(-len(self.looks) // self.across) + 0.1

    @property
    def height(self) -> float:
        """Height of the figure."""
        return self.legend + max(sum(self.heights[k] for k in part) for part in self.columns) + 0.5


def _split(heights: list[float]) -> list[range]:
    """Cut the blocks into two columns whose taller one is as low as can be."""
    cut = min(range(1, len(heights)), key=lambda k: max(sum(heights[:k]), sum(heights[k:])))
    return [range(cut), range(cut, len(heights))]


def _limits(data: pd.DataFrame, low: str, high: str) -> tuple[float, float]:
    least, most = min(0.0, data[low].min() * 100), max(0.0, data[high].max() * 100)
    margin = 0.05 * (most - least) or 1.0
    return least - margin, most + margin


def _block(axes: list[Axes], data: pd.DataFrame, row: float, limits: dict[str, Any], *, last: bool) -> None:
    sets = data.drop_duplicates("calibration_label")
    places = {label: k for k, label in enumerate(sets["calibration_label"])}
    orders = sorted(data["quantizer_order"].unique())
    for panel_axes, (name, (value, low, high, label)) in zip(axes, _PANELS.items(), strict=True):
        panel_axes.axvline(0, color=style.MUTED, lw=0.6, zorder=0)
        for each in as_rows(data):
            look = style.look(each["quantizer_order"])
            aside = (orders.index(each["quantizer_order"]) - (len(orders) - 1) / 2) * _DODGE / row
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
            panel_axes.set_xlabel(f"{label}\n(change in points)")
        else:
            panel_axes.tick_params(labelbottom=False)
    axes[0].set_yticks(range(len(sets)), sets["level"])
    axes[1].set_yticks([])
