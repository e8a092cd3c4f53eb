"""One-sided simultaneous perturbation: a gradient from two values of a loss (Spall 1992; Deng et al. 2025)."""

from __future__ import annotations

import torch
from torch import Tensor


def perturbation(size: int, generator: torch.Generator) -> Tensor:
    """Draw (size,) coordinates of random sign and magnitude uniform in [0.5, 1], on the CPU."""
    signs = torch.randint(0, 2, (size,), generator=generator) * 2 - 1
    return signs * (0.5 + 0.5 * torch.rand(size, generator=generator))


def gradient_estimate(before: Tensor, after: Tensor, scale: float, direction: Tensor) -> Tensor:
    """Estimate the gradient at x from the loss at x (``before``) and at x + scale * direction (``after``), scalars.

    Coordinate-wise (after - before) / (scale * direction). Signs being independent, its expectation over
    :func:`perturbation` is the gradient; for a quadratic loss exactly, at any scale.
    """
    return (after - before) / (scale * direction)
