"""TTAQ at test time: adaptive balanced loss around a host (Xiao et al. 2024, arXiv 2412.09899, by its abstract).

Only the abstract was at hand. The formulas are this project's interpretation of it and no paper's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite import registry
from evalsuite.adapters._losses import softmax_entropy
from evalsuite.errors import Refused, RequestError
from evalsuite.optional_members import facts_of, has_adjustable_loss, passes_of, predicted


@dataclass(frozen=True)
class TTAQ:
    """Adaptive balanced loss (ABL) around a host that descends a loss on logits; our interpretation of the abstract.

    In the host's loss, and never in a prediction, the logits of class c become
    z_c - ``frequency`` · log(f_c · C) + ``complexity`` · (k_c - mean k), where f_c is the running mean of the
    predicted probability of c and k_c the running mean of the normalised entropy of images predicted as c. With both
    strengths 0 it is the host.

    Parameters
    ----------
    host : name of the adapter that is wrapped: tent, eata, sar, cotta, rotta or one of your own whose state has an
        ``adjust``.
    host_options : options of the host.
    frequency : strength by which rare classes are raised. On held-out corruptions no strength between -1 and 1 of this
        or the next was better than another by more than a point, with classes balanced or in a long tail
        (benchmarks/choices/ttaq_balance.csv); the defaults have the signs that the derivation gives them.
    complexity : strength by which classes whose predictions are unsure are raised.
    momentum : share of the past in the running means, 0.9.

    Raises
    ------
    RequestError
        If the host or an option is wrong.
    """

    host: str = "tent"
    host_options: dict[str, Any] = field(default_factory=dict)
    frequency: float = 1.0
    complexity: float = 1.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise RequestError(f"momentum = {self.momentum}: expected 0 <= momentum < 1")
        for name in ("frequency", "complexity"):
            if not math.isfinite(getattr(self, name)):
                raise RequestError(f"{name} = {getattr(self, name)}: expected a finite number")
        self._host()

    def _host(self) -> Any:
        return registry.configure("adapters", self.host, self.host_options).build()

    def __str__(self) -> str:
        return f"ttaq({self.host})"

    @property
    def expected_passes(self) -> float:
        """Those of the host."""
        return passes_of(self._host())

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> TTAQState:
        """Prepare the host and take hold of its loss. Refused where it has none, or refuses itself."""
        state = self._host().prepare(model, source, generator)
        if not has_adjustable_loss(state):
            raise Refused(f"ttaq balances the loss of its host; {self.host} has no loss on logits that it could adjust")
        state.adjust = Balance(self.frequency, self.complexity, self.momentum)
        return TTAQState(self._host(), state, state.adjust, model)

    def step(self, state: TTAQState, images: Tensor) -> Tensor:
        """Return the host's (N, classes) logits of (N, C, H, W) images after its step on the balanced loss."""
        logits: Tensor = state.host.step(state.host_state, images)
        state.balance.observe(logits.detach())
        return logits

    def predict(self, state: TTAQState, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images as the host predicts them."""
        return predicted(state.host, state.host_state, state.model, images)


@dataclass
class TTAQState:
    """The host, its state, the balance in its loss, and the network that the host adapts."""

    host: Any
    host_state: Any
    balance: Balance
    model: nn.Module

    def facts(self) -> dict[str, Any]:
        """Return what the host says."""
        found = facts_of(self.host_state)
        return found


@dataclass
class Balance:
    """How frequent and how hard each class has been so far (*ours*).

    Attributes
    ----------
    share : (C,) running mean of predicted probability; None before the first batch.
    entropy : (C,) running mean of the entropy of images predicted as each class, as a share of ln C.
    """

    frequency: float
    complexity: float
    momentum: float
    share: Tensor | None = None
    entropy: Tensor | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Return adjusted (N, C) logits; before the first batch has been observed, as they are."""
        if self.share is None or self.entropy is None:
            return logits
        rarity = -torch.log(self.share.clamp(min=1e-6) * len(self.share))
        return logits + self.frequency * rarity + self.complexity * (self.entropy - self.entropy.mean())

    def observe(self, logits: Tensor) -> None:
        """Take (N, C) logits into the running means; those that are not finite are left out."""
        own = logits[logits.isfinite().all(dim=1)]
        if len(own) == 0:
            return
        shares = own.softmax(dim=1)
        hardness = softmax_entropy(own) / math.log(own.shape[1])
        predicted = nn.functional.one_hot(own.argmax(dim=1), own.shape[1]).to(hardness)
        count = predicted.sum(dim=0)
        if self.share is None or self.entropy is None:
            self.share, self.entropy = shares.mean(dim=0), hardness.mean().expand(own.shape[1]).clone()
        else:
            self.share = self.momentum * self.share + (1 - self.momentum) * shares.mean(dim=0)
        mean = (predicted.T @ hardness) / count.clamp(min=1)
        moved = self.momentum * self.entropy + (1 - self.momentum) * mean
        self.entropy = torch.where(count > 0, moved, self.entropy)
