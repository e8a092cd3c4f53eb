"""QuAR: activations realigned before frozen quantizers, in one forward pass (arXiv 2610.08358, October 2026).

Known by its abstract and summaries alone: the formula is theirs, and all that they leave open is a *choice* of ours.
No figure of this adapter is the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from evalsuite.adapters._norms import channel_moments
from evalsuite.adapters._observer import SOURCE_BATCH, Moments
from evalsuite.errors import RequestError
from evalsuite.structure import Structure, describe
from evalsuite.weight_layers import channel_dimension

_LEAST_SPREAD = 1e-5


@dataclass(frozen=True)
class QuAR:
    """Brings what the last blocks' quantizers are given back to the moments for which their grids were chosen.

    At the input of every convolution and linear layer there, and of the head, a channel's values x become
    (1-l)·x + l·((x - m_t)·s_s/s_t + m_s), with mean and deviation m_t, s_t of the batch and m_s, s_s of the source
    images through the same network. No backward pass; no parameter changes and nothing is kept between batches
    (*choice*). A full-precision network is treated alike. Products of activations (attention) are left alone, and so
    is a channel of which a batch holds one value (*choices*).

    Parameters
    ----------
    inner : l inside the blocks, 0.5.
    last : l before the head, 1.
    largest_ratio : s_s/s_t is at most this, 3, so that a channel that has fallen silent is not blown up.
    blocks : how many blocks at the end count as the last ones. *Choice*: the last stage of a CNN, the last quarter of
        a transformer's blocks, at least one.

    Raises
    ------
    RequestError
        If an option is out of range.
    """

    expected_passes: ClassVar[float] = 1

    inner: float = 0.5
    last: float = 1.0
    largest_ratio: float = 3.0
    blocks: int | None = None

    def __post_init__(self) -> None:
        for name in ("inner", "last"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise RequestError(f"{name} = {getattr(self, name)}: expected 0 to 1")
        if not 0.0 < self.largest_ratio < float("inf"):
            raise RequestError(f"largest_ratio = {self.largest_ratio}: expected more than 0")
        if self.blocks is not None and self.blocks < 0:
            raise RequestError(f"blocks = {self.blocks}: expected 0 or more")

    @torch.no_grad()
    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> QuARState:
        """Measure the source's moments at the inputs that will be realigned."""
        structure = describe(model, source)
        strengths = dict.fromkeys(last_layers(structure, self.blocks), self.inner) | {structure.head: self.last}
        points = []
        for name, strength in strengths.items():
            layer = model.get_submodule(name)
            point = Realignment(strength, self.largest_ratio, channel=channel_dimension(layer))
            layer.register_forward_pre_hook(point.apply)
            points.append(point)
        for images in source.chunk(-(-len(source) // SOURCE_BATCH)):
            model(images)
        for point in points:
            point.finish()
        return QuARState(model, points)

    @torch.no_grad()
    def step(self, state: QuARState, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images whose activations are realigned on the way."""
        logits: Tensor = state.model(images)
        return logits


def last_layers(structure: Structure, blocks: int | None) -> tuple[str, ...]:
    """Return the weight layers of the last so many blocks; None: of the last stage or quarter, see :class:`QuAR`."""
    if blocks is None and structure.architecture == "cnn":
        chosen: tuple[str, ...] = structure.stages[-1] if structure.stages else ()
    else:
        wanted = max(1, len(structure.blocks) // 4) if blocks is None else blocks
        chosen = structure.blocks[max(0, len(structure.blocks) - wanted) :]
    return tuple(layer for block in chosen for layer in structure.block_layers[block])


@dataclass
class QuARState:
    """The network and the places where its activations are realigned."""

    model: nn.Module
    points: list[Realignment]


@dataclass
class Realignment:
    """Realigns a layer's input by the source's moments, which it takes until :meth:`finish`.

    Attributes
    ----------
    strength : l, from 0 to 1.
    channel : dimension of the layer's input that holds channels.
    source : their moments, (C,) each; None until finished, and where the source never came by.
    """

    strength: float
    largest_ratio: float
    channel: int
    source: Moments | None = None
    finished: bool = False
    _seen: list[tuple[int, Moments]] = field(default_factory=list)

    def apply(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Forward pre-hook: take the input's moments, or realign it."""
        if not args or args[0].ndim < 2:
            return None
        x = args[0].movedim(self.channel, 1)
        values = x.numel() // x.shape[1]
        if not self.finished:
            mean, variance = channel_moments(x)
            self._seen.append((values, Moments(mean, variance)))
            return None
        if self.source is None or values < 2:
            return None
        mean, variance = (moment.to(x.dtype) for moment in channel_moments(x))
        aligned = realigned(x, Moments(mean, variance.sqrt()), self.source, self.strength, self.largest_ratio)
        return (aligned.movedim(1, self.channel), *args[1:])

    def finish(self) -> None:
        """Join the moments of all inputs so far into the source's."""
        self.source, self.finished = pooled(self._seen), True
        self._seen.clear()


def realigned(x: Tensor, batch: Moments, source: Moments, strength: float, largest_ratio: float) -> Tensor:
    """Return (1-l)·x + l·((x - m_t)·min(s_s/s_t, r) + m_s) of (N, C, ...) values by moments of (C,) channels each."""
    ratio = (source.spread / batch.spread.clamp(min=_LEAST_SPREAD)).clamp(max=largest_ratio)
    # One product and one sum: x·a + b.
    factor = 1.0 - strength + strength * ratio
    offset = strength * (source.mean - batch.mean * ratio)
    shape = (1, -1, *(1 for _ in range(x.ndim - 2)))
    return torch.addcmul(offset.view(shape), x, factor.view(shape))


def pooled(parts: Iterable[tuple[int, Moments]]) -> Moments | None:
    """Return mean and deviation over parts of so many values, given the mean and variance of each; None without any."""
    kept = list(parts)
    if not kept:
        return None
    total = math.fsum(count for count, _ in kept)
    mean = torch.stack([count / total * part.mean for count, part in kept]).sum(dim=0)
    variance = torch.stack([count / total * (part.spread + (part.mean - mean).square()) for count, part in kept])
    return Moments(mean, variance.sum(dim=0).sqrt())
