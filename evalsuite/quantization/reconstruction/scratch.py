"""Intermediate values of many images, kept in memory or on disk."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from evalsuite.errors import Refused
from evalsuite.layout import Layout
from evalsuite.quantization.grids.range_setting import batches

_BATCH = 64  # images at a time


class Scratch:
    """Room for large tensors while a context lasts: memory up to a limit, memory-mapped temporary files beyond.

    Parameters
    ----------
    limit : bytes of memory.
    """

    def __init__(self, limit: float) -> None:
        self._left = limit
        self._files = 0
        self._folder = tempfile.TemporaryDirectory(prefix="evalsuite-")
        self._rooms: dict[int, float | Path] = {}

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def empty(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return an uninitialised tensor of a shape; on the device of ``like`` if it fits the memory."""
        needed = math.prod(shape) * like.element_size()
        if needed <= self._left:
            self._left -= needed
            made = like.new_empty(shape)
            self._rooms[made.untyped_storage().data_ptr()] = needed
            return made
        self._files += 1
        file = Path(self._folder.name) / str(self._files)
        made = torch.from_file(str(file), shared=True, size=math.prod(shape), dtype=like.dtype).reshape(shape)
        self._rooms[made.untyped_storage().data_ptr()] = file
        return made

    def release(self, tensor: Tensor) -> None:
        """Take back the room of a tensor, or a view of one, that :meth:`empty` returned; nothing may read it then."""
        room = self._rooms.pop(tensor.untyped_storage().data_ptr())
        if isinstance(room, Path):
            room.unlink()
        else:
            self._left += room


class Kept:
    """Tensors that arrive batch by batch and hold a row for each image; maps that come with channels last are kept so.

    What is the same for all images is kept once.

    Parameters
    ----------
    count : number of images.
    scratch : where they are kept.
    name : what they are, for errors.
    layout : where the images are in what arrives.
    """

    def __init__(self, count: int, scratch: Scratch, name: str = "a tensor", layout: Layout | None = None) -> None:
        self.layout = Layout() if layout is None else layout
        self.count = count if self.layout.dim is not None else 1
        self.name = name
        self._scratch = scratch
        self._done = 0
        self._last = False
        self._rows: Tensor | None = None

    def add(self, batch: Tensor) -> None:
        """Append the rows of a batch. Raises Refused where there are more of them than images."""
        batch = self._images_first(batch.detach())
        if self._rows is None:
            self._last = batch.ndim == 4 and batch.is_contiguous(memory_format=torch.channels_last)
        batch = batch.permute(0, 2, 3, 1) if self._last else batch
        if self._rows is None:
            self._rows = self._scratch.empty((self.count, *batch.shape[1:]), batch)
        start = self._done if self.layout.dim is not None else 0
        if start + len(batch) > self.count or batch.shape[1:] != self._rows.shape[1:]:
            raise self._misshapen(batch)
        self._rows[start : start + len(batch)] = batch
        self._done = start + len(batch)

    def _images_first(self, batch: Tensor) -> Tensor:
        try:
            return self.layout.rows(batch)
        except (IndexError, RuntimeError):
            raise self._misshapen(batch) from None

    def _misshapen(self, batch: Tensor) -> Refused:
        return Refused(f"{self.name}: shape {tuple(batch.shape)} for some images; expected one row of equal shape each")

    def _written(self) -> Tensor:
        if self._rows is None or self._done < self.count:
            raise Refused(f"{self.name}: {self._done} rows for {self.count} images; expected one each")
        return self._rows

    @property
    def rows(self) -> Tensor:
        """All rows, images first, (count, ...): a view. Raises Refused unless all of them have arrived."""
        rows = self._written()
        return rows.permute(0, 3, 1, 2) if self._last else rows

    def take(self, chosen: Tensor, like: Tensor) -> Tensor:
        """Return copies of some images' rows, laid out as they came, on the device of another tensor."""
        rows = self._written()
        if self.layout.dim is None:
            chosen = chosen.new_zeros(1)
        found = rows.index_select(0, chosen.to(rows.device)).to(like.device)
        return self.layout.restore(found.permute(0, 3, 1, 2) if self._last else found)

    def parts(self, size: int = _BATCH) -> Iterator[Tensor]:
        """Cut what is kept into batches of at most ``size`` images, laid out as they came."""
        for start in range(0, self.count, size):
            yield self.part(start, size)

    def part(self, start: int, size: int) -> Tensor:
        """Return a batch of some images that follow one another."""
        start = start if self.layout.dim is not None else 0
        return self.layout.restore(self.rows[start : start + size])

    def finite(self) -> bool:
        """Whether there is no NaN and no infinity."""
        # A sum is finite only if all is; where it is not it may have overflowed.
        return all(bool(part.sum().isfinite()) or bool(part.isfinite().all()) for part in batches(self._written()))

    def release(self) -> None:
        """Give up the rows and their room."""
        if self._rows is not None:
            self._scratch.release(self._rows)
            self._rows = None
