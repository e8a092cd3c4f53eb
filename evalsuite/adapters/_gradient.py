"""What methods that descend a loss of unlabelled images share: what is free, how a step is taken, and a safe one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from evalsuite.adapters._norms import affine_norms, affine_parameters, finite, use_batch_statistics
from evalsuite.errors import Refused, RequestError
from evalsuite.networks import HALF

Adjustment = Callable[[Tensor], Tensor]
"""What the (N, classes) logits become in a method's loss; predictions are made on the logits as they are."""

_IMAGENET_PIXELS = 64
_LEARNING_RATE = {"sgd": 2.5e-4, "adam": 1e-3}


Objective = Callable[[Tensor], Tensor]
"""What is descended: a loss of each row of (N, classes) adjusted logits of a whole batch, (N,)."""


def unadjusted(logits: Tensor) -> Tensor:
    """Return the logits as they are."""
    return logits


def is_imagenet_sized(images: Tensor) -> bool:
    """Whether (N, C, H, W) images are large enough for the authors' ImageNet settings rather than those for CIFAR."""
    return images.shape[-1] >= _IMAGENET_PIXELS


@dataclass(frozen=True)
class Descent:
    """Options of an optimiser.

    Parameters
    ----------
    optimizer : None for Tent's choice: SGD from 64-pixel images on (ImageNet), Adam below (CIFAR).
    lr : learning rate; None for Tent's with that optimizer: 2.5e-4 with SGD, 1e-3 with Adam.
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

    def over(self, parameters: list[nn.Parameter], images: Tensor) -> torch.optim.Optimizer:
        """Build the optimiser for a network that sees images like these."""
        name = self.optimizer or ("sgd" if is_imagenet_sized(images) else "adam")
        lr = self.lr if self.lr is not None else _LEARNING_RATE[name]
        if name == "sgd":
            return torch.optim.SGD(parameters, lr=lr, momentum=self.momentum)
        return torch.optim.Adam(parameters, lr=lr)


def free_norms(model: nn.Module, method: str, norms: Iterable[nn.Module] | None = None) -> list[nn.Parameter]:
    """Free the affine parameters of norms, by default of all, freeze the rest, and let BatchNorm see its batch.

    Returns the free parameters. Raises Refused, in the name of ``method``, where there are none, or in half precision.
    """
    chosen = affine_norms(model) if norms is None else norms
    parameters = [parameter for norm in chosen for parameter in affine_parameters(norm)]
    if not parameters:
        raise Refused(f"{method} needs norm layers with affine parameters; this model has none (or folded ones)")
    narrow = next((parameter.dtype for parameter in parameters if parameter.dtype in HALF), None)
    if narrow is not None:  # in which Adam's epsilon is 0
        raise Refused(f"{method} descends in float32; this model's norms are {narrow}: evalsuite.adapt widens them")
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    use_batch_statistics(model)
    return parameters


def parameters_of(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Return the parameters that an optimiser moves."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, share: float) -> None:
    """Move a teacher's parameters towards those of a student by a share of the distance."""
    for own, other in zip(teacher.parameters(), student.parameters(), strict=True):
        own.lerp_(other, share)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> bool:
    """Take one step on a scalar loss, unless it or a gradient is not finite; return whether it was taken."""
    loss.backward()  # type: ignore[no-untyped-call]
    taken = finite([loss, *(parameter.grad for parameter in parameters_of(optimizer))])
    if taken:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return taken
