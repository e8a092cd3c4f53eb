"""Reading the log of a run, which may come from elsewhere, be damaged, or grow meanwhile."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from evalsuite.isolation import printable

_LONGEST = 2**16  # bytes of a line
_MOST = 2**53  # of a number


@dataclass(frozen=True)
class Line:
    """A line of the log; what it does not say is empty or None. Its texts are :func:`evalsuite.isolation.printable`.

    Attributes
    ----------
    call : which call of the command wrote it.
    what : the item in words.
    process : that worked on the item, else the one that wrote the line; ``born`` tells it from a later one.
    """

    time: str
    event: str
    call: str = ""
    stage: str = ""
    trial: str = ""
    model: str = ""
    images: str = ""
    what: str = ""
    status: str = ""
    reason_code: str = ""
    machine: str = ""
    seconds: float | None = None
    process: int | None = None
    born: int | None = None
    workers: int | None = None
    items: int | None = None

    @property
    def item(self) -> str:
        """What tells an item from the others of its stage."""
        return self.trial or self.images

    def facts(self) -> dict[str, Any]:
        """Return what the line says."""
        return {name: value for name, value in vars(self).items() if value not in ("", None)}

    def timestamp(self) -> float:
        """Return its time in seconds since 1970."""
        return datetime.fromisoformat(self.time).timestamp()


def parsed(line: bytes) -> Line | None:
    """Return what a line says; None for one that is damaged, or none of a log. A value of a wrong type is left out."""
    try:
        found = json.loads(line)
        known = {field.name: _checked(field.name, found[field.name]) for field in fields(Line) if field.name in found}
        parsed_line = Line(**{name: value for name, value in known.items() if value is not None})
        moment = datetime.fromisoformat(parsed_line.time)
        if moment.tzinfo is None:
            return None
        moment.timestamp()
    except (ValueError, TypeError, RecursionError, OverflowError, KeyError):
        return None
    return parsed_line


_NUMBERS = ("process", "born", "workers", "items")


def _checked(name: str, value: Any) -> Any:
    if name == "seconds":
        fine = type(value) in (int, float) and 0 <= value < _MOST and math.isfinite(value)
        return float(value) if fine else None
    if name in _NUMBERS:
        return value if type(value) is int and 0 <= value < _MOST else None
    return printable(value, 300) if isinstance(value, str) else None


class LogReader:
    """Reads what has been appended to a log since it was read last."""

    def __init__(self, file: Path) -> None:
        self._file, self._place = file, 0

    def new(self) -> Iterator[Line]:
        """Yield the lines that are new and whole; damaged ones, and those beyond 64 KiB, are passed over."""
        if not self._file.is_file():
            return
        with self._file.open("rb") as opened:
            if opened.seek(0, 2) < self._place:  # another file
                self._place = 0
            opened.seek(self._place)
            skipping = False
            while chunk := opened.readline(_LONGEST):
                if not chunk.endswith(b"\n"):
                    if len(chunk) < _LONGEST:  # being written
                        return
                    skipping = True
                    continue
                self._place = opened.tell()
                line = None if skipping else parsed(chunk)
                skipping = False
                if line is not None:
                    yield line
