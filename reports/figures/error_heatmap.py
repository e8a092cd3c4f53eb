"""Error of every method under every corruption."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from evalsuite.corruptions import COMMON, HELD_OUT
from evalsuite.streams import CLEAN
from reports import style
from reports.frames.methods import each_row, labelled, readable, with_room
from reports.layout import Rows, pages, panel, size, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evalsuite.store import Run

MEAN = "mean of corruptions"
_GAP = 0.3  # between families, in columns
_ROW, _COLUMN = 0.165, 0.33  # a cell, inches
_NARROW, _LEAST = 0.26, 0.18  # inches in which a decimal, and any number, does not fit
_BETWEEN = 0.3  # between panels, inches
_FOOT = 0.3  # for the names of families, inches
_ORDER = {name: place for place, name in enumerate((CLEAN, *COMMON, *HELD_OUT))}


@dataclass(frozen=True)
class ErrorHeatmap:
    """Error by corruption and method.

    Error in % under each corruption, averaged over severities, seeds and streams. A row is an adapter under the
    quantized network named on the left; darker is worse, on one scale for what is drawn together. The mean, on the
    right, weighs every corruption alike and leaves clean images out.
    """

    order: ClassVar[int] = 90

    def data(self, run: Run) -> pd.DataFrame:
        """Return a row per (task, network, adapter, domain), and one for the mean over the corruptions.

        ``error`` is a fraction: the mean over the images of a trial, then over seeds and streams. The domain
        ``mean of corruptions`` weighs all alike and leaves ``clean`` out.
        """
        trials = with_room(labelled(run))
        records = run.records
        if len(trials) < len(run.trials):
            records = records[records["trial"].isin(trials["trial"])]
        wrong = (records["prediction"] != records["label"]).astype(float)
        keys = ["trial", "domain", "family"]
        cells = wrong.groupby([records[key] for key in keys], observed=True).mean().rename("error").reset_index()
        cells[keys] = cells[keys].astype(str)
        rows = ["task_order", "task", "network_order", "network", "adapter_order", "adapter_label"]
        cells = cells.merge(trials[["trial", *rows]], on="trial")
        by_method = cells.groupby([*rows, "domain", "family"], as_index=False)
        table = by_method.agg(error=("error", "mean"), trials=("error", "size"))
        shifted = table[table["domain"] != CLEAN].groupby(rows, as_index=False)
        mean = shifted.agg(error=("error", "mean"), trials=("trials", "max")).assign(domain=MEAN, family=MEAN)
        table = pd.concat([table, mean], ignore_index=True)
        table["domain_order"] = table["domain"].map(_places(set(table["domain"])))
        return table.sort_values(["task_order", "network_order", "adapter_order", "domain_order"], ignore_index=True)

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task, by network where one printed page is too small."""
        return pages(data, lambda own: _height(_rows(own)) + _head(own) + _FOOT, ["task"], ["network"])

    def draw(self, data: pd.DataFrame) -> Figure:
        """Draw a panel per task, one below the other, over the same columns."""
        panels = {str(task): own for task, own in data.groupby("task", sort=False)}
        rows = _rows(data)
        columns = _columns(data)
        span = max(columns.values()) + 1
        left = max(own.label_width for own in rows.values())
        names = [readable(name) for name in columns]
        head = _head(data)
        beyond = max(0.0, text_width(names[-3:]) * math.cos(math.radians(50)) - _COLUMN)  # names lean out
        column = min(
            _COLUMN, max(_LEAST, (style.PAGE - left - beyond) / span)
        )  # rather too wide than too small to read
        foot = _FOOT if data.drop_duplicates("domain")["family"].duplicated().any() else 0.05
        figure = Figure(figsize=(left + column * span + beyond, head + _height(rows) + foot))
        norm = Normalize(0, max(10.0, math.ceil(data["error"].max() * 10) * 10))
        top = head
        for task, own in panels.items():
            axes = panel(figure, left, top, column * span, rows[task].height * _ROW)
            _cells(axes, own, rows[task], columns, norm)
            rows[task].label(axes)
            axes.set(xlim=(0, span), xticks=[])
            axes.spines[:].set_visible(False)
            figure.text(0.0, 1 - (top - 0.06) / figure.get_figheight(), task, weight="bold", size=8, va="bottom")
            if top == head:
                _names(axes, columns)
            top += rows[task].height * _ROW + _BETWEEN
        _families(axes, data, columns)
        return figure


def _rows(data: pd.DataFrame) -> dict[str, Rows]:
    return {str(task): Rows.of(own, _ROW) for task, own in data.groupby("task", sort=False)}


def _height(rows: dict[str, Rows]) -> float:
    return sum(own.height for own in rows.values()) * _ROW + _BETWEEN * (len(rows) - 1)


def _head(data: pd.DataFrame) -> float:
    """Inches that the names of the corruptions take, which stand aslant."""
    return text_width([readable(name) for name in data["domain"].unique()]) * math.sin(math.radians(50)) + 0.25


def _places(domains: set[str]) -> dict[str, int]:
    """Clean, the corruptions in the usual order, then whatever else there is by name, the mean last."""
    others = sorted(domains - set(_ORDER) - {MEAN})
    return _ORDER | {name: len(_ORDER) + place for place, name in enumerate([*others, MEAN])}


def _columns(data: pd.DataFrame) -> dict[str, float]:
    """Left edge of every domain's column, with a gap wherever the family changes."""
    domains = data.drop_duplicates("domain").sort_values("domain_order")
    new = (domains["family"] != domains["family"].shift()).to_numpy()
    return dict(zip(domains["domain"], np.arange(len(domains)) + _GAP * (np.cumsum(new) - 1), strict=True))


def _cells(axes: Axes, data: pd.DataFrame, rows: Rows, columns: dict[str, float], norm: Normalize) -> None:
    digits = 1 if size(axes)[0] / (max(columns.values()) + 1) > _NARROW else 0
    colours = sns.color_palette("rocket_r", as_cmap=True)
    points = float(mpl.rcParams["font.size"]) - 0.8
    for cell, y in zip(each_row(data), rows.centre(data), strict=True):
        x, percent = columns[str(cell.domain)], float(cell.error) * 100
        colour = colours(norm(percent) * 0.85)  # the darkest end would swallow the gaps between the cells
        axes.add_patch(mpl.patches.Rectangle((x, y - 0.5), 1, 1, fc=colour, ec="white", lw=0.5))
        dark = style.luminance(colour) < 0.22  # where white has the better contrast, or nearly
        weight = "bold" if cell.domain == MEAN else "normal"
        axes.text(
            x + 0.5,
            y,
            f"{percent:.{digits}f}" if percent < 99.95 else "100",
            ha="center",
            va="center_baseline",
            size=points,
            color="white" if dark else style.INK,
            weight=weight,
        )


def _names(axes: Axes, columns: dict[str, float]) -> None:
    for name, x in columns.items():
        axes.annotate(
            readable(name),
            (x + 0.4, 1),
            (0, 3),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            rotation=50,
            rotation_mode="anchor",
            ha="left",
            va="bottom",
            weight="bold" if name == MEAN else "normal",
        )


def _families(axes: Axes, data: pd.DataFrame, columns: dict[str, float]) -> None:
    """Name the families of two corruptions and more below the last panel."""
    place = axes.get_xaxis_transform()
    inch = 1 / size(axes)[1]
    for family, own in data.drop_duplicates("domain").groupby("family", sort=False):
        if len(own) == 1:
            continue
        left, right = min(columns[name] for name in own["domain"]), max(columns[name] for name in own["domain"]) + 1
        line: dict[str, Any] = {"color": style.MUTED, "lw": 0.8, "clip_on": False}
        axes.plot([left + 0.05, right - 0.05], [-0.06 * inch] * 2, transform=place, **line)
        axes.text((left + right) / 2, -0.1 * inch, str(family), transform=place, ha="center", va="top")
