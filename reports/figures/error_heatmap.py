"""Error of every method under every corruption."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize

from evalsuite.streams import CLEAN
from reports import style
from reports.frames.methods import DOMAINS, labelled, readable, with_room
from reports.frames.views import first_stream
from reports.layout import Canvas, Rows, broken, page, pages, size, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

MEAN = "mean of corruptions"
_GAP = 0.3  # between families, in columns
_ROW, _COLUMN = 0.165, 0.33  # a cell, inches
_LEAST = 0.115  # of a column without numbers, inches
_SCALE, _END = 0.42, 0.1  # inches, of the scale of colours, and of half a number at its end
_COLOURS = sns.color_palette("rocket_r", as_cmap=True)
_SLANT = math.radians(50)  # of the names
_BETWEEN = 0.3  # between panels, inches
_FOOT = 0.3  # for the names of families, inches


@dataclass(frozen=True)
class ErrorHeatmap:
    """Error by corruption and method.

    Error in % under each corruption on the task's first stream, averaged over severities and seeds. A row is an
    adapter under the quantized network named on the left; darker is worse, on one scale for what is drawn together.
    The mean, on the right, weighs every corruption alike and leaves clean images out. Where columns are narrow,
    numbers stand upright, as far as they fit, and a scale says which colour is which error.
    """

    order: ClassVar[int] = 90

    def data(self, run: Run) -> pd.DataFrame:
        """Return a row per (task, network, adapter, domain), and one for the mean over the corruptions.

        ``error`` is a fraction: the mean over the images of a trial, then over seeds, on the task's first stream, for
        networks that met other streams are not to be read beside each other. The domain ``mean of corruptions`` weighs
        all alike and leaves ``clean`` out.
        """
        trials = first_stream(with_room(labelled(run)))
        keys = ["trial", "domain", "family"]
        records = run.records_with([*keys, "label", "prediction"], trials["trial"])
        wrong = (records["prediction"] != records["label"]).astype(float)
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
        return pages(data, lambda own: _Plan.of(own, page()).height, ["task"], ["network"])

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw a panel per task, one below the other, over the same columns; in parts where these are too many."""
        plan = _Plan.of(data, page(ax))
        canvas = Canvas.of(plan.width, plan.height, ax)
        norm = Normalize(0, max(10.0, math.ceil(data["error"].max() * 10) * 10))
        top = 0.0
        for part, head in zip(plan.parts, plan.heads, strict=True):
            top += head
            for task, own in data.groupby("task", sort=False):
                rows = plan.rows[str(task)]
                own = own[own["domain"].isin(part)]
                span = max(part.values()) + 1
                axes = canvas.panel(plan.left, top, plan.column * span, rows.height * rows.inches)
                axes.set(xlim=(0, span), xticks=[])
                axes.spines[:].set_visible(False)
                _cells(axes, own, rows, part, norm)
                rows.label(axes)
                if task == data["task"].iloc[0]:
                    _names(axes, part, plan.slant)
                canvas.heading(0, top - 0.06, broken(f"{task}, error (%)", plan.left, bold=True))
                top += rows.height * rows.inches + style.scaled(_BETWEEN)
            top -= style.scaled(_BETWEEN)
            _families(axes, own, part)
            top += plan.foot
        if plan.scale:
            _scale(canvas, plan, top, norm)
        return canvas.whole


@dataclass(frozen=True, eq=False)
class _Plan:
    """Where everything goes, in inches."""

    rows: dict[str, Rows]
    """By task."""
    parts: list[dict[str, float]]
    """The left edge, in columns, of each domain's column, part by part."""
    left: float
    column: float
    """Width of a column."""
    width: float
    heads: list[float]
    """Height of the names above each part."""
    foot: float
    slant: float
    """Of the names, radians."""

    @classmethod
    def of(cls, data: pd.DataFrame, width: float) -> _Plan:
        domains = data.drop_duplicates("domain").sort_values("domain_order")
        whole = _edges(list(zip(domains["domain"], domains["family"], strict=True)))
        rows = _rows(data, (0.5 if width >= 1.5 * style.COLUMN else 0.58) * width)
        left = max(own.label_width for own in rows.values())
        usual = style.scaled(_COLUMN)
        beyond = _beyond(whole, _numbered(), _SLANT)
        slant, least = _SLANT, _numbered()
        if left + beyond + least * (max(whole.values()) + 1) > width:  # names upright, a scale instead of numbers
            slant, least, width = math.pi / 2, style.scaled(_LEAST), width - style.scaled(_END)
        room = (width - left) / least
        parts = _parts(domains, room) if slant != _SLANT else [whole]
        beyond = max(_beyond(own, least, slant) for own in parts)
        column = max(least, min(usual, (width - left - beyond) / max(max(own.values()) + 1 for own in parts)))
        spans = [max(own.values()) + 1 for own in parts]
        beyond = max(_beyond(own, column, slant) for own in parts) + (style.scaled(_END) if slant != _SLANT else 0)
        foot = style.scaled(_FOOT) if domains["family"].duplicated().any() else 0.05
        heads = [max(_rise(name, slant) for name in own) + style.scaled(0.12) for own in parts]
        return cls(rows, parts, left, column, left + column * max(spans) + beyond, heads, foot, slant)

    @property
    def scale(self) -> float:
        """Height of the scale of colours, which stands where cells have no room for numbers."""
        return 0.0 if self.column >= 0.98 * _numbered() else style.scaled(_SCALE)

    @property
    def height(self) -> float:
        """Height of the figure."""
        panels = sum(own.height * own.inches for own in self.rows.values())
        between = style.scaled(_BETWEEN) * (len(self.rows) - 1)
        return sum(self.heads) + len(self.parts) * (panels + between + self.foot) + self.scale


def _name_width(name: str) -> float:
    return text_width([readable(name)], bold=name == MEAN)


def _rise(name: str, slant: float) -> float:
    """Inches that a name reaches up."""
    return _name_width(name) * math.sin(slant) + style.scaled(0.12) * math.cos(slant)


def _beyond(columns: dict[str, float], column: float, slant: float) -> float:
    """Inches that the names of columns, which lean out, reach beyond the last column."""
    span, line = max(columns.values()) + 1, style.scaled(0.12)
    reach = {name: _name_width(name) * math.cos(slant) + line * math.sin(slant) / 2 for name in columns}
    return max(0.0, *(reach[name] - (span - x - 0.5) * column for name, x in columns.items()))


def _rows(data: pd.DataFrame, room: float) -> dict[str, Rows]:
    return {str(task): Rows.of(own, _ROW, room) for task, own in data.groupby("task", sort=False)}


def _numbered() -> float:
    """Inches of the narrowest column whose cells have numbers."""
    return max(style.scaled(0.18), _cell_width(0))


def _cell_width(digits: int) -> float:
    """Inches that a number takes."""
    return text_width(["00.0" if digits else "100"], bold=True) * 0.9 + 0.02


def _parts(domains: pd.DataFrame, room: float) -> list[dict[str, float]]:
    """Cut the columns into as few parts as may be of at most so many, which hold about as much each.

    They are cut at families where that is possible. Returns their left edges in columns; a gap stands wherever the
    family changes.
    """
    fewest = len(_cut(domains, room))
    even = (_cut(domains, room * share) for share in np.linspace(1 / fewest, 1, 24))
    return next(parts for parts in even if len(parts) == fewest)


def _cut(domains: pd.DataFrame, room: float) -> list[dict[str, float]]:
    parts: list[list[tuple[str, str]]] = [[]]
    for _, own in domains.groupby((domains["family"] != domains["family"].shift()).cumsum()):
        family = list(zip(own["domain"], own["family"], strict=True))
        if parts[-1] and max(_edges([*parts[-1], *family]).values()) + 1 > room:
            parts.append([])
        for each in family:
            if parts[-1] and max(_edges([*parts[-1], each]).values()) + 1 > room:
                parts.append([])
            parts[-1].append(each)
    return [_edges(part) for part in parts]


def _edges(columns: list[tuple[str, str]]) -> dict[str, float]:
    gaps = np.cumsum([k > 0 and family != columns[k - 1][1] for k, (_, family) in enumerate(columns)])
    return {name: float(k + _GAP * gap) for k, ((name, _), gap) in enumerate(zip(columns, gaps, strict=True))}


def _places(domains: set[str]) -> dict[str, int]:
    """Clean, the corruptions in the usual order, then whatever else there is by name, the mean last."""
    others = sorted(domains - set(DOMAINS) - {MEAN})
    return DOMAINS | {name: len(DOMAINS) + place for place, name in enumerate([*others, MEAN])}


def _cells(axes: Axes, data: pd.DataFrame, rows: Rows, columns: dict[str, float], norm: Normalize) -> None:
    wide = size(axes)[0] / (max(columns.values()) + 1)
    upright = wide < 0.98 * _numbered()  # a cell is higher than wide, as its column's name is
    room = rows.inches if upright else wide
    digits = 1 if room > _cell_width(1) and style.current().digits != 0 else 0
    points = float(mpl.rcParams["font.size"]) - 0.8
    percent = data["error"].to_numpy(float) * 100
    left, middle = data["domain"].map(columns).to_numpy(float), rows.centre(data)
    colours = _COLOURS(norm(percent) * 0.85)  # the darkest end would swallow the gaps between the cells
    corners = np.array([(0, -0.5), (1, -0.5), (1, 0.5), (0, 0.5)])
    # One collection, for a patch a cell takes longer than all else that is drawn.
    cells = PolyCollection(np.stack([left, middle], axis=-1)[:, None] + corners, fc=colours, ec="white", lw=0.5)
    axes.add_collection(cells, autolim=False)
    for x, y, error, colour, name in zip(left.tolist(), middle.tolist(), percent, colours, data["domain"], strict=True):
        said = f"{error:.{digits}f}" if error < 99.95 else "100"
        if upright and 0.9 * text_width([said], bold=name == MEAN) > room:
            continue
        axes.text(
            x + 0.5,
            y,
            said,
            ha="center",
            va="center" if upright else "center_baseline",
            rotation=90 if upright else 0,
            size=points,
            color="white" if style.luminance(colour) < 0.22 else style.INK,  # the better contrast, or nearly
            weight="bold" if name == MEAN else "normal",
        )


def _scale(canvas: Canvas, plan: _Plan, top: float, norm: Normalize) -> None:
    """Say which colour is which error, below all."""
    spans = max(max(part.values()) + 1 for part in plan.parts)
    axes = canvas.panel(plan.left, top, plan.column * spans, style.scaled(0.07))
    axes.imshow(np.linspace(0, 0.85, 256)[None], aspect="auto", cmap=_COLOURS, norm=Normalize(0, 1))
    axes.set(yticks=[])
    axes.set_xticks([0, 127.5, 255], [f"{norm.vmax * share:g}" for share in (0, 0.5, 1)] if norm.vmax else [])
    axes.spines[:].set_visible(False)
    axes.set_xlabel("error (%)")


def _names(axes: Axes, columns: dict[str, float], slant: float) -> None:
    upright = slant > _SLANT
    for name, x in columns.items():
        axes.annotate(
            readable(name),
            (x + (0.5 if upright else 0.4), 1),
            (0, 3),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            rotation=math.degrees(slant),
            rotation_mode="anchor",
            ha="left",
            va="center" if upright else "bottom",
            weight="bold" if name == MEAN else "normal",
        )


def _families(axes: Axes, data: pd.DataFrame, columns: dict[str, float]) -> None:
    """Name the families of two corruptions and more below the last panel."""
    place = axes.get_xaxis_transform()
    inch = 1 / size(axes)[1]
    room = size(axes)[0] / (max(columns.values()) + 1)
    for family, own in data.drop_duplicates("domain").groupby("family", sort=False):
        if len(own) == 1 or text_width([str(family)]) > len(own) * room:
            continue
        left, right = min(columns[name] for name in own["domain"]), max(columns[name] for name in own["domain"]) + 1
        line: dict[str, Any] = {"color": style.MUTED, "lw": 0.8, "clip_on": False}
        axes.plot([left + 0.05, right - 0.05], [-0.06 * inch] * 2, transform=place, **line)
        axes.text((left + right) / 2, -0.1 * inch, str(family), transform=place, ha="center", va="top")
