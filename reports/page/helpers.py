"""Processes beside this one that do parts of a report's work: reading, tables, then pages of figures.

A job that a helper does not do whole and without a warning is left to this process, so that errors and warnings are
those of one process. A helper ends when its line to this process does, whatever ends that.
"""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from evalsuite import registry

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from reports.page.helpers import serve; serve()"


class Job(Protocol[T_co]):
    """What can be sent to another process and done there."""

    def do(self) -> T_co:
        """Do it, the same in every process."""


@dataclass(frozen=True)
class _Done(Generic[T]):
    result: T


class Promise(Generic[T]):
    """A job that a helper may have begun."""

    def __init__(self, job: Job[T], begun: Future[_Done[T] | None] | None) -> None:
        self._job = job
        self._begun = begun
        self._here: _Done[T] | None = None

    def begin_here(self) -> None:
        """Do the job in this process unless a helper has begun it."""
        if self._here is None and (self._begun is None or self._begun.cancel()):
            self._here = _Done(self._job.do())

    def result(self) -> T:
        """Wait for the job; what no helper does is done here."""
        if self._here is None and self._begun is not None and not self._begun.cancelled():
            self._here = self._begun.result()
        if self._here is None:
            self._here = _Done(self._job.do())
        return self._here.result


class Helpers:
    """So many processes, each with a thread here that keeps it busy; ``figures``: names of what they may draw."""

    def __init__(self, figures: Sequence[str], number: int) -> None:
        self._all = [_Helper(figures) for _ in range(number)]
        self._free: SimpleQueue[_Helper] = SimpleQueue()
        for helper in self._all:
            self._free.put(helper)
        self._threads = ThreadPoolExecutor(number) if number else None

    def __enter__(self) -> Helpers:
        return self

    def __exit__(self, *error: object) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        for helper in self._all:
            helper.end()

    def __bool__(self) -> bool:
        return bool(self._all)

    def promise(self, job: Job[T]) -> Promise[T]:
        """Hand in a job; helpers begin with the first."""
        return Promise(job, None if self._threads is None else self._threads.submit(self._ask, job))

    def spread(self, jobs: Sequence[Job[T]]) -> list[T]:
        """Do jobs here and in the helpers, each where there is room; what they return, in their order."""
        promises = [self.promise(job) for job in jobs]
        for each in promises:
            each.begin_here()
        return [each.result() for each in promises]

    def _ask(self, job: Job[T]) -> _Done[T] | None:
        helper = self._free.get()
        try:
            return helper.ask(job)
        finally:
            self._free.put(helper)


class _Helper:
    """A process that does one job at a time, and the line to it."""

    def __init__(self, figures: Sequence[str]) -> None:
        self._line, other = Pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path), str(other.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # what a plugin prints is no output of the command
            pass_fds=[other.fileno()],
        )
        other.close()
        with suppress(OSError):  # it is dead, which its first job will tell
            self._line.send(list(figures))

    def ask(self, job: Job[T]) -> _Done[T] | None:
        """Have a job done; None where it is not."""
        try:
            self._line.send(job)
            answer: _Done[T] | None = self._line.recv()
        except Exception:  # it is dead, or something of the job cannot be sent
            return None
        return answer

    def end(self) -> None:
        """Close the line, on which the process ends."""
        self._line.close()
        self.process.wait()


@contextmanager
def spared() -> Iterator[Callable[[], None]]:
    """Spare the collector of garbage what is there already, here and whenever what it yields is called.

    It walks through everything each time that much has been made: libraries, records and tables, which all stay.
    """
    gc.freeze()
    try:
        yield gc.freeze
    finally:
        gc.unfreeze()


def serve() -> None:
    """Do what comes along the line whose number is the second argument, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process ends this one
    line = Connection(int(sys.argv[2]))
    with suppress(EOFError, OSError):
        for name in line.recv():
            with suppress(Exception):  # it is loaded again when it is drawn
                registry.load("figures", name)
        with spared():
            while True:
                line.send(_attempt(line.recv()))


def _attempt(job: Job[Any]) -> _Done[Any] | None:
    try:
        with warnings.catch_warnings(record=True) as warned:
            done = _Done(job.do())
    except Exception:  # the process that asked does it again, and says what is wrong
        return None
    return None if warned else done
