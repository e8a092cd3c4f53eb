"""The same domains again and again: what a method keeps, and what it forgets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from evalsuite.metrics import forgetting
from evalsuite.statistics import group_bounds
from evalsuite.streams import round_of
from reports import style
from reports.frames.methods import KEYS, as_rows, each_row
from reports.frames.views import QUANTIZERS, VIEW, views
from reports.layout import grid, grid_height, legend_below, pages, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_LINE = [*VIEW, "line", "line_order", "reference"]
_COLUMNS = [*_LINE, "shows", "round", "domain", "value", "low", "high", "images"]
_ROUNDS = "stream.rounds"
ERROR, FORGOTTEN = "error", "forgotten"
_HEIGHT = 2.3  # inches of a panel


@dataclass(frozen=True)
class RecurringRounds:
    """Recurring rounds.

    Left, error by round of a stream that shows the same domains again and again; bars are 95 % intervals over test
    images, seeds averaged; dashed: full precision without adaptation. Right, what each domain (grey) has lost in the
    last round against its best earlier one, in points, and the mean over domains: to the right of 0 something has
    been forgotten, also by chance, because the best of several rounds is taken. A method that does not adapt moves
    only because images are shuffled anew.
    """

    order: ClassVar[int] = 120

    def data(self, run: Run) -> pd.DataFrame:
        """Return a row per (task, view, stream, line, round) with its error, and one per domain with what it lost.

        ``shows`` says which. ``low`` and ``high`` bound an error in 95 %
        (``evalsuite.statistics.group_bounds``, over images and seeds). Fractions.
        """
        trials = run.trials
        if _ROUNDS not in trials.columns:
            return pd.DataFrame(columns=_COLUMNS)
        trials = trials[(trials["status"] == "done") & (pd.to_numeric(trials[_ROUNDS], errors="coerce") > 1)]
        shown = trials[["trial", "images", _ROUNDS, *KEYS]].merge(_shown(views(run)), on=KEYS)
        frames = []
        for keys, own in shown.groupby(_LINE, sort=False):
            records = pd.concat(_rounds(run, own), ignore_index=True)
            names: dict[str, Any] = dict(zip(_LINE, keys, strict=True))
            frames += [part.assign(**names) for part in (_errors(records), _lost(records))]
        return pd.concat(frames, ignore_index=True)[_COLUMNS] if frames else pd.DataFrame(columns=_COLUMNS)

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task and by stream where one printed page is too small."""
        return pages(data, lambda own: grid_height(2 * own.groupby(VIEW).ngroups, _HEIGHT), ["task"], VIEW)

    def draw(self, data: pd.DataFrame) -> Figure:
        """Draw two panels per task, view and stream, one below the other."""
        panels = list(data.groupby(VIEW, sort=False))
        streams = data["stream_label"].nunique() > 1
        figure, places = grid(2 * len(panels), _HEIGHT)
        for place, ((task, view, stream), own) in enumerate(panels):
            left, right = places[2 * place : 2 * place + 2]
            left.set_title(title(f"{task}, {view}" + (f"\n{stream}" if streams else ""), style.COLUMN - 0.5))
            _draw_errors(left, own[own["shows"] == ERROR])
            _draw_lost(right, own[(own["shows"] == FORGOTTEN) & ~own["reference"]])
            legend_below(left)
        return figure


def _shown(methods: pd.DataFrame) -> pd.DataFrame:
    """Leave out quantizers without adaptation where there are adapters: only these can forget."""
    adapted = methods.groupby("task")["view"].transform(lambda names: (names != QUANTIZERS).any())
    return methods[~adapted.astype(bool) | (methods["view"] != QUANTIZERS)]


def _rounds(run: Run, trials: pd.DataFrame) -> Iterator[pd.DataFrame]:
    columns = ["image", "position", "domain", "severity", "label", "prediction"]
    for row in as_rows(trials):
        records: pd.DataFrame = run.records_of(row["trial"], columns).to_pandas()
        number = round_of(records["position"].to_numpy(), int(row["images"]), int(row[_ROUNDS]))
        yield pd.DataFrame(
            {
                "trial": row["trial"],
                "round": number + 1,
                "image": records["image"],
                "domain": records["domain"].astype(str) + " " + records["severity"].astype(str),
                "wrong": records["label"] != records["prediction"],
            }
        )


def _errors(records: pd.DataFrame) -> pd.DataFrame:
    by_image = records.groupby(["round", "image"])["wrong"].mean().groupby("round")
    table = pd.DataFrame({"value": by_image.mean(), "images": by_image.size()}).reset_index()
    bounds = group_bounds(records["wrong"], records["round"], records["image"], records["trial"], signed=False)
    low, high = (np.asarray(edge)[:, 0] for edge in (bounds.low, bounds.high))
    low, high = np.minimum(low, table["value"]), np.maximum(high, table["value"])
    return table.assign(shows=ERROR, domain="", low=low, high=high)


def _lost(records: pd.DataFrame) -> pd.DataFrame:
    table = records.pivot_table(index="round", columns="domain", values="wrong", aggfunc="mean")
    values: dict[str, Any] = {"domain": table.columns, "value": forgetting(table.to_numpy())}
    return pd.DataFrame(values).assign(shows=FORGOTTEN, round=int(table.index.max()))


def _draw_errors(axes: Axes, data: pd.DataFrame) -> None:
    lines = list(data.groupby("line", sort=False))
    for place, (label, line) in enumerate(lines):
        percent = line[["value", "low", "high"]] * 100
        if line["reference"].iloc[0]:
            axes.plot(line["round"], percent["value"], color=style.MUTED, ls=(0, (4, 2)), label=label, zorder=1)
            continue
        look, aside = style.look(line["line_order"].iloc[0]), 0.3 * ((place + 0.5) / len(lines) - 0.5)
        axes.vlines(line["round"] + aside, percent["low"], percent["high"], color=look.colour, lw=0.6, alpha=0.4)
        mark: dict[str, Any] = {"marker": look.marker, "ms": 3.4, "mec": "white", "mew": 0.4}
        axes.plot(line["round"] + aside, percent["value"], color=look.colour, ls=look.line, label=label, **mark)
    axes.set_xticks(sorted(data["round"].unique()))
    axes.set(xlabel="round", ylabel="error (%)")
    axes.grid(axis="y")


def _draw_lost(axes: Axes, data: pd.DataFrame) -> None:
    axes.axvline(0, color=style.MUTED, lw=0.6)
    lines = data.drop_duplicates("line")
    for y, line in enumerate(each_row(lines)):
        points, look = data.loc[data["line"] == line.line, "value"] * 100, style.look(line.line_order)
        axes.plot(points, np.full(len(points), y), "|", color=style.MUTED, ms=5, mew=0.7)
        axes.plot(points.mean(), y, look.marker, color=look.colour, ms=4.4, mec="white", mew=0.4)
    axes.set(ylim=(len(lines) - 0.4, -0.6), xlabel="lost since the best earlier round (points)")
    axes.set_yticks(range(len(lines)), lines["line"])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
