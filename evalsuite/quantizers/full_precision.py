"""The network as it is."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy


@dataclass(frozen=True)
class FullPrecision:
    """No quantization: the floating-point network that every drop is measured against."""

    calibrated: ClassVar[bool] = False

    def insert(self, model: nn.Module, bits: BitPolicy | None, example: Tensor) -> nn.Module:
        """Return a copy of the model in eval mode; ``bits`` plays no role."""
        return copy.deepcopy(model).eval()

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Do nothing."""
