"""What a run was made with: versions, hardware, threads."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import re
import resource
import sys
from pathlib import Path
from typing import Any

# Of <malloc.h>: M_TRIM_THRESHOLD (never), M_MMAP_MAX (no mapping of its own for a large block).
_KEEP_FREED = ((-1, -1), (-4, 0))


def versions() -> dict[str, str]:
    """Return the versions of Python, evalsuite and what it depends on."""
    found = {"python": platform.python_version(), "evalsuite": importlib.metadata.version("evalsuite")}
    for requirement in importlib.metadata.requires("evalsuite") or []:
        if "extra ==" not in requirement:
            name = re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0]
            found[name] = importlib.metadata.version(name)
    return found


def hardware(device: str, threads: int) -> dict[str, Any]:
    """Return processor, cores, memory in bytes, device and torch threads."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": available_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(terse=True),
        "device": device_name(device),
        "threads": threads,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def resolve_device(device: str) -> str:
    """Turn ``auto`` into ``cuda`` where there is one, else ``cpu``. Raises RequestError if torch has no such device."""
    import torch

    from evalsuite.errors import RequestError

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if not device.startswith(("cpu", "cuda")):
            raise RuntimeError("another kind")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise RequestError(f"device {device!r}: expected cpu, cuda or cuda:N that torch can use ({reason})") from error
    return device


def device_name(device: str) -> str:
    """Return a device's name for people."""
    if not device.startswith("cuda"):
        return device
    import torch

    return str(torch.cuda.get_device_name(device))


def available_cores() -> int:
    """Return how many cores this process may use: a cluster's job often gets a part of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep freed memory for the process; return whether it was told.

    A network's activations are megabytes each and live for a moment. Given back to the system, every page of them is
    faulted in anew, which is more than half of the processor time of a small CNN's forward. Left as they are: other C
    libraries, and an allocator that the user has set by an environment variable MALLOC_... or GLIBC_TUNABLES.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    allocator = ctypes.CDLL(None)
    return all(allocator.mallopt(option, value) for option, value in _KEEP_FREED)


def peak_memory() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
