"""Collapse: a network that has come to predict one class for nearly everything."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

WINDOW = 500
"""Images that are looked at."""
SHARE = 0.95
"""Of them predicted as one class, above which a network has collapsed."""

_BLOCK = 2**16  # positions looked at together, so that a long stream takes no memory


def first_collapse(
    prediction: NDArray[np.int32], label: NDArray[np.int32], window: int = WINDOW, share: float = SHARE
) -> int | None:
    """Return the first position of a stream whose last ``window`` images collapse, or None.

    They do where more than ``share`` of the (T,) predictions are one class, unless as many of the labels are: a
    label-sorted stream has such stretches by right. The thresholds are ours.
    """
    if len(prediction) < window:
        return None
    least = share * window
    for start in range(0, len(prediction) - window + 1, _BLOCK):
        block = slice(start, start + _BLOCK + window - 1)
        collapsed = _dominated(prediction[block], window, least) & ~_dominated(label[block], window, least)
        if collapsed.any():
            return start + int(np.argmax(collapsed)) + window - 1
    return None


def _dominated(values: NDArray[np.int32], window: int, least: float) -> NDArray[np.bool_]:
    """Return, for each stretch of ``window`` values, whether more than ``least`` of them are equal."""
    found = np.zeros(len(values) - window + 1, dtype=np.bool_)
    kinds, counts = np.unique(values, return_counts=True)
    for kind in kinds[counts > least]:
        total = np.concatenate([[0], np.cumsum(values == kind)])
        found |= total[window:] - total[:-window] > least
    return found


@dataclass
class CollapseWatch:
    """Watches predictions as they come, for the reset rule ``collapse``; it sees no label."""

    window: int = WINDOW
    share: float = SHARE
    recent: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    def collapsed(self, prediction: NDArray[np.int32]) -> bool:
        """Take a batch's (n,) predictions; say whether the last ``window`` are nearly all one class, then forget."""
        self.recent = np.concatenate([self.recent, prediction])[-self.window :]
        if len(self.recent) < self.window or np.bincount(self.recent).max() <= self.share * self.window:
            return False
        self.recent = self.recent[:0]
        return True
