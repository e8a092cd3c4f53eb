"""What an adapter costs, and what error that buys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from reports import style
from reports.frames.evidence import evidence
from reports.frames.methods import KEYS, each_row
from reports.frames.views import QUANTIZERS, first_stream, views
from reports.layout import across, grid, grid_height, legend_below, pages, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_COSTS = {
    "forwards_per_batch": "forward passes a batch",
    "seconds_per_image": "time an image (ms, simulated)",
}
_HEIGHT = 2.3  # inches of a panel
_WIDE = 300  # from this ratio of an axis' ends on, ticks are powers of ten only
_NUMBERS = ["error", "error_low", "error_high", *_COSTS, "backwards_per_batch", "unit"]


@dataclass(frozen=True)
class CostAgainstError:
    """Cost against error.

    Mean error of each adapter on the network with the fewest bits, against its forward passes over a batch and its
    time an image; hollow: it needs backward passes too. Passes that take fewer than three values have no panel: the
    time says as much. The line joins what nothing else beats in both. Dashed: the error of an oracle, which is told the
    labels and so is no method. Bars are 95 % intervals over test
    images and, where there are several, calibration draws. Times are those of simulated quantization: compare them
    only with each other.
    """

    order: ClassVar[int] = 140

    def data(self, run: Run) -> pd.DataFrame:
        """Return a row per (task, adapter), for each task's first stream; at least two adapters.

        ``oracle`` marks adapters that are told the labels. ``best_forwards_per_batch`` and ``best_seconds_per_image``
        mark what no other adapter beats in error and that cost.
        """
        chosen = first_stream(views(run))
        chosen = chosen[(chosen["view"] != QUANTIZERS) & ~chosen["reference"]]
        methods = chosen.merge(evidence(run).summary[[*KEYS, *_NUMBERS]], on=KEYS).assign(oracle=False)
        data = pd.concat([methods, *_oracles(methods, evidence(run).estimates["oracles"])], ignore_index=True)
        for cost in _COSTS:
            data[f"best_{cost}"] = [
                not row.oracle
                and not (
                    (own["error"] <= row.error)
                    & (own[cost] <= getattr(row, cost))
                    & ((own["error"] < row.error) | (own[cost] < getattr(row, cost)))
                ).any()
                for row in each_row(data)
                for own in [methods[methods["task"] == row.task]]
            ]
        best = [f"best_{cost}" for cost in _COSTS]
        return data[["task", "view", "stream_label", "line", "line_order", "oracle", *_NUMBERS, *best]]

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task where one printed page is too small."""
        return pages(data, lambda own: grid_height(len(_panels(own)), _HEIGHT), ["task"])

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw a panel per task and cost that takes three values at least, a marker per adapter."""
        panels = _panels(data)
        columns, extra = across(len(panels), ax), [0.0]
        canvas, places = grid(len(panels), _HEIGHT, ax=ax)
        room = canvas.width / columns
        for axes, (name, cost, own) in zip(places, panels, strict=True):
            if name:
                axes.set_title(title(name, room - style.scaled(0.5)))
            _panel(axes, own, cost)
            axes.set_xlabel(_COSTS[cost])
            axes.set_ylabel("error (%)")
            if name or columns == 1:
                extra.append(legend_below(axes, room))
        canvas.grow(max(extra) * -(-len(places) // columns))
        return canvas.whole


def _oracles(methods: pd.DataFrame, told: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the oracles on the networks of some methods, after these in order; nothing where there are none."""
    alike = [key for key in KEYS if key != "adapter_label"]
    beside = told.merge(methods.drop_duplicates(alike)[[*alike, "view"]], on=alike)
    if beside.empty:
        return []
    places = beside.groupby("task").cumcount() + beside["task"].map(methods.groupby("task")["line_order"].max()) + 1
    return [beside.assign(line=beside["adapter_label"], line_order=places, oracle=True)]


def _panels(data: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Return title, cost and data of each panel; the second panel of a task has no title.

    A cost of fewer than three values, one and two passes say, has no axis of its own: the time says as much.
    """
    costs = [cost for cost in _COSTS if data.groupby(["task", "view"])[cost].nunique().max() > 2] or list(_COSTS)[-1:]
    return [
        (f"{task}, {view}" if cost == costs[0] else "", cost, own)
        for (task, view), own in data.groupby(["task", "view"], sort=False)
        for cost in costs
    ]


def _panel(axes: Axes, data: pd.DataFrame, cost: str) -> None:
    scale = 1000 if cost == "seconds_per_image" else 1
    front = data[data[f"best_{cost}"]].sort_values(cost)
    axes.step(front[cost] * scale, front["error"] * 100, where="post", color="#cccccc", lw=1.6, zorder=0)
    for row in each_row(data):
        look = style.look(row.line_order)
        x, error = getattr(row, cost) * scale, row.error * 100
        if row.oracle:
            axes.axhline(error, color=look.colour, ls=style.TOLD, lw=0.9, label=row.line, zorder=0)
            continue
        axes.vlines(x, row.error_low * 100, row.error_high * 100, color=look.colour, lw=0.6, alpha=0.4)
        mark: dict[str, Any] = {"marker": look.marker, "color": look.colour, "ls": "", "ms": 4.4}
        if row.backwards_per_batch > 0:
            mark |= {"mfc": "none"}
        axes.plot(x, error, label=row.line, **mark)
    if data[cost].max() > 8 * data[cost].min() > 0:
        _logarithmic(axes, data[cost].max() / data[cost].min())
    elif cost == "forwards_per_batch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.08)
    axes.grid()


def _logarithmic(axes: Axes, span: float) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if span < _WIDE else (1.0,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
