"""Processes that do the items of a stage: one that dies, or does not end, costs the item that it was at.

Which item that was is always known, for every process has a line of its own to this one and is given one item at a
time. An item whose process died is tried once more, after all others and with no other process beside it.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, TypeVar

from evalsuite.environment import keep_freed_memory
from evalsuite.errors import ReasonCode, RequestError, one_line_warnings
from evalsuite.isolation import Failure, Forks, attempt, interrupts, nothing_left, printable
from evalsuite.running.alive import born
from evalsuite.running.devices import alone, device_of, free_number
from evalsuite.running.guardian import TOKEN, Guardian
from evalsuite.running.process_state import restored
from evalsuite.running.system import (
    end_marked,
    limit_memory,
    out_of_memory_kills,
    processor_seconds,
    resident_bytes,
    signal_name,
    standard_error,
)
from evalsuite.running.watch import Unwatched, Watch
from evalsuite.running.workspace import Workspace
from evalsuite.shared_cache import sharing

S = TypeVar("S")

Work = Callable[[S, Workspace, dict[str, Any]], None]
"""Does an item; the last argument is what the process keeps from one item to the next."""

TIME_LIMIT = 86_400.0
"""Seconds that one item may take; ours."""
IDLE_LIMIT = 300.0
"""Seconds after which an item counts as hung whose process, with all that it started, uses no processor time; ours."""
_IDLE_SHARE = 0.002  # of one core, below which a process is idle: a thread that wakes now and then does no work
_TICK = 0.5  # seconds between two looks at the processes
_LOOK = 10.0  # seconds between two looks at their processor time
_PDEATHSIG = 1  # of <sys/prctl.h>

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from evalsuite.running.workers import serve; serve()"


def do(
    work: Work[S],
    item: S,
    workspace: Workspace,
    kept: dict[str, Any],
    forks: Forks,
    interrupted: Callable[[], bool],
) -> tuple[Failure | None, bool]:
    """Do one item in this process; return how it failed, if it did, and whether something of it still runs."""
    import torch

    left: list[str] = []
    with sharing(workspace.cache), restored(getattr(item, "seed", 0)), nothing_left(left, forks):
        keep_freed_memory()
        torch.set_num_threads(workspace.threads)
        failure = attempt(lambda: work(item, workspace, kept), interrupted)
    if left and failure is None:
        lasting = f"it left {printable(', '.join(left), 300)} running: expected nothing that lasts beyond it"
        failure = Failure("failed", lasting, ReasonCode.LEFT_RUNNING)
    return failure, bool(left)


class Here:
    """Does items in this process, where a debugger sees them; one that dies or hangs is the run's end."""

    count = 1

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._forks = workspace, Forks()

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def renew(self) -> None:
        """Do nothing: there is this process only."""

    def run(
        self, work: Work[S], items: Sequence[Sequence[S]], watch: Watch | None = None
    ) -> Iterator[tuple[S, Failure | None]]:
        """Do the items, which come in groups that share something, and yield each with how it failed, if it did."""
        kept: dict[str, Any] = {}
        watch, own = watch or Unwatched(), born(os.getpid())
        with interrupts() as interrupted:
            for item in (item for group in items for item in group):
                watch.started(item, os.getpid(), own)
                yield item, do(work, item, self._workspace, kept, self._forks, interrupted)[0]


@dataclass(frozen=True)
class Limits:
    """What an item may take.

    Attributes
    ----------
    seconds : until it ends.
    idle : seconds without processor time used.
    memory : bytes that its process and all that this started may hold; None: nearly all that is free.
    """

    seconds: float = TIME_LIMIT
    idle: float = IDLE_LIMIT
    memory: float | None = None


class Workers:
    """A number of processes, started when the context is entered and renewed when they die.

    Parameters
    ----------
    count : processes.
    """

    def __init__(self, count: int, workspace: Workspace, limits: Limits | None = None) -> None:
        self.count, self._workspace, self._limits = count, workspace, limits or Limits()
        self._workers: list[_Worker] = []
        self._guardian: Guardian | None = None

    def __enter__(self) -> Workers:
        self._fill(self.count)  # what they import takes seconds, in which the caller has other things to do
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def renew(self) -> None:
        """End all processes, with all that items left running; the next items get new ones."""
        self._stop()

    def run(
        self, work: Work[S], items: Sequence[Sequence[S]], watch: Watch | None = None
    ) -> Iterator[tuple[S, Failure | None]]:
        """Do the items and yield each with how it failed, if it did, as they come; ``watch`` is told what is begun.

        The items of a group are done in order by one process, which may keep what they share.

        Raises
        ------
        RequestError
            If processes cannot be started.
        """
        suspects: list[S] = []
        watch = watch or Unwatched()
        yield from self._do(work, items, self.count, suspects.append, watch)
        if suspects:
            self._stop()
        for suspect in suspects:
            yield from self._do(work, [[suspect]], 1, None, watch)

    def _do(
        self,
        work: Work[S],
        items: Sequence[Sequence[S]],
        count: int,
        suspect: Callable[[S], None] | None,
        watch: Watch,
    ) -> Iterator[tuple[S, Failure | None]]:
        """Do the items; one whose process died is given to ``suspect``, where there is one, instead of yielded."""
        waiting = deque(deque(group) for group in items)
        while waiting or any(worker.group for worker in self._workers):
            self._fill(min(count, len(waiting) + sum(bool(worker.group) for worker in self._workers)))
            for worker in self._workers:
                if not worker.group and waiting:
                    worker.group = waiting.popleft()
                worker.go_on(work, replace(self._workspace, device=worker.device, devices=()), watch)
            watch.tick()
            wait([worker.connection for worker in self._workers], timeout=_TICK)
            for worker in list(self._workers):
                ending = worker.look(self._limits, self._workspace)
                if ending is None:
                    continue
                if ending.of_item:
                    item = worker.group.popleft()
                    if ending.died and suspect is not None:
                        suspect(item)
                    else:
                        yield item, _again(ending.failure) if ending.died else ending.failure
                if ending.of_process:
                    if worker.group:
                        waiting.appendleft(worker.group)
                    self._workers.remove(worker)

    def _fill(self, count: int) -> None:
        self._guardian = self._guardian or Guardian()
        while len(self._workers) < count:
            number = free_number([worker.number for worker in self._workers])
            device = device_of(number, self._workspace.devices or (self._workspace.device,))
            self._workers.append(_Worker(self._workspace.threads, self._limits.memory, self._guardian, number, device))

    def _stop(self) -> None:
        for worker in self._workers:
            worker.connection.close()
        while self._workers:
            self._workers.pop().end()
        if self._guardian is not None:
            self._guardian.close()
            self._guardian = None


def _again(failure: Failure | None) -> Failure | None:
    return failure and failure._replace(reason=f"{failure.reason}; tried again alone, it did so again")


@dataclass(frozen=True)
class _Ending:
    """That an item has ended, or its process, or both."""

    of_item: bool
    of_process: bool
    failure: Failure | None
    died: bool = False
    """Whether the process ended by itself, which need not be the item's doing."""


class _Worker:
    """A process, the line to it and the items that it is to do, the first of which it may be at."""

    def __init__(self, threads: int, memory: float | None, guardian: Guardian, number: int, device: str) -> None:
        self.number = number
        self.device, only = alone(device, os.environ)
        self.connection, other = Pipe()
        arguments = [json.dumps(sys.path), str(other.fileno()), str(os.getpid()), json.dumps(memory)]
        self._token = guardian.token + secrets.token_hex(16)
        self._temporary = tempfile.mkdtemp(dir=guardian.temporary)
        own = {TOKEN: self._token, "TMPDIR": self._temporary}  # so that what it starts and leaves is found
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *arguments],
            env=dict.fromkeys(_THREADS, str(threads)) | os.environ | own | only,
            stdin=subprocess.DEVNULL,
            stdout=standard_error(),  # what a plugin prints is no output of the command
            pass_fds=[other.fileno()],
            start_new_session=True,  # so that all that it starts can be ended with it
        )
        other.close()
        self.group: deque[Any] = deque()
        self._used: float | None = None  # processor time when it was last looked at; most items end before that
        self._ready = self._busy = False

    def go_on(self, work: Work[Any], workspace: Workspace, watch: Watch) -> None:
        """Give the process the first of its items, unless it is at one."""
        if self._ready and not self._busy and self.group:
            with suppress(OSError):  # it is dead, which the next look will see
                self.connection.send((work, self.group[0], workspace))
                self._busy = True
                watch.started(self.group[0], self._process.pid, born(self._process.pid))
                self._since = self._moved = self._looked = time.monotonic()
                self._used, self._starved = None, out_of_memory_kills()

    def look(self, limits: Limits, workspace: Workspace) -> _Ending | None:
        """Return what has ended, if anything has; a process that is over its limits is ended."""
        try:
            while self.connection.poll():
                message = self.connection.recv()
                if message is not None:
                    failure, spoiled = message
                    self._busy = False
                    if spoiled:
                        self.end()
                    return _Ending(True, spoiled, failure)
                self._ready = True
            lost = False
        except (EOFError, OSError):
            lost = True
        how = self._ending(wait_for=2.0 if lost else 0.0) or ("closed its line to the run" if lost else "")
        if how:
            return self._died(how, workspace)
        late = self._late(limits) if self._busy else None
        if late:
            self.end()
            return _Ending(True, True, late)
        return None

    def _died(self, how: str, workspace: Workspace) -> _Ending:
        self.end()
        if not self._ready:
            raise RequestError(f"a worker process {how} before it could begin: expected one that runs; see above")
        if not self._busy:
            return _Ending(False, True, None)
        circumstances = _circumstances(how, self._starved, workspace)
        failure = Failure("failed", f"its process {how}{circumstances}", ReasonCode.WORKER_DIED)
        return _Ending(True, True, failure, died=True)

    def _ending(self, wait_for: float) -> str:
        """Say how the process ended; empty while it runs. It is not waited for, so that its number stays its own."""
        deadline = time.monotonic() + wait_for
        while True:
            ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None and ended.si_code == os.CLD_EXITED:
                return f"ended with exit code {ended.si_status}"
            if ended is not None:
                return f"was ended by {signal_name(ended.si_status)}"
            if time.monotonic() >= deadline:
                return ""
            time.sleep(0.02)

    def _late(self, limits: Limits) -> Failure | None:
        now = time.monotonic()
        if limits.memory is not None and resident_bytes(self._process.pid) > limits.memory:
            return Failure("failed", beyond(limits.memory), ReasonCode.MEMORY)
        if now - self._since > limits.seconds:
            reason = f"no result within the time limit of {limits.seconds:g} s (--time-limit)"
            return Failure("failed", reason, ReasonCode.TIME_LIMIT)
        if now - self._looked > min(_LOOK, limits.idle / 4):
            self._looked, used = now, processor_seconds(self._process.pid)
            if used is None or self._used is None or used - self._used > _IDLE_SHARE * limits.idle:
                self._moved, self._used = now, used
            if now - self._moved > limits.idle:
                reason = f"it hung: no processor time used for {limits.idle:g} s"
                return Failure("failed", reason, ReasonCode.HUNG)
        return None

    def end(self) -> None:
        """End the process and all that it started, at once if it is at an item."""
        if self._process.returncode is not None:
            return
        if not self._busy and self._ready:
            self.connection.close()
            self._ending(wait_for=2.0)
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.connection.close()
        end_marked(TOKEN, self._token)  # programs that made a session of their own
        shutil.rmtree(self._temporary, ignore_errors=True)


def beyond(memory: float) -> str:
    """Say that an item took more than so many bytes."""
    return f"more than the memory limit of {memory / 1e9:g} GB (--memory-limit or --memory)"


def _circumstances(how: str, starved: int, workspace: Workspace) -> str:
    """Say what is known of the machine that may explain how a process ended."""
    if "SIGKILL" in how and out_of_memory_kills() > starved:
        return "; the system was out of memory and ended processes meanwhile"
    if "SIGBUS" in how:
        for folder in (workspace.folder, workspace.cache):
            if folder is not None and folder.is_dir() and shutil.disk_usage(folder).free < 2**20:
                return f"; the disk that holds {folder} is full"
    return ""


def serve() -> None:
    """Do items for the process that started this one, until it closes the line."""
    connection, parent, memory = Connection(int(sys.argv[2])), int(sys.argv[3]), json.loads(sys.argv[4])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that the user started
    _end_with(parent)
    one_line_warnings()
    import evalsuite.running.harness  # noqa: F401 - what an item will need

    kept: dict[str, Any] = {}
    forks, limited, chosen = Forks(), False, False
    connection.send(None)
    while True:
        try:
            work, item, workspace = connection.recv()
        except (EOFError, OSError):
            return
        if not limited and workspace.device == "cpu":  # CUDA reserves more addresses than there is memory
            limited, chosen = True, limit_memory(memory)
        failure, left = do(work, item, workspace, kept, forks, lambda: False)
        if failure is not None and failure.code == ReasonCode.MEMORY and chosen:
            failure = failure._replace(reason=f"{beyond(memory)}: {failure.reason}")
            left = True  # freed memory is kept, which would count against the next item
        connection.send((failure, left))


def _end_with(parent: int) -> None:
    """Let the system end this process when the one that started it ends, where it can (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
