"""How a study is to be run: what the caller of a run may choose beside the study."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from evalsuite.environment import available_cores, threads_per_worker
from evalsuite.errors import RequestError
from evalsuite.running.backends import BACKENDS
from evalsuite.running.cluster import Cluster
from evalsuite.running.devices import resolve_devices
from evalsuite.running.pools import Pool
from evalsuite.running.workers import TIME_LIMIT, Here, Limits, Workers
from evalsuite.running.workspace import Workspace, cannot_write_images
from evalsuite.shared_cache import shared_cache

LOCAL = "local"
CACHE_GIGABYTES = 20.0
"""How much a folder of images that runs share may hold."""


@dataclass(frozen=True)
class RunOptions:
    """What a run may use; the fields are parameters of :func:`evalsuite.run`.

    Attributes
    ----------
    workers : processes, by default one a device; 0: one a core, or a GPU. On a cluster: how many items are done at
        once, by default all that it has places for.
    data_root : folder with images and weights, by default ``EVALSUITE_DATA``.
    device : ``auto``, ``cpu``, ``cuda`` (all GPUs, each worker one in turn) or a list like ``cuda:0,cuda:2``.
    cache : folder for images that runs share, by default ``EVALSUITE_CACHE``; without either, corrupted images lie in
        the run's folder.
    cache_gigabytes : beyond so many, the least recently used corrupted images there are removed, those of this run
        excepted. One that is read only gives what it has.
    time_limit : seconds after which one trial, one quantization or one domain's images are given up.
    in_process : run trials in this process, for a debugger; then one that dies or hangs is the end of the run.
    memory_limit : gigabytes that a process and all that it starts may hold; one that holds more loses the item that it
        is at. By default nearly all that is free.
    memory : gigabytes that a process is to keep to: quantizers' caches and the images of a pass are chosen by it, and
        it is a limit as well. Networks that cannot fit are refused before the run begins.
    retry_failed : try trials again that failed in an earlier call.
    backend : what hands the work out: ``local`` processes, or the engine of a cluster, ``dask`` or ``ray``.
    address : of the cluster, by default what the engine's own variable says.
    compile : evaluate networks that do not adapt by compiled code where the images to come repay compiling it
        (:mod:`evalsuite.running.compiled`). It rounds some last digits otherwise.
    max_failures : stop once more than this share, 0..1, of the trials that have ended failed, of 5 at least.

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
    retry_failed: bool = True
    max_failures: float = 1.0
    backend: str = LOCAL
    address: str | None = None
    memory: float | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise RequestError(f"workers = {self.workers}: expected at least 1, or 0 for one a core or GPU")
        if not self.cache_gigabytes >= 0:
            raise RequestError(f"cache of {self.cache_gigabytes} gigabytes: expected at least 0")
        if not self.time_limit > 0:
            raise RequestError(f"a time limit of {self.time_limit:g} s: expected more than 0")
        for name, size in (("a memory limit", self.memory_limit), ("a memory budget", self.memory)):
            if size is not None and not size > 0:
                raise RequestError(f"{name} of {size:g} GB: expected more than 0")
        if not 0 <= self.max_failures <= 1:
            raise RequestError(f"max failures = {self.max_failures:g}: expected a share of the trials, 0 to 1")
        if self.backend not in (LOCAL, *BACKENDS):
            raise RequestError(f"backend {self.backend!r}: expected {LOCAL}, {' or '.join(BACKENDS)}")
        if self.address is not None and self.backend == LOCAL:
            raise RequestError(
                f"address {self.address!r} without a cluster: expected --backend {' or '.join(BACKENDS)}"
            )
        if self.in_process and self.backend != LOCAL:
            raise RequestError(f"backend {self.backend!r} in this process: expected {LOCAL}")
        if self.in_process and (self.memory_limit or self.memory) is not None:
            raise RequestError("a memory limit in this process: expected worker processes, which alone can be ended")
        if self.in_process and self.count > 1:
            raise RequestError(f"{self.count} workers in this process: expected 1")

    @property
    def count(self) -> int:
        """How many processes there are to be."""
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
        if self.data_root and not Path(self.data_root).is_dir():
            raise RequestError(f"no folder {self.data_root}: expected one with images and weights (--data-root)")
        cache = Path(self.cache) if self.cache else shared_cache()
        return Workspace(
            folder.absolute(),
            str(Path(root).absolute()) if root else root,
            self._devices[0],
            threads_per_worker(self.count),
            cache.absolute() if cache else None,
            cannot_write_images(cache),
            self._devices,
            None if self.memory is None else 1e9 * self.memory,
        )

    def pool(self, workspace: Workspace) -> Pool:
        """Return what does the items, not entered yet."""
        if self.backend != LOCAL:
            return Cluster(self.backend, self.address, self.workers or 0, workspace, self.device, self.limits)
        return Here(workspace) if self.in_process else Workers(self.count, workspace, self.limits)

    @property
    def limits(self) -> Limits:
        """What a trial may take."""
        given = [1e9 * size for size in (self.memory_limit, self.memory) if size is not None]
        return Limits(self.time_limit, memory=min(given, default=None))
