"""Which folder runs share for images that are dear to make: handed on by a run, else the user's ``EVALSUITE_CACHE``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

_folder: ContextVar[Path | None] = ContextVar("evalsuite_shared_cache", default=None)


def shared_cache() -> Path | None:
    """Return the folder that is handed on in this context, else that of ``EVALSUITE_CACHE``, None without either."""
    named = os.environ.get("EVALSUITE_CACHE")
    return _folder.get() or (Path(named) if named else None)


@contextlib.contextmanager
def sharing(folder: Path | None) -> Iterator[None]:
    """Hand a folder on to whatever is called within the context; None leaves things as they are."""
    if folder is None:
        yield
        return
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)
