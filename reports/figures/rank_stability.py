"""Is the same class worst whenever the network is calibrated anew?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import style
from reports.frames.calibration_sets import calibration_sets
from reports.frames.evidence import evidence
from reports.frames.methods import KEYS, as_rows, readable
from reports.layout import pages, panel, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evalsuite.store import Run

_ROW = 0.2  # inches
_HEAD, _FOOT, _LEGEND = 0.26, 0.36, 0.12  # inches
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
        return pages(data, _height, ["task"])

    def draw(self, data: pd.DataFrame) -> Figure:
        """Draw a block of rows per task, a row per quantizer."""
        blocks = list(data.groupby("task", sort=False))
        said = data.assign(text=[_said(row) for row in as_rows(data)])
        left = text_width([str(name) for name in data["quantizer_label"]]) + 0.1
        right = text_width([*said.loc[said["first"], "text"], "most often worst"]) + 0.14
        width = max(style.COLUMN, left + right + 1.3)
        rows = [own["quantizer_label"].nunique() for _, own in blocks]
        figure = Figure(figsize=(width, _height(data)))
        top = _LEGEND + _HEAD
        for (task, _), number in zip(blocks, rows, strict=True):
            axes = panel(figure, left, top, width - left - right, number * _ROW)
            own = said[said["task"] == task]
            labels = list(own["quantizer_label"].unique())
            for y, label in enumerate(labels):
                _row(axes, own[own["quantizer_label"] == label], y)
            axes.set(xlim=(-0.03, 1.03), ylim=(number - 0.5, -0.5))
            axes.set_yticks(range(number), labels)
            axes.spines["left"].set_visible(False)
            axes.tick_params(axis="y", length=0)
            axes.grid(axis="x")
            figure.text(0, 1 - (top - 0.05) / figure.get_figheight(), str(task), weight="bold", size=8, va="bottom")
            beside = (left + (width - left - right) * 1.06) / width
            figure.text(
                beside, 1 - (top - 0.05) / figure.get_figheight(), "most often worst", color="#595959", va="bottom"
            )
            top += number * _ROW + _HEAD
            if task == blocks[-1][0]:
                axes.set_xlabel("Kendall's W of the classes")
            else:
                axes.tick_params(labelbottom=False)
        handles = [Line2D([], [], ls="", marker="D", ms=4, color=style.INK, label="first calibration set")]
        if not data["first"].all():
            handles.append(Line2D([], [], ls="", marker="o", ms=2.4, color=style.MUTED, label="another set"))
        figure.legend(handles=handles, loc="upper left", ncols=2, handletextpad=0.1, columnspacing=1.2)
        return figure


def _height(data: pd.DataFrame) -> float:
    rows = data.groupby("task")["quantizer_label"].nunique()
    return float(_LEGEND + rows.sum() * _ROW + len(rows) * _HEAD + _FOOT)


def _said(row: dict[str, object]) -> str:
    return f"{readable(str(row['worst_class']))}, {row['times']} of {row['draws']}"


def _row(axes: Axes, data: pd.DataFrame, y: int) -> None:
    others = data[~data["first"]].reset_index(drop=True)
    aside = y + ((np.arange(len(others)) * 0.618) % 1 - 0.5) * 0.5
    for shown in (True, False):
        chosen = others["shown"].to_numpy(bool) == shown
        fill = style.MUTED if shown else "white"
        axes.plot(others.loc[chosen, "w"], aside[chosen], "o", ms=2.4, mfc=fill, mec=style.MUTED, mew=0.6)
    for row in as_rows(data[data["first"]]):
        fill = style.INK if row["shown"] else "white"
        axes.plot(row["w"], y, "D", ms=4, mfc=fill, mec=style.INK, mew=0.7)
        axes.text(1.06, y, str(row["text"]), va="center", transform=axes.get_yaxis_transform(), clip_on=False)
