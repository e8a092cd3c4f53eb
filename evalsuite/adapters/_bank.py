"""ZOA's knowledge bank: what was learnt on each domain, as offsets of parameters mixed by one softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_LARGEST_COEFFICIENT = 10.0


class KnowledgeBank:
    """Offsets of P parameters, one vector a domain, behind a first one of zeros that stays.

    With coefficients a the bank contributes softmax(scale * a) @ entries. Entries are ordered by age, the oldest
    (after the zeros) first. Storing never goes past ``capacity`` entries besides the zeros.

    Attributes
    ----------
    entries : (1 + stored, P).
    coefficients : (1 + stored,), zeros at the start (*choice*: with one entry their value is immaterial).
    """

    def __init__(self, sizes: Sequence[int], capacity: int, scale: float, like: Tensor) -> None:
        self.sizes = list(sizes)
        self.capacity = capacity
        self.scale = scale
        self.entries = torch.zeros(1, sum(sizes), dtype=like.dtype, device=like.device)
        self.coefficients = torch.zeros(1, dtype=like.dtype, device=like.device)

    def __len__(self) -> int:
        """Return the number of stored entries, the zeros not counted."""
        return len(self.entries) - 1

    def mix(self, coefficients: Tensor | None = None) -> Tensor:
        """Return the (P,) offset under the bank's coefficients or under others of their shape."""
        chosen = self.coefficients if coefficients is None else coefficients
        return torch.softmax(self.scale * chosen, dim=0) @ self.entries

    def store(self, epsilon: Tensor, margin: float) -> Tensor:
        """Store the offset in use, ``mix() + epsilon``, and return the (P,) epsilon that leaves their sum as it was.

        The new coefficient gives the new entry so much weight that the mean |epsilon| that is left is at most
        ``margin`` in every parameter tensor, within the limit of 10 on coefficients. A full bank first drops an
        entry (*choice*: before, not after storing, so that the newest cannot be dropped at once). One without room
        for any leaves epsilon as it is.
        """
        if self.capacity == 0:
            return epsilon
        offset = self.mix() + epsilon
        if len(self) == self.capacity:
            self._remove(self._superfluous())
        coefficient = self._new_coefficient(offset - self.mix(), margin)
        self.entries = torch.cat([self.entries, offset[None]])
        self.coefficients = torch.cat([self.coefficients, self.coefficients.new_tensor([coefficient])])
        return offset - self.mix()

    def _new_coefficient(self, epsilon: Tensor, margin: float) -> float:
        scaled = self.scale * self.coefficients
        ratio = max(float(part.abs().mean()) for part in torch.split(epsilon, self.sizes)) / margin
        logit = float(scaled.max())
        if ratio > 1:
            logit = max(logit, float(torch.logsumexp(scaled, dim=0)) + math.log(ratio - 1))
        return max(-_LARGEST_COEFFICIENT, min(_LARGEST_COEFFICIENT, logit / self.scale))

    def _remove(self, index: int) -> None:
        keep = [i for i in range(len(self.entries)) if i != index]
        self.entries = self.entries[keep]
        self.coefficients = self.coefficients[keep]

    def _superfluous(self) -> int:
        """Return the older of the two most similar entries; the zeros, similar to nothing, do not compete."""
        stored = self.entries[1:]
        similarity = torch.stack([_cosines(part) for part in torch.split(stored, self.sizes, dim=1)]).mean(dim=0)
        similarity.fill_diagonal_(-math.inf)
        pair = int(similarity.argmax())
        return 1 + min(divmod(pair, len(stored)))


def _cosines(vectors: Tensor) -> Tensor:
    unit = F.normalize(vectors, dim=1)
    return unit @ unit.T
