"""ImageNet (Russakovsky et al. 2015, arXiv 1409.0575): a sample of one image per class, with public networks.

Images: ``imagenet_sample1000.csv`` (columns ``file``, ``label``, ``wnid``, ``name``) and the JPEGs it names, in
``imagenet_sample1000.tar`` or a folder ``imagenet_sample1000``; their central 224 x 224 pixels are used. A fixed
fifth, 200 images, is the calibration pool, the other 800 are the test set: a class is in one of the two, never in
both. Most of these are ImageNet *training* images, so accuracies are higher than on the validation set.
Weights: ``weights/*.pt``.
"""

from __future__ import annotations

import csv
import io
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import nn

from evalsuite.plugins import IntArray, TaskData, UInt8Array
from evalsuite.tasks._files import broken, data_folder, existing, load_tensors, load_weights
from evalsuite.tasks._splits import shuffled
from evalsuite.torchvision_compat import import_torchvision

STEM = "imagenet_sample1000"
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

_SIZE = 224


class _ImageNet:
    image_size: ClassVar[int] = _SIZE

    def data(self, root: str | None) -> TaskData:
        """Decode the images. Raises RequestError naming the missing or broken file."""
        folder = data_folder(root, f"{STEM}.csv and {STEM}.tar")
        table = folder / f"{STEM}.csv"
        files, labels, classes = _read_table(table)
        with _opened(folder) as read:
            images = np.stack([_central(read(file), table.with_suffix(".tar"), file) for file in files])
        order = shuffled(len(files), "imagenet", "split")
        pool, test = np.split(order, [len(order) // 5])
        return TaskData(images[test], labels[test], images[pool], labels[pool], classes, MEAN, STD)


@dataclass(frozen=True)
class DeiTTiny(_ImageNet):
    """ImageNet sample; DeiT-Tiny (12 blocks, LayerNorm), 78.4 % of all 1,000 images correct."""

    architecture: ClassVar[Literal["cnn", "transformer"]] = "transformer"

    def model(self, root: str | None) -> nn.Module:
        """Load ``weights/imagenet_deit_tiny.pt`` into timm's network. Raises RequestError if missing or broken."""
        file = data_folder(root, "weights/imagenet_deit_tiny.pt") / "weights" / "imagenet_deit_tiny.pt"
        tensors = load_tensors(file)
        import_torchvision()  # timm imports it
        import timm

        return load_weights(lambda: timm.create_model("deit_tiny_patch16_224", pretrained=False), tensors, file)


@dataclass(frozen=True)
class MobileNetV2(_ImageNet):
    """ImageNet sample; MobileNetV2 with its BatchNorm folded away, 83.2 % of all 1,000 images correct."""

    architecture: ClassVar[Literal["cnn", "transformer"]] = "cnn"

    def model(self, root: str | None) -> nn.Module:
        """Load ``weights/imagenet_mobilenetv2_folded.pt``. Raises RequestError if it is missing or broken."""
        name = "imagenet_mobilenetv2_folded.pt"
        file = data_folder(root, f"weights/{name}") / "weights" / name
        tensors = {_mobilenet_name(key): tensor for key, tensor in load_tensors(file).items()}
        return load_weights(_folded_mobilenet, tensors, file)


def _folded_mobilenet() -> nn.Module:
    """Build torchvision's MobileNetV2 with a bias in every convolution in place of the norm after it."""
    network: nn.Module = import_torchvision().models.mobilenet_v2(norm_layer=_Folded)
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            for i in reversed(range(len(module))):
                if isinstance(module[i], _Folded):
                    del module[i]
        elif isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
        elif isinstance(module, nn.ReLU6):
            module.inplace = False  # what a hook on the convolution has kept must not change afterwards
    return network


class _Folded(nn.Module):
    """The place of a norm that has been folded away."""

    def __init__(self, channels: int) -> None:
        super().__init__()


def _mobilenet_name(name: str) -> str:
    """Translate the file's names to torchvision's; a block without expansion counts its layers from 0."""
    name = re.sub(r"^(features\.(?:0|18))\.(\w+)$", r"\1.0.\2", name)
    name = re.sub(r"^features\.1\.dw\.", "features.1.conv.0.0.", name)
    name = re.sub(r"^features\.1\.project\.", "features.1.conv.1.", name)
    name = re.sub(r"^(features\.\d+)\.expand\.", r"\1.conv.0.0.", name)
    name = re.sub(r"^(features\.\d+)\.dw\.", r"\1.conv.1.0.", name)
    name = re.sub(r"^(features\.\d+)\.project\.", r"\1.conv.2.", name)
    return re.sub(r"^classifier\.(\w+)$", r"classifier.1.\1", name)


def _read_table(file: Path) -> tuple[list[str], IntArray, tuple[str, ...]]:
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
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise broken(source / name, what, error) from error
    height, width = pixels.shape[:2]
    if min(height, width) < _SIZE:
        raise broken(source / name, what, f"{width} x {height} pixels")
    top, left = round((height - _SIZE) / 2), round((width - _SIZE) / 2)  # as torchvision's CenterCrop rounds
    return pixels[top : top + _SIZE, left : left + _SIZE]
