"""The same domains again and again: what a method keeps, and what it forgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from reports import style
from reports.frames.evidence import evidence
from reports.frames.methods import KEYS, each_row
from reports.frames.views import QUANTIZERS, VIEW, views
from reports.layout import across, broken, grid, grid_height, legend_below, pages, text_width, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_LINE = [*VIEW, "line", "line_order", "reference"]
_COLUMNS = [*_LINE, "shows", "round", "domain", "value", "low", "high", "images"]
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

        ``shows`` says which. Both are those of ``rounds.csv`` and ``forgetting.csv``. Fractions.
        """
        estimates = evidence(run).estimates
        lines = _shown(views(run))
        errors = lines.merge(estimates["rounds"].rename(columns={"error": "value"}), on=KEYS)
        lost = lines.merge(estimates["forgetting"].rename(columns={"forgotten": "value", "rounds": "round"}), on=KEYS)
        domain = lost["domain"].astype(str) + " " + lost["severity"].astype(str)
        parts = [errors.assign(shows=ERROR, domain=""), lost.assign(shows=FORGOTTEN, domain=domain)]
        parts = [part.reindex(columns=_COLUMNS) for part in parts if len(part)]
        if not parts:
            return pd.DataFrame(columns=_COLUMNS)
        # Line by line, the errors of one first, then what it lost.
        table = pd.concat(parts, ignore_index=True)
        return table.loc[table.groupby(_LINE, sort=False).ngroup().sort_values(kind="stable").index].reset_index(
            drop=True
        )

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task and by stream where one printed page is too small."""
        return pages(data, lambda own: grid_height(2 * own.groupby(VIEW).ngroups, _HEIGHT), ["task"], VIEW)

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw two panels per task, view and stream, one below the other."""
        panels = list(data.groupby(VIEW, sort=False))
        streams = data["stream_label"].nunique() > 1
        columns, extra = across(2 * len(panels), ax), [0.0]
        canvas, places = grid(2 * len(panels), _HEIGHT, ax=ax)
        room = canvas.width / columns
        names = [broken(str(name), 0.45 * room) for name in data.loc[~data["reference"].astype(bool), "line"].unique()]
        # Below each other, both panels begin where the names beside the lower one end.
        beside = max(style.scaled(0.5), text_width(names) if columns == 1 else 0.0)
        for place, ((task, view, stream), own) in enumerate(panels):
            left, right = places[2 * place : 2 * place + 2]
            left.set_title(title(f"{task}, {view}" + (f"\n{stream}" if streams else ""), room - beside))
            _draw_errors(left, own[own["shows"] == ERROR])
            _draw_lost(right, own[(own["shows"] == FORGOTTEN) & ~own["reference"]], 0.45 * room)
            extra.append(legend_below(left, room - beside + style.scaled(0.4)))
        canvas.grow(max(extra) * -(-len(places) // columns))
        return canvas.whole


def _shown(methods: pd.DataFrame) -> pd.DataFrame:
    """Leave out quantizers without adaptation where there are adapters: only these can forget."""
    adapted = methods.groupby("task")["view"].transform(lambda names: (names != QUANTIZERS).any())
    return methods[~adapted.astype(bool) | (methods["view"] != QUANTIZERS)]


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


def _draw_lost(axes: Axes, data: pd.DataFrame, room: float) -> None:
    axes.axvline(0, color=style.MUTED, lw=0.6)
    lines = data.drop_duplicates("line")
    for y, line in enumerate(each_row(lines)):
        points, look = data.loc[data["line"] == line.line, "value"] * 100, style.look(line.line_order)
        axes.plot(points, np.full(len(points), y), "|", color=style.MUTED, ms=5, mew=0.7)
        axes.plot(points.mean(), y, look.marker, color=look.colour, ms=4.4, mec="white", mew=0.4)
    names = [broken(str(name), room) for name in lines["line"]]
    axes.set(ylim=(len(lines) - 0.4, -0.6))
    axes.set_xlabel(broken("lost since the best earlier round (points)", room / 0.45 - text_width(names) - 0.2))
    axes.set_yticks(range(len(lines)), names)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
