"""A test-time adaptation method, to begin with.

Does it keep its contract? ``pytest test_mine.py``.
In a study: ``method = "mine.py:Mine"`` under ``[[adapter]]``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.errors import Refused, RequestError

_NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Mine:
    """Entropy minimisation over the affine parameters of norms, on the statistics of the source.

    Parameters
    ----------
    lr : learning rate of plain gradient descent, 0 or more.
    """

    # Options are fields. Each has to change something, and one without a default has to be given.
    lr: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 <= self.lr < float("inf"):
            raise RequestError(f"lr = {self.lr}: expected a finite number, 0 or more")

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> State:
        """Take a private copy of a network, which may be changed, and return all that the method keeps.

        ``source``: (N, C, H, W) unlabelled clean images. All that is drawn has to come from ``generator``. Raises
        Refused with the reason where the method does not apply: that is a row of the report, not an error.
        """
        model.requires_grad_(False)
        norms = [module for module in model.modules() if isinstance(module, _NORMS)]
        free = [value.requires_grad_() for norm in norms for value in norm.parameters(recurse=False)]
        if not free:
            raise Refused("this network has no norm with affine parameters")
        return State(model, torch.optim.SGD(free, self.lr))

    def step(self, state: State, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of a batch, (N, C, H, W), and adapt to it, in place.

        A batch may be one image. A reset puts back a deep copy of the state, so nothing may be kept elsewhere.
        """
        with torch.enable_grad():
            logits: Tensor = state.model(images)
            log_shares = logits.log_softmax(dim=1)
            loss = -(log_shares.exp() * log_shares).sum(dim=1).mean()
            state.optimizer.zero_grad()
            torch.autograd.backward(loss)
        state.optimizer.step()
        state.steps += 1
        return logits.detach()


@dataclass
class State:
    """What lasts between batches."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    steps: int = 0

    def facts(self) -> dict[str, int]:
        """Return counts that become columns of the trial's row; a state need not have any."""
        return {"steps": self.steps}
