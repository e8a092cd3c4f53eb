"""Random numbers for a batch of images in which every image has a generator of its own.

Philox (Salmon et al. 2011) is a function of a key and a counter. The key says what is drawn for (seed, data set,
corruption, severity), the upper half of the counter for which image and which of its draws; so an image's numbers
depend on nothing else, and starting its generator costs no more than setting a counter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.plugins import IntArray

FloatArray = NDArray[np.float32]


class Draws:
    """The random numbers of some images; each call is the next draw of each.

    Parameters
    ----------
    indices : (N,) the images' own indices.
    keys : what is drawn for: seed, data set, corruption, severity.
    """

    def __init__(self, indices: IntArray, *keys: str | int) -> None:
        named = hashlib.sha256("\x1f".join(map(str, keys)).encode()).digest()
        self._key = np.frombuffer(named, "<u8", count=2).astype(np.uint64)
        self._indices = [int(index) % 2**64 for index in indices]
        self._philox = np.random.Philox(0)
        self._generator = np.random.Generator(self._philox)
        self._calls = 0

    def __len__(self) -> int:
        return len(self._indices)

    def _generators(self) -> Iterator[np.random.Generator]:
        counter = np.array([0, 0, self._calls, 0], np.uint64)
        state: Any = {
            "bit_generator": "Philox",
            "state": {"counter": counter, "key": self._key},
            "buffer": np.zeros(4, np.uint64),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }
        self._calls += 1
        for index in self._indices:
            counter[3] = index
            self._philox.state = state
            yield self._generator

    def words(self, count: int) -> NDArray[np.uint16]:
        """Uniform 16-bit numbers: (N, count) uint16."""
        longs = -(-count // 4)
        out = np.empty((len(self), longs), np.uint64)
        for row, generator in zip(out, self._generators(), strict=True):
            row[:] = generator.bit_generator.random_raw(longs)
        return out.view(np.uint16)[:, :count]

    def uniform(self, *shape: int) -> FloatArray:
        """Uniform on [0, 1): (N, *shape) float32."""
        out = np.empty((len(self), *shape), np.float32)
        for row, generator in zip(out, self._generators(), strict=True):
            generator.random(dtype=np.float32, out=row)
        return out

    def normal(self, *shape: int) -> FloatArray:
        """Standard normal: (N, *shape) float32."""
        out = np.empty((len(self), *shape), np.float32)
        for row, generator in zip(out, self._generators(), strict=True):
            generator.standard_normal(dtype=np.float32, out=row)
        return out

    def below(self, limits: IntArray) -> IntArray:
        """Uniform whole numbers 0 <= n < limit: ``limits`` and result (N, K) int64."""
        out = np.empty(limits.shape)
        for row, generator in zip(out, self._generators(), strict=True):
            generator.random(out=row)
        return (out * limits).astype(np.int64)
