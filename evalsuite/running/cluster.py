"""Doing a stage's items on the nodes of a Ray or Dask cluster, through these engines' own joblib backends.

An item is done as on one machine: by a worker process that the node starts, with the same limits. Where the nodes share
the run's folder, which is the normal case, they write into it; what another node wrote comes back with its result, and
is written by the process that drives the run.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from evalsuite import diagnoses
from evalsuite.errors import RequestError
from evalsuite.files import replacing, write_text
from evalsuite.isolation import Failure, reason_of
from evalsuite.running.backends import connected
from evalsuite.running.watch import Unwatched, Watch
from evalsuite.running.workers import Limits, Work, Workers
from evalsuite.running.workspace import Workspace, cannot_write_images
from evalsuite.study.trials import Trial

S = TypeVar("S")

PARTS_PER_WORKER = 8
"""Into about how many parts the work of each of a node's places is cut; ours."""
IDLE = 30.0
"""Seconds that a node keeps a worker process without work; ours."""
ATTEMPTS = 5
"""How often what lost nodes have not done is handed out again; ours."""
PAUSE = 5.0
"""Seconds before that, in which the engine finds out who is left; ours."""
_RETURNED = ("records", "jitter", diagnoses.FOLDER, ".work/models")
"""Folders of a run whose files come back from a node that does not share it."""


@dataclass(frozen=True)
class Node:
    """What a node is told of the run; the rest is settled there.

    Attributes
    ----------
    mark : file that is in the run's folder: a node that sees it shares the folder.
    data_root, cache : as on the driving machine, used where they are there; else what the node's variables say.
    device : as the user named it.
    memory : bytes that a process is to keep to by what it chooses, of the run's budget.
    """

    folder: Path
    mark: str
    data_root: str | None
    cache: Path | None
    device: str
    limits: Limits
    memory: float | None = None

    def workspace(self, folder: Path) -> Workspace:
        """Return where the node works; called on it."""
        from evalsuite.running.devices import resolve_devices

        root, cache = os.environ.get("EVALSUITE_DATA"), os.environ.get("EVALSUITE_CACHE")
        if self.data_root is not None and Path(self.data_root).is_dir():
            root = self.data_root
        if self.cache is not None and self.cache.is_dir():
            cache = str(self.cache)
        threads = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
        shared = Path(cache).absolute() if cache else None
        return Workspace(
            folder,
            root,
            resolve_devices(self.device)[0],
            int(threads) if threads.isdecimal() and int(threads) > 0 else 1,
            shared,
            cache_read_only=cannot_write_images(shared),
            memory=self.memory,
        )

    def kept(self) -> Slot:
        """Return what this thread of the node has kept of the run, or begins to."""
        slot: Slot | None = getattr(_this_thread, "slot", None)
        if slot is None or not slot.begin(self):
            slot = _this_thread.slot = Slot(self)
            slot.begin(self)
        return slot


class Slot:
    """What a thread of a node keeps from one part of the work to the next: a worker process, and a folder of its own.

    Both are given up when none has come for :data:`IDLE` seconds.
    """

    def __init__(self, node: Node) -> None:
        self._node, self._shared = node, (node.folder / node.mark).is_file()
        self._own = None if self._shared else tempfile.TemporaryDirectory(prefix="evalsuite-node-")
        self.workspace = node.workspace(Path(self._own.name) if self._own else node.folder)
        self._workers = Workers(1, self.workspace, node.limits)
        self._workers.__enter__()
        self._busy, self._timer, self._over = threading.Lock(), threading.Timer(IDLE, self.end), False

    def begin(self, node: Node) -> bool:
        """Whether this is of the run and still there; then it is until :meth:`pause`."""
        self._busy.acquire()
        self._timer.cancel()
        if self._over or node != self._node:
            self._busy.release()
            self.end()
            return False
        return True

    def pause(self) -> None:
        """Give it up unless :meth:`begin` is called soon."""
        self._timer = threading.Timer(IDLE, self.end)
        self._timer.daemon = True
        self._timer.start()
        self._busy.release()

    def end(self) -> None:
        """End the worker process and remove the folder, unless a part is under way."""
        if self._busy.acquire(blocking=False):
            self._over = True
            self._workers.__exit__()
            if self._own is not None:
                self._own.cleanup()
            self._busy.release()

    def do(self, work: Work[S], items: Sequence[S], models: Mapping[str, bytes]) -> Iterator[Done]:
        """Do items in order; ``models`` are files that a folder of its own may lack."""
        folder = self.workspace.folder
        numbers = {id(item): number for number, item in enumerate(items)}
        for name, content in {} if self._shared else models.items():
            _write(folder, name, content)
        known = {} if self._shared else _states(folder)
        for item, failure in self._workers.run(work, [items]):
            now = {} if self._shared else _states(folder)
            files = {name: (folder / name).read_bytes() for name, state in now.items() if known.get(name) != state}
            known = now
            yield numbers[id(item)], failure, files


_this_thread = threading.local()  # a node's engine calls functions, and tells them of nothing that lasts

Done = tuple[int, Failure | None, Mapping[str, bytes]]
"""Which item of a part, how it failed, if it did, and what it wrote where the folder is not shared."""


def do_part(which: int, node: Node, work: Work[S], items: Sequence[S], models: Mapping[str, bytes]) -> Part:
    """Do items on this node, in order, by one worker process."""
    slot = node.kept()
    try:
        return which, list(slot.do(work, items, models))
    finally:
        slot.pause()


Part = tuple[int, list[Done]]
"""Which part of the work, as parts come in any order, and how its items ended."""


def _states(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for place in _RETURNED:
        for file in (folder / place).glob("[!.]*"):
            state = file.stat()
            found[f"{place}/{file.name}"] = state.st_mtime_ns, state.st_size
    return found


def _write(folder: Path, name: str, content: bytes) -> None:
    """Write a file that another machine named, into a folder of :data:`_RETURNED` only."""
    path = PurePosixPath(name)
    if str(path.parent) not in _RETURNED or path.name in ("", ".", ".."):
        raise RequestError(f"a node returned a file {name!r}: expected one in {', '.join(_RETURNED)}")
    with replacing(folder / name) as temporary:
        temporary.write_bytes(content)


class Cluster:
    """Does items on a cluster's nodes; one that is lost costs only time.

    Parameters
    ----------
    backend : ``ray`` or ``dask``.
    address : of the cluster, by default what the engine's own variable says.
    workers : how many items are done at once; 0: as many as the cluster has places for.

    Raises
    ------
    RequestError
        On entering, if the engine is not installed or the cluster cannot be reached.
    """

    def __init__(
        self, backend: str, address: str | None, workers: int, workspace: Workspace, device: str, limits: Limits
    ) -> None:
        self._backend, self._address, self.count = backend, address, workers
        self._workspace = workspace
        self._node = Node(workspace.folder, "", workspace.root, workspace.cache, device, limits, workspace.memory)
        self._stack = ExitStack()
        self._apart = False
        """Whether a node has been met that does not share the run's folder."""

    def __enter__(self) -> Cluster:
        with ExitStack() as stack:
            self._calls = stack.enter_context(connected(self._backend, self._address, self.count))
            self.count = self._calls.jobs
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._node.mark:
            (self._node.folder / self._node.mark).unlink(missing_ok=True)
            self._node = replace(self._node, mark="")
        self._stack.__exit__(*error)

    def renew(self) -> None:
        """Do nothing: each part has a worker process of its own."""

    def run(
        self, work: Work[S], items: Sequence[Sequence[S]], watch: Watch | None = None
    ) -> Iterator[tuple[S, Failure | None]]:
        """Do the items, which come in groups that share something, and yield each with how it failed, as parts end.

        Raises
        ------
        RequestError
            If the cluster has been lost :data:`ATTEMPTS` times.
        """
        watch = watch or Unwatched()
        number = max(1, min(len(items), PARTS_PER_WORKER * self.count))
        left = dict(enumerate([list(chain(*items[start::number])) for start in range(number)]))
        node = self._marked()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                calls = [(which, node, work, part, self._models(part)) for which, part in left.items()]
                for which, done in self._calls.results(do_part, calls):
                    part = left.pop(which)
                    for index, failure, files in done:
                        self._keep(files)
                        yield part[index], failure
                    watch.tick()
                return
            except (RequestError, KeyboardInterrupt, GeneratorExit):
                raise
            except Exception as error:  # each engine has its own for a node that is lost
                if attempt == ATTEMPTS:
                    raise RequestError(f"the {self._backend} cluster was lost: {reason_of(error)}") from error
                time.sleep(PAUSE)

    def _marked(self) -> Node:
        """Return what nodes are told, with a file in the run's folder by which those that share it know."""
        if not self._node.mark:
            self._node = replace(self._node, mark=f".shared-{secrets.token_hex(8)}")
            write_text(self._node.folder / self._node.mark, "nodes that see this file share the run's folder\n")
        return self._node

    def _keep(self, files: Mapping[str, bytes]) -> None:
        self._apart = self._apart or bool(files)
        for name, content in files.items():
            _write(self._workspace.folder, name, content)

    def _models(self, part: Sequence[Any]) -> dict[str, bytes]:
        """Return the files of quantized models that a node may lack, where one has been met that shares no folder."""
        needed = {item.quantization for item in part if isinstance(item, Trial)} if self._apart else set()
        files = {self._workspace.model_file(model) for model in needed}
        return {f".work/models/{file.name}": file.read_bytes() for file in sorted(files) if file.is_file()}
