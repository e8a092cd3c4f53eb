"""The two CIFAR data sets (Krizhevsky 2009), as their author and torchvision keep them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evalsuite.errors import RequestError
from evalsuite.plugins import ImageFiles, IntArray, UInt8Array
from evalsuite.streams import Domain
from evalsuite.tasks._files import broken, check_labels, data_folder, existing, load_array, load_labels
from evalsuite.tasks._published import corrupted_arrays
from evalsuite.torchvision_compat import import_torchvision

SIZE = 32

_RECONSTRUCT = np.empty(0).__reduce__()[0]

Labelled = tuple[UInt8Array, IntArray]


@dataclass(frozen=True)
class DataSet:
    """Where a data set lies in the data folder.

    Attributes
    ----------
    name : by which its arrays begin.
    classes : how many there are.
    folder : torchvision's.
    test, train : the files in it.
    labels : the key of the labels in them.
    downloader : the class of torchvision.datasets that fetches the folder.
    corrupted : folder of its corrupted test images (Hendrycks & Dietterich 2019, arXiv 1903.12261).
    """

    name: str
    classes: int
    folder: str
    test: tuple[str, ...]
    train: tuple[str, ...]
    labels: str
    downloader: str
    corrupted: str

    def load(self, root: str | None, part: str, *, download: bool) -> Labelled:
        """Return the images and labels of ``test`` or of the pool (any other part).

        From ``NAME_PART_{images,labels}.npy`` where these are, else torchvision's folder, which is downloaded if it may
        be. Raises RequestError naming the missing or broken file.
        """
        where = data_folder(root, f"{self.name}_test_images.npy and its kin, or torchvision's {self.folder}")
        arrays = (where / f"{self.name}_test_images.npy").is_file()
        if not arrays and not (where / self.folder).is_dir() and download:
            self._download(where)
        if not arrays and (where / self.folder).is_dir():
            return _read_batches(where / self.folder, self.test if part == "test" else self.train, self)
        if not arrays:
            raise RequestError(
                f"no file {where / self.name}_test_images.npy and no folder {where / self.folder}: expected either; "
                "the task's option download = true fetches the folder"
            )
        return read_arrays(where, f"{self.name}_{part}_images.npy", f"{self.name}_{part}_labels.npy", self.classes)

    def _download(self, where: Path) -> None:
        fetch = getattr(import_torchvision().datasets, self.downloader)
        try:
            fetch(str(where), download=True)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            wanted = f"expected torchvision's folder {where / self.folder}"
            raise RequestError(f"{self.downloader} cannot be downloaded ({reason}): {wanted}") from error

    def published(self, root: str | None, domain: Domain, *, download: bool) -> ImageFiles:
        """Return the published corrupted test images. Raises RequestError naming the missing or broken file."""
        _, labels = self.load(root, "test", download=download)
        folder = data_folder(root, self.corrupted) / self.corrupted
        return corrupted_arrays(folder, domain, labels, self.classes)

    def class_names(self, root: str | None) -> tuple[str, ...]:
        """Return the classes' names that come with torchvision's folder, or their numbers without it."""
        file = data_folder(root, self.folder) / self.folder / "meta"
        if not file.is_file():
            return tuple(map(str, range(self.classes)))
        names = _unpickled(file, "a pickled dictionary of class names").get(f"{self.labels[:-1]}_names", [])
        if len(names) != self.classes:
            raise broken(file, f"{self.classes} class names", f"it has {len(names)}")
        return tuple(map(str, names))


def read_arrays(folder: Path, images_name: str, labels_name: str, classes: int) -> Labelled:
    """Map an array of images, and read its labels. Raises RequestError if one is missing or broken."""
    images = load_array(folder / images_name, (None, SIZE, SIZE, 3), "uint8 images (N, 32, 32, 3)")
    return images, load_labels(folder / labels_name, len(images), classes)


class _Unpickler(pickle.Unpickler):
    """Reads what CIFAR's batches consist of, arrays and plain values, and runs nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return numpy's own constructors. Raises UnpicklingError for all others."""
        known = {
            ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
            ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _encode,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR batch needs")
        return known[module, name]


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in pickles that Python 2 can read."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds bytes in {encoding}")
    return text.encode("latin1")


def _unpickled(file: Path, what: str) -> Any:
    existing(file, what)
    try:
        return _Unpickler(io.BytesIO(file.read_bytes()), encoding="latin1").load()
    except Exception as error:  # a foreign pickle fails in any way it likes
        raise broken(file, what, error) from error


def _read_batches(folder: Path, names: Sequence[str], data_set: DataSet) -> Labelled:
    images, labels = [], []
    for name in names:
        file = folder / name
        what = f"a pickled dictionary of data (N, 3072) uint8 and {data_set.labels}"
        batch = _unpickled(file, what)
        try:
            data, classes = batch["data"], np.asarray(batch[data_set.labels])
        except Exception as error:
            raise broken(file, what, error) from error
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3 * SIZE**2,):
            raise broken(file, what, f"data is {getattr(data, 'dtype', type(data).__name__)} {np.shape(data)}")
        images.append(data.reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1))
        labels.append(check_labels(classes, len(data), data_set.classes, file))
    return np.concatenate(images), np.concatenate(labels)
