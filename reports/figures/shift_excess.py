"""What quantization costs under shift beyond what it costs on clean images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from reports import style
from reports.frames.methods import as_rows
from reports.frames.shift import shift_excess
from reports.row_panels import RowPanels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_PANELS = RowPanels(
    2,
    {
        "drop on clean images": {"marker": "o", "ms": 3.6, "color": style.MUTED, "mfc": "white", "mew": 0.8},
        "drop under shift": {"marker": "o", "ms": 3.6, "color": style.INK, "mew": 0},
        "difference": {"marker": "D", "ms": 3.2, "color": style.INK, "mew": 0},
        "difference that is shown": {"marker": "D", "ms": 3.2, "color": style.ALERT, "mew": 0},
    },
    gap=0.15,
    most=0.4,
)
_MOST_NETWORKS = 12
_COLUMNS = [
    *("task", "network", "quantizer_label", "calibration_label", "adapter_label", "stream_label", "images"),
    *("clean_drop", "clean_low", "clean_high", "shifted_drop", "shifted_low", "shifted_high"),
    *("excess", "low", "high", "p_holm", "shown"),
]


@dataclass(frozen=True)
class ShiftExcess:
    """Quantization under shift.

    Quantized networks without adaptation, in each task's first stream; of more than 12 on a task, which differ in their
    calibration sets, those of the first set. Left, what their error adds to full precision's
    on the same images: hollow on clean images, filled under shift, all domains together. Right, the second minus the
    first; coloured where it is shown to differ from 0 (exchanges of both networks within images, p < 0.05 after Holm's
    correction over the networks of a task, and an interval that excludes 0). Lines are 95 % intervals over
    test images and, where the same images were met after several calibration draws, over these.
    """

    order: ClassVar[int] = 148

    def data(self, run: Run) -> pd.DataFrame:
        """Return :func:`reports.frames.shift.shift_excess`, of many networks those of each task's first set."""
        excess = shift_excess(run)[_COLUMNS]
        first = excess.groupby("task")["calibration_label"].transform("first")
        few = excess.groupby("task")["network"].transform("nunique") <= _MOST_NETWORKS
        return excess[few | (excess["calibration_label"] == first)]

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task, by network where one printed page is too small."""
        return _PANELS.pages(data)

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw two panels per task, a row per network."""
        return _PANELS.draw(data, ax, _block)


def _block(panels: Sequence[Axes], data: pd.DataFrame, names: list[str]) -> None:
    drops, excess = panels
    for row in as_rows(data):
        y, colour = names.index(row["network"]), style.ALERT if row["shown"] else style.INK
        drops.hlines(y - 0.15, row["clean_low"] * 100, row["clean_high"] * 100, color=style.MUTED, lw=0.8)
        drops.plot(row["clean_drop"] * 100, y - 0.15, "o", ms=3.6, color=style.MUTED, mfc="white", mew=0.8)
        drops.hlines(y + 0.15, row["shifted_low"] * 100, row["shifted_high"] * 100, color=style.INK, lw=0.8)
        drops.plot(row["shifted_drop"] * 100, y + 0.15, "o", ms=3.6, color=style.INK, mew=0)
        excess.hlines(y, row["low"] * 100, row["high"] * 100, color=colour, lw=0.8)
        excess.plot(row["excess"] * 100, y, "D", ms=3.2, color=colour, mew=0)
    for axes in panels:
        axes.margins(x=0.08)
        axes.axvline(0, color=style.MUTED, lw=0.6, zorder=0)
    drops.set_xlabel("drop\n(points)")
    excess.set_xlabel("difference\n(points)")
