"""Tent: entropy minimisation over the affine parameters of norms (Wang et al. 2021, arXiv 2006.10726)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from evalsuite.adapters._losses import softmax_entropy
from evalsuite.adapters._norms import affine_norms, affine_parameters, finite, use_batch_statistics
from evalsuite.errors import Refused, RequestError

_IMAGENET_PIXELS = 64
_LEARNING_RATE = {"sgd": 2.5e-4, "adam": 1e-3}


@dataclass(frozen=True)
class Tent:
    """Entropy minimisation over the affine parameters of the normalisation layers.

    BatchNorm layers normalise with the statistics of the batch. A batch's logits are those of the pass before
    its update. An update whose loss or gradient is not finite is not made.

    Parameters
    ----------
    optimizer : None for the authors' choice: SGD from 64-pixel images on (ImageNet), Adam below (CIFAR).
    lr : learning rate; None for the authors' with that optimizer: 2.5e-4 with SGD, 1e-3 with Adam.
    momentum : of SGD.

    Raises
    ------
    RequestError
        If ``lr`` is not positive or ``momentum`` not in [0, 1).
    """

    optimizer: Literal["sgd", "adam"] | None = None
    lr: float | None = None
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if self.lr is not None and not 0.0 < self.lr < float("inf"):
            raise RequestError(f"lr = {self.lr}: expected a positive number")
        if not 0.0 <= self.momentum < 1.0:
            raise RequestError(f"momentum = {self.momentum}: expected 0 <= momentum < 1")

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> TentState:
        """Free the affine parameters, freeze the rest. Refused where no norm has affine parameters."""
        parameters = [parameter for norm in affine_norms(model) for parameter in affine_parameters(norm)]
        if not parameters:
            raise Refused("tent needs norm layers with affine parameters; this model has none (or folded ones)")
        model.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        use_batch_statistics(model)
        return TentState(model, self._optimizer(parameters, pixels=source.shape[-1]))

    def _optimizer(self, parameters: list[nn.Parameter], pixels: int) -> torch.optim.Optimizer:
        name = self.optimizer or ("sgd" if pixels >= _IMAGENET_PIXELS else "adam")
        lr = self.lr if self.lr is not None else _LEARNING_RATE[name]
        if name == "sgd":
            return torch.optim.SGD(parameters, lr=lr, momentum=self.momentum)
        return torch.optim.Adam(parameters, lr=lr)

    def step(self, state: TentState, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images, then take one step on their mean entropy."""
        with torch.enable_grad():
            logits: Tensor = state.model(images)
            loss = softmax_entropy(logits).mean()
            loss.backward()  # type: ignore[no-untyped-call]
        parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
        if finite([loss, *(parameter.grad for parameter in parameters)]):
            state.optimizer.step()
        else:
            state.skipped += 1
        state.optimizer.zero_grad(set_to_none=True)
        return logits.detach()


@dataclass
class TentState:
    """What Tent keeps between batches.

    Attributes
    ----------
    skipped : how many updates were not made because they were not finite.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    skipped: int = 0
