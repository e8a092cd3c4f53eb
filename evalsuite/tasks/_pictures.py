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

from evalsuite import checksums
from evalsuite.environment import available_cores
from evalsuite.errors import RequestError
from evalsuite.files import Unwritable, mapped_array, read_only, remove_left, reserve
from evalsuite.hashing import digest
from evalsuite.plugins import IntArray, UInt8Array
from evalsuite.shared_cache import shared_cache
from evalsuite.tasks._files import broken, version
from evalsuite.tasks._modes import as_rgb
from evalsuite.torchvision_compat import import_torchvision

_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"))  # torchvision's
_TOGETHER = 256  # pictures decoded ahead of writing

_DECODER = 2  # raised whenever the same file gives other pixels than before

Interpolation = Literal["bilinear", "bicubic"]
Resize = Literal["shorter side", "both sides"]
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Preparation:
    """What is done to a picture: its shorter side becomes ``size`` pixels, then the central square ``crop`` is cut.

    Where ``resize`` is ``both sides``, height and width both become ``size`` (timm's "squash"). Both steps are
    torchvision's, on PIL pictures.
    """

    size: int
    crop: int
    interpolation: Interpolation = "bilinear"
    resize: Resize = "shorter side"

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
                resized = transforms.functional.resize(as_rgb(picture), self._target, interpolation=mode)
        except FileNotFoundError as error:
            raise RequestError(f"no file {file}: expected a picture") from error
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise broken(file, "a picture", error) from error
        return np.asarray(transforms.functional.center_crop(resized, self.crop))

    @property
    def _target(self) -> list[int]:
        return [self.size] if self.resize == "shorter side" else [self.size, self.size]


def class_folders(folder: Path) -> list[Path]:
    """Return the sub-folders of a folder in alphabetical order, hidden ones left out (``.ipynb_checkpoints``).

    Raises
    ------
    RequestError
        If there is no such folder, or there are none in it.
    """
    if not folder.is_dir():
        raise RequestError(f"no folder {folder}: expected one with a sub-folder of pictures for each class")
    found = sub_folders(folder)
    if not found:
        raise RequestError(f"no class folders in {folder}: expected a sub-folder of pictures for each class")
    return found


def sub_folders(folder: Path) -> list[Path]:
    """Return the sub-folders of a folder in alphabetical order, hidden ones left out; none where there is no folder."""
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(entry for entry in entries if entry.is_dir() and not _hidden(entry.name))


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures in and below a folder in alphabetical order, hidden files and folders left out.

    Editors keep copies in hidden folders, which would lie in the pool and in the test set at once.
    """
    return sorted(_walk(folder))


def holds_pictures(folder: Path) -> bool:
    """Whether there is a picture in or below a folder."""
    return next(_walk(folder), None) is not None


def _walk(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        for name in names:
            if Path(name).suffix.lower() in _SUFFIXES and not _hidden(name):
                yield Path(where) / name


def _hidden(name: str) -> bool:
    return name.startswith(".")


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


def decoded_folders() -> tuple[Path, ...]:
    """Return where decoded pictures are looked for, the last of which is written.

    The folder that runs share; without one, or where it is read only, the user's cache folder.
    """
    shared = shared_cache()
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalsuite" / "decoded"
    if shared is None:
        return (user,)
    place = shared / "decoded"
    return (place, user) if read_only(place if place.is_dir() else shared) else (place,)


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
    made_of = [_DECODER, preparation.size, preparation.crop, preparation.interpolation, preparation.resize]
    name, shape = f"{digest([state, *made_of])}.npy", (len(files), preparation.crop, preparation.crop, 3)
    for folder in decoded_folders():
        file = folder / name
        try:
            return _mapped(file, shape)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (OSError, ValueError, EOFError) as error:
            checksums.warn_of(file, error, "its pictures are decoded again")
    remove_left(file.parent)
    try:
        with checksums.sealing(file) as temporary:
            out = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
            reserve(temporary)
            for row, picture in enumerate(_prepared(files, preparation)):
                out[row] = picture
            out.flush()
            checksums.append_blank(temporary)
        return _mapped(file, shape)
    except Unwritable as error:
        raise RequestError(f"{error}; expected a folder for decoded pictures, see EVALSUITE_CACHE") from error


def _mapped(file: Path, shape: tuple[int, ...]) -> UInt8Array:
    checksums.verify_once(file)
    images: np.ndarray[Any, Any] = mapped_array(file)
    if images.shape != shape or images.dtype != np.uint8:
        raise ValueError(f"{images.dtype} {images.shape}")
    return images


def _prepared(files: Sequence[Path], preparation: Preparation) -> Iterator[UInt8Array]:
    remaining = iter(files)
    import_torchvision()  # not from several threads at once
    with ThreadPoolExecutor(max_workers=available_cores()) as threads:
        while batch := list(islice(remaining, _TOGETHER)):
            yield from threads.map(preparation.of, batch)
