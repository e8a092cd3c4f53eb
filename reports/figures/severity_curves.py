"""How errors grow with the severity of a corruption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from reports import style
from reports.frames.evidence import evidence
from reports.frames.views import VIEW
from reports.layout import across, grid, grid_height, legend_below, pages, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_LINE = [*VIEW, "line", "line_order", "reference"]
_COLUMNS = [*_LINE, "severity", "error", "low", "high", "corruptions", "unit"]
_HEIGHT = 2.5  # inches of a panel


@dataclass(frozen=True)
class SeverityCurves:
    """Error by severity.

    Mean error over the corruptions that were shown at every one of these severities; 0 is the clean images. Left,
    quantizers without adaptation under the study's first calibration set; right, adapters on the network with the
    fewest bits; dashed: full precision without adaptation. Bars are 95 % intervals over test images and,
    where there are several, calibration draws; all lines share their images.
    """

    order: ClassVar[int] = 100

    def data(self, run: Run) -> pd.DataFrame:
        """Return a row per (task, view, line, severity), for each task's first stream; at least three severities.

        ``corruptions`` is the number of them that the mean is over, ``unit`` what the interval is over.
        """
        return evidence(run).estimates["severities"][_COLUMNS]

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task where one printed page is too small."""
        return pages(data, lambda own: grid_height(own.groupby(VIEW).ngroups, _HEIGHT), ["task"])

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw a panel per task and view, a line per method."""
        panels = list(data.groupby(VIEW, sort=False))
        columns, extra = across(len(panels), ax), [0.0]
        canvas, places = grid(len(panels), _HEIGHT, ax=ax)
        room = canvas.width / columns
        highest = data["high"].max() * 100
        for axes, ((task, view, _), own) in zip(places, panels, strict=True):
            lines = list(own.groupby("line", sort=False))
            for place, (label, line) in enumerate(lines):
                x, error = line["severity"], line["error"] * 100
                if line["reference"].iloc[0]:
                    axes.plot(x, error, color=style.MUTED, ls=(0, (4, 2)), label=label, zorder=1)
                    continue
                look = style.look(line["line_order"].iloc[0])
                x = x + 0.3 * ((place + 0.5) / len(lines) - 0.5)  # apart, so that no interval hides another
                axes.vlines(x, line["low"] * 100, line["high"] * 100, color=look.colour, lw=0.6, alpha=0.55)
                mark: dict[str, Any] = {"marker": look.marker, "ms": 3.4, "mec": "white", "mew": 0.4}
                axes.plot(x, error, color=look.colour, ls=look.line, label=label, **mark)
            axes.set(
                title=title(f"{task}, {view}", room - style.scaled(0.5)),
                xlabel="severity",
                ylabel="error (%)",
                ylim=(0, highest * 1.03),
            )
            axes.set_xticks(sorted(own["severity"].unique()))
            axes.grid(axis="y")
            extra.append(legend_below(axes, room))
        canvas.grow(max(extra) * -(-len(places) // columns))
        return canvas.whole
