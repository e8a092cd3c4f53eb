"""LAME: Laplacian correction of a batch's outputs (Boudiaf et al. 2022, arXiv 2201.05718)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evalsuite.adapters._observer import Observer
from evalsuite.errors import RequestError
from evalsuite.structure import describe

_SETTLED = 1e-8  # relative change of the energy at which iteration stops


@dataclass(frozen=True)
class LAME:
    """Laplacian-adjusted maximum likelihood: neighbours in feature space pull each other's outputs together.

    No parameter changes; a batch's outputs depend on the batch alone. Each image is joined to its nearest
    neighbours by the Euclidean distance of normalised features; a batch of one has none and keeps its output.

    Parameters
    ----------
    neighbours : of each image, 5.
    steps : most iterations of the concave-convex procedure, 100.

    Raises
    ------
    RequestError
        If an option is less than 1.
    """

    expected_passes: ClassVar[float] = 1

    neighbours: int = 5
    steps: int = 100

    def __post_init__(self) -> None:
        for name in ("neighbours", "steps"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name} = {getattr(self, name)}: expected at least 1")

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> Observer:
        """Watch the head's input."""
        return Observer(model, describe(model, source))

    @torch.no_grad()
    def step(self, state: Observer, images: Tensor) -> Tensor:
        """Return the logarithms of the corrected (N, classes) probabilities of (N, C, H, W) images."""
        seen = state(images)
        return laplacian_correction(seen.logits, seen.feature.flatten(1), self.neighbours, self.steps)


def laplacian_correction(logits: Tensor, features: Tensor, neighbours: int, steps: int) -> Tensor:
    """Correct (N, classes) logits by the affinities of (N, D) features; return log-probabilities (N, classes).

    Minimises Σ y·(-log p) - Σ w_ij y_i·y_j + Σ y·log y over assignments y by fixed-point iteration (arXiv 2201.05718,
    section 4), from y = p. The affinities w are those of each image to its nearest neighbours, 0 or 1.
    """
    logs = logits.log_softmax(dim=1)
    count = min(neighbours, len(logits) - 1)
    if count == 0:
        return logs
    unit = F.normalize(features, dim=1)
    distances = torch.cdist(unit, unit).fill_diagonal_(float("inf"))
    nearest = distances.topk(count, largest=False).indices
    affinity = torch.zeros_like(distances).scatter_(1, nearest, 1.0)
    shares, corrected = logs.exp(), logs
    previous: float | None = None
    for _ in range(steps):
        pull = affinity @ shares
        corrected = (logs + pull).log_softmax(dim=1)
        shares = corrected.exp()
        energy = float((shares * (corrected - logs - affinity @ shares)).sum())
        if previous is not None and abs(energy - previous) <= _SETTLED * abs(previous):
            break
        previous = energy
    return corrected
