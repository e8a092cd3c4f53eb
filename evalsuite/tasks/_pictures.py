"""Folders of pictures: found by class, decoded once into a file that is mapped into memory."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from evalsuite.environment import available_cores
from evalsuite.errors import RequestError
from evalsuite.files import Unwritable, remove_left, replacing, reserve
from evalsuite.hashing import digest
from evalsuite.plugins import IntArray, UInt8Array
from evalsuite.tasks._files import broken, version
from evalsuite.torchvision_compat import import_torchvision

_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"))  # torchvision's
_TOGETHER = 256  # pictures decoded ahead of writing

Interpolation = Literal["bilinear", "bicubic"]
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Preparation:
    """What is done to a picture: its shorter side becomes ``size`` pixels, then the central square ``crop`` is cut.

    Both steps are torchvision's, on PIL pictures.
    """

    size: int
    crop: int
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.size:
            raise RequestError(f"size {self.size}, crop {self.crop}: expected 1 <= crop <= size")

    def of(self, file: Path) -> UInt8Array:
        """Return (crop, crop, 3). Raises RequestError if the file is missing or no picture."""
        from PIL import Image

        transforms = import_torchvision().transforms
        mode = transforms.InterpolationMode(self.interpolation)
        try:
            with Image.open(file) as picture:
                resized = transforms.functional.resize(picture.convert("RGB"), self.size, interpolation=mode)
        except FileNotFoundError as error:
            raise RequestError(f"no file {file}: expected a picture") from error
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise broken(file, "a picture", error) from error
        return np.asarray(transforms.functional.center_crop(resized, self.crop))


def class_folders(folder: Path) -> list[Path]:
    """Return the sub-folders of a folder in alphabetical order. Raises RequestError if there are none."""
    found = sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    if not found:
        raise RequestError(f"no class folders in {folder}: expected a sub-folder of pictures for each class")
    return found


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures in and below a folder in alphabetical order."""
    every = (Path(where) / name for where, _, names in os.walk(folder) for name in names)
    return sorted(file for file in every if file.suffix.lower() in _SUFFIXES and not file.name.startswith("."))


def pictures(folder: Path) -> dict[str, list[Path]]:
    """Return the pictures of each class that has any, by the class folder's name, all in alphabetical order.

    Raises
    ------
    RequestError
        If there is no such folder, or no sub-folder with pictures in it.
    """
    found = {entry.name: pictures_in(entry) for entry in class_folders(folder)}
    found = {name: files for name, files in found.items() if files}
    if not found:
        raise RequestError(f"no pictures in {folder}: expected a sub-folder of them for each class")
    return found


def labelled(found: Mapping[K, list[Path]], classes: Sequence[K]) -> tuple[list[Path], IntArray]:
    """Return all pictures, class by class, and their (N,) labels: where their class is in ``classes``."""
    files = [file for name in classes for file in found.get(name, [])]
    counts = [len(found.get(name, [])) for name in classes]
    return files, np.repeat(np.arange(len(classes), dtype=np.int64), counts)


def decoded_folder() -> Path:
    """Return where decoded pictures are kept: under ``EVALSUITE_CACHE``, else the user's cache folder."""
    shared = os.environ.get("EVALSUITE_CACHE")
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalsuite"
    return (Path(shared) if shared else user) / "decoded"


def decoded(files: Sequence[Path], preparation: Preparation) -> UInt8Array:
    """Return (N, crop, crop, 3) prepared pictures, memory-mapped from a file that is made once for these pictures.

    The file's name is a hash of the pictures' paths, sizes and times, and of the preparation.

    Raises
    ------
    RequestError
        If a picture is missing or broken, or the file cannot be written.
    """
    try:
        state = version(files)
    except OSError as error:
        raise RequestError(f"no file {error.filename}: expected a picture") from error
    made_of = [preparation.size, preparation.crop, preparation.interpolation]
    file = decoded_folder() / f"{digest([state, *made_of])}.npy"
    shape = (len(files), preparation.crop, preparation.crop, 3)
    try:
        return _mapped(file, shape)
    except (OSError, ValueError, EOFError):
        pass
    remove_left(file.parent)
    try:
        with replacing(file) as temporary:
            out = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
            reserve(temporary)
            for row, picture in enumerate(_prepared(files, preparation)):
                out[row] = picture
            out.flush()
        return _mapped(file, shape)
    except Unwritable as error:
        raise RequestError(f"{error}; expected a folder for decoded pictures, see EVALSUITE_CACHE") from error


def _mapped(file: Path, shape: tuple[int, ...]) -> UInt8Array:
    images: np.ndarray[Any, Any] = np.load(file, mmap_mode="r")
    if images.shape != shape or images.dtype != np.uint8:
        raise ValueError(f"{images.dtype} {images.shape}")
    return images


def _prepared(files: Sequence[Path], preparation: Preparation) -> Iterator[UInt8Array]:
    remaining = iter(files)
    import_torchvision()  # not from several threads at once
    with ThreadPoolExecutor(max_workers=available_cores()) as threads:
        while batch := list(islice(remaining, _TOGETHER)):
            yield from threads.map(preparation.of, batch)
