"""CIFAR-10 (Krizhevsky 2009) with public networks, from files in the data folder.

Images: ``cifar10_test_{images,labels}.npy`` and, as the calibration pool, ``cifar10_train5k_{images,labels}.npy``;
else torchvision's folder ``cifar-10-batches-py``, whose training batches are the pool. Both hold the test images in
the original order, so that image i is image i of CIFAR-10-C. Weights: ``weights/*.pt``.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from evalsuite.models.cifar_resnet import PreActivationResNet, ResNet
from evalsuite.models.vit import VisionTransformer
from evalsuite.plugins import IntArray, TaskData, UInt8Array
from evalsuite.tasks._files import broken, check_labels, data_folder, existing, load_array, load_tensors, load_weights

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = "cifar-10-batches-py"

_SIZE = 32
_RECONSTRUCT = np.empty(0).__reduce__()[0]

Triple = tuple[float, float, float]


class _CIFAR10:
    image_size: ClassVar[int] = _SIZE
    architecture: ClassVar[Literal["cnn", "transformer"]] = "cnn"
    mean: ClassVar[Triple] = (0.485, 0.456, 0.406)
    std: ClassVar[Triple] = (0.229, 0.224, 0.225)

    def data(self, root: str | None) -> TaskData:
        """Load the images. Raises RequestError naming the missing or broken file."""
        folder = data_folder(root, f"cifar10_test_images.npy and its kin, or torchvision's {BATCHES}")
        if not (folder / "cifar10_test_images.npy").is_file() and (folder / BATCHES).is_dir():
            test = _read_batches(folder / BATCHES, ["test_batch"])
            pool = _read_batches(folder / BATCHES, [f"data_batch_{i}" for i in range(1, 6)])
        else:
            test, pool = _read_arrays(folder, "cifar10_test"), _read_arrays(folder, "cifar10_train5k")
        return TaskData(*test, *pool, classes=CLASSES, mean=self.mean, std=self.std)


@dataclass(frozen=True)
class ResNet20(_CIFAR10):
    """CIFAR-10; ResNet-20 with option A shortcuts and BatchNorm, 91.73 % correct."""

    def model(self, root: str | None) -> nn.Module:
        """Load ``weights/cifar10_resnet20_optA.pt``. Raises RequestError if it is missing or broken."""
        return _option_a(root, "cifar10_resnet20_optA.pt", blocks=3)


@dataclass(frozen=True)
class ResNet56(_CIFAR10):
    """CIFAR-10; ResNet-56 with option A shortcuts and BatchNorm, 93.39 % correct."""

    def model(self, root: str | None) -> nn.Module:
        """Load ``weights/cifar10_resnet56_optA.pt``. Raises RequestError if it is missing or broken."""
        return _option_a(root, "cifar10_resnet56_optA.pt", blocks=9)


@dataclass(frozen=True)
class ResNet26GN(_CIFAR10):
    """CIFAR-10; pre-activation ResNet-26 with GroupNorm (MEMO's), 90.83 % correct."""

    mean: ClassVar[Triple] = (0.5, 0.5, 0.5)
    std: ClassVar[Triple] = (0.5, 0.5, 0.5)

    def model(self, root: str | None) -> nn.Module:
        """Load ``weights/cifar10_resnet26_gn.pt``. Raises RequestError if it is missing or broken."""
        file = _weights_file(root, "cifar10_resnet26_gn.pt")
        return load_weights(lambda: PreActivationResNet(blocks=4, classes=10), load_tensors(file), file)


@dataclass(frozen=True)
class ViT(_CIFAR10):
    """CIFAR-10; vision transformer with LayerNorm (width 128, 4 blocks), 71.93 % correct."""

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
    return VisionTransformer(_SIZE, patch=4, width=128, depth=4, heads=4, hidden=256, classes=10)


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


def _read_arrays(folder: Path, stem: str) -> tuple[UInt8Array, IntArray]:
    images_file, labels_file = folder / f"{stem}_images.npy", folder / f"{stem}_labels.npy"
    images = load_array(images_file, (None, _SIZE, _SIZE, 3), "uint8 images (N, 32, 32, 3)")
    labels = load_array(labels_file, (None,), f"uint8 labels, one per image of {images_file.name}")
    return images, check_labels(labels, len(images), len(CLASSES), labels_file)


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


def _read_batches(folder: Path, names: list[str]) -> tuple[UInt8Array, IntArray]:
    images, labels = [], []
    for name in names:
        file = existing(folder / name, "a batch of CIFAR-10 for Python")
        what = "a pickled dictionary of data (N, 3072) uint8 and labels"
        try:
            batch = _Unpickler(io.BytesIO(file.read_bytes()), encoding="latin1").load()
            data, classes = batch["data"], np.asarray(batch["labels"])
        except Exception as error:  # a foreign pickle fails in any way it likes
            raise broken(file, what, error) from error
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3 * _SIZE**2,):
            raise broken(file, what, f"data is {getattr(data, 'dtype', type(data).__name__)} {np.shape(data)}")
        images.append(data.reshape(-1, 3, _SIZE, _SIZE).transpose(0, 2, 3, 1))
        labels.append(check_labels(classes, len(data), len(CLASSES), file))
    return np.concatenate(images), np.concatenate(labels)
