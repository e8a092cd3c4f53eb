"""On how many seeds and domains a method stays below any given error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from evalsuite.analysis import Settings
from evalsuite.metrics import group_means
from evalsuite.statistics import performance_profile
from reports import style
from reports.frames.evidence import outcomes_of
from reports.frames.methods import as_rows
from reports.frames.views import VIEW, combinations_of, first_stream, views
from reports.layout import grid, grid_height, legend_below, pages

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_LINE = [*VIEW, "line", "line_order", "reference"]
_COLUMNS = [*_LINE, "threshold", "share", "low", "high", "seeds", "domains"]
_STEPS = 100
_HEIGHT = 2.5  # inches of a panel


@dataclass(frozen=True)
class PerformanceProfile:
    """Performance profiles.

    Share of all (seed, domain) pairs whose error is at most the one below (Agarwal et al. 2021); a curve further to
    the left is better, and one that crosses another is better on some pairs only. Bands are 95 % bootstrap intervals
    over seeds within each domain, point by point; with one seed there are none. Dashed: full precision without
    adaptation.
    """

    order: ClassVar[int] = 80

    def data(self, run: Run) -> pd.DataFrame:
        """Return a row per (task, view, line, threshold), for each task's first stream; at least three domains."""
        outcomes, settings = outcomes_of(run), Settings.of(run)
        chosen = first_stream(views(run))
        found = combinations_of(outcomes, chosen)
        scores = []
        for each in found:
            parts = [
                group_means(one.wrong, one.layout.domain, len(one.layout.domains))[0] for one in each.outcomes.values()
            ]
            same = len({one.layout.domains for one in each.outcomes.values()}) == 1
            scores.append(np.stack(parts) if same else np.empty((0, 0)))
        largest = max((score.max() for score in scores if score.size), default=0.0)
        thresholds = np.linspace(0, math.ceil(largest * 10) / 10, _STEPS + 1)
        frames = []
        for place, score in enumerate(scores):
            if score.shape[1] < 3:
                continue
            generator = settings.generator("reports", found[place].task, "profile")
            profile = performance_profile(score, thresholds, generator, draws=settings.bootstrap)
            values = {"threshold": thresholds, "share": profile.estimate, "low": profile.low, "high": profile.high}
            facts = as_rows(chosen.iloc[[place]][_LINE])[0] | {"seeds": score.shape[0], "domains": score.shape[1]}
            frames.append(pd.DataFrame(values).assign(**facts))
        return pd.concat(frames, ignore_index=True)[_COLUMNS] if frames else pd.DataFrame(columns=_COLUMNS)

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task where one printed page is too small."""
        return pages(data, lambda own: grid_height(own.groupby(VIEW).ngroups, _HEIGHT), ["task"])

    def draw(self, data: pd.DataFrame) -> Figure:
        """Draw a panel per task and view, a line per method."""
        panels = list(data.groupby(VIEW, sort=False))
        figure, places = grid(len(panels), _HEIGHT)
        for axes, ((task, view, _), own) in zip(places, panels, strict=True):
            for label, line in own.groupby("line", sort=False):
                x, share = line["threshold"] * 100, line["share"] * 100
                if line["reference"].iloc[0]:
                    axes.plot(
                        x, share, color=style.MUTED, ls=(0, (4, 2)), label=label, zorder=1, drawstyle="steps-post"
                    )
                    continue
                look = style.look(line["line_order"].iloc[0])
                if line["low"].notna().all():
                    band: dict[str, Any] = {"color": look.colour, "alpha": 0.15, "lw": 0}
                    axes.fill_between(x, line["low"] * 100, line["high"] * 100, step="post", **band)
                mark: dict[str, Any] = {"marker": look.marker, "ms": 3.4, "mec": "white", "mew": 0.4}
                mark["markevery"] = (int(line["line_order"].iloc[0]) * 3 % 14, 14)
                axes.plot(x, share, color=look.colour, ls=look.line, label=label, drawstyle="steps-post", **mark)
            axes.set(title=f"{task}, {view}", xlabel="error (%)", ylabel="share at or below (%)")
            axes.set(xlim=(0, data["threshold"].max() * 100), ylim=(-2, 102))
            axes.grid()
            legend_below(axes)
        return figure
