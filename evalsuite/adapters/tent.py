"""Tent: entropy minimisation over the affine parameters of norms (Wang et al. 2021, arXiv 2006.10726)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.adapters._gradient import Adjustment, Descent, Objective, descend, free_norms, unadjusted
from evalsuite.adapters._losses import softmax_entropy


@dataclass(frozen=True)
class Tent(Descent):
    """Entropy minimisation over the affine parameters of the normalisation layers.

    BatchNorm layers normalise with the statistics of the batch. A batch's logits are those of the pass before
    its update. An update whose loss or gradient is not finite is not made.

    Parameters
    ----------
    optimizer, lr, momentum : see :class:`evalsuite.adapters._gradient.Descent`; by default the authors': SGD 2.5e-4
        with momentum 0.9 on ImageNet, Adam 1e-3 on CIFAR.
    """

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> TentState:
        """Free the affine parameters, freeze the rest. Refused where no norm has affine parameters."""
        return TentState(model, self.over(free_norms(model, "tent"), source))

    def step(self, state: TentState, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images, then take one step on their mean entropy."""
        with torch.enable_grad():
            logits: Tensor = state.model(images)
            taken = descend(state.optimizer, state.objective(state.adjust(logits)).mean())
        state.skipped += not taken
        return logits.detach()


@dataclass
class TentState:
    """What Tent keeps between batches.

    Attributes
    ----------
    adjust : what logits become in the loss.
    objective : the loss of each image.
    skipped : how many updates were not made because they were not finite.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    adjust: Adjustment = unadjusted
    objective: Objective = softmax_entropy
    skipped: int = 0

    def facts(self) -> dict[str, int]:
        """Return what a trial's row should say."""
        return {"skipped": self.skipped}
