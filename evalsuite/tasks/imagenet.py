"""Public networks for ImageNet; see :mod:`evalsuite.tasks._imagenet` for the images.

Weights: torchvision's are downloaded to torch's hub folder where there is a network, or put into the data folder's
``weights`` under their own names; those of DeiT-Tiny and of MobileNetV2 without norms are ``weights/*.pt``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from evalsuite.tasks._files import data_folder, distributed_weights, load_tensors, load_weights
from evalsuite.tasks._imagenet import ImageNetTask
from evalsuite.tasks._pictures import Preparation
from evalsuite.tasks._timm_networks import import_timm
from evalsuite.tasks._torchvision_networks import evaluation, published_weights, torchvision_network
from evalsuite.torchvision_compat import import_torchvision


@dataclass(frozen=True)
class DeiTTiny(ImageNetTask):
    """ImageNet; DeiT-Tiny (12 blocks, LayerNorm), 78.4 % of the sample of 1,000 images correct.

    Parameters
    ----------
    test_set : see :class:`evalsuite.tasks._imagenet.ImageNetTask`.
    """

    architecture: ClassVar[Literal["cnn", "transformer"]] = "transformer"

    @property
    def preparation(self) -> Preparation:
        """Its authors' evaluation: a shorter side of 256 pixels, bicubic, and the central 224."""
        return Preparation(256, self.image_size, "bicubic")

    def network(self, root: str | None) -> nn.Module:
        """Load ``weights/imagenet_deit_tiny.pt`` into timm's network. Raises RequestError if missing or broken."""
        file = data_folder(root, "weights/imagenet_deit_tiny.pt") / "weights" / "imagenet_deit_tiny.pt"
        tensors = load_tensors(file)
        timm = import_timm()
        return load_weights(lambda: timm.create_model("deit_tiny_patch16_224", pretrained=False), tensors, file)


@dataclass(frozen=True)
class MobileNetV2(ImageNetTask):
    """ImageNet; MobileNetV2 with its BatchNorm folded away, 83.2 % of the sample of 1,000 images correct.

    Parameters
    ----------
    test_set : see :class:`evalsuite.tasks._imagenet.ImageNetTask`.
    """

    architecture: ClassVar[Literal["cnn", "transformer"]] = "cnn"

    def network(self, root: str | None) -> nn.Module:
        """Load ``weights/imagenet_mobilenetv2_folded.pt``. Raises RequestError if it is missing or broken."""
        name = "imagenet_mobilenetv2_folded.pt"
        file = data_folder(root, f"weights/{name}") / "weights" / name
        tensors = {_mobilenet_name(key): tensor for key, tensor in load_tensors(file).items()}
        return load_weights(_folded_mobilenet, tensors, file)


@dataclass(frozen=True)
class _Torchvision(ImageNetTask):
    name: ClassVar[str]

    @property
    def weights(self) -> Any:
        """The first weights that torchvision released for the network."""
        return published_weights(self.name)

    @property
    def preparation(self) -> Preparation:
        """What torchvision evaluates these weights with."""
        return evaluation(self.weights).preparation

    def network(self, root: str | None) -> nn.Module:
        """Load the network, downloading its weights where there is a network; see ``torchvision_network``."""
        return torchvision_network(self.weights, self.name, root)

    def weights_are_there(self, root: str | None) -> None:
        """Raise RequestError, naming the file, unless the weights are there; downloads nothing."""
        distributed_weights(self.weights.url, root, download=False)


@dataclass(frozen=True)
class ResNet18(_Torchvision):
    """ImageNet; torchvision's ResNet-18, 69.758 % of the validation images correct.

    Parameters
    ----------
    test_set : see :class:`evalsuite.tasks._imagenet.ImageNetTask`.
    """

    name: ClassVar[str] = "resnet18"


@dataclass(frozen=True)
class ResNet50(_Torchvision):
    """ImageNet; torchvision's ResNet-50, 76.130 % of the validation images correct.

    Parameters
    ----------
    test_set : see :class:`evalsuite.tasks._imagenet.ImageNetTask`.
    """

    name: ClassVar[str] = "resnet50"


@dataclass(frozen=True)
class RegNetX(_Torchvision):
    """ImageNet; torchvision's RegNetX-3.2GF, 78.364 % of the validation images correct.

    Parameters
    ----------
    test_set : see :class:`evalsuite.tasks._imagenet.ImageNetTask`.
    """

    name: ClassVar[str] = "regnet_x_3_2gf"


@dataclass(frozen=True)
class EfficientNetB0(_Torchvision):
    """ImageNet; torchvision's EfficientNet-B0, 77.692 % of the validation images correct.

    Parameters
    ----------
    test_set : see :class:`evalsuite.tasks._imagenet.ImageNetTask`.
    """

    name: ClassVar[str] = "efficientnet_b0"


@dataclass(frozen=True)
class ConvNeXtTiny(_Torchvision):
    """ImageNet; torchvision's ConvNeXt-Tiny, 82.520 % of the validation images correct.

    Parameters
    ----------
    test_set : see :class:`evalsuite.tasks._imagenet.ImageNetTask`.
    """

    name: ClassVar[str] = "convnext_tiny"


@dataclass(frozen=True)
class ViTB16(_Torchvision):
    """ImageNet; torchvision's ViT-B/16, 81.072 % of the validation images correct.

    Parameters
    ----------
    test_set : see :class:`evalsuite.tasks._imagenet.ImageNetTask`.
    """

    name: ClassVar[str] = "vit_b_16"


@dataclass(frozen=True)
class SwinTiny(_Torchvision):
    """ImageNet; torchvision's Swin-T, 81.474 % of the validation images correct.

    Parameters
    ----------
    test_set : see :class:`evalsuite.tasks._imagenet.ImageNetTask`.
    """

    architecture: ClassVar[Literal["cnn", "transformer"]] = "transformer"
    name: ClassVar[str] = "swin_t"


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
