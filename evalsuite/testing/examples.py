"""Small networks and images for checks: made here, the same on every machine, without any file. Ours."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from evalsuite.models.cifar_resnet import ResNet
from evalsuite.models.vit import VisionTransformer

SIZE = 16
CLASSES = 4
_CONTRAST = 1.5  # of a class's pattern against noise of deviation 1


@functools.lru_cache(maxsize=8)
def _drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(CLASSES, 3, 4, 4, generator=torch.Generator().manual_seed(17))
    labels = torch.arange(count) % CLASSES
    large = nn.functional.interpolate(patterns, size=SIZE, mode="nearest")
    return _CONTRAST * large[labels] + torch.randn(count, 3, SIZE, SIZE, generator=generator), labels


def images(count: int = 12, seed: int = 0) -> Tensor:
    """Return (count, 3, 16, 16) normalised images: a pattern per class under noise, classes in turn."""
    return _drawn(count, seed)[0].clone()


def cnn() -> nn.Module:
    """Return a residual CNN with BatchNorm, in eval mode: three blocks, 4 classes."""
    return copy.deepcopy(_fitted("cnn"))


def transformer() -> nn.Module:
    """Return a vision transformer with LayerNorm, in eval mode: one block, 16 patches, 4 classes."""
    return copy.deepcopy(_fitted("transformer"))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"cnn": cnn, "transformer": transformer}


@functools.cache
def _fitted(kind: str) -> nn.Module:
    """Build a network of random features whose classifier is fitted by least squares, so that it can tell classes."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(3)
        if kind == "cnn":
            network: nn.Module = ResNet(1, CLASSES, (6, 8, 8), stem_stride=2, shortcut="project")
        else:
            network = VisionTransformer(SIZE, 4, width=16, depth=1, heads=2, hidden=32, classes=CLASSES)
    given, labels = _drawn(64, 99)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the plain mean over batches
        network.train()(given)
        network.eval()
        head = network.get_submodule("fc" if kind == "cnn" else "head")
        assert isinstance(head, nn.Linear)
        seen: list[Tensor] = []
        handle = head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
        network(given)
        handle.remove()
        features = torch.cat([seen[0], torch.ones(len(given), 1)], dim=1)
        wanted = 4 * nn.functional.one_hot(labels, CLASSES).float() - 1
        square = features.T @ features + 0.1 * torch.eye(features.shape[1])
        weights = torch.linalg.solve(square, features.T @ wanted)
        head.weight.copy_(weights[:-1].T)
        head.bias.copy_(weights[-1])
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1
    return network
