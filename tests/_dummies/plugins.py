"""A task, quantizers and adapters so small that a whole study takes a second; named by import path."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from evalsuite.errors import Refused, RequestError
from evalsuite.plugins import ImageFiles, TaskData, later
from evalsuite.streams import Domain

TASK = "_dummies.plugins:StripesTask"
SCALED = "_dummies.plugins:Scaled"
FORGETTING = "_dummies.plugins:Forgetting"
FAILING = "_dummies.plugins:Failing"
REFUSING = "_dummies.plugins:RefusingAdapter"
WRONG = "_dummies.plugins:WrongStripes"
DRIFTING = "_dummies.plugins:Drifting"
FALLING = "_dummies.plugins:Falling"
WAITING = "_dummies.plugins:Waiting"


@dataclass(frozen=True)
class StripesTask:
    """Images that are bright in one of three bands; the network looks which."""

    image_size: ClassVar[int] = 32
    architecture: ClassVar[Literal["cnn", "transformer"]] = "cnn"

    def data(self, root: str | None) -> TaskData:
        def draw(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            labels = np.arange(count, dtype=np.int64) % 3
            images = generator.integers(0, 120, (count, 32, 32, 3), dtype=np.uint8)
            for image, label in zip(images, labels, strict=True):
                image[10 * label : 10 * label + 10] += 100
            return images, labels

        generator = np.random.default_rng(5)
        test, pool = draw(48, generator), draw(30, generator)
        groups = {"half": np.arange(48) % 2}
        return TaskData(*test, *pool, ("top", "middle", "bottom"), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), groups)

    def model(self, root: str | None) -> nn.Module:
        band = torch.zeros(3, 32)
        for label in range(3):
            band[label, 10 * label : 10 * label + 10] = 1
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))
        with torch.no_grad():
            model[1].weight.copy_(band[:, None, :, None].expand(3, 3, 32, 32).reshape(3, -1) / 100)
            model[1].bias.zero_()
        return model


@dataclass(frozen=True)
class PublishedStripes(StripesTask):
    """The same, shown corrupted by files that someone published: darkened by the severity; fog is not there."""

    variant: str = ""
    mirrored: bool = False

    def published(self, root: str | None, domain: Domain, indices: np.ndarray) -> ImageFiles:
        if domain.name == "fog":
            raise RequestError(f"no file stripes-c/fog/{domain.severity}: expected the test images under fog")
        images = self.data(root).test_images
        return ImageFiles(f"stripes {domain}", lambda chosen: images[chosen] // (1 + domain.severity))


@dataclass(frozen=True)
class Scaled:
    """Rounds weights to few levels and counts how often it was asked to."""

    levels: int = 4

    def insert(self, model: nn.Module, bits: object, example: Tensor) -> nn.Module:
        import copy

        return copy.deepcopy(model)

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        noise = torch.rand(1, generator=generator).item()
        for parameter in model.parameters():
            step = parameter.abs().max().clamp_min(1e-6) / self.levels
            parameter.data.copy_((parameter / step).round() * step * (1 + noise / 100))


class _Hungry(nn.Module):
    """Takes memory for each image that passes; ``megabytes`` of it."""

    def __init__(self, model: nn.Module, megabytes: int) -> None:
        super().__init__()
        self.model, self.megabytes = model, megabytes

    def __getitem__(self, index: int) -> nn.Module:
        return self.model[index]

    def forward(self, images: Tensor) -> Tensor:
        taken = torch.ones(len(images), self.megabytes * 250_000)
        return self.model(images) + 0 * taken.mean()


@dataclass(frozen=True)
class Hungry(Scaled):
    """Makes a network that needs much memory for each image."""

    megabytes: int = 40

    def insert(self, model: nn.Module, bits: object, example: Tensor) -> nn.Module:
        return _Hungry(super().insert(model, bits, example), self.megabytes)


@dataclass(frozen=True)
class Forgetting(Scaled):
    """Knows the second class less well than the others."""

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        with torch.no_grad():
            model[1].bias[1] -= 12


@dataclass(frozen=True)
class Failing(Scaled):
    """Fails while calibrating."""

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        raise ZeroDivisionError("no luck\ntoday")


@dataclass(frozen=True)
class RefusingAdapter:
    """Applies to nothing."""

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> object:
        raise Refused("this adapter applies to nothing")

    def step(self, state: object, images: Tensor) -> Tensor:
        raise AssertionError("never reached")


@dataclass(frozen=True)
class Drifting:
    """Moves the bias at random at every step, after as many passes as are asked for."""

    size: float = 0.1
    passes: int = later(1)

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> dict[str, object]:
        return {"model": model, "generator": generator}

    def step(self, state: dict[str, object], images: Tensor) -> Tensor:
        model, generator = state["model"], state["generator"]
        with torch.no_grad():
            logits = [model(images) for _ in range(self.passes)][-1]
            model[1].bias.add_(self.size * torch.randn(3, generator=generator).to(logits))
        return logits


@dataclass(frozen=True)
class Falling:
    """Works for two batches, then says the first class of everything."""

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> dict[str, object]:
        return {"model": model, "batches": 0}

    def step(self, state: dict[str, object], images: Tensor) -> Tensor:
        model = state["model"]
        state["batches"] += 1
        with torch.no_grad():
            if state["batches"] == 3:
                model[1].bias[0] += 1000
            return model(images)


@dataclass(frozen=True)
class Named(Scaled):
    """Has an option called name."""

    name: str = ""


@dataclass(frozen=True)
class AlsoNamed(Named):
    """Has the same options."""


@dataclass(frozen=True)
class Aimless:
    """A stream whose plan fails."""

    def domains(self) -> tuple[object, ...]:
        return ()

    def plan(self, labels: object, generator: object) -> object:
        raise IndexError("no plan")


@dataclass(frozen=True)
class Dying(Scaled):
    """Kills its process while calibrating."""

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        import os

        os._exit(3)


@dataclass(frozen=True)
class WholeDefault:
    """A float whose default is written as a whole number."""

    strength: float = 1


@dataclass(frozen=True)
class WrongStripes(StripesTask):
    """The same with something that its author got wrong."""

    wrong: str = ""

    def data(self, root: str | None) -> Any:
        data = super().data(root)
        if self.wrong == "dict":
            return vars(data)
        if self.wrong == "raises":
            return {}["images"]
        if self.wrong == "uint8 labels":
            return replace(data, test_labels=data.test_labels.astype(np.uint8))
        return replace(data, test_labels=data.test_labels + 1) if self.wrong == "labels from 1" else data

    def model(self, root: str | None) -> Any:
        model = super().model(root)
        if self.wrong == "function":
            return model.forward
        if self.wrong == "one logit":
            return nn.Sequential(model, nn.Linear(3, 1))
        return nn.Sequential(model, _Named()) if self.wrong == "named logits" else model


class _Named(nn.Module):
    def forward(self, logits: Tensor) -> dict[str, Tensor]:
        return {"logits": logits}


@dataclass(frozen=True)
class Waiting(Scaled):
    """Waits for a file while calibrating."""

    until: str = ""

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        import time
        from pathlib import Path

        while self.until and not Path(self.until).exists():
            time.sleep(0.05)
        super().calibrate(model, images, generator)
