"""EATA: Tent on reliable and non-redundant samples, held near the source (Niu et al. 2022, arXiv 2204.02610)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evalsuite.adapters._gradient import (
    Adjustment,
    Descent,
    Objective,
    descend,
    free_norms,
    is_imagenet_sized,
    parameters_of,
    unadjusted,
)
from evalsuite.adapters._losses import softmax_entropy
from evalsuite.errors import RequestError

_FISHER_BATCH = 64
_OLD = 0.9  # share of the past in the running mean of predictions


@dataclass(frozen=True)
class EATA(Descent):
    """Entropy minimisation on reliable, non-redundant samples with a Fisher penalty against forgetting.

    A sample counts where its entropy is below ``margin`` · ln(classes), weighted by exp(margin · ln(classes) -
    entropy), and where its softmax differs from the running mean of earlier counted ones by a cosine of less than
    ``redundancy``. The penalty is ``fisher_weight`` · Σ F (θ - θ0)², F the squared gradients of the cross-entropy
    with the network's own predictions on the source images, in batches of 64 (the paper's equation 9 takes single
    images; its weight of 2,000 belongs to batches: *choice*).

    Parameters
    ----------
    margin : share of ln(classes), 0.4.
    redundancy : None for the authors' 0.05 (ImageNet, from 64 pixels on) or 0.4 (CIFAR).
    fisher_weight : None for the authors' 2000 (ImageNet) or 1 (CIFAR); 0 leaves the penalty out (ETA).
    optimizer, lr, momentum : see :class:`evalsuite.adapters._gradient.Descent`.

    Raises
    ------
    RequestError
        If an option is out of range.
    """

    margin: float = 0.4
    redundancy: float | None = None
    fisher_weight: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.margin <= 1:
            raise RequestError(f"margin = {self.margin}: expected more than 0, at most 1")
        if self.redundancy is not None and not self.redundancy > 0:
            raise RequestError(f"redundancy = {self.redundancy}: expected more than 0")
        if self.fisher_weight is not None and not 0 <= self.fisher_weight < float("inf"):
            raise RequestError(f"fisher_weight = {self.fisher_weight}: expected 0 or more")

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> EATAState:
        """Free the affine parameters and measure their Fisher information on the source images."""
        parameters = free_norms(model, "eata")
        large = is_imagenet_sized(source)
        weight = (2000.0 if large else 1.0) if self.fisher_weight is None else self.fisher_weight
        return EATAState(
            model=model,
            optimizer=self.over(parameters, source),
            redundancy=(0.05 if large else 0.4) if self.redundancy is None else self.redundancy,
            fisher_weight=weight,
            fisher=_fisher(model, parameters, source) if weight else [],
            source=[parameter.detach().clone() for parameter in parameters] if weight else [],
        )

    def step(self, state: EATAState, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images, then take one step on those that count."""
        with torch.enable_grad():
            logits: Tensor = state.model(images)
            adjusted = state.adjust(logits)
            entropy = softmax_entropy(adjusted.detach())
            limit = self.margin * math.log(logits.shape[1])
            chosen = state.choose(adjusted.detach(), entropy < limit)
            if chosen.any():
                losses = torch.exp(limit - entropy[chosen]) * state.objective(adjusted)[chosen]
                taken = descend(state.optimizer, losses.mean() + state.penalty())
                state.skipped += not taken
        return logits.detach()


@dataclass
class EATAState:
    """What EATA keeps between batches.

    Attributes
    ----------
    fisher, source : by parameter, Fisher information and source value; empty without the penalty.
    mean : (classes,) running mean of the softmax of samples that counted; None before the first.
    objective : the loss of each image; which ones count, and how much, their entropy says.
    skipped : how many updates were not made because they were not finite.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    redundancy: float
    fisher_weight: float
    fisher: list[Tensor]
    source: list[Tensor]
    mean: Tensor | None = None
    adjust: Adjustment = unadjusted
    objective: Objective = softmax_entropy
    skipped: int = 0

    def facts(self) -> dict[str, int]:
        """Return what a trial's row should say."""
        return {"skipped": self.skipped}

    def choose(self, logits: Tensor, reliable: Tensor) -> Tensor:
        """Return which (N,) samples count, and take them into the running mean."""
        shares = logits.softmax(dim=1)
        chosen = reliable & shares.isfinite().all(dim=1)
        if self.mean is not None:
            chosen = chosen & (F.cosine_similarity(shares, self.mean[None], dim=1).abs() < self.redundancy)
        if chosen.any():
            own = shares[chosen].mean(dim=0)
            self.mean = own if self.mean is None else _OLD * self.mean + (1 - _OLD) * own
        return chosen

    def penalty(self) -> Tensor | float:
        """Return the Fisher-weighted squared distance from the source."""
        triples = zip(self.fisher, parameters_of(self.optimizer), self.source, strict=False)
        return self.fisher_weight * sum((f * (now - before).square()).sum() for f, now, before in triples)


def _fisher(model: nn.Module, parameters: list[nn.Parameter], source: Tensor) -> list[Tensor]:
    total = [torch.zeros_like(parameter) for parameter in parameters]
    parts = torch.split(source, _FISHER_BATCH)
    for part in parts:
        with torch.enable_grad():
            logits = model(part)
            loss = F.cross_entropy(logits, logits.argmax(dim=1))
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for own, gradient in zip(total, gradients, strict=True):
            if gradient is not None:
                own += gradient.square() / len(parts)
    return total
