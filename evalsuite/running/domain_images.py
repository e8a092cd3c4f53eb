"""The test images of a stream as its domains show them: made or read once, kept in files, mapped into memory."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evalsuite import checksums
from evalsuite.corruptions import corrupt
from evalsuite.errors import RequestError
from evalsuite.files import mapped_array, reserve
from evalsuite.hashing import digest, digest_arrays
from evalsuite.optional_members import published_of
from evalsuite.plugins import ImageFiles, IntArray, TaskData, UInt8Array
from evalsuite.registry import Setting
from evalsuite.running.task_data import images_digest, task_data
from evalsuite.running.workspace import Workspace
from evalsuite.streams import CLEAN, Domain, Stream
from evalsuite.study.tables import Corruption
from evalsuite.study.trials import SCHEMA, Trial

_FRESH = 3600.0  # seconds within which a second use of a file is not noted
_CHUNK = 2**24  # bytes of images that are corrupted together; arithmetic on them takes several times as much


@dataclass(frozen=True, eq=False)
class DomainImages:
    """The test images ``indices`` (sorted) of a task as one domain shows them.

    ``key`` is the hash of all that the pixels depend on: equal keys, equal pixels, whatever the task or the run.
    """

    task: Setting
    domain: Domain
    corruption: Corruption
    indices: IntArray
    key: str

    def files(self, workspace: Workspace) -> tuple[Path, ...]:
        """Return the files that may keep the images, the last of which is written; none for clean ones."""
        return () if self.domain.name == CLEAN else workspace.images_files(self.key)

    def made(self, workspace: Workspace) -> bool:
        """Whether there is nothing to be made."""
        files = self.files(workspace)
        return not files or any(file.is_file() for file in files)

    def size(self, workspace: Workspace) -> int:
        """Return how many bytes the images take, give or take a file's header."""
        height, width, channels = task_data(self.task, workspace.root).test_images.shape[1:]
        return len(self.indices) * int(height * width * channels)

    def open(self, workspace: Workspace) -> OpenImages:
        """Open the images to be read; what is missing or broken is made again."""
        files = self.files(workspace)
        if not files:
            return OpenImages(task_data(self.task, workspace.root).test_images, None)
        for file in files:
            try:
                return OpenImages(self._mapped(file, workspace), self.indices)
            except (FileNotFoundError, NotADirectoryError):
                pass
            except (OSError, ValueError, EOFError) as error:
                checksums.warn_of(file, error, "its images are made again")
        self._write(files[-1], workspace)
        return OpenImages(self._mapped(files[-1], workspace), self.indices)

    def _mapped(self, file: Path, workspace: Workspace) -> UInt8Array:
        if time.time() - file.stat().st_mtime > _FRESH:
            with suppress(OSError):  # of a folder that is read only
                file.touch()  # the least recently used files of a shared folder go first
        checksums.verify_once(file)
        pixels: UInt8Array = mapped_array(file)
        shape = (len(self.indices), *task_data(self.task, workspace.root).test_images.shape[1:])
        if pixels.dtype != np.uint8 or pixels.shape != shape:
            raise ValueError(f"{pixels.dtype} of shape {pixels.shape} instead of uint8 of shape {shape}")
        return pixels

    def make(self, workspace: Workspace) -> None:
        """Corrupt the images, or read published ones, and keep them in a file, unless they are there already."""
        if not self.made(workspace):
            self._write(self.files(workspace)[-1], workspace)

    def _write(self, file: Path, workspace: Workspace) -> None:
        data = task_data(self.task, workspace.root)
        shape = (len(self.indices), *data.test_images.shape[1:])
        step = max(1, _CHUNK // int(np.prod(shape[1:])))
        files = published(self.task, workspace.root, self.domain, self.indices) if self._published else None
        with checksums.sealing(file) as temporary:
            pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
            reserve(temporary)
            for start in range(0, len(self.indices), step):
                chosen = self.indices[start : start + step]
                pixels[start : start + step] = files.read(chosen) if files else self._corrupted(data, chosen)
            pixels.flush()
            checksums.append_blank(temporary)

    @property
    def _published(self) -> bool:
        return self.corruption.files == "published"

    def _corrupted(self, data: TaskData, indices: IntArray) -> UInt8Array:
        return corrupt(
            np.asarray(data.test_images[indices]),
            self.domain.name,
            self.domain.severity,
            seed=self.corruption.seed,
            data_set=data.data_set,
            indices=indices,
            constants=self.corruption.constants,
            engine=self.corruption.engine,
        )


@dataclass(frozen=True, eq=False)
class OpenImages:
    """Images of one domain: row k of ``pixels`` is test image ``indices[k]``, or image k where that is None."""

    pixels: UInt8Array
    indices: IntArray | None

    def fetch(self, image: NDArray[np.integer]) -> UInt8Array:
        """Return (n, H, W, 3): these test images."""
        rows = image if self.indices is None else np.searchsorted(self.indices, image)
        return np.asarray(self.pixels[rows])


def domain_images(trial: Trial, stream: Stream, root: str | None) -> list[DomainImages]:
    """Return what a trial's stream shows of each of its domains.

    Raises
    ------
    RequestError
        If published images are asked for and not there.
    """
    data = task_data(trial.task, root)
    how = trial.corruption
    found = []
    for number, domain in enumerate(stream.domains):
        indices = np.unique(stream.image[stream.domain == number]).astype(np.int64)
        if domain.name == CLEAN:
            source: object = None
        elif how.files == "published":
            source = published(trial.task, root, domain, indices).version
        else:
            source = [SCHEMA, how.as_dict(), data.data_set]
        key = digest([images_digest(trial.task, root), domain.name, domain.severity, source, digest_arrays(indices)])
        found.append(DomainImages(trial.task, domain, how, indices, key))
    return found


def published(task: Setting, root: str | None, domain: Domain, indices: IntArray) -> ImageFiles:
    """Return the published files of a task's test images as a domain shows them.

    Raises
    ------
    RequestError
        If the task has none, or one of those asked for is missing or broken.
    """
    published_files = published_of(task.build())
    if published_files is None:
        raise RequestError(
            f'task {task.name!r} has no published corrupted images: expected [corruption] files = "regenerated"'
        )
    return published_files(root, domain, indices)


class StreamImages:
    """The images of a stream, fetched by batch from what its domains show."""

    def __init__(self, trial: Trial, stream: Stream, workspace: Workspace) -> None:
        self.shown = domain_images(trial, stream, workspace.root)
        self.images = [shown.open(workspace) for shown in self.shown]

    def fetch(self, image: NDArray[np.int32], domain: NDArray[np.int16]) -> UInt8Array:
        """Return (n, H, W, 3): test image ``image[k]`` as ``domain[k]`` shows it."""
        out = np.empty((len(image), *self.images[0].pixels.shape[1:]), dtype=np.uint8)
        for number in np.unique(domain):
            here = domain == number
            out[here] = self.images[number].fetch(image[here])
        return out


def trim(folder: Path, limit: float, keep: Collection[Path]) -> None:
    """Remove the least recently used ``.npy`` files of a folder beyond ``limit`` bytes, none of those in ``keep``."""
    files = []
    for file in folder.glob("[!.]*.npy"):
        try:
            status = file.stat()
        except FileNotFoundError:  # another run removed it
            continue
        files.append((status.st_mtime_ns, file.name, status.st_size))
    kept = {file.name for file in keep}
    excess = sum(size for _, _, size in files) - limit
    for _, name, size in sorted(files):
        if excess <= 0:
            return
        if name not in kept:
            with suppress(OSError):  # another user's
                (folder / name).unlink(missing_ok=True)
                excess -= size
