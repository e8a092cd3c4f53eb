"""Continual streams: one corruption after the other, each with the same test images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from evalsuite.corruptions import COMMON, check
from evalsuite.errors import RequestError
from evalsuite.plugins import IntArray
from evalsuite.streams import CLEAN, Domain, Stream, batch_starts


@dataclass(frozen=True)
class ContinualOrder:
    """The common corruptions one after the other, in the usual or the reversed order.

    Every domain shows the first ``images`` test images, shuffled anew. Batches do not stop at the end of a
    domain, because nothing tells a deployed model where it is; with ``reset="domain"`` an oracle does: batches
    then end there and the adapter is reset.
    """

    order: Literal["usual", "reversed"] = "usual"
    severity: int = 5
    images: int = 1000
    batch_size: int = 64
    clean_first: bool = False
    reset: Literal["never", "domain"] = "never"
    corruptions: tuple[str, ...] = COMMON

    def __post_init__(self) -> None:
        for name in self.corruptions:
            check(name, self.severity)
        if not self.corruptions or self.images < 1 or self.batch_size < 1:
            raise RequestError(
                f"a stream of {len(self.corruptions)} corruptions x {self.images} images in batches of "
                f"{self.batch_size}: expected at least one of each"
            )

    def __str__(self) -> str:
        oracle = ", oracle reset" if self.reset == "domain" else ""
        return f"{self.order} order, severity {self.severity}{oracle}"

    def domains(self) -> tuple[Domain, ...]:
        """Return the corruptions at this severity, in stream order, after ``clean`` if that is asked for."""
        names = self.corruptions if self.order == "usual" else self.corruptions[::-1]
        clean = (Domain(CLEAN, 0),) if self.clean_first else ()
        return clean + tuple(Domain(name, self.severity) for name in names)

    def plan(self, labels: IntArray, generator: np.random.Generator) -> Stream:
        """Lay out the stream. Raises RequestError if the test set has fewer images."""
        if self.images > len(labels):
            raise RequestError(f"{self.images} images a domain: the test set has {len(labels)}")
        domains = self.domains()
        image = np.concatenate([generator.permutation(self.images) for _ in domains]).astype(np.int32)
        domain = np.repeat(np.arange(len(domains), dtype=np.int16), self.images)
        if self.reset == "never":
            starts = batch_starts(len(image), self.batch_size)
            resets = np.zeros(len(starts), dtype=np.bool_)
        else:
            within = batch_starts(self.images, self.batch_size)
            starts = np.concatenate([within + k * self.images for k in range(len(domains))])
            resets = np.tile(within == 0, len(domains))
        return Stream(domains, image, domain, starts, resets)
