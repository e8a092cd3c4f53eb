"""A stream of test images, to begin with: what is shown, in which order, in which batches.

Does it keep its contract? ``pytest test_mine.py``.
In a study: ``protocol = "mine.py:Mine"`` under ``[[stream]]``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evalsuite.corruptions import check
from evalsuite.errors import RequestError
from evalsuite.plugins import IntArray
from evalsuite.streams import Domain, Stream, batch_starts


@dataclass(frozen=True)
class Mine:
    """Clean images, the same ones corrupted, and clean ones again.

    Parameters
    ----------
    corruption : what happens to the images; `evalsuite list corruptions` names them.
    severity : of it, 1..5.
    images : shown in each part.
    batch_size : images of a batch.
    """

    # Options are fields. Each has to change something, and one without a default has to be given.
    corruption: str = "fog"
    severity: int = 3
    images: int = 200
    batch_size: int = 50

    def __post_init__(self) -> None:
        check(self.corruption, self.severity)
        if self.images < 1 or self.batch_size < 1:
            raise RequestError(f"images = {self.images}, batch_size = {self.batch_size}: expected at least 1 of each")

    def __str__(self) -> str:
        return f"{self.corruption} {self.severity} between clean images"  # what reports call the stream

    @property
    def length(self) -> int:
        """Images of the whole stream; not needed where it is ``images`` times the domains."""
        return 3 * self.images

    def domains(self) -> tuple[Domain, ...]:
        """Return how images look in this stream, each way once."""
        return Domain(), Domain(self.corruption, self.severity)

    def plan(self, labels: IntArray, generator: np.random.Generator) -> Stream:
        """Lay the stream out over a test set with these (N,) labels; all that is drawn comes from ``generator``."""
        if self.images > len(labels):
            raise RequestError(f"{self.images} images: the test set has {len(labels)}")
        shown = [generator.permutation(len(labels))[: self.images]] * 3
        image = np.concatenate(shown).astype(np.int32)
        domain = np.repeat(np.array([0, 1, 0], np.int16), self.images)  # of domains(), for each image
        starts = batch_starts(len(image), self.batch_size)
        resets = np.zeros(len(starts), np.bool_)  # whether adapters are reset before a batch
        return Stream(self.domains(), image, domain, starts, resets)
