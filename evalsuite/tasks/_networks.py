"""Networks by name: torchvision's, timm's, or anybody's; and networks of which only some outputs count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from evalsuite import registry
from evalsuite.errors import RequestError
from evalsuite.tasks import _timm_networks, _torchvision_networks
from evalsuite.tasks._evaluation import USUAL, Evaluation
from evalsuite.tasks._files import load_checkpoint, load_weights
from evalsuite.tasks._torchvision_networks import published_weights, torchvision_checkpoint, torchvision_network

_TIMM = "timm:"


class Restricted(nn.Module):
    """A network on the classes of a subset: of its logits those numbered ``outputs``, in that order.

    The network itself stays whole, so that it is quantized as it is for all its classes; softmax, loss and entropy
    are then over the subset, as in the evaluation of ImageNet-R (Hendrycks et al. 2021, arXiv 2006.16241).
    """

    outputs: Tensor

    def __init__(self, network: nn.Module, outputs: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("outputs", torch.tensor(outputs), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, len(outputs)) logits of (N, C, H, W) images."""
        logits: Tensor = self.network(images)
        return logits.index_select(1, self.outputs)


def named_network(name: str, checkpoint: Path | None, classes: int | None, root: str | None) -> nn.Module:
    """Build a network in eval mode.

    Parameters
    ----------
    name : a torchvision model, ``timm:NAME``, or ``package.module:factory`` or ``file.py:factory``, a function
        without arguments that returns the network.
    checkpoint : its weights; None takes those that torchvision or timm distribute (torchvision's first release of
        them, mostly ``IMAGENET1K_V1``), or what the factory returns. A file that torchvision published, known by its
        name, is built as torchvision builds it.
    classes : outputs of a torchvision or timm network; None keeps the number that it was published with.
    root : the data folder, in whose ``weights`` distributed weights are looked for first.

    Raises
    ------
    RequestError
        If there is no such network, or the weights are missing, broken or of another network.
    """
    if name.startswith(_TIMM):
        return _timm_networks.timm_network(name.removeprefix(_TIMM), checkpoint, classes)
    if ":" in name:
        return _factory_network(name, checkpoint)
    if checkpoint is not None:
        return torchvision_checkpoint(name, checkpoint, classes)
    return torchvision_network(published_weights(name), name, root)


def published_evaluation(name: str, checkpoint: str = "") -> Evaluation:
    """Return what the authors of a network evaluate it with; a network of one's own gets ImageNet's usual 224 pixels.

    Parameters
    ----------
    name : as in :func:`named_network`.
    checkpoint : the file of its weights; where torchvision published it under this name, that release counts.

    Raises
    ------
    RequestError
        If there is no such network, or what they do cannot be expressed.
    """
    if name.startswith(_TIMM):
        return _timm_networks.evaluation(name.removeprefix(_TIMM))
    if ":" in name:
        return USUAL
    return _torchvision_networks.evaluation(published_weights(name, Path(checkpoint).name))


def _factory_network(name: str, checkpoint: Path | None) -> nn.Module:
    factory = registry.load_path(name, "factory")

    def build() -> nn.Module:
        try:
            network = factory()
        except Exception as error:  # whatever foreign code does
            raise RequestError(f"{name} fails: {type(error).__name__}: {error}") from error
        if not isinstance(network, nn.Module):
            raise RequestError(f"{name} returns a {type(network).__name__}: expected a torch.nn.Module")
        return network

    if checkpoint is not None:
        return load_weights(build, load_checkpoint(checkpoint), checkpoint)
    return build().eval()
