"""Is the same class worst whenever the network is calibrated anew?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from reports import style
from reports.frames.calibration_sets import calibration_sets
from reports.frames.evidence import evidence
from reports.frames.methods import KEYS, as_rows, readable
from reports.layout import Canvas, broken, column, legend_height, line_height, pages, size, text_width, x_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_ROW = 0.2  # inches
_HEAD, _FOOT = 0.13, 0.36  # inches
_BESIDE, _EDGE = 0.1, 0.14  # between rows and what stands beside them; and with what is left behind it, inches
_WORST = "most often worst"
_COLUMNS = [
    *("task", "stream_label", "network", "quantizer_label", "quantizer_order", "calibration_label", "first"),
    *("w", "p", "draws", "worst_class", "times", "shown"),
]


@dataclass(frozen=True)
class RankStability:
    """Stability of the classes' order over calibration draws.

    Kendall's W of the classes ranked by their drop in each calibration draw: 1, every draw harms the classes in the
    same order; 0, in any order. Diamond: the study's first calibration set; small dots: the other sets. Filled: some
    agreement is shown (chi-squared p < 0.05, uncorrected). On the right, the class most often worst with the first
    set, and in how many draws. The draws share their test images, which makes them agree more than the draws alone.
    """

    order: ClassVar[int] = 60

    def data(self, run: Run) -> pd.DataFrame:
        """Return a row per (task, quantizer, calibration set) without adaptation, in the task's first stream.

        Agreement (``w``, ``p``, ``shown``) and the class that is worst in most (``times``) of the ``draws`` are of
        ``across_draws.csv``.
        """
        found = evidence(run)
        methods = found.methods
        own = methods[methods["unadapted"] & ~methods["full_precision"] & methods["stability_class"].notna()]
        streams = own.drop_duplicates("task")[["task", "stream_label"]]
        own = own[[*KEYS, "network", "task_order"]].merge(streams, on=["task", "stream_label"])
        across = found.estimates["across_draws"]
        own = own.merge(across[across["draws"] > 1], on=KEYS)
        own = own.merge(calibration_sets(run)[["task", "calibration_label", "calibration_order"]])
        order = {label: place + 1 for place, label in enumerate(own["quantizer_label"].unique())}
        own = own.assign(
            first=own["calibration_order"] == 0,
            quantizer_order=own["quantizer_label"].map(order),
        )
        return own.sort_values(["task_order", "quantizer_order", "calibration_order"], ignore_index=True)[_COLUMNS]

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task where one printed page is too small."""
        return pages(data, lambda own: _Plan.of(own, column()).height, ["task"])

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw a block of rows per task, a row per quantizer."""
        plan = _Plan.of(data, column(ax))
        canvas = Canvas.of(plan.width, plan.height, ax)
        inner = plan.width - plan.left - plan.right
        top = legend_height(_handles(data), plan.width)
        for task, labels in plan.blocks.items():
            heading = broken(task, plan.left + inner, bold=True)
            top += line_height(heading) + style.scaled(_HEAD)
            axes = canvas.panel(plan.left, top, inner, len(labels) * plan.row)
            own = data[data["task"] == task]
            for y, name in enumerate(labels):
                _row(axes, own[own["quantizer_label"] == name], y, plan.right - style.scaled(_EDGE))
            axes.set(xlim=(-0.03, 1.03), ylim=(len(labels) - 0.5, -0.5))
            axes.set_yticks(range(len(labels)), list(labels.values()))
            axes.spines["left"].set_visible(False)
            axes.tick_params(axis="y", length=0)
            axes.grid(axis="x")
            canvas.heading(0, top - 0.05, heading)
            canvas.text(plan.left + inner + style.scaled(_BESIDE), top - 0.05, _WORST, color="#595959", va="bottom")
            top += len(labels) * plan.row
            if task == list(plan.blocks)[-1]:
                x_label(axes, "Kendall's W of the classes")
            else:
                axes.tick_params(labelbottom=False)
        canvas.legend(_handles(data))
        return canvas.whole


@dataclass(frozen=True)
class _Plan:
    """Where everything goes, in inches."""

    width: float
    left: float
    right: float
    """Room for what stands beside the rows."""
    row: float
    blocks: dict[str, dict[str, str]]
    """By task, the labels of its quantizers, broken into lines."""
    legend: float

    @classmethod
    def of(cls, data: pd.DataFrame, width: float) -> _Plan:
        blocks = {
            str(task): {str(name): broken(str(name), 0.33 * width) for name in own["quantizer_label"].unique()}
            for task, own in data.groupby("task", sort=False)
        }
        room = 0.3 * width
        said = [broken(_said(row), room) for row in as_rows(data[data["first"]])]
        labels = [label for own in blocks.values() for label in own.values()]
        row = max([style.scaled(_ROW), *(line_height(label) + 0.03 for label in [*labels, *said])])
        right = text_width([*said, _WORST]) + style.scaled(_EDGE)
        return cls(width, text_width(labels) + 0.1, right, row, blocks, legend_height(_handles(data), width))

    @property
    def height(self) -> float:
        """Height of the figure."""
        heads = sum(line_height(broken(task, self.width - self.right, bold=True)) for task in self.blocks)
        rows = sum(map(len, self.blocks.values())) * self.row
        return self.legend + heads + style.scaled(_HEAD * len(self.blocks) + _FOOT) + rows


def _handles(data: pd.DataFrame) -> list[Line2D]:
    handles = [Line2D([], [], ls="", marker="D", ms=4, color=style.INK, label="first calibration set")]
    if not data["first"].all():
        handles.append(Line2D([], [], ls="", marker="o", ms=2.4, color=style.MUTED, label="another set"))
    return handles


def _said(row: dict[str, object]) -> str:
    return f"{readable(str(row['worst_class']))}, {row['times']} of {row['draws']}"


def _row(axes: Axes, data: pd.DataFrame, y: int, room: float) -> None:
    others = data[~data["first"]].reset_index(drop=True)
    aside = y + ((np.arange(len(others)) * 0.618) % 1 - 0.5) * 0.5
    for shown in (True, False):
        chosen = others["shown"].to_numpy(bool) == shown
        fill = style.MUTED if shown else "white"
        axes.plot(others.loc[chosen, "w"], aside[chosen], "o", ms=2.4, mfc=fill, mec=style.MUTED, mew=0.6)
    for row in as_rows(data[data["first"]]):
        fill = style.INK if row["shown"] else "white"
        axes.plot(row["w"], y, "D", ms=4, mfc=fill, mec=style.INK, mew=0.7)
        place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "clip_on": False}
        axes.text(
            1 + style.scaled(_BESIDE) / size(axes)[0],
            y,
            broken(_said(row), room),
            va="center",
            linespacing=1.0,
            **place,
        )
