"""Whether a process of this machine still runs, told from another one that got its number later."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def born(process: int) -> int | None:
    """Return when a process was started, in ticks since the machine was; None where the system does not say.

    A process that has ended and was not waited for counts as none.
    """
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    return None


def runs(process: int, since: int | None) -> bool:
    """Whether the process runs that had this number and was :func:`born` then."""
    if since is not None:
        return born(process) == since
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
