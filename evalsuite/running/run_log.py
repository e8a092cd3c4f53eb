"""The log of a run: ``log.jsonl`` in its folder, one line of JSON an event, written by the process that drives it."""

from __future__ import annotations

import json
import logging
import os
import stat
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any

from evalsuite.files import this_machine
from evalsuite.running.alive import born

LOG = "log.jsonl"


class Event(StrEnum):
    """What a line of the log is about."""

    RUN_STARTED = "run started"
    RUN_ENDED = "run ended"
    STAGE_STARTED = "stage started"
    STAGE_ENDED = "stage ended"
    ITEM_STARTED = "item started"
    ITEM_ENDED = "item ended"
    TRIAL_FAILED = "trial failed"
    """By what it shares with others, so that it was never started."""
    PROGRESS = "progress"
    """A sign of life, at most every minute."""


class Stage(StrEnum):
    """What is done in a stage, as people and the log call it."""

    IMAGES = "corrupting images"
    QUANTIZING = "quantizing"
    EVALUATING = "evaluating"
    JITTER = "measuring jitter"
    DIAGNOSIS = "diagnosing"


class _Lines(logging.Formatter):
    """Formats a record as a line of ASCII: the time in UTC, the event, then its facts."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return json.dumps({"time": time, "event": record.msg, **record.__dict__["facts"]})


class _Appended(logging.Handler):
    """Appends lines to a file, each by one call of the system, so that those of several runs do not mix.

    A line that cannot be written is lost, and the run goes on. A file that is a link, or none that can be appended to,
    is left alone: a run's folder may come from elsewhere.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file, self.number, self.broken = file, -1, False
        self.setFormatter(_Lines())

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{self.format(record)}\n".encode()
        try:
            if self.number < 0:
                self.number = self._opened()
            line = b"\n" * self.broken + line
            self.broken = os.write(self.number, line) < len(line)  # a full disk
        except OSError:
            pass

    def _opened(self) -> int:
        # Not blocking, which a pipe of that name would do.
        handle = os.open(self.file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            os.close(handle)
            raise OSError(f"{self.file} is no file")
        # What an earlier run was writing when it was killed ends there.
        self.broken = state.st_size > 0 and os.pread(handle, 1, state.st_size - 1) != b"\n"
        return handle

    def close(self) -> None:
        if self.number >= 0:
            os.close(self.number)
            self.number = -1
        super().close()


class RunLog:
    """The log of one call of a run, which ends with the context.

    Parameters
    ----------
    folder : the run's; nothing is written, or made there, before the first event.
    """

    def __init__(self, folder: Path) -> None:
        self._lines = _Appended(folder / LOG)
        self._process = os.getpid()
        # Of this machine at this time, so that lines of two calls are told apart.
        self._call = f"{this_machine()}-{self._process}-{born(self._process) or 0}"
        self._begun, self._outcome = False, ""

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        if self._begun:
            self.add(Event.RUN_ENDED, status=self._outcome or ("interrupted" if interrupted else "broken"))
        self._lines.close()

    def begin(self, **facts: Any) -> None:
        """Log that the call begins to write."""
        self._begun = True
        self.add(Event.RUN_STARTED, machine=this_machine(), born=born(self._process), **facts)

    def end(self, outcome: str) -> None:
        """Say how the call comes to its end, which is logged when the context ends."""
        self._outcome = outcome

    def add(self, event: Event, **facts: Any) -> None:
        """Append an event; texts among its facts that come from plugins have been made printable by the caller."""
        if os.getpid() != self._process:  # a copy of this process that a plugin forked
            return
        told = {"call": self._call, "process": self._process} | facts
        record = logging.makeLogRecord({"msg": str(event), "levelno": logging.INFO, "facts": told})
        self._lines.handle(record)
