"""Anybody's pictures and network: an ImageFolder and a checkpoint, named in the study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from evalsuite.errors import RequestError, unknown_name
from evalsuite.plugins import ImageFiles, IntArray, TaskData
from evalsuite.streams import Domain
from evalsuite.tasks._evaluation import Evaluation
from evalsuite.tasks._files import broken, existing
from evalsuite.tasks._networks import Restricted, named_network, published_evaluation
from evalsuite.tasks._parts import parts_of
from evalsuite.tasks._pictures import Interpolation, Preparation, Resize, decoded, labelled, pictures
from evalsuite.tasks._published import corrupted_pictures
from evalsuite.tasks._splits import shuffled

Pictures = dict[str, list[Path]]


@dataclass(frozen=True)
class _Parts:
    """The pictures of a folder: all ``names`` as ``class/name``, and those of the test set and of the pool."""

    classes: tuple[str, ...]
    names: list[str]
    test_names: list[str]
    test_files: list[Path]
    test_labels: IntArray
    pool_files: list[Path]
    pool_labels: IntArray


@dataclass(frozen=True)
class Folder:
    """Your own pictures, a folder a class, with a torchvision, timm or own network and checkpoint.

    Paths are relative to the data folder where one is given, else to the working directory. What is not given of size,
    crop, interpolation, resize, mean and std is what torchvision or timm evaluate the network's published weights with;
    for a function of yours 256, 224, bilinear, the shorter side, and ImageNet's mean and deviation.

    Parameters
    ----------
    images : folder with a sub-folder of pictures for each class; or with ``train`` and ``test`` (or ``val``, in small
        or capital letters) that have these: calibration images are then drawn from ``train``, and a class that only
        one of the two shows keeps its label. Otherwise a fixed random fifth of the pictures is the calibration pool
        and the rest the test set.
    network : a torchvision model, ``timm:NAME``, ``package.module:factory`` or ``file.py:factory``.
    checkpoint : its weights (``torch.save`` or safetensors); empty: those published for it, or the factory's own.
        torchvision's Inception and GoogLeNet renormalise their input to 0.5, 0.5 where they are built from published
        weights, and else do not: a checkpoint trained from these wants ``mean`` and ``std`` of 0.5.
    groups : a CSV file, column ``file`` (a picture, as in ``class/name.jpg``) and any further columns, which become
        columns of the records; a row for each test image.
    classes : names of the class folders in the order of the network's outputs; empty: alphabetical.
    outputs : which of the network's outputs the classes are, where it has more of them; empty: all.
    size : pixels that the shorter side, or each side, is resized to.
    crop : pixels of the central square that is cut then.
    interpolation : of resizing.
    resize : what gets ``size`` pixels, the shorter side or both.
    mean : of each channel on the scale 0..1, taken from the network's input.
    std : of each channel on the scale 0..1, by which it is divided then.
    pool : at most so many calibration images.
    corrupted : folder with the test images as someone has corrupted them, laid out as ImageNet-C is:
        ``corruption/severity/class/name``.

    Raises
    ------
    RequestError
        If an option is impossible.
    """

    images: str
    network: str
    checkpoint: str = ""
    groups: str = ""
    classes: tuple[str, ...] = ()
    outputs: tuple[int, ...] = ()
    size: int | None = None
    crop: int | None = None
    interpolation: Interpolation | None = None
    resize: Resize | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    pool: int = 4096
    corrupted: str = ""

    def __post_init__(self) -> None:
        self._fill_in()
        shown = self._shown
        if self.pool < 1 or min(shown.std) <= 0:
            raise RequestError(
                f"pool = {self.pool}, std = {shown.std}: expected at least 1 image and deviations above 0"
            )
        for name in ("classes", "outputs"):
            given = getattr(self, name)
            if len(set(given)) < len(given):
                raise RequestError(f"{name} = {list(given)}: expected each once")

    def _fill_in(self) -> None:
        """Set what the study leaves open to what the network was published with, so that records say it."""
        names = ("size", "crop", "interpolation", "resize", "mean", "std")
        if None not in (getattr(self, name) for name in names):
            return
        published = published_evaluation(self.network, self.checkpoint)
        for name in names:
            if getattr(self, name) is None:
                source = published if name in ("mean", "std") else published.preparation
                object.__setattr__(self, name, getattr(source, name))

    @property
    def _shown(self) -> Evaluation:
        assert self.size is not None
        assert self.crop is not None
        assert self.interpolation is not None
        assert self.resize is not None
        assert self.mean is not None
        assert self.std is not None
        return Evaluation(Preparation(self.size, self.crop, self.interpolation, self.resize), self.mean, self.std)

    @property
    def image_size(self) -> int:
        """Height and width of the network's input, pixels."""
        return self._shown.preparation.crop

    def data(self, root: str | None) -> TaskData:
        """Decode the pictures, once. Raises RequestError naming the missing or broken file."""
        parts = self._parts(root)
        shown = self._shown
        prepared = shown.preparation
        return TaskData(
            test_images=decoded(parts.test_files, prepared),
            test_labels=parts.test_labels,
            pool_images=decoded(parts.pool_files, prepared),
            pool_labels=parts.pool_labels,
            classes=parts.classes,
            mean=shown.mean,
            std=shown.std,
            groups=self._groups(root, parts),
            data_set=Path(self.images).name,
        )

    def model(self, root: str | None) -> nn.Module:
        """Build the network with its weights. Raises RequestError if they are missing or do not fit."""
        test_folder, train_folder = parts_of(_path(self.images, root))
        found = pictures(test_folder)
        classes = self._classes(found, pictures(train_folder) if train_folder else found, test_folder)
        checkpoint = _path(self.checkpoint, root) if self.checkpoint else None
        published = bool(self.outputs) or checkpoint is None
        network = named_network(self.network, checkpoint, None if published else len(classes), root)
        network = Restricted(network, self.outputs).eval() if self.outputs else network
        self._check_outputs(network, len(classes))
        return network

    def _check_outputs(self, network: nn.Module, classes: int) -> None:
        size = self.image_size
        with torch.no_grad():
            try:
                logits = network(torch.zeros(1, 3, size, size))
            except Exception as error:  # whatever a foreign network does
                reason = " ".join(str(error).split())
                raise RequestError(f"{self.network} fails on (1, 3, {size}, {size}): {reason}") from error
        if not isinstance(logits, torch.Tensor):
            raise RequestError(f"{self.network} returns a {type(logits).__name__}: expected a tensor of logits")
        if tuple(logits.shape) != (1, classes):
            raise RequestError(
                f"{self.network} gives {tuple(logits.shape)} for one image: expected logits of the {classes} classes "
                f"in {self.images}; where it knows more classes, the option outputs says which these are"
            )

    def published(self, root: str | None, domain: Domain, indices: IntArray) -> ImageFiles:
        """Return the files of the folder ``corrupted``. Raises RequestError if one is missing."""
        if not self.corrupted:
            raise RequestError(
                f"task folder with images {self.images} has no published corrupted images: expected its option "
                'corrupted, or [corruption] files = "regenerated"'
            )
        parts = self._parts(root)
        size = self.image_size
        prepared = Preparation(size, size, self._shown.preparation.interpolation)
        return corrupted_pictures(_path(self.corrupted, root), domain, parts.test_names, indices, prepared)

    def _parts(self, root: str | None) -> _Parts:
        folder, train = parts_of(_path(self.images, root))
        found = pictures(folder)
        training = found if train is None else pictures(train)
        classes = self._classes(found, training, folder)
        files, labels = labelled(found, classes)
        names = [file.relative_to(folder).as_posix() for file in files]
        if train is None:
            if len(files) < 2:
                raise RequestError(f"folder {folder} has one picture: expected two, to calibrate and to test with")
            order = shuffled(len(files), "folder", "split")
            chosen, kept = order[: max(1, len(order) // 5)], order[max(1, len(order) // 5) :]
            pool_files, pool_labels = files, labels
        else:
            pool_files, pool_labels = labelled(training, classes)
            chosen, kept = shuffled(len(pool_files), "folder", "pool"), shuffled(len(files), "folder", "test")
            if not len(chosen):
                raise RequestError(f"folder {train} has pictures of none of the classes {', '.join(classes)}")
        chosen = np.sort(chosen[: self.pool])  # what is kept stays mixed: streams show the first so many
        return _Parts(
            classes=classes,
            names=names,
            test_names=[names[i] for i in kept],
            test_files=[files[i] for i in kept],
            test_labels=labels[kept],
            pool_files=[pool_files[i] for i in chosen],
            pool_labels=pool_labels[chosen],
        )

    def _classes(self, found: Pictures, training: Pictures, folder: Path) -> tuple[str, ...]:
        """Return the classes: those of the option, or all that the test set or the training images show."""
        classes = self.classes or tuple(sorted({*found, *training}))
        for name in found:
            if name not in classes:
                raise unknown_name(f"class folder in {folder}, not among the option classes,", name, classes)
        if self.outputs and len(self.outputs) != len(classes):
            raise RequestError(f"{len(self.outputs)} outputs for {len(classes)} classes in {folder}: expected as many")
        return classes

    def _groups(self, root: str | None, parts: _Parts) -> dict[str, NDArray[Any]]:
        if not self.groups:
            return {}
        file = existing(_path(self.groups, root), "a CSV file with the column file, and a column for each grouping")
        try:
            table = pd.read_csv(file, dtype={"file": str})
        except (ValueError, OSError) as error:
            raise broken(file, "a CSV file with the column file", error) from error
        if "file" not in table or len(table.columns) < 2:
            raise broken(file, "the column file and at least one more", f"columns {', '.join(table.columns)}")
        own = table.pop("file").map(lambda name: Path(str(name)).as_posix())
        for wrong, what in ((own.duplicated(), "twice"), (~own.isin(parts.names), "not among the images")):
            if wrong.any():
                raise broken(file, f"one row for each test image of {self.images}", f"{own[wrong].iloc[0]} is {what}")
        rows = table.set_index(own)
        absent = [name for name in parts.test_names if name not in rows.index]
        if absent:
            missing = f"{len(absent)} are missing, the first {absent[0]}"
            raise broken(file, f"one row for each test image of {self.images}", missing)
        chosen = rows.loc[parts.test_names]
        for column in chosen:
            if chosen[column].isna().any():
                raise broken(file, "a value in every cell", f"{chosen[column].isna().idxmax()} has no {column}")
        return {str(column): chosen[column].to_numpy() for column in chosen}


def _path(given: str, root: str | None) -> Path:
    return Path(root) / given if root else Path(given)
