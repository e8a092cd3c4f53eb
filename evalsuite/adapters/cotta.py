"""CoTTA: a mean teacher, averaged over augmentations, and stochastic restoring (Wang et al. 2022, arXiv 2203.13591)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.adapters._augmentation import Jitter, PixelScale, Views
from evalsuite.adapters._gradient import (
    Adjustment,
    Descent,
    descend,
    follow,
    is_imagenet_sized,
    parameters_of,
    unadjusted,
)
from evalsuite.adapters._losses import cross_entropy_between
from evalsuite.adapters._norms import use_batch_statistics
from evalsuite.errors import Refused, RequestError


@dataclass(frozen=True)
class CoTTA(Descent):
    """A student that follows its own mean teacher's predictions, averaged over augmented views where it is unsure.

    All parameters adapt that may: the rounded weights of a quantized network stay on their grid. The teacher is the
    exponential average of the student; where the source network's mean confidence on a batch is below ``threshold``
    the teacher's logits are averaged over augmented views. After each step a random share of the student's values is
    put back to the source's. Predictions are the teacher's. Options that are None are the authors': ImageNet from 64
    pixels on (SGD 0.01, restore 0.001, threshold 0.1, symmetric loss), else CIFAR (Adam 1e-3, restore 0.01, threshold
    0.92, cross-entropy with the teacher).

    Parameters
    ----------
    ema : share of the old teacher kept in each step, 0.999.
    restore : probability that a value is put back in a step; None: as above.
    threshold : confidence, 0..1, of the source network below which views are averaged; None: as above.
    augmentations : views averaged, 32.
    views : ``batch``: a view changes all images of a batch alike, as in the authors' program; ``image``: each in its
        own way (*ours*).
    symmetric : whether the loss is the mean of the cross-entropy with the teacher and that of the teacher with the
        student; None: as above.
    optimizer, lr, momentum : see :class:`evalsuite.adapters._gradient.Descent`; None: as above.

    Raises
    ------
    RequestError
        If an option is out of range.
    """

    ema: float = 0.999
    restore: float | None = None
    threshold: float | None = None
    augmentations: int = 32
    views: Views = "batch"
    symmetric: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("ema", "restore", "threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise RequestError(f"{name} = {value}: expected 0 to 1")
        if self.augmentations < 1:
            raise RequestError(f"augmentations = {self.augmentations}: expected at least 1")

    @property
    def expected_passes(self) -> float:
        """Student and source, a backward, and the teacher on as many views as an unsure batch gets."""
        return 4 + self.augmentations

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> CoTTAState:
        """Copy the network as teacher and as anchor. Refused where no parameter is free to move."""
        use_batch_statistics(model)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not parameters:
            raise Refused("cotta needs parameters that may move; this model has none")
        large = is_imagenet_sized(source)
        teacher, anchor = copy.deepcopy(model).requires_grad_(False), copy.deepcopy(model).requires_grad_(False)
        lr = self.lr if self.lr is not None or not large else 0.01  # the authors' for ImageNet
        return CoTTAState(
            model=model,
            teacher=teacher,
            anchor=anchor,
            optimizer=Descent(self.optimizer, lr, self.momentum).over(parameters, source),
            scale=PixelScale.of(source),
            restore=(0.001 if large else 0.01) if self.restore is None else self.restore,
            threshold=(0.1 if large else 0.92) if self.threshold is None else self.threshold,
            jitter=Jitter(views=self.views),
            symmetric=large if self.symmetric is None else self.symmetric,
            generator=generator,
        )

    def step(self, state: CoTTAState, images: Tensor) -> Tensor:
        """Return the teacher's (N, classes) logits of (N, C, H, W) images after one step of the student."""
        with torch.enable_grad():
            logits: Tensor = state.model(images)
        target = state.teach(images, self.augmentations)
        with torch.enable_grad():
            taken = descend(state.optimizer, state.loss(logits, target))
        if taken:
            follow(state.teacher, state.model, 1 - self.ema)
            state.put_back()
        state.skipped += not taken
        return target

    def predict(self, state: CoTTAState, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images by the teacher as it is."""
        logits: Tensor = state.teacher(images)
        return logits


@dataclass
class CoTTAState:
    """What CoTTA keeps between batches.

    Attributes
    ----------
    model, teacher, anchor : student, its average, and the source network.
    averaged : batches on which augmented views were averaged.
    skipped : how many updates were not made because they were not finite.
    """

    model: nn.Module
    teacher: nn.Module
    anchor: nn.Module
    optimizer: torch.optim.Optimizer
    scale: PixelScale
    restore: float
    threshold: float
    jitter: Jitter
    symmetric: bool
    generator: torch.Generator
    adjust: Adjustment = unadjusted
    averaged: int = 0
    skipped: int = 0

    def facts(self) -> dict[str, int]:
        """Return what a trial's row should say."""
        return {"averaged": self.averaged, "skipped": self.skipped}

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of the student's (N, classes) logits given the teacher's, a scalar."""
        adjusted = self.adjust(logits)
        losses = cross_entropy_between(adjusted, target)
        if self.symmetric:
            losses = (losses + cross_entropy_between(target, adjusted)) / 2
        return losses.mean()

    @torch.no_grad()
    def teach(self, images: Tensor, augmentations: int) -> Tensor:
        """Return the teacher's logits, averaged over views where the source network is unsure."""
        sure = self.anchor(images).softmax(dim=1).amax(dim=1).mean()
        if bool(sure >= self.threshold):
            plain: Tensor = self.teacher(images)
            return plain
        self.averaged += 1
        views = (self.jitter(images, self.scale, self.generator) for _ in range(augmentations))
        total: Tensor = sum(self.teacher(view) for view in views)
        return total / augmentations

    @torch.no_grad()
    def put_back(self) -> None:
        """Put a random share of the student's values back to the source's."""
        source = dict(self.anchor.named_parameters())
        free = set(map(id, parameters_of(self.optimizer)))
        for name, parameter in self.model.named_parameters():
            if id(parameter) in free:
                drawn = torch.rand(parameter.shape, generator=self.generator, device=self.generator.device)
                chosen = (drawn < self.restore).to(parameter.device)
                parameter.copy_(torch.where(chosen, source[name], parameter))
