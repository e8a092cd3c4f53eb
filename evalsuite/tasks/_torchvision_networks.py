"""torchvision's classification networks, built from its published files as torchvision itself builds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.errors import RequestError, unknown_name
from evalsuite.tasks._evaluation import Evaluation
from evalsuite.tasks._files import broken, distributed_weights, load_checkpoint, load_tensors, load_weights
from evalsuite.tasks._pictures import Preparation
from evalsuite.torchvision_compat import import_torchvision


def published_weights(name: str, checkpoint: str = "") -> Any:
    """Return an entry of torchvision's weights: that whose file has the name ``checkpoint``, else the first released.

    Raises
    ------
    RequestError
        If torchvision has no such classification network.
    """
    released = _released(name)
    return next((weights for weights in released if _file_name(weights) == checkpoint), released[0])


def _released(name: str) -> list[Any]:
    models = import_torchvision().models
    known = models.list_models(module=models)
    if name not in known:
        raise unknown_name("torchvision network", name, known)
    # The one of VGG-16 without a classifier has no categories.
    return [weights for weights in models.get_model_weights(name) if weights.meta["categories"]]


def _file_name(weights: Any) -> str:
    return str(weights.url).rpartition("/")[2]


def evaluation(weights: Any) -> Evaluation:
    """Return what torchvision evaluates these weights with."""
    preset = weights.transforms()
    preparation = Preparation(preset.resize_size[0], preset.crop_size[0], preset.interpolation.value)
    return Evaluation(preparation, tuple(preset.mean), tuple(preset.std))


def torchvision_network(weights: Any, name: str, root: str | None) -> nn.Module:
    """Build a network with weights that torchvision distributes, downloading them where there is a network.

    Raises
    ------
    RequestError
        If they are neither there nor to be had, saying which file belongs where; or the file is broken.
    """
    file = distributed_weights(weights.url, root, download=True)
    return _as_published(weights, name, load_tensors(file), file)


def torchvision_checkpoint(name: str, file: Path, classes: int | None) -> nn.Module:
    """Build a network with somebody's checkpoint, or with a file that torchvision published, known by its name.

    Weights of one's own fill the network that torchvision builds without weights, with ``classes`` outputs; key names
    of older releases are understood.

    Raises
    ------
    RequestError
        If the file is missing, broken or of another network.
    """
    weights = published_weights(name, file.name)
    if _file_name(weights) == file.name:
        return _as_published(weights, name, load_tensors(file), file)
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    tensors = load_checkpoint(file)
    try:
        return load_weights(lambda: import_torchvision().models.get_model(name, weights=None, **options), tensors, file)
    except RequestError as misfit:
        try:
            return _as_published(weights, name, tensors, file, classes)
        except RequestError:
            raise misfit from None


def _as_published(
    weights: Any, name: str, tensors: Mapping[str, Tensor], file: Path, classes: int | None = None
) -> nn.Module:
    """Let torchvision's own builder make the network, reading these tensors where it would read its file.

    The builder knows what the file does not say: inputs that the network renormalises (Inception, GoogLeNet), heads
    that only training uses, names and layouts of older releases (DenseNet, ViT, MNASNet), another image size.
    """
    what = f"torchvision's {weights!r}"
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise broken(file, what, f"{key} is not finite")
    try:
        with torch.random.fork_rng(devices=[]):  # layers initialise themselves
            network: nn.Module = import_torchvision().models.get_model(name, weights=_read(weights, tensors, classes))
    except Exception as error:  # missing, unknown and misshapen tensors fail in many ways
        raise broken(file, what, " ".join(str(error).split())[:200]) from error
    return network.eval()


def _read(weights: Any, tensors: Mapping[str, Tensor], classes: int | None) -> Any:
    """Return an entry like ``weights`` whose file is read already; the enumeration stays as it is."""
    entry = object.__new__(type(weights))
    meta = weights.meta if classes is None else {**weights.meta, "categories": [""] * classes}
    entry._name_, entry._value_ = weights.name, replace(weights.value, meta=meta)
    entry.get_state_dict = lambda *arguments, **options: tensors
    return entry
