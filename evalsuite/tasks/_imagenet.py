"""ImageNet (Russakovsky et al. 2015, arXiv 1409.0575) and its further test sets, as they are distributed.

In the data folder: ``imagenet/val`` and, if it is there, ``imagenet/train``, with a folder for each class by its
WordNet number; without them the sample ``imagenet_sample1000``. A fixed draw of up to five images a class is the
calibration pool: of the training images, or else of the validation images, which are then no test images. Of the
sample a fixed fifth, 200 images, is the pool and the other 800 are the test set: a class is in one of the two, never
in both. Most of the sample are ImageNet *training* images, so accuracies are higher than on the validation set.

Further test sets: ImageNet-R (Hendrycks et al. 2021, arXiv 2006.16241), ImageNet-A (Hendrycks et al. 2021, arXiv
1907.07174), ImageNet-V2 (Recht et al. 2019, arXiv 1902.10811; its folders are class indices) and ImageNet-Sketch (Wang
et al. 2019, arXiv 1905.13549). A set with a part of the classes is a task on these classes: the network's logits
are restricted to them. ImageNet-C is read from the folder ``ImageNet-C``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from torch import nn

from evalsuite.errors import RequestError, unknown_name
from evalsuite.plugins import ImageFiles, IntArray, TaskData, UInt8Array
from evalsuite.streams import Domain
from evalsuite.tasks._evaluation import MEAN, STD
from evalsuite.tasks._files import data_folder
from evalsuite.tasks._imagenet_sample import STEM, read_sample, read_table, sample_is_there
from evalsuite.tasks._networks import Restricted
from evalsuite.tasks._pictures import Preparation, class_folders, decoded, labelled, pictures_in
from evalsuite.tasks._published import corrupted_pictures
from evalsuite.tasks._splits import shuffled
from evalsuite.tasks._timm_networks import import_timm

_POOL_PER_CLASS = 5
_VALIDATION, _TRAINING = Path("imagenet/val"), Path("imagenet/train")
_FOLDERS = {
    "imagenet-r": ("imagenet-r",),
    "imagenet-a": ("imagenet-a",),
    "imagenet-v2": ("imagenetv2-matched-frequency-format-val", "imagenet-v2"),
    "imagenet-sketch": ("imagenet-sketch", "sketch"),
}


@functools.cache
def wordnet_names() -> dict[str, str]:
    """Return the classes' names by WordNet number, in label order, each name once."""
    info: Any = import_timm().data.ImageNetInfo()
    said = [info.index_to_description(index).partition(",")[0] for index in range(info.num_classes())]
    numbers = info.label_names()
    # Two classes are called crane, and two maillot.
    return {
        number: name if said.count(name) == 1 else f"{name} ({number})"
        for number, name in zip(numbers, said, strict=True)
    }


Pictures = Mapping[int, list[Path]]
"""Pictures by class index."""


@dataclass(frozen=True)
class ImageNetTask:
    """A network for the 1,000 classes and the images of a test set; sub-classes bring the network.

    Parameters
    ----------
    test_set : whose images are shown: ImageNet's validation images, or ImageNet-R, -A, -V2 or -Sketch.
    """

    image_size: ClassVar[int] = 224
    test_set: Literal["imagenet", "imagenet-r", "imagenet-a", "imagenet-v2", "imagenet-sketch"] = "imagenet"

    @property
    def preparation(self) -> Preparation:
        """What is done to a picture, as the network's authors do it."""
        return Preparation(256, self.image_size)

    def network(self, root: str | None) -> nn.Module:
        """Load the network for all classes. Raises RequestError if its weights are missing or broken."""
        raise NotImplementedError

    def data(self, root: str | None) -> TaskData:
        """Decode the pictures, once. Raises RequestError naming the missing or broken file."""
        where = data_folder(root, f"{_VALIDATION}, or {STEM}.csv and {STEM}.tar")
        folder = self._folder(where)
        if folder is None:
            return _sample_task(where)
        test, pool = self._pictures(where, folder)
        classes = list(test)
        names = list(wordnet_names().values())
        test_files, test_labels = _mixed(test)
        return TaskData(
            decoded(test_files, self.preparation),
            test_labels,
            *(_sample_pool(where, classes) if pool is None else self._decoded_pool(pool, classes)),
            classes=tuple(names[index] for index in classes),
            mean=MEAN,
            std=STD,
            data_set=self.test_set,
        )

    def model(self, root: str | None) -> nn.Module:
        """Load the network; its logits are those of the test set's classes. Raises RequestError as ``network`` does."""
        network = self.network(root)
        folder = self._folder(Path(root)) if root else None
        outputs = [] if folder is None else [index for index, _ in _indexed(folder)]
        if folder is None and root and (Path(root) / f"{STEM}.csv").is_file():
            outputs = list(range(len(read_table(Path(root) / f"{STEM}.csv")[2])))
        return network if len(outputs) in (0, len(wordnet_names())) else Restricted(network, outputs).eval()

    def published(self, root: str | None, domain: Domain, indices: IntArray) -> ImageFiles:
        """Return a domain of ImageNet-C. Raises RequestError naming the missing file."""
        where = data_folder(root, "ImageNet-C")
        folder = self._folder(where)
        if self.test_set != "imagenet":
            raise RequestError(f'nobody published {self.test_set} corrupted: expected test_set = "imagenet"')
        if folder is None:
            raise RequestError(f"ImageNet-C holds the validation images: expected these in {where / _VALIDATION}")
        test, _ = self._pictures(where, folder)
        names = [file.relative_to(folder).as_posix() for file in _mixed(test)[0]]
        prepared = Preparation(self.image_size, self.image_size)
        return corrupted_pictures(where / "ImageNet-C", domain, names, indices, prepared)

    def found(self, root: str | None) -> str:
        """Say what is there without decoding or downloading. Raises RequestError naming the missing file."""
        where = data_folder(root, f"{_VALIDATION}, or {STEM}.csv and {STEM}.tar")
        folder = self._folder(where)
        if folder is None:
            sample_is_there(where)
            images = f"the sample {STEM}"
        else:
            test, _ = self._pictures(where, folder)
            images = f"{sum(map(len, test.values()))} test images in {folder}"
        self.weights_are_there(root)
        return f"{images}, and the weights"

    def weights_are_there(self, root: str | None) -> None:
        """Raise RequestError, naming the file, unless the weights are there already."""
        self.network(root)

    def _folder(self, where: Path) -> Path | None:
        """Return the test set's folder, or None for the sample."""
        if self.test_set == "imagenet":
            return where / _VALIDATION if (where / _VALIDATION).is_dir() else None
        choices = [where / name for name in _FOLDERS[self.test_set]]
        found = [folder for folder in choices if folder.is_dir()]
        if not found:
            wanted = " or ".join(map(str, choices))
            raise RequestError(f"no folder {wanted}: expected {self.test_set}, a folder of pictures for each class")
        return found[0]

    def _pictures(self, where: Path, folder: Path) -> tuple[Pictures, Pictures | None]:
        """Return the pictures of the test set and of the pool; None for the pool where only the sample is there."""
        test = {index: pictures_in(entry) for index, entry in _indexed(folder)}
        for held in (where / _TRAINING, where / _VALIDATION):
            if held.is_dir() and held != folder:
                own = ((index, pictures_in(entry)) for index, entry in _indexed(held) if index in test)
                return test, {index: _drawn(files, index, _POOL_PER_CLASS) for index, files in own}
        if self.test_set != "imagenet":
            return test, None
        pool = {index: _drawn(files, index, min(_POOL_PER_CLASS, len(files) // 5)) for index, files in test.items()}
        if not any(pool.values()):
            raise RequestError(f"{folder} has too few pictures to calibrate with: expected 5 of a class")
        return {index: [one for one in files if one not in pool[index]] for index, files in test.items()}, pool

    def _decoded_pool(self, pool: Pictures, classes: list[int]) -> tuple[UInt8Array, IntArray]:
        files, labels = labelled(pool, classes)
        return decoded(files, self.preparation), labels


def _indexed(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield the class folders, named by WordNet number or by class index, in the order of the classes."""
    numbers = list(wordnet_names())
    known = {number: index for index, number in enumerate(numbers)} | {str(i): i for i in range(len(numbers))}
    found = {}
    for entry in class_folders(folder):
        if entry.name not in known:
            raise unknown_name(f"class folder in {folder}, no class of ImageNet:", entry.name, numbers[:3])
        found[known[entry.name]] = entry
    yield from sorted(found.items())


def _mixed(test: Pictures) -> tuple[list[Path], IntArray]:
    """Return the test set's pictures and labels, classes mixed: streams show the first so many."""
    files, labels = labelled(test, list(test))
    order = shuffled(len(files), "imagenet", "test")
    return [files[i] for i in order], labels[order]


def _drawn(files: list[Path], index: int, count: int) -> list[Path]:
    return [files[i] for i in np.sort(shuffled(len(files), "imagenet", "pool", index)[:count])]


def _sample_task(where: Path) -> TaskData:
    images, labels, classes = read_sample(where)
    pool, test = np.split(shuffled(len(labels), "imagenet", "split"), [len(labels) // 5])
    return TaskData(images[test], labels[test], images[pool], labels[pool], classes, MEAN, STD, data_set=STEM)


def _sample_pool(where: Path, classes: list[int]) -> tuple[UInt8Array, IntArray]:
    """Return the sample's images of these classes: all of them, since none is a test image."""
    images, labels, _ = read_sample(where)
    chosen = np.isin(labels, classes)
    return images[chosen], np.searchsorted(classes, labels[chosen])
