"""One small transformer with its images in three arrangements: the same weights, the same function."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Arrangement = Literal["images first", "tokens first", "two in the batch"]


class Block(nn.Module):
    """Attention among tokens and an MLP, on (N, T, D) or (T, N, D)."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=batch_first)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Arranged(nn.Module):
    """Blocks see an image's tokens, or, two in the batch, its upper and its lower half as two crops joined."""

    def __init__(self, arrangement: Arrangement) -> None:
        super().__init__()
        self.arrangement = arrangement
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.blocks = nn.ModuleList(Block(arrangement != "tokens first") for _ in range(2))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        if self.arrangement == "tokens first":
            x = x.transpose(0, 1)
        if self.arrangement == "two in the batch":
            x = torch.cat([x[:, :8], x[:, 8:]])
        for block in self.blocks:
            x = block(x)
        if self.arrangement == "two in the batch":
            x = torch.cat(x.chunk(2), dim=1)
        return self.head(self.norm(x.mean(0 if self.arrangement == "tokens first" else 1)))


def arranged(*arrangements: Arrangement) -> list[nn.Module]:
    """Build networks of the same weights in eval mode."""
    torch.manual_seed(0)
    networks = [Arranged(one).eval() for one in arrangements]
    for network in networks[1:]:
        network.load_state_dict(networks[0].state_dict())
    return list(networks)
