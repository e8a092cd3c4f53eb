"""Networks by name: torchvision's, timm's, or anybody's; and networks of which only some outputs count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite import registry
from evalsuite.errors import RequestError, unknown_name
from evalsuite.tasks._files import distributed_weights, load_checkpoint, load_tensors, load_weights
from evalsuite.torchvision_compat import import_torchvision

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
        them, ``IMAGENET1K_V1``), or what the factory returns.
    classes : outputs of a torchvision or timm network; None keeps the number that it was published with.
    root : the data folder, in whose ``weights`` distributed weights are looked for first.

    Raises
    ------
    RequestError
        If there is no such network, or the weights are missing, broken or of another network.
    """
    if name.startswith(_TIMM):
        return _timm_network(name.removeprefix(_TIMM), checkpoint, classes)
    if ":" in name:
        return _factory_network(name, checkpoint)
    models = import_torchvision().models
    known = [model for model in models.list_models() if "/" not in model]
    if name not in known:
        raise unknown_name("torchvision network", name, known)
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if checkpoint is not None:
        return load_weights(
            lambda: models.get_model(name, weights=None, **options), load_checkpoint(checkpoint), checkpoint
        )
    return torchvision_network(models.get_model_weights(name)["IMAGENET1K_V1"], name, root)


def torchvision_network(weights: Any, name: str, root: str | None) -> nn.Module:
    """Build a torchvision network with weights that torchvision distributes, downloading them where there is a network.

    Raises
    ------
    RequestError
        If they are neither there nor to be had, saying which file belongs where.
    """
    file = distributed_weights(weights.url, root, download=True)
    return load_weights(lambda: import_torchvision().models.get_model(name, weights=None), load_tensors(file), file)


def _timm_network(name: str, checkpoint: Path | None, classes: int | None) -> nn.Module:
    import_torchvision()  # timm imports it
    import timm

    known = timm.list_models()
    if name.partition(".")[0] not in known:
        raise unknown_name("timm network", name, known)
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if checkpoint is not None:
        return load_weights(
            lambda: timm.create_model(name, pretrained=False, **options), load_checkpoint(checkpoint), checkpoint
        )
    try:
        network: nn.Module = timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # the hub's clients fail in many ways without a network
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(
            f"timm cannot get the weights of {name} ({reason}): expected a network connection, or the option checkpoint"
        ) from error
    return network.eval()


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
