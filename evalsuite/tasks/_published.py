"""Corrupted test images as their authors distribute them (Hendrycks & Dietterich 2019, arXiv 1903.12261)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evalsuite.errors import RequestError
from evalsuite.plugins import ImageFiles, IntArray, UInt8Array
from evalsuite.streams import Domain
from evalsuite.tasks._files import broken, load_array, load_labels, version
from evalsuite.tasks._pictures import Preparation

_SEVERITIES = 5


def corrupted_arrays(folder: Path, domain: Domain, labels: IntArray, classes: int) -> ImageFiles:
    """Read a folder like CIFAR-10-C: ``NAME.npy`` of (5 N, H, W, 3), severity s in rows (s - 1) N to s N.

    Parameters
    ----------
    folder : the folder, with ``labels.npy``, five times the (N,) test labels.
    labels : (N,) labels of the test images, in their original order.

    Raises
    ------
    RequestError
        If a file is missing or broken, or the labels are not those of the test images.
    """
    count = len(labels)
    file = folder / f"{domain.name}.npy"
    images = load_array(
        file,
        (_SEVERITIES * count, None, None, 3),
        f"uint8 images ({_SEVERITIES * count}, H, W, 3) of {folder.name}, the test images under {domain.name} at "
        "severity 1 to 5",
    )
    if not np.array_equal(
        load_labels(folder / "labels.npy", _SEVERITIES * count, classes), np.tile(labels, _SEVERITIES)
    ):
        raise broken(folder / "labels.npy", "the labels of the test images, five times", "the labels differ")
    first = (domain.severity - 1) * count

    def read(indices: IntArray) -> UInt8Array:
        return np.asarray(images[first + indices])

    return ImageFiles(version([file]), read)


def corrupted_pictures(
    folder: Path, domain: Domain, names: Sequence[str], indices: IntArray, preparation: Preparation
) -> ImageFiles:
    """Read a folder like ImageNet-C: ``corruption/severity/class/name``.

    Parameters
    ----------
    names : of all test images, as in ``class/name.JPEG``.
    indices : the test images that will be asked for.

    Raises
    ------
    RequestError
        If one of them is missing.
    """
    here = folder / domain.name / str(domain.severity)
    try:
        state = version(here / names[i] for i in indices)
    except OSError as error:
        what = f"the test image under {domain.name} at severity {domain.severity}, as {folder.name} has it"
        raise RequestError(f"no file {error.filename}: expected {what}") from error

    def read(chosen: IntArray) -> UInt8Array:
        return np.stack([preparation.of(here / names[i]) for i in chosen])

    return ImageFiles(state, read)
