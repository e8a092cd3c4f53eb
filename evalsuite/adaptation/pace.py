"""Batches that come at a constant speed: an adapter that is slower than the network meets some of them unprepared."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from evalsuite.adaptation.adapted_model import AdaptedModel

BACKWARD = 2.0
"""What a backward pass takes, in forward passes; *ours*, the usual count of operations."""


@dataclass
class Pace:
    """Says of which batches of a stream an adapter can take hold (Alfarra et al. 2023, arXiv 2304.04795).

    A batch comes each time that the network could have predicted the last one. An adapter that takes k times as long
    adapts on every k-th; those that come meanwhile are predicted by the network as it is. Time is counted in passes
    and not measured, so that the same trial gives the same records on any machine (*ours*).

    Attributes
    ----------
    busy : batches that will come before the adapter is done.
    """

    busy: int = 0

    def takes(self) -> bool:
        """Whether the adapter takes the batch that comes now."""
        if not self.busy:
            return True
        self.busy -= 1
        return False

    def took(self, forwards: float, backwards: float) -> None:
        """Say what the batch that it took has cost, in passes over the whole batch."""
        self.busy = max(math.ceil(forwards + BACKWARD * backwards - 1e-6), 1) - 1


def paced(adapted: AdaptedModel, images: Tensor, pace: Pace | None, labels: Tensor | None = None) -> Tensor:
    """Return the (N, classes) logits of the next (N, C, H, W) batch, adapted on if the pace allows; always without.

    ``labels``: (N,) for an oracle.
    """
    if pace is not None and not pace.takes():
        return adapted.predict(images)
    before = adapted.spent
    logits = adapted(images, labels)
    if pace is not None:
        cost = adapted.spent - before
        pace.took(cost.forwards, cost.backwards)
    return logits
