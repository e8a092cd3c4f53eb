"""Placing panels by the inch and labelling rows in two levels, network and adapter."""

from __future__ import annotations

import functools
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import cbook
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.figure import SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import text_to_path
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from evalsuite.errors import RequestError
from reports import style
from reports.frames.methods import each_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP = 0.35
"""Room between two networks, in rows."""
_PAD = 0.06  # between a label and what it labels, inches
_LINE = 0.12  # height of a line, inches
_LABELS = 0.4  # from the left edge of a panel's labels to a legend below it, inches
_TITLE = 8 / 7  # size of a title's text against the other text
_BETWEEN_WORDS = re.compile(" (?!%)")
_HINTED = 1.03  # what hinting adds to a text at most, at the resolution of the PNG files


def pages(data: pd.DataFrame, height: Callable[[pd.DataFrame], float], *cuts: Sequence[str]) -> list[pd.DataFrame]:
    """Cut what would be taller than a printed page into pages, as few as may be, that hold about as much each.

    Parameters
    ----------
    height : inches that the figure of some data takes.
    cuts : columns whose combinations may come apart, the most welcome cut first; the next is for what is still too
        tall.
    """
    if not cuts or height(data) <= style.TALL:
        return [data]
    parts = [own for _, own in data.groupby(list(cuts[0]), sort=False, dropna=False)]
    whole = _packed(parts, height, len(parts))
    even = _packed(parts, height, -(-len(parts) // len(whole)))
    chosen = even if len(even) == len(whole) else whole
    return [page for own in chosen for page in pages(pd.concat(own), height, *cuts[1:])]


def _packed(
    parts: Sequence[pd.DataFrame], height: Callable[[pd.DataFrame], float], most: int
) -> list[list[pd.DataFrame]]:
    """Put parts on pages, in their order, as many as fit but no more than ``most``."""
    whole: list[list[pd.DataFrame]] = []
    left = list(parts)
    while left:
        beyond = range(2, min(most, len(left)) + 1)
        # The more parts, the taller: their number is found by halving, for a height takes a while.
        fit = 1 + bisect_left(beyond, True, key=lambda number: height(pd.concat(left[:number])) > style.TALL)
        whole.append(left[:fit])
        left = left[fit:]
    return whole


def title(text: str, inches: float) -> str:
    """Break a panel's title into lines that fit above it; each line of ``text`` by itself."""
    return "\n".join(broken(line, inches / _TITLE, bold=True) for line in text.splitlines())


def column(ax: Axes | None = None) -> float:
    """Return the width in inches of what fits a column, or the place of ``ax``."""
    return style.current().column if ax is None else _place(ax)


def page(ax: Axes | None = None) -> float:
    """Return the width in inches of what may take both columns of a page, or the place of ``ax``."""
    return style.current().page if ax is None else _place(ax)


def _place(ax: Axes) -> float:
    spec, figure = ax.get_subplotspec(), ax.get_figure(root=False)
    if spec is None or figure is None:
        raise RequestError(
            "ax has no place in a grid: expected one of matplotlib's subplots, subplot_mosaic or GridSpec"
        )
    ratios = np.asarray(spec.get_gridspec().get_width_ratios(), np.float64)
    share = ratios[spec.colspan.start : spec.colspan.stop].sum() / ratios.sum()
    return float(share * figure.bbox.width / figure.dpi)


@dataclass(frozen=True, eq=False)
class Canvas:
    """What is drawn on, measured in inches from its left and upper edge: a figure, or the place of somebody's axes.

    In a place that is less high than the drawing the drawing is pressed together, in one that is higher drawn out.
    """

    figure: MatplotlibFigure | SubFigure
    width: float
    height: float

    @classmethod
    def of(cls, width: float, height: float, ax: Axes | None = None, layout: str | None = None) -> Canvas:
        """Make a figure, or take the place of ``ax``, which goes.

        Raises RequestError where ``ax`` has no place in a grid, or ``layout`` is needed and its figure has another.
        """
        if ax is None:
            return cls(MatplotlibFigure(figsize=(width, height), layout=layout), width, height)  # type: ignore[arg-type]
        width, spec, figure = _place(ax), ax.get_subplotspec(), ax.get_figure(root=False)
        root = ax.get_figure(root=True)
        assert spec is not None
        assert figure is not None
        assert root is not None
        if layout == "constrained" and not isinstance(root.get_layout_engine(), ConstrainedLayoutEngine):
            raise RequestError(
                "this figure arranges its panels itself: expected an ax of a figure made with layout='constrained'"
            )
        ax.remove()
        return cls(figure.add_subfigure(spec), width, height)

    def grow(self, inches: float) -> None:
        """Make a figure of our own higher."""
        if isinstance(self.figure, MatplotlibFigure):
            self.figure.set_figheight(self.figure.get_figheight() + inches)

    @property
    def whole(self) -> MatplotlibFigure:
        """The figure that this is, or is a part of."""
        root = self.figure.get_figure(root=True)
        assert root is not None
        return root

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes at a place."""
        bottom = self.height - top - height
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

    def text(self, left: float, top: float, text: str, **options: Any) -> None:
        """Write a text whose anchor is at a place."""
        self.figure.text(left / self.width, 1 - top / self.height, text, **options)

    def heading(self, left: float, top: float, text: str) -> None:
        """Write a heading in bold, above a place."""
        self.text(left, top, text, weight="bold", size=mpl.rcParams["axes.titlesize"], va="bottom")

    def legend(self, handles: Sequence[Any], most: int = 99) -> None:
        """Explain marks at the upper left, in as many columns as there is room for, ``most`` at most."""
        columns = legend_columns(handles, self.width, most)
        usual: dict[str, Any] = {"loc": "upper left", "handletextpad": 0.1, "columnspacing": 1.2}
        self.figure.legend(handles=list(handles), ncols=columns, **usual)


def legend_columns(handles: Sequence[Any], width: float, most: int = 99) -> int:
    """Return in how many columns marks are explained on so many inches; breaks labels that are too long for one."""
    mark, gap = style.scaled(0.3), style.scaled(0.12)
    for each in handles:
        each.set_label(broken(str(each.get_label()), width - mark))
    widths = [text_width([str(each.get_label())]) + mark for each in handles]
    fits = (n for n in range(min(most, len(handles)), 1, -1) if _across(widths, n) + gap * (n - 1) <= width)
    return next(fits, 1)


def legend_height(handles: Sequence[Any], width: float, most: int = 99) -> float:
    """Return the inches that :meth:`Canvas.legend` takes."""
    columns = legend_columns(handles, width, most)
    return style.scaled(0.134) * _lines_of(handles, columns)


def panel(figure: MatplotlibFigure | SubFigure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes at a place given in inches from the figure's left and upper edge."""
    whole_width, whole_height = figure.bbox.width / figure.dpi, figure.bbox.height / figure.dpi
    bottom = whole_height - top - height
    return figure.add_axes((left / whole_width, bottom / whole_height, width / whole_width, height / whole_height))


def size(axes: Axes) -> tuple[float, float]:
    """Return width and height of a panel in inches."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return axes.bbox.width / figure.dpi, axes.bbox.height / figure.dpi


def grid_height(panels: int, height: float) -> float:
    """Return the height in inches of the figure that :func:`grid` makes."""
    return style.scaled(height) * -(-panels // across(panels))


def across(panels: int, ax: Axes | None = None) -> int:
    """Return how many panels stand side by side: two, where there are as many and the width is that of two."""
    return 2 if panels > 1 and page(ax) >= 1.5 * style.COLUMN else 1


def grid(panels: int, height: float, *, wide: bool = False, ax: Axes | None = None) -> tuple[Canvas, list[Axes]]:
    """Return a canvas of so many panels, each as wide as a column of print unless it is alone and ``wide``.

    ``height`` is that of a panel in inches, its title and labels included.
    """
    columns = across(panels, ax)
    down = -(-panels // columns)
    width = page(ax) if wide or columns == 2 else column(ax)
    canvas = Canvas.of(width, style.scaled(height) * down, ax, "constrained")
    places = canvas.figure.subplots(down, columns, squeeze=False).ravel().tolist()
    for axes in places[panels:]:
        axes.remove()
    return canvas, places[:panels]


def even(panels: int, most: int) -> int:
    """Return how many panels a line has where they stand in as few lines as they need: of 4, 2 and not 3."""
    return -(-panels // -(-panels // most))


def lines(
    panels: Sequence[tuple[str, pd.DataFrame]], across: int, together: Sequence[str]
) -> list[list[tuple[str, pd.DataFrame]]]:
    """Arrange panels, named data, in lines of at most ``across``; a line has one value of the columns ``together``."""
    found: list[list[tuple[str, pd.DataFrame]]] = []
    before: list[Any] | None = None
    for name, own in panels:
        key = own[list(together)].iloc[0].tolist()
        if key != before or len(found[-1]) == across:
            found.append([])
        found[-1].append((name, own))
        before = key
    return found


def legend_below(axes: Axes, width: float | None = None, handles: Sequence[Any] | None = None) -> float:
    """Explain a panel's lines below its label, in as many columns as there is room for.

    ``width``: inches that the panel and the labels on its left have.
    Returns the inches that this takes beyond the three lines that a panel has room for.
    """
    found = axes.get_legend_handles_labels()[0] if handles is None else handles
    room = (style.current().column if width is None else width) - style.scaled(_LABELS)
    for each in found:
        each.set_label(broken(str(each.get_label()), room - style.scaled(0.36)))
    widths = [text_width([str(each.get_label())]) + style.scaled(0.36) for each in found]
    columns = next((n for n in range(len(found), 1, -1) if _across(widths, n) <= room), 1)
    figure = axes.get_figure(root=True)
    assert figure is not None
    below = axes.transAxes + ScaledTranslation(-0.1, -style.scaled(0.34), figure.dpi_scale_trans)
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, 0), "bbox_transform": below}
    axes.legend(handles=found, columnspacing=1.0, ncols=columns, **place)
    return max(0.0, _lines_of(found, columns) - 3) * style.scaled(0.14)


def _lines_of(handles: Sequence[Any], columns: int) -> int:
    """Return how many lines entries take that fill one column after the other."""
    lines = [str(each.get_label()).count("\n") + 1 for each in handles]
    rows = -(-len(lines) // columns)
    return sum(max(lines[row::rows]) for row in range(rows))


def _across(widths: list[float], columns: int) -> float:
    """Return the width of entries that fill one column after the other, as matplotlib does."""
    rows, longer = divmod(len(widths), columns)
    sizes = [rows + 1] * longer + [rows] * (columns - longer)
    ends = np.cumsum(sizes).tolist()
    return sum(max(widths[end - size : end]) for size, end in zip(sizes, ends, strict=True))


def text_width(texts: list[str], *, bold: bool = False) -> float:
    """Return the width in inches of the longest of these lines in the style's font size."""
    font = FontProperties(size=float(mpl.rcParams["font.size"]), weight="bold" if bold else "normal")
    lines = {line for text in texts for line in text.splitlines() if line.strip()}
    math = bool(mpl.rcParams["text.parse_math"])
    return max((_line_width(line, font, math and cbook.is_math_text(line)) for line in lines), default=0.0)


@functools.lru_cache(maxsize=2**14)
def _line_width(line: str, font: FontProperties, math: bool) -> float:
    width, _, _ = text_to_path.get_text_width_height_descent(line, font, ismath=math)
    return _HINTED * float(width) / 72


def broken(text: str, inches: float, *, bold: bool = False) -> str:
    """Break a text into lines of at most so many inches, between words where it can be done, else within one.

    A sign of per cent stays with its number.
    """
    found: list[str] = []
    for word in _BETWEEN_WORDS.split(text):
        longer = f"{found[-1]} {word}" if found else word
        if found and text_width([longer], bold=bold) <= inches:
            found[-1] = longer
            continue
        rest = word
        while text_width([rest], bold=bold) > inches and len(rest) > 1:
            fits, too_many = 1, len(rest)
            while too_many - fits > 1:
                middle = (fits + too_many) // 2
                if text_width([rest[:middle]], bold=bold) <= inches:
                    fits = middle
                else:
                    too_many = middle
            found.append(rest[:fits])
            rest = rest[fits:]
        found.append(rest)
    return "\n".join(found)


def x_label(axes: Axes, text: str) -> None:
    """Name a panel's x axis, its end below the panel's right edge where the panel is too narrow for it."""
    axes.set_xlabel(text, loc="right" if text_width([text]) > size(axes)[0] else "center")


def line_height(text: str) -> float:
    """Return the inches that the lines of a text take one below the other."""
    return style.scaled(_LINE) * (text.count("\n") + 1)


@dataclass(frozen=True)
class Rows:
    """Rows of a panel: adapters under networks, with a gap between networks; y grows downwards from 0."""

    table: pd.DataFrame
    """Columns ``network``, ``adapter_label`` and ``y``, the row's upper edge."""
    inches: float
    """Height of a row."""
    names: dict[str, str]
    """The labels of networks, broken into lines."""
    labels: dict[str, str]
    """The labels of adapters, broken into lines."""

    @classmethod
    def of(cls, data: pd.DataFrame, inches: float, room: float | None = None) -> Rows:
        """Arrange the methods that occur in a frame with the columns of :func:`reports.frames.methods.labelled`.

        ``inches``: height of a row for text of 7 points; ``room``: inches that the labels may take.
        """
        rows = data.drop_duplicates(["network", "adapter_label"])
        rows = rows.sort_values(["network_order", "adapter_order"])[["network", "adapter_label"]]
        room = (style.PAGE / 2 if room is None else room) - 5 * _PAD
        words = [word for name in rows["network"].unique() for word in str(name).split(" ")]
        half = max(room / 2, room - text_width(words, bold=True))  # networks have their brackets' height for lines
        labels = {str(name): broken(str(name), half) for name in rows["adapter_label"].unique()}
        row = max([style.scaled(inches), *(line_height(label) + 0.02 for label in labels.values())])
        left = room - text_width(list(labels.values()))  # what short adapters leave, networks take
        names = {str(name): broken(str(name), left, bold=True) for name in rows["network"].unique()}
        sizes = rows.groupby("network", sort=False).size()
        starts, edge = {}, 0.0
        for name, size in sizes.items():
            starts[name] = edge
            edge += max(float(size), (line_height(names[str(name)]) + 0.02) / row) + GAP
        place = rows.groupby("network", sort=False).cumcount() + rows["network"].map(starts)
        return cls(rows.assign(y=place.to_numpy(float)), row, names, labels)

    @property
    def height(self) -> float:
        """Rows and gaps, in rows."""
        last = self.table.loc[self.table["network"] == self.table["network"].iloc[-1], "y"]
        lines = (line_height(self.names[str(self.table["network"].iloc[-1])]) + 0.02) / self.inches
        return float(last.min() + max(float(len(last)), lines))

    @property
    def label_width(self) -> float:
        """Inches that both levels of labels take, left of the panel."""
        return text_width(list(self.labels.values())) + text_width(list(self.names.values()), bold=True) + 5 * _PAD

    def centre(self, data: pd.DataFrame) -> NDArray[np.float64]:
        """Return the middle of the row of each method in ``data``."""
        places = {(row.network, row.adapter_label): row.y + 0.5 for row in each_row(self.table)}
        return np.array([places[key] for key in zip(data["network"], data["adapter_label"], strict=True)])

    def label(self, axes: Axes) -> None:
        """Set the axis: rows downwards, adapters as tick labels, networks left of them beside a bracket."""
        axes.set_ylim(self.height, 0)
        axes.set_yticks(self.table["y"] + 0.5, [self.labels[str(name)] for name in self.table["adapter_label"]])
        axes.tick_params(axis="y", length=0, pad=_PAD * 72)
        axes.spines["left"].set_visible(False)
        inch = 1 / size(axes)[0]
        bracket = -(text_width(list(self.labels.values())) + 2.2 * _PAD) * inch
        place = axes.get_yaxis_transform()
        text: dict[str, Any] = {"ha": "right", "va": "center", "weight": "bold", "linespacing": 1.0}
        for name, label in self.names.items():
            rows = self.table.loc[self.table["network"] == name, "y"]
            low, high = rows.min() + 0.1, rows.max() + 0.9
            axes.plot([bracket] * 2, [low, high], color=style.MUTED, lw=0.8, transform=place, clip_on=False)
            middle = max((low + high) / 2, rows.min() + line_height(label) / 2 / self.inches)
            axes.text(bracket - _PAD * inch, middle, label, transform=place, **text)
