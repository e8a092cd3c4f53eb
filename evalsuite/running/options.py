"""How a study is to be run: what the caller of a run may choose beside the study."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from evalsuite.environment import available_cores, threads_per_worker
from evalsuite.errors import RequestError
from evalsuite.running.devices import resolve_devices
from evalsuite.running.workers import TIME_LIMIT, Here, Limits, Workers
from evalsuite.running.workspace import Workspace
from evalsuite.shared_cache import shared_cache

CACHE_GIGABYTES = 20.0
"""How much a folder of images that runs share may hold."""


@dataclass(frozen=True)
class RunOptions:
    """What a run may use; the fields are the parameters of :func:`evalsuite.run`.

    Raises
    ------
    RequestError
        If one is impossible.
    """

    workers: int | None = None
    data_root: str | None = None
    device: str = "auto"
    cache: str | Path | None = None
    cache_gigabytes: float = CACHE_GIGABYTES
    time_limit: float = TIME_LIMIT
    in_process: bool = False
    memory_limit: float | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise RequestError(f"workers = {self.workers}: expected at least 1, or 0 for one a core or GPU")
        if not self.cache_gigabytes >= 0:
            raise RequestError(f"cache of {self.cache_gigabytes} gigabytes: expected at least 0")
        if not self.time_limit > 0:
            raise RequestError(f"a time limit of {self.time_limit:g} s: expected more than 0")
        if self.memory_limit is not None and not self.memory_limit > 0:
            raise RequestError(f"a memory limit of {self.memory_limit:g} GB: expected more than 0")
        if self.in_process and self.memory_limit is not None:
            raise RequestError("a memory limit in this process: expected worker processes, which alone can be ended")
        if self.in_process and self._count > 1:
            raise RequestError(f"{self._count} workers in this process: expected 1")

    @property
    def _count(self) -> int:
        if self.workers:
            return self.workers
        if self._devices[0].startswith("cuda"):  # each process fills one with its networks
            return 1 if self.in_process else len(self._devices)
        return 1 if self.workers is None else available_cores()

    @functools.cached_property
    def _devices(self) -> tuple[str, ...]:
        return resolve_devices(self.device)

    @property
    def cache_bytes(self) -> float:
        """How many bytes of images the shared folder may hold."""
        return 1e9 * self.cache_gigabytes

    def workspace(self, folder: Path) -> Workspace:
        """Return where a run in a folder lies; its paths are absolute, for a plugin may change the working folder."""
        root = self.data_root or os.environ.get("EVALSUITE_DATA")
        cache = Path(self.cache) if self.cache else shared_cache()
        return Workspace(
            folder.absolute(),
            str(Path(root).absolute()) if root else root,
            self._devices[0],
            threads_per_worker(self._count),
            cache.absolute() if cache else None,
            self._devices,
        )

    def pool(self, workspace: Workspace) -> Here | Workers:
        """Return what does the items, not entered yet."""
        return Here(workspace) if self.in_process else Workers(self._count, workspace, self.limits)

    @property
    def limits(self) -> Limits:
        """What a trial may take."""
        return Limits(self.time_limit, memory=None if self.memory_limit is None else 1e9 * self.memory_limit)
