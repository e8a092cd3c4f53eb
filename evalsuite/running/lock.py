"""One study at a time in a run's folder: a lock that the system lets go when its process ends, however that ends.

Calls of one study may work in one folder side by side: what they write is equal. A lock of POSIX (``fcntl``) is kept by
the server on NFS of version 4, and of version 3 where its lock service runs; where the file system keeps none, that is
said and the run goes on.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from evalsuite.errors import RequestError
from evalsuite.files import Unwritable
from evalsuite.hashing import digest
from evalsuite.isolation import printable
from evalsuite.study.settings import Study
from evalsuite.study.shards import Shard

LOCK = ".lock"
_LONGEST = 4096  # bytes
# Bytes that are locked, beyond what is read: the first while looking; the second as long as a run lasts, shared
# by calls of one study.
_LOOKING, _HELD = 2**20, 2**20 + 1


class RunLock:
    """Holds a run's folder for a study, or a part of one, from :meth:`take` to the end of the context."""

    def __init__(self, folder: Path, study: Study, shard: Shard | None, console: Console) -> None:
        self._folder, self._name, self._console = folder, study.name, console
        self._mark = digest([study.as_dict(), None if shard is None else [shard.number, shard.of]])
        self._file = -1

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file >= 0:
            os.close(self._file)  # which lets the locks go
            self._file = -1

    def take(self) -> None:
        """Take hold of the folder, which is made.

        Raises
        ------
        RequestError
            If another process runs another study there, named with its machine; or if the folder cannot be written to.
        """
        self._file = _opened(self._folder)
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _LOOKING)
        except OSError:
            line = f"the file system of {self._folder} keeps no locks: expected no other run to write there meanwhile"
            self._console.print(line, markup=False, soft_wrap=True)
            return
        _take(self._file, self._mark, self._name, self._folder)
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _LOOKING)


def _opened(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if not folder.is_dir() and folder.exists():
            raise RequestError(f"{folder} is a file: expected a folder for the run") from error
        raise Unwritable(f"cannot write to {folder / LOCK}: {error.strerror}") from error


def _take(file: int, mark: str, name: str, folder: Path) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _HELD)
    except OSError:
        holder = _said(file)
        if holder.get("study") != mark:
            raise RequestError(_refusal(folder, holder)) from None
    else:
        facts = {
            "study": mark,
            "name": name,
            "machine": platform.node(),
            "process": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with suppress(OSError):  # a full disk: others are then told of an unknown process
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(facts).encode(), 0)
    fcntl.lockf(file, fcntl.LOCK_SH, 1, _HELD)


def _said(file: int) -> dict[str, object]:
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(os.pread(file, _LONGEST, 0))
        if isinstance(found, dict):
            return found
    return {}


def _refusal(folder: Path, holder: dict[str, object]) -> str:
    known = {key: printable(str(holder.get(key, "unknown")), 100) for key in ("name", "machine", "process", "since")}
    return (
        f"{folder} is being written to by process {known['process']} on {known['machine']}, which runs study "
        f"{known['name']} since {known['since']}: expected one study in a folder; wait, or choose another --out"
    )
