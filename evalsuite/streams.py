"""Streams of test images as values: which image, under which domain, in which batch, reset when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalsuite.hashing import digest, digest_arrays

CLEAN = "clean"


@dataclass(frozen=True, order=True)
class Domain:
    """A way the test images look: a corruption at a severity, or ``clean`` at severity 0."""

    name: str = CLEAN
    severity: int = 0

    def __post_init__(self) -> None:
        if (self.name == CLEAN) != (self.severity == 0) or not 0 <= self.severity <= 5:
            raise ValueError(f"domain {self.name!r} at severity {self.severity}: expected 1..5, or clean at 0")

    def __str__(self) -> str:
        return self.name if self.severity == 0 else f"{self.name} {self.severity}"


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch of a stream: positions ``start..stop``, the images and domains there, and whether to reset first."""

    start: int
    image: NDArray[np.int32]
    domain: NDArray[np.int16]
    reset: bool


@dataclass(frozen=True, eq=False)
class Stream:
    """An ordered, batched list of (image, domain).

    Attributes
    ----------
    domains : the domains that ``domain`` counts through.
    image : (T,) index into the task's test set.
    domain : (T,) index into ``domains``.
    starts : (B,) position at which each batch begins, the first 0.
    resets : (B,) whether adapters are reset before the batch.
    """

    domains: tuple[Domain, ...]
    image: NDArray[np.int32]
    domain: NDArray[np.int16]
    starts: NDArray[np.int64]
    resets: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if len(self.image) == 0 or len(self.image) != len(self.domain):
            raise ValueError(f"{len(self.image)} images and {len(self.domain)} domains: expected as many, at least one")
        if len(self.starts) != len(self.resets) or self.starts[0] != 0 or np.any(np.diff(self.starts) <= 0):
            raise ValueError("batch starts must rise from 0 and have one reset flag each")
        if self.starts[-1] >= len(self.image) or self.domain.max() >= len(self.domains):
            raise ValueError("a batch begins after the stream's end, or a domain is not in the list")

    def __len__(self) -> int:
        return len(self.image)

    def batches(self) -> Iterator[Batch]:
        """Walk through the stream."""
        stops = np.append(self.starts[1:], len(self))
        for start, stop, reset in zip(self.starts, stops, self.resets, strict=True):
            yield Batch(int(start), self.image[start:stop], self.domain[start:stop], bool(reset))

    def digest(self) -> str:
        """Hash of everything in the stream."""
        domains = [[domain.name, domain.severity] for domain in self.domains]
        return digest([domains, digest_arrays(self.image, self.domain, self.starts, self.resets)])


def batch_starts(length: int, batch_size: int) -> NDArray[np.int64]:
    """Positions at which batches of ``batch_size`` begin in a stream of ``length`` images."""
    if batch_size < 1:
        raise ValueError(f"batch size {batch_size}: expected at least 1")
    return np.arange(0, length, batch_size, dtype=np.int64)
