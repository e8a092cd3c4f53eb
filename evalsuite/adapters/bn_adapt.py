"""Batch statistics in place of the source's (Schneider et al. 2020, arXiv 2006.16971)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from evalsuite.adapters._norms import MixedStatistics, batch_norms, use_batch_statistics
from evalsuite.errors import Refused, RequestError
from evalsuite.layout import find_layouts


@dataclass(frozen=True)
class BatchNormAdaptation:
    """BatchNorm on the statistics of the test batch, with as much source prior as wished.

    Parameters
    ----------
    prior : N of the paper: the source statistics weigh as much as this many images, N/(N + batch). 0 takes the
        batch's alone; a layer that sees one value per channel (one image, one pixel) then keeps the source's.

    Raises
    ------
    RequestError
        If ``prior`` is negative or not finite.
    """

    expected_passes: ClassVar[float] = 1

    prior: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.prior < float("inf"):
            raise RequestError(f"prior = {self.prior}: expected a number of images, 0 or more")

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> nn.Module:
        """Set the BatchNorm layers up and return the model; Refused where there are none, or none with a prior."""
        norms = batch_norms(model)
        if not norms:
            raise Refused("bn_adapt needs BatchNorm layers; this model has none (other norms, or folded away)")
        if self.prior == 0.0:
            use_batch_statistics(model)
            return model
        layouts, names = find_layouts(model, source), {module: name for name, module in model.named_modules()}
        for norm in norms:
            if norm.running_mean is None or norm.running_var is None:
                raise Refused("bn_adapt with a prior needs source statistics; a BatchNorm layer keeps none")
            layout = layouts.at(names[norm], "input")
            mixed = MixedStatistics(self.prior, norm.running_mean.clone(), norm.running_var.clone(), layout)
            norm.register_forward_pre_hook(mixed.mix)
        return model

    @torch.no_grad()
    def step(self, state: nn.Module, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images under their own statistics."""
        logits: Tensor = state(images)
        return logits
