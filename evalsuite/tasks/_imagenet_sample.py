"""One image of each ImageNet class: ``imagenet_sample1000.csv`` and the JPEGs it names, packed or not."""

from __future__ import annotations

import csv
import io
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from evalsuite.plugins import IntArray, UInt8Array
from evalsuite.tasks._files import broken, existing
from evalsuite.tasks._modes import as_rgb

STEM = "imagenet_sample1000"

_SIZE = 224


def sample_is_there(folder: Path) -> None:
    """Raise RequestError, naming the missing file, unless the table and the images are in the data folder."""
    read_table(folder / f"{STEM}.csv")
    if not (folder / STEM).is_dir():
        existing(folder / f"{STEM}.tar", f"the JPEGs of {STEM}.csv, or a folder {STEM} with them")


def read_sample(folder: Path) -> tuple[UInt8Array, IntArray, tuple[str, ...]]:
    """Return the images' central (N, 224, 224, 3) pixels, their (N,) labels, and the classes' names in label order.

    Raises
    ------
    RequestError
        If a file is missing or broken.
    """
    table = folder / f"{STEM}.csv"
    files, labels, classes = read_table(table)
    with _opened(folder) as read:
        images = np.stack([_central(read(file), table.with_suffix(".tar"), file) for file in files])
    return images, labels, classes


def read_table(file: Path) -> tuple[list[str], IntArray, tuple[str, ...]]:
    """Return the images' file names, their (N,) labels, and the classes' names in label order."""
    what = "rows of file, label, wnid, name with every label from 0 upwards"
    existing(file, what)
    try:
        with file.open(encoding="utf-8", newline="") as text:
            rows = [(row["file"], int(row["label"]), row["name"], row["wnid"]) for row in csv.DictReader(text)]
    except (KeyError, TypeError, ValueError) as error:
        raise broken(file, what, error) from error
    names = {label: (name, wnid) for _, label, name, wnid in rows}
    if not rows or sorted(names) != list(range(len(names))):
        raise broken(file, what, f"{len(rows)} rows, {len(names)} labels")
    count = Counter(name for name, _ in names.values())
    # Two classes are called crane, and two maillot.
    classes = [name if count[name] == 1 else f"{name} ({wnid})" for _, (name, wnid) in sorted(names.items())]
    return [row[0] for row in rows], np.array([row[1] for row in rows], dtype=np.int64), tuple(classes)


@contextmanager
def _opened(folder: Path) -> Iterator[Callable[[str], bytes]]:
    """Yield a function that reads an image file by its name, from the unpacked folder or else the archive."""
    archive = folder / f"{STEM}.tar"
    if (folder / STEM).is_dir():
        yield lambda name: existing(folder / STEM / Path(name).name, f"an image of {STEM}.csv").read_bytes()
        return
    existing(archive, f"the JPEGs of {STEM}.csv, or a folder {STEM} with them")
    try:
        with tarfile.open(archive) as tar:
            members = {Path(member.name).name: member for member in tar if member.isfile()}

            def read(name: str) -> bytes:
                if name not in members:
                    raise broken(archive, f"the JPEGs of {STEM}.csv", f"{name} is missing")
                content = tar.extractfile(members[name])
                assert content is not None
                return content.read()

            yield read
    except (tarfile.TarError, EOFError, OSError) as error:
        raise broken(archive, f"the JPEGs of {STEM}.csv", error) from error


def _central(content: bytes, source: Path, name: str) -> UInt8Array:
    """Decode an image file and return its central (224, 224, 3) pixels."""
    what = f"an image of at least {_SIZE} x {_SIZE} pixels"
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(as_rgb(image))
    except (OSError, SyntaxError, ValueError) as error:
        raise broken(source / name, what, error) from error
    height, width = pixels.shape[:2]
    if min(height, width) < _SIZE:
        raise broken(source / name, what, f"{width} x {height} pixels")
    top, left = round((height - _SIZE) / 2), round((width - _SIZE) / 2)  # as torchvision's CenterCrop rounds
    return pixels[top : top + _SIZE, left : left + _SIZE]
