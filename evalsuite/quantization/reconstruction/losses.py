"""What a unit is taught by."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from evalsuite.quantization.reconstruction.scratch import Kept, Scratch
from evalsuite.quantization.reconstruction.units import Tail, Unit


@dataclass(frozen=True, eq=False)
class Situation:
    """What a further loss may look at before a unit is learnt.

    Attributes
    ----------
    model : with everything before the unit quantized.
    reference : the same network in full precision, its norms folded where that is possible.
    images : (N, C, H, W) normalised calibration images.
    inputs, targets : what reaches the unit, what it gives in full precision (before ``tail``).
    weights : names of the unit's layers with their soft weights as they come in the loss; empty without rounding.
    run : runs the unit, soft weights and learnt steps and all, with its tail.
    tail : turns ``targets`` into what ``run`` should give, see :class:`Tail`.
    rest : runs the reference on from what ``run`` gave for some images, to logits.
    reaches_the_end : whether ``rest`` can take what ``run`` gives.
    scratch : room for what is kept until the unit is learnt, then to be given to ``release_later``.
    rounded_to_nearest : while this context lasts the weights are, instead of being soft.
    generator : of every draw.
    """

    model: nn.Module
    reference: nn.Module
    images: Tensor
    unit: Unit
    inputs: Kept
    targets: Kept
    weights: dict[str, Tensor]
    run: Callable[[Tensor], Tensor]
    tail: Tail
    rest: Callable[[Tensor, Tensor], Tensor]
    reaches_the_end: bool
    scratch: Scratch
    rounded_to_nearest: Callable[[], contextlib.AbstractContextManager[None]]
    release_later: Callable[[Kept], None]
    generator: torch.Generator

    @torch.no_grad()
    def error(self, count: int) -> float:
        """Return the reconstruction error on the first images, as things stand."""
        chosen = torch.arange(min(count, len(self.images)))
        found = self.run(self.inputs.take(chosen, self.images))
        return squared_error(found, self.tail(self.targets.take(chosen, self.images)), self.unit.channels).item()


def squared_error(a: Tensor, b: Tensor, channels: int) -> Tensor:
    """Return the squared difference, summed over channels and averaged over images and places: a scalar."""
    return (a - b).square().sum(dim=channels).mean()


@dataclass(frozen=True, eq=False)
class Step:
    """One step's batch: image numbers (n,), what the unit gave for them and should have given."""

    chosen: Tensor
    output: Tensor
    target: Tensor


class Loss(Protocol):
    """A loss beside the reconstruction error."""

    def prepare(self, situation: Situation) -> Callable[[Step], Tensor] | None:
        """Return what gives a step's loss, a scalar, for one unit; None where it does not apply."""
        ...
