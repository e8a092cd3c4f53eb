"""CIFAR-10 (Krizhevsky 2009) with public networks, from files in the data folder.

Images: ``cifar10_test_{images,labels}.npy`` and, as the calibration pool, ``cifar10_train5k_{images,labels}.npy``;
else torchvision's folder ``cifar-10-batches-py``, whose training batches are the pool. Both hold the test images in
the original order, so that image i is image i of CIFAR-10-C, which is read from the folder ``CIFAR-10-C``. CIFAR-10.1
(Recht et al. 2018, arXiv 1806.00451) is the pair ``cifar10.1_v6_{data,labels}.npy``, or that of v4.
Weights: ``weights/*.pt``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from evalsuite.errors import RequestError
from evalsuite.models.cifar_resnet import PreActivationResNet, ResNet
from evalsuite.models.vit import VisionTransformer
from evalsuite.plugins import ImageFiles, IntArray, TaskData
from evalsuite.streams import Domain
from evalsuite.tasks._cifar import SIZE, DataSet, read_arrays
from evalsuite.tasks._files import data_folder, load_tensors, load_weights

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10 = DataSet(
    name="cifar10",
    classes=len(CLASSES),
    folder="cifar-10-batches-py",
    test=("test_batch",),
    train=tuple(f"data_batch_{i}" for i in range(1, 6)),
    labels="labels",
    downloader="CIFAR10",
    corrupted="CIFAR-10-C",
)

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class _CIFAR10:
    image_size: ClassVar[int] = SIZE
    architecture: ClassVar[Literal["cnn", "transformer"]] = "cnn"
    mean: ClassVar[Triple] = (0.485, 0.456, 0.406)
    std: ClassVar[Triple] = (0.229, 0.224, 0.225)

    test_set: Literal["cifar10", "cifar10.1-v4", "cifar10.1-v6"] = "cifar10"
    download: bool = False

    def data(self, root: str | None) -> TaskData:
        """Load the images. Raises RequestError naming the missing or broken file."""
        pool = CIFAR10.load(root, "train5k", download=self.download)
        if self.test_set == "cifar10":
            test = CIFAR10.load(root, "test", download=self.download)
        else:
            stem = self.test_set.replace("-", "_")
            folder = data_folder(root, f"{stem}_data.npy")
            test = read_arrays(folder, f"{stem}_data.npy", f"{stem}_labels.npy", len(CLASSES))
        return TaskData(*test, *pool, classes=CLASSES, mean=self.mean, std=self.std, data_set=self.test_set)

    def published(self, root: str | None, domain: Domain, indices: IntArray) -> ImageFiles:
        """Return a domain of CIFAR-10-C. Raises RequestError naming the missing or broken file."""
        if self.test_set != "cifar10":
            raise RequestError(f'nobody published {self.test_set} corrupted: expected test_set = "cifar10"')
        return CIFAR10.published(root, domain, download=self.download)


@dataclass(frozen=True)
class ResNet20(_CIFAR10):
    """CIFAR-10; ResNet-20 with option A shortcuts and BatchNorm, 91.73 % correct.

    Parameters
    ----------
    test_set : whose images are shown: CIFAR-10's test images, or version 4 or 6 of CIFAR-10.1.
    download : whether the data set is fetched where it is missing; not, so that nothing is fetched unasked.
    """

    def model(self, root: str | None) -> nn.Module:
        """Load ``weights/cifar10_resnet20_optA.pt``. Raises RequestError if it is missing or broken."""
        return _option_a(root, "cifar10_resnet20_optA.pt", blocks=3)


@dataclass(frozen=True)
class ResNet56(_CIFAR10):
    """CIFAR-10; ResNet-56 with option A shortcuts and BatchNorm, 93.39 % correct.

    Parameters
    ----------
    test_set : whose images are shown: CIFAR-10's test images, or version 4 or 6 of CIFAR-10.1.
    download : whether the data set is fetched where it is missing; not, so that nothing is fetched unasked.
    """

    def model(self, root: str | None) -> nn.Module:
        """Load ``weights/cifar10_resnet56_optA.pt``. Raises RequestError if it is missing or broken."""
        return _option_a(root, "cifar10_resnet56_optA.pt", blocks=9)


@dataclass(frozen=True)
class ResNet26GN(_CIFAR10):
    """CIFAR-10; pre-activation ResNet-26 with GroupNorm (MEMO's), 90.83 % correct.

    Parameters
    ----------
    test_set : whose images are shown: CIFAR-10's test images, or version 4 or 6 of CIFAR-10.1.
    download : whether the data set is fetched where it is missing; not, so that nothing is fetched unasked.
    """

    mean: ClassVar[Triple] = (0.5, 0.5, 0.5)
    std: ClassVar[Triple] = (0.5, 0.5, 0.5)

    def model(self, root: str | None) -> nn.Module:
        """Load ``weights/cifar10_resnet26_gn.pt``. Raises RequestError if it is missing or broken."""
        file = _weights_file(root, "cifar10_resnet26_gn.pt")
        return load_weights(lambda: PreActivationResNet(blocks=4, classes=10), load_tensors(file), file)


@dataclass(frozen=True)
class ViT(_CIFAR10):
    """CIFAR-10; vision transformer with LayerNorm (width 128, 4 blocks), 71.93 % correct.

    Parameters
    ----------
    test_set : whose images are shown: CIFAR-10's test images, or version 4 or 6 of CIFAR-10.1.
    download : whether the data set is fetched where it is missing; not, so that nothing is fetched unasked.
    """

    architecture: ClassVar[Literal["cnn", "transformer"]] = "transformer"
    mean: ClassVar[Triple] = (0.4914, 0.4822, 0.4465)
    std: ClassVar[Triple] = (0.2470, 0.2435, 0.2616)

    def model(self, root: str | None) -> nn.Module:
        """Load ``weights/cifar10_vit_d128_l4.pt``. Raises RequestError if it is missing or broken."""
        file = _weights_file(root, "cifar10_vit_d128_l4.pt")
        return load_weights(_vit, _vit_weights(load_tensors(file)), file)


def _weights_file(root: str | None, name: str) -> Path:
    return data_folder(root, f"weights/{name}") / "weights" / name


def _option_a(root: str | None, name: str, blocks: int) -> nn.Module:
    file = _weights_file(root, name)
    tensors = {re.sub(r"^linear\.", "fc.", key): tensor for key, tensor in load_tensors(file).items()}
    return load_weights(lambda: ResNet(blocks=blocks, classes=10), tensors, file)


def _vit() -> nn.Module:
    return VisionTransformer(SIZE, patch=4, width=128, depth=4, heads=4, hidden=256, classes=10)


_VIT_NAMES = (
    (r"^embedding\.patch_embeddings\.conv\.", "patch_embed.proj."),
    (r"^embedding\.cls_token$", "cls_token"),
    (r"^embedding\.pos_embeddings$", "pos_embed"),
    (r"^encoder\.layers\.", "blocks."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.ffn\.", ".mlp."),
    (r"\.alpha$", ".weight"),
    (r"\.beta$", ".bias"),
    (r"^mlp_head\.", "head."),
)


def _vit_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the checkpoint's tensors and stack queries, keys and values."""
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _VIT_NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    for name in [name for name in renamed if ".attn.query." in name]:
        parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        # Anything else stays as it is, for load_weights to complain about.
        if all(part in renamed and renamed[part].shape == renamed[name].shape for part in parts):
            renamed[name.replace(".query.", ".qkv.")] = torch.cat([renamed.pop(part) for part in parts])
    return renamed
