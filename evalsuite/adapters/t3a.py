"""T3A: a prototype classifier that the stream adjusts (Iwasawa and Matsuo 2021, NeurIPS 34)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evalsuite.adapters._losses import softmax_entropy
from evalsuite.adapters._observer import Observer
from evalsuite.errors import Refused, RequestError
from evalsuite.structure import describe


@dataclass(frozen=True)
class T3A:
    """Prototypes of each class, from the classifier's weights and the surest features met so far.

    An image's features join the support set of the class predicted for them; of each class the ``supports`` with the
    least entropy stay. A class's prototype is the sum of its normalised supports. No parameter changes.

    Parameters
    ----------
    supports : kept of each class, 20 (the authors try 1, 5, 20, 50, 100 and all).

    Raises
    ------
    RequestError
        If ``supports`` is less than 1.
    """

    expected_passes: ClassVar[float] = 1

    supports: int = 20

    def __post_init__(self) -> None:
        if self.supports < 1:
            raise RequestError(f"supports = {self.supports}: expected at least 1")

    @torch.no_grad()
    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> T3AState:
        """Begin with the rows of the classifier's weight as supports. Refused unless it is one linear layer."""
        observer = Observer(model, describe(model, source))
        head = observer.head
        seen = observer(source[:1])
        linear = isinstance(head, nn.Linear) and seen.feature.ndim == 2
        if not linear or not torch.allclose(observer.classify(seen.feature), seen.logits, rtol=1e-4, atol=1e-5):
            raise Refused("t3a needs a linear classifier whose output is the model's; this model has another head")
        assert isinstance(head, nn.Linear)
        weight = head.weight.detach()
        logits = observer.classify(weight)
        return T3AState(observer, weight.clone(), logits.argmax(dim=1), softmax_entropy(logits), len(weight))

    @torch.no_grad()
    def step(self, state: T3AState, images: Tensor) -> Tensor:
        """Take (N, C, H, W) images in and return their (N, classes) similarities to the prototypes."""
        seen = state.observer(images)
        state.take(seen.feature, seen.logits)
        state.keep(self.supports)
        return seen.feature @ F.normalize(state.prototypes(), dim=1).T


@dataclass
class T3AState:
    """The support set.

    Attributes
    ----------
    features : (S, D) supports.
    labels, entropy : (S,) the class predicted for each and the entropy of that prediction.
    """

    observer: Observer
    features: Tensor
    labels: Tensor
    entropy: Tensor
    classes: int

    def take(self, features: Tensor, logits: Tensor) -> None:
        """Add (N, D) features with their (N, classes) logits."""
        self.features = torch.cat([self.features, features])
        self.labels = torch.cat([self.labels, logits.argmax(dim=1)])
        self.entropy = torch.cat([self.entropy, softmax_entropy(logits)])

    def keep(self, supports: int) -> None:
        """Keep of each class the supports with the least entropy."""
        by_entropy = self.entropy.argsort(stable=True)
        order = by_entropy[self.labels[by_entropy].argsort(stable=True)]
        labels = self.labels[order]
        counts = torch.bincount(labels, minlength=self.classes)
        place = torch.arange(len(labels), device=labels.device) - (counts.cumsum(0) - counts)[labels]
        kept = order[place < supports]
        self.features, self.labels, self.entropy = self.features[kept], self.labels[kept], self.entropy[kept]

    def prototypes(self) -> Tensor:
        """Return the sum of each class's normalised supports, (classes, D)."""
        unit = F.normalize(self.features, dim=1)
        return unit.new_zeros(self.classes, unit.shape[1]).index_add_(0, self.labels, unit)
