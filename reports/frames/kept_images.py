"""The images that a run has kept, read from its ``examples.npz``; none of a task that is private."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evalsuite.checksums import verify
from evalsuite.errors import RequestError
from evalsuite.files import read_arrays

if TYPE_CHECKING:
    from evalsuite.store import Run

FILE = "examples.npz"
_FLIPS = ("tasks", "domains", "severities", "images")
_PIXELS = 4096  # on a side of a picture that is opened
_NO_PICTURES = (OSError, LookupError, TypeError, ValueError, ArithmeticError, SyntaxError, Image.DecompressionBombError)
"""What reading pictures from somebody's bytes may lead to."""
Key = tuple[str, str, int, int]
"""What a picture shows: task, domain, severity, index of the test image."""


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture of a negative flip: a WebP file and its size in pixels."""

    webp: bytes
    width: int
    height: int


def private_tasks(run: Run) -> frozenset[str]:
    """Return the tasks of whose images no pixel is shown."""
    return frozenset(str(task) for task, facts in run.study["tasks"].items() if facts.get("private"))


def domain_examples(run: Run) -> dict[str, NDArray[Any]]:
    """Return the arrays ``images`` (n, H, W, 3) uint8 and ``labels`` (n,), and ``domains`` and ``tasks`` where given.

    Empty where there is no file. Raises RequestError if it is damaged or holds something else.
    """
    file = run.folder / FILE
    if not file.is_file():
        return {}
    parts = _read(file)
    images = parts.get("images", np.empty(0))
    found = {name: parts[name] for name in ("images", "labels", "domains", "tasks") if name in parts}
    fits = images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3 and images.size
    if not fits or "labels" not in parts or any(np.shape(each)[:1] != (len(images),) for each in found.values()):
        raise RequestError(
            f"{file}: expected arrays images (n, H, W, 3) uint8 and labels (n,); domains, tasks (n,) too"
        )
    private, tasks = private_tasks(run), [*run.study["tasks"]]
    owner = found.get("tasks", np.array([tasks[0] if len(tasks) == 1 else ""] * len(images)))
    unknown = bool(private) and "tasks" not in found and len(tasks) > 1  # whose they are nobody says
    public = np.array([not unknown and str(task) not in private for task in owner])
    return {name: values[public] for name, values in found.items()} if public.any() else {}


def flip_pictures(run: Run) -> dict[Key, Shot]:
    """Return the pictures of negative flips by what they show; none where the run has kept none.

    Raises RequestError if the file is damaged or holds something else.
    """
    file = run.folder / FILE
    if not file.is_file():
        return {}
    parts = _read(file)
    if "flip_ends" not in parts:
        return {}
    private = private_tasks(run)
    try:
        content, ends = parts["flip_pictures"].tobytes(), [int(end) for end in parts["flip_ends"]]
        keys = zip(*(parts[f"flip_{name}"].tolist() for name in _FLIPS), strict=True)
        starts = [0, *ends][: len(ends)]
        return {
            (str(task), str(domain), int(severity), int(image)): _shot(content[start:end])
            for (task, domain, severity, image), start, end in zip(keys, starts, ends, strict=True)
            if str(task) not in private
        }
    except _NO_PICTURES as error:
        reason = " ".join(str(error).split())
        raise RequestError(f"{file}: expected pictures of negative flips as a run keeps them ({reason})") from error


def _shot(webp: bytes) -> Shot:
    with Image.open(io.BytesIO(webp), formats=["webp"]) as picture:
        width, height = picture.size
    if max(width, height) > _PIXELS:
        raise ValueError(f"a picture of {width} x {height} pixels")
    return Shot(webp, width, height)


def _read(file: Path) -> Mapping[str, NDArray[Any]]:
    try:
        verify(file)
        return read_arrays(file)
    except (OSError, ValueError) as error:
        raise RequestError(f"{file} is damaged ({error}): remove it, and run again to make it anew") from error
