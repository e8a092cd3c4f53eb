"""A figure of a report, to begin with.

Does it keep its contract? ``pytest test_mine.py``.
Of a run: ``evalsuite report RUN --figures mine.py:Mine``.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from evalsuite.store import Run


@dataclass(frozen=True)
class Mine:
    """Mean error of every method.

    Over tasks, calibration draws and streams; points show the best and the worst of them. (The first line is the
    figure's title, what follows is its caption.)
    """

    def data(self, run: Run) -> pd.DataFrame:
        """Return the numbers to draw, which become the CSV beside the picture; an empty frame leaves it out.

        ``run.trials`` has a row per trial, ``run.records`` one per trial and image.
        """
        done = run.trials[run.trials["status"] == "done"]
        by_method = done.groupby(["quantizer_label", "adapter_label"], sort=False)["error"]
        return by_method.agg(["mean", "min", "max"]).reset_index()

    def draw(self, data: pd.DataFrame) -> Figure:
        """Draw what the frame holds and nothing else."""
        figure = Figure(figsize=(5, 1 + 0.3 * len(data)), layout="constrained")  # inches; not pyplot's
        axes = figure.add_subplot()
        rows = list(range(len(data)))
        axes.barh(rows, 100 * data["mean"], color="0.8")
        for column in ("min", "max"):
            axes.plot(100 * data[column], rows, "k.")
        axes.set_yticks(rows, list(data["quantizer_label"] + ", " + data["adapter_label"]))
        axes.invert_yaxis()
        axes.set_xlabel("images classified wrongly (%)")
        return figure
