"""timm's networks, built from its published files as timm itself builds them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from evalsuite.errors import RequestError, unknown_name
from evalsuite.extras import import_extra
from evalsuite.tasks._evaluation import Evaluation
from evalsuite.tasks._files import load_checkpoint, load_weights
from evalsuite.tasks._pictures import Preparation
from evalsuite.torchvision_compat import import_torchvision

_RESIZE = {"center": "shorter side", "squash": "both sides"}


def evaluation(name: str) -> Evaluation:
    """Return what timm evaluates the published weights ``architecture`` or ``architecture.tag`` with.

    Raises
    ------
    RequestError
        If there is no such network, or its preparation is another than a resize and a central square.
    """
    timm = import_timm()
    config = _configuration(name)
    data = timm.data.resolve_data_config({}, pretrained_cfg=config.to_dict() if config else {})
    channels, height, width = data["input_size"]
    mode, interpolation = data["crop_mode"], data["interpolation"]
    if channels != 3 or height != width or mode not in _RESIZE or interpolation not in ("bilinear", "bicubic"):
        raise RequestError(
            f"timm evaluates {name} on {height} x {width} pixels of {channels} channels (crop mode {mode}, "
            f"{interpolation}): expected all of the options size, crop, interpolation, resize, mean and std"
        )
    size = math.floor(height / data["crop_pct"])
    preparation = Preparation(size, height, interpolation, _RESIZE[mode])  # type: ignore[arg-type]
    return Evaluation(preparation, tuple(data["mean"]), tuple(data["std"]))


def timm_network(name: str, checkpoint: Path | None, classes: int | None) -> nn.Module:
    """Build a network with timm's own weights, or those of a file in timm's layout or as its authors published it.

    Raises
    ------
    RequestError
        If there is no such network, its weights cannot be had, or the file is missing, broken or of another network.
    """
    timm, config = import_timm(), _configuration(name)
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if checkpoint is None:
        return _downloaded(timm, name, options)
    tensors = load_checkpoint(checkpoint)
    try:
        return load_weights(lambda: timm.create_model(name, pretrained=False, **options), tensors, checkpoint)
    except RequestError as misfit:
        outputs = classes or (config.num_classes if config else 1000)
        return _translated(timm, name, options, {"state_dict": tensors, "num_classes": outputs}, misfit)


def import_timm() -> ModuleType:
    """Import timm with its data module. Raises RequestError that says how to install it where it is missing."""
    import_torchvision()  # timm imports it
    import_extra("timm.data", "timm", "a network of timm's")
    return import_extra("timm", "timm", "a network of timm's")


def _configuration(name: str) -> Any:
    timm = import_timm()
    known = timm.list_models()
    architecture = name.partition(".")[0]
    if architecture not in known:
        raise unknown_name("timm network", name, known)
    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=name == architecture)
    except RuntimeError as error:
        raise unknown_name("timm network", name, timm.list_pretrained(f"{architecture}.*")) from error


def _downloaded(timm: ModuleType, name: str, options: Mapping[str, Any]) -> nn.Module:
    try:
        with torch.random.fork_rng(devices=[]):  # layers initialise themselves
            network: nn.Module = timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # the hub's clients fail in many ways without a network
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(
            f"timm cannot get the weights of {name} ({reason}): expected a network connection, or the option checkpoint"
        ) from error
    return network.eval()


def _translated(
    timm: ModuleType, name: str, options: Mapping[str, Any], source: Mapping[str, Any], misfit: RequestError
) -> nn.Module:
    """Let timm translate a file of another layout. Raises ``misfit`` where it cannot, or leaves values at random."""
    networks: list[nn.Module] = []
    for seed in (0, 1):
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                overlay = {**source, "state_dict": dict(source["state_dict"])}  # timm takes tensors out of it
                network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
        except Exception:  # missing, unknown and misshapen tensors fail in many ways
            raise misfit from None
        networks.append(network.eval())
    first, second = (network.state_dict() for network in networks)
    if not all(torch.isfinite(first[key]).all() and torch.equal(first[key], second[key]) for key in first):
        raise misfit
    return networks[0]
