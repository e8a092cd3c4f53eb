"""Losses without labels."""

from __future__ import annotations

from torch import Tensor


def softmax_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of the softmax of (N, classes) logits: (N,)."""
    logs = logits.log_softmax(dim=1)
    return -(logs.exp() * logs).sum(dim=1)


def cross_entropy_between(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy in nats of the softmax of (N, classes) logits with that of ``target``: (N,)."""
    return -(target.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1)
