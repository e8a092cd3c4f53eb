"""What the images look like."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image

from reports import style
from reports.frames.kept_images import domain_examples
from reports.frames.methods import as_rows, readable
from reports.layout import Canvas, broken, column, line_height, pages, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from evalsuite.store import Run

_ACROSS = 5
_MOST = 60
_SIZE = 6  # points, of what stands below an image
_GAP, _LINE = 0.05, 0.1  # inches
_TALLEST = 3.0  # height of an image, of its width
_PIXELS = 1024  # on a side of an image
_COLUMNS = ["task", "place", "label", "domain", "height", "width", "png"]


@dataclass(frozen=True)
class Examples:
    """Examples of the images.

    Test images as the networks meet them, with their class and, where it is given, their domain.
    """

    order: ClassVar[int] = 150

    def data(self, run: Run) -> pd.DataFrame:
        """Return a row per image of the run's ``examples.npz``; none if there is no such file.

        The file holds ``images`` (n, H, W, 3) uint8 and ``labels`` (n,) integers or names, and may hold ``domains``
        and ``tasks`` (n,) names. ``png`` is the image, PNG in base64. Of more than 60 the first are taken.

        None of a private task is. Raises RequestError if the file holds something else.
        """
        parts = domain_examples(run)
        if not parts:
            return pd.DataFrame(columns=_COLUMNS)
        images, labels = parts["images"], parts["labels"]
        count = min(len(images), _MOST)
        tasks = list(run.study["tasks"])
        task = parts.get("tasks", np.array([tasks[0] if len(tasks) == 1 else ""] * len(images)))
        domains = parts.get("domains", np.array([""] * len(images)))
        rows = [
            {
                "task": str(task[k]),
                "place": k,
                "label": _name(labels[k], run.study["tasks"].get(str(task[k]), {}).get("classes", ())),
                "domain": readable(str(domains[k])),
                "height": images.shape[1],
                "width": images.shape[2],
                "png": _png(images[k]),
            }
            for k in range(count)
        ]
        return pd.DataFrame(rows, columns=_COLUMNS)

    def pages(self, data: pd.DataFrame) -> list[pd.DataFrame]:
        """Cut the data by task where one printed page is too small."""
        return pages(data, lambda own: sum(_heights(own, _inner(column()))), ["task"])

    def draw(self, data: pd.DataFrame, ax: Axes | None = None) -> Figure:
        """Draw the images in rows of five, a block per task."""
        data = data.assign(task=data["task"].fillna(""))
        inner = _inner(column(ax))
        canvas = Canvas.of(column(ax), sum(_heights(data, inner)), ax)
        tall, top = _tall(data, inner), 0.0
        for task, own in data.groupby("task", sort=False):
            heading = broken(str(task), canvas.width * 7 / 8, bold=True)
            top += _head(str(task), canvas.width)
            if task:
                canvas.heading(0, top - 0.03, heading)
            images = as_rows(own)
            for first in range(0, len(images), _ACROSS):
                for k, each in enumerate(images[first : first + _ACROSS]):
                    axes = canvas.panel(k * (inner + _GAP), top, inner, tall)
                    axes.imshow(_pixels(each["png"]), interpolation="nearest")
                    axes.set(xticks=[], yticks=[])
                    axes.spines[:].set_visible(False)
                    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "top"}
                    axes.text(0.5, -0.03 / tall, "\n".join(_words(each, inner)), size=_size(), **place)
                top += tall + _caption(images[first : first + _ACROSS], inner)
        return canvas.whole


def _inner(width: float) -> float:
    """Return the width of an image in inches."""
    return (width - _GAP * (_ACROSS - 1)) / _ACROSS


def _size() -> float:
    """Return the size of what stands below an image, points."""
    return style.scaled(_SIZE)


def _head(task: str, width: float) -> float:
    """Return the height of a task's name in inches."""
    return line_height(broken(task, width * 7 / 8, bold=True)) * 8 / 7 + 0.04 if task else 0.0


def _heights(data: pd.DataFrame, inner: float) -> list[float]:
    """Return the height of each task's block in inches."""
    tall, heights = _tall(data, inner), []
    width = inner * _ACROSS + _GAP * (_ACROSS - 1)
    for task, own in data.assign(task=data["task"].fillna("")).groupby("task", sort=False):
        images = as_rows(own)
        rows = [images[first : first + _ACROSS] for first in range(0, len(images), _ACROSS)]
        heights.append(_head(str(task), width) + sum(tall + _caption(row, inner) for row in rows))
    return heights


def _tall(data: pd.DataFrame, inner: float) -> float:
    """Return the height of the images' box in inches; what is taller than three times its width becomes narrower."""
    return inner * min(float((data["height"] / data["width"]).max()), _TALLEST)


def _caption(row: list[dict[str, Any]], inner: float) -> float:
    return style.scaled(_LINE) * max(len(_words(each, inner)) for each in row) + 0.08


def _words(row: dict[str, Any], inner: float) -> list[str]:
    """Return the lines below an image: its class, its domain if that is given."""
    domain = row["domain"] if isinstance(row["domain"], str) else ""
    return [line for text in (readable(str(row["label"])), domain) if text for line in _broken(text, inner)]


def _broken(text: str, inner: float) -> list[str]:
    """Break a text between words, and shorten a word that is wider than an image all the same."""
    lines: list[str] = []
    words = re.sub(r" (?=\d+$)", "\N{NO-BREAK SPACE}", text).split(" ")  # a severity stands by its corruption
    if not _fits(words[-1], inner):
        words[-1:] = words[-1].split("\N{NO-BREAK SPACE}")
    for word in words:
        longer = f"{lines[-1]} {word}" if lines else word
        lines = [*lines[:-1], longer] if lines and _fits(longer, inner) else [*lines, _cut(word, inner)]
    return lines


def _fits(text: str, inner: float) -> bool:
    return text_width([text]) * _size() / float(mpl.rcParams["font.size"]) <= inner + 0.8 * _GAP


def _name(label: Any, classes: Any) -> str:
    if np.issubdtype(np.asarray(label).dtype, np.integer):
        return str(classes[int(label)]) if int(label) < len(classes) else str(int(label))
    return str(label)


def _cut(word: str, inner: float) -> str:
    shown = word
    while not _fits(shown, inner) and len(word) > 1:
        word = word[:-1]
        shown = word + "\N{HORIZONTAL ELLIPSIS}"
    return shown


def _png(image: NDArray[np.uint8]) -> str:
    step = -(-max(image.shape[:2]) // _PIXELS)  # more than print can show
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image[::step, ::step])).save(buffer, format="png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _pixels(png: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
