"""No adaptation: the yardstick of every adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class NoAdaptation:
    """Leave the model as it is."""

    adapts: ClassVar[bool] = False

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> nn.Module:
        """Return the model itself."""
        return model

    @torch.no_grad()
    def step(self, state: nn.Module, images: Tensor) -> Tensor:
        """Return the model's (N, classes) logits of (N, C, H, W) images."""
        logits: Tensor = state(images)
        return logits
