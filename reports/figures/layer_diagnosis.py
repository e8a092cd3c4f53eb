"""Which layers leave their codes unused, and add noise, under which domain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Rectangle

from evalsuite.diagnoses import CALIBRATION
from reports import style
from reports.frames.diagnosis import diagnosis
from reports.frames.methods import each_row, readable
from reports.layout import Canvas, broken, column, line_height, page, pages, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evalsuite.store import Run

_ROW, _LINE = 0.125, 0.11  # of a layer, and of a name: inches
_WIDEST, _NARROWEST = 0.3, 0.13  # of a domain, inches
_GAP = 0.35  # behind calibration images, in columns
_BETWEEN, _HEAD, _SCALE, _EDGE = 0.2, 0.1, 0.45, 0.12  # inches
_MOST = 0.34  # of the width, for names of layers
_COLUMNS = [
    *("task", "network", "quantizer_label", "calibration_label", "place", "layer", "activation_bits"),
    *("domain", "severity", "column", "images", "seeds", "unused", "clipped", "snr_db", "dead_channels"),
]


class _Shown(NamedTuple):
    """What a panel shows, and in which colours: darker is worse."""

    name: str
    label: str
    colours: Colormap


_PANELS = (
    _Shown("unused", "codes unused (%)", sns.color_palette("rocket_r", as_cmap=True)),
    _Shown("snr_db", "signal over noise (dB)", sns.color_palette("rocket", as_cmap=True)),
)


@dataclass(frozen=True)
class LayerDiagnosis:
    """Layers and domains.

    What a few images of each domain make of each layer of a quantized network, in order of execution, with as many of
    its calibration images on the left. Left, the share of the integers of the layer's activation grid to which none of
    its inputs is rounded; grey where the grid has no such integers. Right, the signal of the layer's output over its
    difference from full precision, which holds the errors of the layers before it too. Darker is worse. Means over
    seeds; nothing is tested.
    """

    order: ClassVar[int] = 147

    def data(self, run: Run) -> pd.DataFrame:
        """Return :func:`reports.frames.diagnosis.diagnosis`."""
        return diagnosis(run)[_COLUMNS]

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task, by network where one printed page is too small."""
        return pages(data, lambda own: _Plan.of(own, column(), page()).height, ["task"], ["network"])

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw a line of panels per network, a row per layer, a column per domain."""
        plan = _Plan.of(data, column(ax), page(ax))
        canvas = Canvas.of(plan.width, plan.height, ax)
        norms = {shown.name: _norm(data, shown.name) for shown in plan.panels}
        top = 0.0
        for task, own in data.groupby("task", sort=False):
            names = _domains(own)
            for number, (network, rows) in enumerate(own.groupby("network", sort=False)):
                heading = plan.heading(task, network)
                top += line_height(heading) + style.scaled(_HEAD)
                canvas.heading(0, top - style.scaled(0.05), heading)
                if number == 0:
                    top += plan.above(names)
                height = plan.row(rows) * rows["place"].nunique()
                for place, shown in enumerate(plan.panels):
                    axes = canvas.panel(plan.edge(place), top, plan.inner, height)
                    _cells(axes, rows, shown, norms[shown.name], plan.span)
                    _label(axes, rows, plan if place == 0 else None)
                    if number == 0:
                        _names(axes, names)
                top += height + style.scaled(_BETWEEN)
        for place, shown in enumerate(plan.panels):
            _scale(canvas, plan, place, shown, norms[shown.name], top)
        return canvas.whole


@dataclass(frozen=True)
class _Plan:
    """Where everything goes, in inches."""

    panels: tuple[_Shown, ...]
    width: float
    left: float
    """Of the names of layers."""
    inner: float
    """Width of a panel."""
    span: float
    """The same in columns."""
    height: float = 0.0

    @classmethod
    def of(cls, data: pd.DataFrame, narrow: float, wide: float) -> _Plan:
        panels = tuple(shown for shown in _PANELS if data[shown.name].notna().any()) or _PANELS[1:]
        span = _edge(data["column"].max()) + 1
        gap, edge = style.scaled(_BETWEEN), style.scaled(_EDGE)
        for width in (narrow, wide):
            left = min(text_width([str(name) for name in data["layer"].unique()]), _MOST * width) + 0.08
            room = (width - left - edge - gap * (len(panels) - 1)) / len(panels) / span
            if room >= style.scaled(_NARROWEST) or width == wide:
                break
        inner = min(room, style.scaled(_WIDEST)) * span
        plan = cls(panels, left + inner * len(panels) + gap * (len(panels) - 1) + edge, left, inner, span)
        return cls(panels, max(plan.width, min(narrow, wide)), left, inner, span, plan._height(data))

    def _height(self, data: pd.DataFrame) -> float:
        whole = style.scaled(_SCALE) + max(line_height(self.label(shown)) for shown in self.panels) - line_height("x")
        for task, own in data.groupby("task", sort=False):
            whole += self.above(_domains(own))
            for network, rows in own.groupby("network", sort=False):
                whole += line_height(self.heading(task, network)) + style.scaled(_HEAD + _BETWEEN)
                whole += self.row(rows) * rows["place"].nunique()
        return whole

    def label(self, shown: _Shown) -> str:
        """Say what a panel shows, in lines that stay below it."""
        return broken(shown.label, self.inner)

    def heading(self, task: Any, network: Any) -> str:
        """Name a network."""
        return broken(f"{task}, {network}", self.width * 7 / 8, bold=True)

    def above(self, names: list[tuple[float, str]]) -> float:
        """Return the room of the names of domains, which stand upright."""
        return text_width([name for _, name in names]) + 0.08

    def edge(self, place: int) -> float:
        """Return the left edge of a panel."""
        return self.left + place * (self.inner + style.scaled(_BETWEEN))

    def row(self, rows: pd.DataFrame) -> float:
        """Return the height of a layer: less where a printed page has no room for all of a network."""
        room = 0.72 * style.TALL / rows["place"].nunique()
        return float(min(style.scaled(_ROW), room))


def _edge(place: float) -> float:
    """Return the left edge of a column, in columns."""
    return place + (_GAP if place > 0 else 0.0)


def _domains(data: pd.DataFrame) -> list[tuple[float, str]]:
    """Return the left edge and the name of each column; its severity where a domain has several."""
    columns = data.drop_duplicates("column").sort_values("column")
    several = columns.groupby("domain")["severity"].transform("nunique") > 1
    return [
        (_edge(row.column), readable(str(row.domain)) + (f" {int(row.severity)}" if both else ""))
        for row, both in zip(each_row(columns), several, strict=True)
    ]


def _norm(data: pd.DataFrame, name: str) -> Normalize:
    values = data[name].to_numpy(float)
    finite = values[np.isfinite(values)]
    if name == "unused":
        return Normalize(0, 1)
    if not len(finite):
        return Normalize(0, 10)
    low = math.floor(finite.min() / 10) * 10
    return Normalize(low, max(low + 10, math.ceil(finite.max() / 10) * 10))


def _cells(axes: Axes, rows: pd.DataFrame, shown: _Shown, norm: Normalize, span: float) -> None:
    table = rows.pivot(index="place", columns="column", values=shown.name).sort_index()
    values = np.clip(table.to_numpy(float), norm.vmin, norm.vmax)  # without noise it is infinite
    lines = np.arange(len(table) + 1)
    for place, number in enumerate(table.columns):
        left = _edge(float(number))
        cells = np.ma.masked_invalid(values[:, [place]])
        axes.pcolormesh([left, left + 1], lines, cells, cmap=shown.colours, norm=norm, ec="white", lw=0.3)
        axes.add_patch(Rectangle((left, 0), 1, len(table), fc=style.FAINT, lw=0, zorder=0))  # where there is no number
    axes.set(xlim=(0, span), ylim=(len(table), 0), xticks=[])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _label(axes: Axes, rows: pd.DataFrame, plan: _Plan | None) -> None:
    """Name the layers left of the first panel, every second or third of them where they are too close."""
    if plan is None:
        axes.set_yticks([])
        return
    layers = rows.drop_duplicates("place")["layer"]
    step = math.ceil(style.scaled(_LINE) / plan.row(rows) - 0.01)
    names = [_shortened(str(name), plan.left - 0.08) for name in layers.iloc[::step]]
    axes.set_yticks(np.arange(0, len(layers), step) + 0.5, names)
    axes.tick_params(axis="y", pad=2)


def _shortened(name: str, inches: float) -> str:
    """Cut a layer's name from the left, for its end says what it is."""
    if text_width([name]) <= inches + 1e-6:
        return name
    while len(name) > 1 and text_width([f"\N{HORIZONTAL ELLIPSIS}{name}"]) > inches:
        name = name[1:]
    return f"\N{HORIZONTAL ELLIPSIS}{name}"


def _names(axes: Axes, names: list[tuple[float, str]]) -> None:
    for left, name in names:
        axes.annotate(
            name,
            (left + 0.5, 1),
            (0, 3),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="bottom",
            weight="bold" if name == CALIBRATION else "normal",
        )


def _scale(canvas: Canvas, plan: _Plan, place: int, shown: _Shown, norm: Normalize, top: float) -> None:
    """Say which colour is what, below a panel."""
    axes = canvas.panel(plan.edge(place), top, plan.inner, style.scaled(0.07))
    axes.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=shown.colours)
    assert norm.vmin is not None
    assert norm.vmax is not None
    factor = 100 if shown.name == "unused" else 1
    ends = [factor * (norm.vmin + share * (norm.vmax - norm.vmin)) for share in (0, 0.5, 1)]
    axes.set(yticks=[])
    axes.set_xticks([0, 127.5, 255], [f"{end:g}".replace("-", "\N{MINUS SIGN}") for end in ends])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(plan.label(shown))
