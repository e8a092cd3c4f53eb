"""Placing panels by the inch and labelling rows in two levels, network and adapter."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from reports import style
from reports.frames.methods import each_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAP = 0.35
"""Room between two networks, in rows."""
_PAD = 0.06  # between a label and what it labels, inches
_WRAP = 20  # characters on one line of a network's label
_LINE = 0.12  # height of a line, inches
_TITLE = 8 / 7  # size of a title's text against the other text
_HINTED = 1.03  # what hinting adds to a text at most, at the resolution of the PNG files


def pages(data: pd.DataFrame, height: Callable[[pd.DataFrame], float], *cuts: Sequence[str]) -> list[pd.DataFrame]:
    """Cut what would be taller than a printed page into pages, as much as fits on each.

    Parameters
    ----------
    height : inches that the figure of some data takes.
    cuts : columns whose combinations may come apart, the most welcome cut first; the next is for what is still too
        tall.
    """
    if not cuts or height(data) <= style.TALL:
        return [data]
    whole: list[list[pd.DataFrame]] = [[]]
    for _, own in data.groupby(list(cuts[0]), sort=False, dropna=False):
        if whole[-1] and height(pd.concat([*whole[-1], own])) > style.TALL:
            whole.append([])
        whole[-1].append(own)
    return [page for parts in whole for page in pages(pd.concat(parts), height, *cuts[1:])]


def title(text: str, inches: float) -> str:
    """Break a panel's title into lines that fit above it; each line of ``text`` by itself."""
    return "\n".join(line for each in text.splitlines() for line in _fitting(each, inches / _TITLE))


def _fitting(text: str, inches: float) -> list[str]:
    lines, width = [text], len(text)
    while text_width(lines, bold=True) > inches and width > 8:
        width -= 1
        lines = textwrap.wrap(text, width, break_long_words=False)
    return lines


def panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes at a place given in inches from the figure's left and upper edge."""
    whole_width, whole_height = figure.get_size_inches()
    bottom = whole_height - top - height
    return figure.add_axes((left / whole_width, bottom / whole_height, width / whole_width, height / whole_height))


def size(axes: Axes) -> tuple[float, float]:
    """Return width and height of a panel in inches."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    place = axes.get_position()
    return place.width * figure.get_figwidth(), place.height * figure.get_figheight()


def grid_height(panels: int, height: float) -> float:
    """Return the height in inches of the figure that :func:`grid` makes."""
    return height * (1 if panels == 1 else -(-panels // 2))


def grid(panels: int, height: float, *, wide: bool = False) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many panels, each as wide as a column of print unless it is alone and ``wide``.

    ``height`` is that of a panel in inches, its title and labels included.
    """
    across = 1 if panels == 1 else 2
    down = -(-panels // across)
    width = style.PAGE if wide or across == 2 else style.COLUMN
    figure = MatplotlibFigure(figsize=(width, grid_height(panels, height)), layout="constrained")
    places = figure.subplots(down, across, squeeze=False).ravel().tolist()
    for axes in places[panels:]:
        axes.remove()
    return figure, places[:panels]


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


def legend_below(axes: Axes, width: float = style.COLUMN, handles: Sequence[Any] | None = None) -> None:
    """Explain a panel's lines below its label, in as many columns as ``width`` inches have room for."""
    found = axes.get_legend_handles_labels()[0] if handles is None else handles
    widths = [text_width([str(each.get_label())]) + 0.36 for each in found]
    columns = next((n for n in range(len(found), 1, -1) if _across(widths, n) <= width - 0.2), 1)
    figure = axes.get_figure(root=True)
    assert figure is not None
    below = axes.transAxes + ScaledTranslation(-0.1, -0.34, figure.dpi_scale_trans)
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, 0), "bbox_transform": below}
    axes.legend(handles=found, columnspacing=1.0, ncols=columns, **place)


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
    return max((_line_width(line, font) for line in lines), default=0.0)


@functools.lru_cache(maxsize=1024)
def _line_width(line: str, font: FontProperties) -> float:
    return _HINTED * float(TextPath((0, 0), line, prop=font).get_extents().width) / 72


@dataclass(frozen=True)
class Rows:
    """Rows of a panel: adapters under networks, with a gap between networks; y grows downwards from 0."""

    table: pd.DataFrame
    """Columns ``network``, ``adapter_label`` and ``y``, the row's upper edge."""
    inches: float
    """Height of a row."""

    @classmethod
    def of(cls, data: pd.DataFrame, inches: float) -> Rows:
        """Arrange the methods that occur in a frame with the columns of :func:`reports.frames.methods.labelled`."""
        rows = data.drop_duplicates(["network", "adapter_label"])
        rows = rows.sort_values(["network_order", "adapter_order"])[["network", "adapter_label"]]
        new = (rows["network"] != rows["network"].shift()).to_numpy()
        return cls(rows.assign(y=np.arange(len(rows)) + GAP * (np.cumsum(new) - 1)), inches)

    @property
    def height(self) -> float:
        """Rows and gaps, in rows."""
        return float(self.table["y"].max()) + 1

    @property
    def networks(self) -> dict[str, str]:
        """The networks' labels, broken into the lines for which their rows have room."""
        sizes = self.table.groupby("network", sort=False).size()
        return {str(name): wrapped(str(name), size * self.inches) for name, size in sizes.items()}

    @property
    def label_width(self) -> float:
        """Inches that both levels of labels take, left of the panel."""
        adapters = text_width(list(self.table["adapter_label"]))
        return adapters + text_width(list(self.networks.values()), bold=True) + 5 * _PAD

    def centre(self, data: pd.DataFrame) -> NDArray[np.float64]:
        """Return the middle of the row of each method in ``data``."""
        places = {(row.network, row.adapter_label): row.y + 0.5 for row in each_row(self.table)}
        return np.array([places[key] for key in zip(data["network"], data["adapter_label"], strict=True)])

    def label(self, axes: Axes) -> None:
        """Set the axis: rows downwards, adapters as tick labels, networks left of them beside a bracket."""
        axes.set_ylim(self.height, 0)
        axes.set_yticks(self.table["y"] + 0.5, self.table["adapter_label"])
        axes.tick_params(axis="y", length=0, pad=_PAD * 72)
        axes.spines["left"].set_visible(False)
        inch = 1 / size(axes)[0]
        bracket = -(text_width(list(self.table["adapter_label"])) + 2.2 * _PAD) * inch
        place = axes.get_yaxis_transform()
        text: dict[str, Any] = {"ha": "right", "va": "center", "weight": "bold", "linespacing": 1.0}
        for name, label in self.networks.items():
            rows = self.table.loc[self.table["network"] == name, "y"]
            low, high = rows.min() + 0.1, rows.max() + 0.9
            axes.plot([bracket] * 2, [low, high], color=style.MUTED, lw=0.8, transform=place, clip_on=False)
            axes.text(bracket - _PAD * inch, (low + high) / 2, label, transform=place, **text)


def wrapped(text: str, inches: float) -> str:
    """Break a label into lines that are about 20 characters wide, but no more of them than its height has room for."""
    most = max(1, int(inches / _LINE))
    width = _WRAP
    while len(lines := textwrap.wrap(text, width)) > most:
        width += 1
    return "\n".join(lines)
