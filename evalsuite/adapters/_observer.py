"""What ZOA looks at during a forward pass: a feature per block or stage, the head's input, the stem's moments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.adapters._norms import channel_moments
from evalsuite.errors import Refused
from evalsuite.execution import tensors_in
from evalsuite.layout import Layout, Side
from evalsuite.structure import Structure

SOURCE_BATCH = 64


@dataclass(frozen=True)
class Moments:
    """Mean and spread of each of C channels, each (C,)."""

    mean: Tensor
    spread: Tensor


@dataclass(frozen=True)
class Observation:
    """One pass over N images.

    Attributes
    ----------
    logits : (N, classes), of the model as it is.
    feature : the head's input, (N, D) or, for a convolution as classifier, (N, D, H, W); further dimensions second
        where an image has several rows.
    groups : (N, C) features whose batch statistics are compared with the source's: one a stage (CNN), or one in
        which all blocks are joined (transformer).
    stem : mean and variance of the low-level features over batch and positions.
    """

    logits: Tensor
    feature: Tensor
    groups: list[Tensor]
    stem: Moments


class Tap:
    """Keeps, of the first call of a module in a pass, what ``reduce`` makes of its input or output, images first."""

    def __init__(self, reduce: Callable[[Tensor], Any], layout: Layout) -> None:
        self.reduce = reduce
        self.layout = layout
        self.value: Any = None

    def output(self, module: nn.Module, args: Any, result: Any) -> None:
        """Forward hook."""
        self._keep(result)

    def input(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Forward pre-hook that sees keyword arguments."""
        self._keep((args, kwargs))

    def _keep(self, values: Any) -> None:
        if self.value is None:
            tensor = tensors_in(values)[0]
            self.value = self.reduce(self.layout.rows(tensor))

    def take(self) -> Any:
        """Return what was kept and forget it."""
        value, self.value = self.value, None
        return value


class Observer:
    """Runs a model and reads its features through hooks; one call is one full forward pass.

    CNN: features are the spatial means at the end of each stage; without blocks, of the head's input (*choice*).
    Transformer: the class token after every block, as the norm that follows passes it on (*choice*: the block's
    own output where none follows, the mean over tokens where there is no class token). Low-level features are
    the first convolution's output; in a transformer what enters the first block, without prefix tokens.

    Raises
    ------
    Refused
        Where it cannot be told which part of such a tensor belongs to which image, with the module's name.
    """

    def __init__(self, model: nn.Module, structure: Structure) -> None:
        self.model = model
        self.head = model.get_submodule(structure.head)
        self.joined = structure.architecture == "transformer"
        self._head_input = Tap(_whole, _layout(structure, structure.head, "input"))
        self.head.register_forward_pre_hook(self._head_input.input, with_kwargs=True)
        if self.joined:
            reduce: Callable[[Tensor], Tensor] = functools.partial(_token_feature, prefix=structure.prefix_tokens)
            ends = [structure.following_norms.get(block, block) for block in structure.blocks]
            moments = functools.partial(_token_moments, prefix=structure.prefix_tokens)
            self._stem = Tap(moments, _layout(structure, structure.blocks[0], "input"))
            first = model.get_submodule(structure.blocks[0])
            first.register_forward_pre_hook(self._stem.input, with_kwargs=True)
        else:
            reduce = _pooled
            ends = [stage[-1] for stage in structure.stages]
            self._stem = Tap(_moments, Layout())
            model.get_submodule(structure.stem).register_forward_hook(self._stem.output)
        layouts = [_layout(structure, name, "output") for name in ends]
        self._features = [Tap(reduce if self.joined else _of_parts(reduce, one), one) for one in layouts]
        for tap, name in zip(self._features, ends, strict=True):
            model.get_submodule(name).register_forward_hook(tap.output)

    def __call__(self, images: Tensor) -> Observation:
        """Pass (N, C, H, W) images through the model."""
        logits = self.model(images)
        feature, stem = self._head_input.take(), self._stem.take()
        groups = [tap.take() for tap in self._features] or [_pooled(feature)]
        return Observation(logits, feature, [torch.cat(groups, dim=1)] if self.joined else groups, stem)

    def classify(self, feature: Tensor) -> Tensor:
        """Return the head's (N, classes) logits of (N, D) features."""
        logits: Tensor = self.head(self._head_input.layout.restore(feature))
        self._head_input.take()
        return logits


def source_statistics(observer: Observer, source: Tensor) -> tuple[list[Moments], Tensor, bool]:
    """Return the source's moments by group, its mean feature, and whether the head's output is the model's.

    Images pass in equal parts of about 64, for BatchNorm needs batches like those it will see.
    """
    with torch.no_grad():
        seen = [observer(part) for part in source.chunk(-(-len(source) // SOURCE_BATCH))]
        groups = [torch.cat(parts) for parts in zip(*(one.groups for one in seen), strict=True)]
        feature = torch.cat([one.feature for one in seen])
        again = observer.classify(seen[-1].feature)
        shiftable = (
            feature.ndim == 2 and again.shape == seen[-1].logits.shape and torch.allclose(again, seen[-1].logits)
        )
    return [batch_moments(group) for group in groups], feature.mean(dim=0), shiftable


def batch_moments(features: Tensor) -> Moments:
    """Mean and standard deviation (n - 1 in the denominator: *choice*) of (N, C) features over the batch."""
    return Moments(features.mean(dim=0), features.std(dim=0))


def moment_distance(groups: list[Tensor], source: list[Moments]) -> Tensor:
    """Mean squared error of batch means plus that of batch deviations, averaged over groups of (N, C) features.

    One image has no deviation: then the means alone count (*choice*).
    """
    total = groups[0].new_zeros(())
    for features, expected in zip(groups, source, strict=True):
        total += (features.mean(dim=0) - expected.mean).square().mean()
        if len(features) > 1:
            total += (features.std(dim=0) - expected.spread).square().mean()
    return total / len(groups)


def _layout(structure: Structure, name: str, side: Side) -> Layout:
    layout = structure.layouts.at(name, side)
    if layout.dim is None:
        raise Refused(f"{name}: its {side} is the same for all images; expected a feature of each")
    return layout


def _whole(x: Tensor) -> Tensor:
    return x


def _pooled(x: Tensor) -> Tensor:
    return x.flatten(2).mean(dim=2) if x.ndim > 2 else x


def _of_parts(reduce: Callable[[Tensor], Tensor], layout: Layout) -> Callable[[Tensor], Tensor]:
    """Let the parts of an image, (N, parts, C, ...), be further positions of its map."""
    return reduce if layout.parts == 1 else lambda x: reduce(x.movedim(1, -1))


def _token_feature(x: Tensor, prefix: int) -> Tensor:
    if x.ndim == 3 and prefix:
        return x[:, 0].clone()
    return x.flatten(1, -2).mean(dim=1) if x.ndim > 2 else x


def _token_moments(x: Tensor, prefix: int) -> Moments:
    patches = x[:, prefix:] if x.ndim == 3 else x
    return _moments(patches.movedim(-1, 1))


def _moments(x: Tensor) -> Moments:
    return Moments(*channel_moments(x))
