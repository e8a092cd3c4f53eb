"""Adapters that do something simple or something wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class State:
    model: nn.Module
    generator: torch.Generator
    memory: list


@dataclass(frozen=True)
class Drifting:
    """Adds noise to the classifier's bias at every step and remembers it."""

    scale: float = 1.0
    passes: int = 1

    def prepare(self, model, source, generator):
        with torch.no_grad():
            model.fc.bias += source.mean()
        return State(model, generator, [])

    @torch.no_grad()
    def step(self, state: State, images: Tensor) -> Tensor:
        noise = self.scale * torch.randn(len(state.model.fc.bias), generator=state.generator)
        state.model.fc.bias += noise
        state.memory.append(noise)
        for _ in range(self.passes):
            logits = state.model(images)
        return logits


@dataclass(frozen=True)
class Misshapen:
    """Returns one row too few."""

    def prepare(self, model, source, generator):
        return model

    def step(self, state, images):
        return state(images)[1:]
