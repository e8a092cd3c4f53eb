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
from matplotlib.figure import Figure
from PIL import Image

from evalsuite.checksums import verify
from evalsuite.errors import RequestError
from evalsuite.files import read_arrays
from reports import style
from reports.frames.methods import as_rows, readable
from reports.layout import pages, panel, text_width

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from evalsuite.store import Run

FILE = "examples.npz"
_ACROSS = 5
_MOST = 60
_SIZE = 6  # points, of what stands below an image
_HEAD, _GAP, _LINE = 0.16, 0.05, 0.1  # inches
_INNER = (style.COLUMN - _GAP * (_ACROSS - 1)) / _ACROSS  # inches, width of an image
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

        Raises RequestError if the file holds something else.
        """
        file = run.folder / FILE
        if not file.is_file():
            return pd.DataFrame(columns=_COLUMNS)
        parts = _read(file)
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
        return pages(data, lambda own: sum(_heights(own)), ["task"])

    def draw(self, data: pd.DataFrame) -> Figure:
        """Draw the images in rows of five, a block per task."""
        data = data.assign(task=data["task"].fillna(""))
        heights = _heights(data)
        figure = Figure(figsize=(style.COLUMN, sum(heights)))
        tall, top = _tall(data), 0.0
        for task, own in data.groupby("task", sort=False):
            if task:
                figure.text(0, 1 - (top + 0.02) / figure.get_figheight(), str(task), weight="bold", size=8, va="top")
            top += _HEAD if task else 0.0
            images = as_rows(own)
            for first in range(0, len(images), _ACROSS):
                for k, each in enumerate(images[first : first + _ACROSS]):
                    axes = panel(figure, k * (_INNER + _GAP), top, _INNER, tall)
                    axes.imshow(_pixels(each["png"]), interpolation="nearest")
                    axes.set(xticks=[], yticks=[])
                    axes.spines[:].set_visible(False)
                    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "top", "size": _SIZE}
                    axes.text(0.5, -0.03 / tall, "\n".join(_words(each)), **place)
                top += tall + _caption(images[first : first + _ACROSS])
        return figure


def _read(file: Path) -> dict[str, NDArray[Any]]:
    try:
        verify(file)
        parts = read_arrays(file)
    except (OSError, ValueError) as error:
        raise RequestError(f"{file} is damaged ({error}): remove it, and run again to make it anew") from error
    images = parts.get("images", np.empty(0))
    lengths = [np.shape(parts[name]) for name in ("labels", "domains", "tasks") if name in parts]
    fits = images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3 and images.size
    if not fits or "labels" not in parts or any(length != (len(images),) for length in lengths):
        raise RequestError(
            f"{file}: expected arrays images (n, H, W, 3) uint8 and labels (n,); domains, tasks (n,) too"
        )
    return parts


def _heights(data: pd.DataFrame) -> list[float]:
    """Return the height of each task's block in inches."""
    tall, heights = _tall(data), []
    for task, own in data.assign(task=data["task"].fillna("")).groupby("task", sort=False):
        images = as_rows(own)
        rows = [images[first : first + _ACROSS] for first in range(0, len(images), _ACROSS)]
        heights.append((_HEAD if task else 0.0) + sum(tall + _caption(row) for row in rows))
    return heights


def _tall(data: pd.DataFrame) -> float:
    """Return the height of the images' box in inches; what is taller than three times its width becomes narrower."""
    return _INNER * min(float((data["height"] / data["width"]).max()), _TALLEST)


def _caption(row: list[dict[str, Any]]) -> float:
    return _LINE * max(len(_words(each)) for each in row) + 0.08


def _words(row: dict[str, Any]) -> list[str]:
    """Return the lines below an image: its class, its domain if that is given."""
    domain = row["domain"] if isinstance(row["domain"], str) else ""
    return [line for text in (readable(str(row["label"])), domain) if text for line in _broken(text)]


def _broken(text: str) -> list[str]:
    """Break a text between words, and shorten a word that is wider than an image all the same."""
    lines: list[str] = []
    for word in re.sub(r" (?=\d+$)", "\N{NO-BREAK SPACE}", text).split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        lines = [*lines[:-1], longer] if lines and _fits(longer) else [*lines, _cut(word)]
    return lines


def _fits(text: str) -> bool:
    return text_width([text]) * _SIZE / float(mpl.rcParams["font.size"]) <= _INNER


def _name(label: Any, classes: Any) -> str:
    if np.issubdtype(np.asarray(label).dtype, np.integer):
        return str(classes[int(label)]) if int(label) < len(classes) else str(int(label))
    return str(label)


def _cut(word: str) -> str:
    shown = word
    while not _fits(shown) and len(word) > 1:
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
