"""Every random draw has a generator of its own, derived from a seed and the names of what it is for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from evalsuite.arguments import whole_number

if TYPE_CHECKING:
    import torch

Key = str | int


def _entropy(seed: int, keys: tuple[Key, ...]) -> int:
    text = "\x1f".join([str(whole_number("seed", seed)), *(str(key) for key in keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


def numpy_generator(seed: int, *keys: Key) -> np.random.Generator:
    """Return the generator of (seed, keys): independent of order, process and machine; 7.0 is 7 (RequestError: 7.5)."""
    return np.random.Generator(np.random.PCG64(_entropy(seed, keys)))


def torch_generator(seed: int, *keys: Key) -> torch.Generator:
    """Return a CPU generator of (seed, keys); draw on the CPU and move, so that devices agree."""
    import torch

    return torch.Generator().manual_seed(_entropy(seed, keys) % 2**63)
