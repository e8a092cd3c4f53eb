"""On how many seeds and domains a method stays below any given error."""

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
_COLUMNS = [*_LINE, "threshold", "share", "low", "high", "seeds", "domains"]
_HEIGHT = 2.5  # inches of a panel
_OPAQUE = 0.4  # of all bands of a panel, one above the other


@dataclass(frozen=True)
class PerformanceProfile:
    """Performance profiles.

    Share of all (seed, domain) pairs whose error is at most the one below (Agarwal et al. 2021); a curve further to
    the left is better, and one that crosses another is better on some pairs only. Bands are 95 % intervals
    over seeds within each domain, point by point; with one seed there are none. Dashed: full precision without
    adaptation.
    """

    order: ClassVar[int] = 80

    def data(self, run: Run) -> pd.DataFrame:
        """Return a row per (task, view, line, threshold), for each task's first stream; at least three domains."""
        return evidence(run).estimates["profiles"][_COLUMNS]

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task where one printed page is too small."""
        return pages(data, lambda own: grid_height(own.groupby(VIEW).ngroups, _HEIGHT), ["task"])

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw a panel per task and view, a line per method."""
        panels = list(data.groupby(VIEW, sort=False))
        columns, extra = across(len(panels), ax), [0.0]
        canvas, places = grid(len(panels), _HEIGHT, ax=ax)
        room = canvas.width / columns
        for axes, ((task, view, _), own) in zip(places, panels, strict=True):
            faint = min(0.15, _OPAQUE / max(1, own.loc[own["low"].notna(), "line"].nunique()))
            for label, line in own.groupby("line", sort=False):
                x, share = line["threshold"] * 100, line["share"] * 100
                if line["reference"].iloc[0]:
                    axes.plot(
                        x, share, color=style.MUTED, ls=(0, (4, 2)), label=label, zorder=1, drawstyle="steps-post"
                    )
                    continue
                look = style.look(line["line_order"].iloc[0])
                if line["low"].notna().all():
                    band: dict[str, Any] = {"color": look.colour, "alpha": faint, "lw": 0, "zorder": 0}
                    axes.fill_between(x, line["low"] * 100, line["high"] * 100, step="post", **band)
                mark: dict[str, Any] = {"marker": look.marker, "ms": 3.4, "mec": "white", "mew": 0.4}
                mark["markevery"] = (int(line["line_order"].iloc[0]) * 3 % 14, 14)
                axes.plot(x, share, color=look.colour, ls=look.line, label=label, drawstyle="steps-post", **mark)
            axes.set(
                title=title(f"{task}, {view}", room - style.scaled(0.5)),
                xlabel="error (%)",
                ylabel="share at or below (%)",
            )
            axes.set(xlim=(0, data["threshold"].max() * 100), ylim=(-2, 102))
            axes.grid()
            extra.append(legend_below(axes, room))
        canvas.grow(max(extra) * -(-len(places) // columns))
        return canvas.whole
