"""SAR: sharpness-aware and reliable entropy minimisation (Niu et al. 2023, arXiv 2302.12400)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from evalsuite.adapters._gradient import Adjustment, Descent, Objective, descend, free_norms, parameters_of, unadjusted
from evalsuite.adapters._losses import softmax_entropy
from evalsuite.adapters._norms import affine_norms, before_tail, finite
from evalsuite.errors import Refused, RequestError
from evalsuite.structure import describe

_OLD = 0.9  # share of the past in the running mean of the loss


@dataclass(frozen=True)
class SAR(Descent):
    """Entropy minimisation of reliable samples in a flat minimum, started afresh on collapse.

    Samples with an entropy of at most ``margin`` · ln(classes) count. The gradient is taken where the parameters
    have moved by ``rho`` along the first one (sharpness-aware, Foret et al. 2021), which costs a second pass, of all
    images. After each batch at which the running mean of the second loss is below ``reset``, parameters and optimiser
    start afresh.
    The norms of the last stage (CNN) or of the last quarter of the blocks and after (transformer) stay as they are.

    Parameters
    ----------
    margin : share of ln(classes), 0.4.
    rho : radius of the first step, 0.05.
    reset : mean loss below which the method starts afresh, 0.2; 0 never does.
    optimizer, lr, momentum : see :class:`evalsuite.adapters._gradient.Descent`; SGD with 1e-3 and 0.9, as the authors.

    Raises
    ------
    RequestError
        If an option is out of range.
    """

    expected_passes: ClassVar[float] = 6

    optimizer: Literal["sgd", "adam"] | None = "sgd"
    lr: float | None = 1e-3
    margin: float = 0.4
    rho: float = 0.05
    reset: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("margin", "rho"):
            if not 0 < getattr(self, name) < float("inf"):
                raise RequestError(f"{name} = {getattr(self, name)}: expected more than 0")
        if not 0 <= self.reset < float("inf"):
            raise RequestError(f"reset = {self.reset}: expected 0 or more")

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> SARState:
        """Free the affine parameters below the last stage. Refused where there are none."""
        below = {id(model.get_submodule(name)) for name in before_tail(describe(model, source))}
        affine = affine_norms(model)
        chosen = [norm for norm in affine if id(norm) in below]
        if affine and not chosen:
            raise Refused("sar leaves the last stage alone; this model has no norm layers before it")
        parameters = free_norms(model, "sar", chosen)
        optimizer = self.over(parameters, source)
        start = [parameter.detach().clone() for parameter in parameters]
        return SARState(model, optimizer, start, copy.deepcopy(optimizer.state_dict()))

    def step(self, state: SARState, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images, then take one sharpness-aware step."""
        with torch.enable_grad():
            logits: Tensor = state.model(images)
            limit = self.margin * math.log(logits.shape[1])
            adjusted = state.adjust(logits)
            reliable = softmax_entropy(adjusted.detach()) < limit
            if reliable.any():
                self._descend(state, images, state.objective(adjusted)[reliable].mean(), reliable, limit)
        if state.mean is not None and state.mean < self.reset:
            state.start_afresh()
        return logits.detach()

    def _descend(self, state: SARState, images: Tensor, loss: Tensor, reliable: Tensor, limit: float) -> None:
        parameters = parameters_of(state.optimizer)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        if not finite([loss, *gradients]):
            state.skipped += 1
            return
        known = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
        norm = torch.cat([gradient.flatten() for gradient in known]).norm()
        moves = [gradient * (self.rho / (norm + 1e-12)) for gradient in known]
        _add(parameters, moves, 1)
        adjusted = state.adjust(state.model(images))
        entropy = softmax_entropy(adjusted.detach())
        still = reliable & (entropy < limit)
        second = state.objective(adjusted)[still].mean() if still.any() else None
        if second is None or not bool(second.isfinite()):
            _add(parameters, moves, -1)
            state.skipped += second is not None
            return
        value = float(entropy[still].mean())
        state.mean = value if state.mean is None else _OLD * state.mean + (1 - _OLD) * value
        slopes = torch.autograd.grad(second, parameters, allow_unused=True)
        _add(parameters, moves, -1)
        state.skipped += not descend(state.optimizer, _linear(parameters, slopes))


def _add(parameters: list[nn.Parameter], moves: list[Tensor], sign: int) -> None:
    with torch.no_grad():
        for parameter, move in zip(parameters, moves, strict=True):
            parameter.add_(move, alpha=sign)


def _linear(parameters: list[nn.Parameter], slopes: tuple[Tensor | None, ...]) -> Tensor:
    """Return a scalar whose gradient is ``slopes``, without a pass through the network."""
    terms = [(p * s).sum() for p, s in zip(parameters, slopes, strict=True) if s is not None]
    return torch.stack(terms).sum()


@dataclass
class SARState:
    """What SAR keeps between batches.

    Attributes
    ----------
    start, optimizer_start : what a fresh start restores.
    mean : running mean of the entropy at the second pass; None before the first. A fresh start leaves it (as the
        authors).
    objective : the loss of each image; which ones count their entropy says.
    fresh_starts : how often the method started afresh.
    skipped : how many updates were not made because they were not finite.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    start: list[Tensor]
    optimizer_start: dict[str, Any]
    mean: float | None = None
    adjust: Adjustment = unadjusted
    objective: Objective = softmax_entropy
    fresh_starts: int = 0
    skipped: int = 0

    def facts(self) -> dict[str, int]:
        """Return what a trial's row should say."""
        return {"fresh_starts": self.fresh_starts, "skipped": self.skipped}

    @torch.no_grad()
    def start_afresh(self) -> None:
        """Return to the source parameters and a new optimiser; the running mean goes on."""
        for parameter, value in zip(parameters_of(self.optimizer), self.start, strict=True):
            parameter.copy_(value)
        self.optimizer.load_state_dict(copy.deepcopy(self.optimizer_start))
        self.fresh_starts += 1
