"""An oracle: what an adapter would gain if it were told the labels. No method, but the line that one may hope for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evalsuite import registry
from evalsuite.errors import Refused, RequestError
from evalsuite.optional_members import facts_of, has_objective, is_oracle, passes_of, predicted


@dataclass(frozen=True)
class Oracle:
    """An adapter that descends the cross-entropy with the true labels instead of its own loss, which is *ours*.

    All else is the adapter's: what it moves, when, and which images count (EATA and SAR choose them by entropy, which
    asks for no label). A batch is predicted before its labels are learnt from, as by the adapter. It is left out of
    rankings, comparisons and verdicts; figures show it dashed.

    Parameters
    ----------
    host : name of the adapter: tent, eata, sar or one of your own whose state has an ``objective``. Others are refused,
        for they descend no loss of a batch's logits that its labels could replace.
    host_options : options of the host.

    Raises
    ------
    RequestError
        If the host or an option is wrong.
    """

    host: str = "tent"
    host_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if is_oracle(self._host()):
            raise RequestError(f"host = {self.host!r} is an oracle: expected an adapter without labels")

    def _host(self) -> Any:
        return registry.configure("adapters", self.host, self.host_options).build()

    def __str__(self) -> str:
        return f"oracle (labels), {self.host}"

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> OracleState:
        """Prepare the host and replace its loss. Refused where it has none, or refuses itself."""
        host = self._host()
        state = host.prepare(model, source, generator)
        if not has_objective(state):
            raise Refused(
                f"no oracle of {self.host}: it descends no loss of a batch's logits that labels could replace"
            )
        state.objective = CrossEntropy()
        return OracleState(host, state, state.objective, model)

    @property
    def expected_passes(self) -> float:
        """Those of the host."""
        return passes_of(self._host())

    def reveal(self, state: OracleState, labels: Tensor) -> None:
        """Take the (N,) labels of the next batch."""
        state.objective.labels = labels

    def step(self, state: OracleState, images: Tensor) -> Tensor:
        """Return the host's (N, classes) logits of (N, C, H, W) images and let it descend the labels' cross-entropy."""
        try:
            logits: Tensor = state.host.step(state.host_state, images)
            return logits
        finally:
            state.objective.labels = None  # of this batch only

    def predict(self, state: OracleState, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images as the host predicts them."""
        return predicted(state.host, state.host_state, state.model, images)


@dataclass
class CrossEntropy:
    """The cross-entropy in nats of (N, classes) logits with true labels, (N,).

    Attributes
    ----------
    labels : (N,) of the batch at hand; None: not revealed.
    """

    labels: Tensor | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the losses. Raises RequestError before labels were revealed."""
        if self.labels is None:
            raise RequestError("an oracle takes a step without labels: expected reveal(state, labels) before it")
        return F.cross_entropy(logits, self.labels, reduction="none")


@dataclass
class OracleState:
    """The host, its state, the loss put into it, and the network that the host adapts."""

    host: Any
    host_state: Any
    objective: CrossEntropy
    model: nn.Module

    def facts(self) -> dict[str, Any]:
        """Return what the host says."""
        return facts_of(self.host_state)
