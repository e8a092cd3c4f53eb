"""Tasks whose networks the sanity gate stops, or cannot look at."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from _dummies.plugins import StripesTask
from torch import Tensor, nn

LOUD = "_dummies.gated:LoudTask"
FOREIGN = "_dummies.gated:ForeignTask"


@dataclass(frozen=True)
class LoudTask(StripesTask):
    """One hidden feature, which plays no role, is so loud that eight bits hold nothing of the others."""

    loudness: float = 1e5

    def model(self, root: str | None) -> nn.Module:
        quiet = super().model(root)[1]
        hidden, out = nn.Linear(quiet.in_features, 4), nn.Linear(4, 3)
        with torch.no_grad():
            hidden.weight.zero_()[:3].copy_(quiet.weight)
            hidden.bias.copy_(torch.tensor([0.0, 0.0, 0.0, self.loudness]))
            out.weight.copy_(torch.eye(4)[:3])
            out.bias.zero_()
        return nn.Sequential(nn.Flatten(), hidden, out)


class _Product(nn.Module):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.mixing = nn.Parameter(torch.eye(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) @ (self.mixing @ self.mixing)  # of parameters with themselves


@dataclass(frozen=True)
class ForeignTask(StripesTask):
    """The network multiplies outside of any layer that can be quantized."""

    def model(self, root: str | None) -> nn.Module:
        flatten, layer = super().model(root)
        return nn.Sequential(flatten, _Product(layer))
