"""Streams that were written to a file, shown again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evalsuite.corruptions import check
from evalsuite.errors import RequestError
from evalsuite.plugins import IntArray
from evalsuite.streams import CLEAN, Domain, Stream


@dataclass(frozen=True)
class Replay:
    """A stream from a file that ``Stream.save`` wrote, the same for every seed.

    Parameters
    ----------
    file : its path.
    digest : what ``Stream.digest`` says of its content; filled in where it is not given, so that a trial is known by
        what the file holds.

    Raises
    ------
    RequestError
        If the file is missing, is not a stream, or holds another one than ``digest`` says.
    """

    file: str
    digest: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", str(Path(self.file)))
        if not self.digest:
            object.__setattr__(self, "digest", Stream.load(self.file).digest())

    def __str__(self) -> str:
        return f"replay of {Path(self.file).stem}"

    @property
    def length(self) -> int:
        """Number of images in the stream."""
        return len(self._stream())

    def domains(self) -> tuple[Domain, ...]:
        """Return the file's domains."""
        return self._stream().domains

    def plan(self, labels: IntArray, generator: np.random.Generator) -> Stream:
        """Return the file's stream. Raises RequestError if it shows images that the test set does not have."""
        stream = self._stream()
        if stream.image.max() >= len(labels):
            raise RequestError(
                f"{self.file} shows test image {stream.image.max()}: expected less than {len(labels)}, the test set's "
                "size"
            )
        return stream

    def _stream(self) -> Stream:
        stream = Stream.load(self.file)
        if stream.digest() != self.digest:
            raise RequestError(f"{self.file} holds the stream {stream.digest()}: expected {self.digest}")
        for domain in stream.domains:
            if domain.name != CLEAN:
                check(domain.name, domain.severity)
        return stream
