"""What the system says of memory and of processes' time, where it does (Linux's ``/proc``)."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

_ROUNDS = 20  # of ending what goes on starting itself
_MEMORY_SHARE = 0.9  # of the memory that is free when a process starts


def out_of_memory_kills() -> int:
    """Return how many processes the system has ended for want of memory since it began; 0 where it does not say."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def processor_seconds(session: int) -> float | None:
    """Return the processor time of all processes of a session, None where the system does not say."""
    ticks, known = 0, False
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            fields = file.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session:
                ticks, known = ticks + int(fields[11]) + int(fields[12]), True
    return ticks / os.sysconf("SC_CLK_TCK") if known else None


def resident_bytes(session: int) -> int:
    """Return the memory that all processes of a session hold for themselves; 0 where the system does not say.

    What they only map of files, as images are, does not count.
    """
    held = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session:
                sizes = _kibibytes(str(folder / "status"))
                held += sizes.get("RssAnon", 0) + sizes.get("RssShmem", 0) + sizes.get("VmSwap", 0)
    return held


def end_marked(variable: str, value: str) -> None:
    """End all processes that were started with a variable in their environment, and what they start meanwhile.

    ``value`` is the beginning of the variable's.
    """
    mark = f"{variable}={value}".encode()
    for _ in range(_ROUNDS):
        found = [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _carries(folder, mark)]
        if not found:
            return
        for process in found:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)


def _carries(folder: Path, mark: bytes) -> bool:
    try:
        return any(entry.startswith(mark) for entry in (folder / "environ").read_bytes().split(b"\0"))
    except OSError:  # it has ended, or is another user's
        return False


def limit_memory(most: float | None = None) -> bool:
    """Let an item that takes all memory fail before the machine does, where the system says what is free (Linux).

    Parameters
    ----------
    most : bytes that this process may hold, what it has included, where this is less than what is free.

    Returns
    -------
    bool
        Whether ``most`` is what limits it.
    """
    with suppress(OSError):  # where it must want for memory, let it want first
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    free = free_memory()
    if free is None:
        return False
    room = max(2**31, int(_MEMORY_SHARE * free))
    held = _kibibytes("/proc/self/status")
    left = room if most is None else max(int(most) - held.get("RssAnon", 0), 0)
    chosen = left < room
    limit = held.get("VmData", 0) + min(left, room)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    lowest = min(value for value in (limit, soft, hard) if value != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (lowest, hard))
    return chosen and lowest == limit


def free_memory() -> int | None:
    """Return the bytes of memory and swap that are free to this process, None where the system does not say."""
    known = _kibibytes("/proc/meminfo")
    if "MemAvailable" not in known:
        return None
    free = known["MemAvailable"] + known.get("SwapFree", 0)
    with suppress(OSError, ValueError):  # "max" where there is no limit
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        free = min(free, limit - int((group / "memory.current").read_text(encoding="ascii")))
    return max(free, 0)


def _kibibytes(file: str) -> dict[str, int]:
    """Return the sizes in a table of /proc, in bytes."""
    sizes = {}
    with suppress(OSError):
        for line in Path(file).read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if value.endswith(" kB"):
                sizes[name] = 1024 * int(value.split()[0])
    return sizes


def standard_error() -> int:
    """Return where a process may write what is no output of the command: nowhere, if standard error is closed."""
    try:
        os.fstat(2)
    except OSError:  # closed
        return subprocess.DEVNULL
    return 2


def signal_name(number: int) -> str:
    """Return a signal's number and name."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:  # a real-time signal
        return f"signal {number}"
