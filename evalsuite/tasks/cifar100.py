"""CIFAR-100 (Krizhevsky 2009) with public networks, from files in the data folder.

Images: torchvision's folder ``cifar-100-python``, whose training images are the pool, or arrays
``cifar100_{test,train}_{images,labels}.npy``; corrupted ones from the folder ``CIFAR-100-C``. Weights: chenyaofo's
(github.com/chenyaofo/pytorch-cifar-models, BSD 3-Clause), under the names they are distributed by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from evalsuite.models.cifar_resnet import ResNet
from evalsuite.plugins import ImageFiles, IntArray, TaskData
from evalsuite.streams import Domain
from evalsuite.tasks._cifar import SIZE, DataSet
from evalsuite.tasks._files import distributed_weights, load_tensors, load_weights

CIFAR100 = DataSet(
    name="cifar100",
    classes=100,
    folder="cifar-100-python",
    test=("test",),
    train=("train",),
    labels="fine_labels",
    downloader="CIFAR100",
    corrupted="CIFAR-100-C",
)

_RELEASE = "https://github.com/chenyaofo/pytorch-cifar-models/releases/download/resnet"


@dataclass(frozen=True)
class _CIFAR100:
    image_size: ClassVar[int] = SIZE
    architecture: ClassVar[Literal["cnn", "transformer"]] = "cnn"
    weights: ClassVar[str]
    blocks: ClassVar[int]

    download: bool = False

    def data(self, root: str | None) -> TaskData:
        """Load the images. Raises RequestError naming the missing or broken file."""
        return TaskData(
            *CIFAR100.load(root, "test", download=self.download),
            *CIFAR100.load(root, "train", download=self.download),
            classes=CIFAR100.class_names(root),
            mean=(0.5070, 0.4865, 0.4409),
            std=(0.2673, 0.2564, 0.2761),
            data_set=CIFAR100.name,
        )

    def published(self, root: str | None, domain: Domain, indices: IntArray) -> ImageFiles:
        """Return a domain of CIFAR-100-C. Raises RequestError naming the missing or broken file."""
        return CIFAR100.published(root, domain, download=self.download)

    def model(self, root: str | None) -> nn.Module:
        """Load the network. Raises RequestError if its weights are missing or broken, saying where they belong."""
        file = distributed_weights(f"{_RELEASE}/{self.weights}", root, download=self.download)
        network = lambda: ResNet(blocks=self.blocks, classes=100, shortcut="project")  # noqa: E731
        return load_weights(network, load_tensors(file), file)


@dataclass(frozen=True)
class ResNet20(_CIFAR100):
    """CIFAR-100; ResNet-20 with projection shortcuts and BatchNorm, 68.83 % correct.

    Parameters
    ----------
    download : whether the data set is fetched where it is missing; not, so that nothing is fetched unasked.
    """

    weights: ClassVar[str] = "cifar100_resnet20-23dac2f1.pt"
    blocks: ClassVar[int] = 3


@dataclass(frozen=True)
class ResNet56(_CIFAR100):
    """CIFAR-100; ResNet-56 with projection shortcuts and BatchNorm, 72.63 % correct.

    Parameters
    ----------
    download : whether the data set is fetched where it is missing; not, so that nothing is fetched unasked.
    """

    weights: ClassVar[str] = "cifar100_resnet56-f2eff4c8.pt"
    blocks: ClassVar[int] = 9
