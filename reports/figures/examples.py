"""What the images look like."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from evalsuite.errors import RequestError
from reports import style
from reports.layout import panel, text_width
from reports.methods import as_rows, readable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evalsuite.store import Run

FILE = "examples.npz"
_ACROSS = 6
_MOST = 60
_SIZE = 6  # points, of what stands below an image
_HEAD, _GAP = 0.16, 0.03  # inches
_COLUMNS = ["task", "place", "label", "domain", "height", "width", "png"]


@dataclass(frozen=True)
class Examples:
    """Examples of the images.

    Test images as the networks meet them, with their class and, where it is given, their domain.
    """

    def data(self, run: Run) -> pd.DataFrame:
        """Return a row per image of the run's ``examples.npz``; none if there is no such file.

        The file holds ``images`` (n, H, W, 3) uint8 and ``labels`` (n,) integers or names, and may hold ``domains``
        and ``tasks`` (n,) names. ``png`` is the image, PNG in base64. Of more than 60 the first are taken.

        Raises RequestError if the file holds something else.
        """
        file = run.folder / FILE
        if not file.is_file():
            return pd.DataFrame(columns=_COLUMNS)
        with np.load(file, allow_pickle=False) as arrays:
            parts: dict[str, NDArray[Any]] = dict(arrays)
        images, labels = parts.get("images"), parts.get("labels")
        if images is None or labels is None or images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise RequestError(f"{file}: expected arrays images (n, H, W, 3) uint8 and labels (n,)")
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

    def draw(self, data: pd.DataFrame) -> Figure:
        """Draw the images in rows of six, a block per task."""
        data = data.assign(task=data["task"].fillna(""), domain=data["domain"].fillna(""))
        blocks = list(data.groupby("task", sort=False))
        inner = (style.COLUMN - _GAP * (_ACROSS - 1)) / _ACROSS
        tall = inner * float((data["height"] / data["width"]).max())
        lines = 1 + int((data["domain"] != "").any())
        row = tall + 0.1 * lines + 0.08
        down = [-(-len(own) // _ACROSS) for _, own in blocks]
        titles = [_HEAD if task else 0.0 for task, _ in blocks]
        figure = Figure(figsize=(style.COLUMN, row * sum(down) + sum(titles)))
        top = 0.0
        for (task, own), rows, head in zip(blocks, down, titles, strict=True):
            if task:
                figure.text(0, 1 - (top + 0.02) / figure.get_figheight(), str(task), weight="bold", size=8, va="top")
            for k, each in enumerate(as_rows(own)):
                left, above = k % _ACROSS * (inner + _GAP), top + head + k // _ACROSS * row
                axes = panel(figure, left, above, inner, tall)
                axes.imshow(_pixels(each["png"]), interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                words = [readable(str(each["label"])), str(each["domain"])][:lines]
                axes.text(
                    0.5,
                    -0.04,
                    "\n".join(_cut(word, inner) for word in words),
                    transform=axes.transAxes,
                    ha="center",
                    va="top",
                    size=_SIZE,
                )
            top += head + rows * row
        return figure


def _name(label: Any, classes: Any) -> str:
    if np.issubdtype(np.asarray(label).dtype, np.integer):
        return str(classes[int(label)]) if int(label) < len(classes) else str(int(label))
    return str(label)


def _cut(text: str, inches: float) -> str:
    """Shorten a text until it fits."""
    scale, shown = _SIZE / float(mpl.rcParams["font.size"]), text
    while text_width([shown]) * scale > inches and len(text) > 1:
        text = text[:-1]
        shown = text.rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return shown


def _png(image: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _pixels(png: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
