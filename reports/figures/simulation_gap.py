"""What engines do otherwise than the simulation, and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from reports import style
from reports.frames.engines import engine_gaps, over_all_images
from reports.frames.methods import as_rows
from reports.row_panels import RowPanels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_PANELS = RowPanels(
    3,
    {
        "all images": {"marker": "o", "ms": 3.6, "color": style.INK},
        "one domain": {"marker": "o", "ms": 1.6, "color": style.MUTED, "mew": 0},
        "class with most": {"marker": "D", "ms": 3.2, "color": style.MUTED, "mew": 0},
        "a class changed beyond chance": {"marker": "o", "ms": 3.6, "color": style.ALERT},
        "full precision on the engine": {"marker": "s", "ms": 3.2, "color": style.MUTED, "mfc": "none", "mew": 0.8},
    },
    gap=0.12,
    most=0.34,
)
_COLUMNS = [
    *("task", "network", "quantizer_label", "calibration_label", "adapter_label", "stream_label", "engine"),
    *("domain", "severity", "images", "flips", "flips_low", "flips_high"),
    *("most_flipped", "class_flips", "class_flips_low", "class_flips_high"),
    *("change", "change_low", "change_high", "shown", "milliseconds", "threads"),
    *("latency_ms", "float_latency_ms", "latency_ratio"),
]


@dataclass(frozen=True)
class SimulationGap:
    """Simulation and engines.

    Networks as engines run them, against the simulation of the same integers, scales and zero points on the same
    images. Left, flips: how many images get another class, of all and of the class with most of them; small marks are
    domains. Middle, error on the engine minus error in the simulation; coloured where the class whose error rises most
    does so beyond chance (permutation p < 0.05, Holm within the rows of a task). Right, the engine's own time an image,
    filled, and hollow what it takes for the network in full precision (medians over pairs of passes). Lines are 95 %
    intervals over test images.
    """

    order: ClassVar[int] = 145

    def data(self, run: Run) -> pd.DataFrame:
        """Return :func:`reports.frames.engines.engine_gaps`."""
        return engine_gaps(run)[_COLUMNS]

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task, by network where one printed page is too small."""
        return _PANELS.pages(data)

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw three panels per task, a row per network and engine."""
        return _PANELS.draw(data, ax, _block)


def _block(panels: Sequence[Axes], data: pd.DataFrame, names: list[str]) -> None:
    flips, change, time = panels
    whole = over_all_images(data)
    domains = data[~data.index.isin(whole.index)]
    for row in as_rows(domains):
        flips.plot(row["flips"] * 100, names.index(row["network"]), "o", ms=1.6, color=style.MUTED, mew=0, alpha=0.7)
    for row in as_rows(whole):
        y, colour = names.index(row["network"]), style.ALERT if row["shown"] else style.INK
        flips.hlines(y - 0.15, row["flips_low"] * 100, row["flips_high"] * 100, color=style.INK, lw=0.8)
        flips.plot(row["flips"] * 100, y - 0.15, "o", ms=3.6, color=style.INK)
        flips.hlines(y + 0.15, row["class_flips_low"] * 100, row["class_flips_high"] * 100, color=style.MUTED, lw=0.8)
        flips.plot(row["class_flips"] * 100, y + 0.15, "D", ms=3.2, color=style.MUTED, mew=0)
        change.hlines(y, row["change_low"] * 100, row["change_high"] * 100, color=colour, lw=0.8)
        change.plot(row["change"] * 100, y, "o", ms=3.6, color=colour)
        own = row["milliseconds" if pd.isna(row["latency_ms"]) else "latency_ms"]
        time.plot(own, y, "s", ms=3.2, color=style.INK, mew=0)
        time.plot(row["float_latency_ms"], y, "s", ms=3.2, color=style.MUTED, mfc="none", mew=0.8)
    for axes in panels:
        axes.margins(x=0.12)
    change.axvline(0, color=style.MUTED, lw=0.6, zorder=0)
    for axes in (flips, time):
        axes.set_xlim(left=-0.04 * axes.get_xlim()[1])  # room for half a mark at 0
    flips.set_xlabel("flips\n(%)")
    change.set_xlabel("error\n(points)")
    time.set_xlabel("time\n(ms)")
