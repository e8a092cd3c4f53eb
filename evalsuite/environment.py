"""What a run was made with: versions, hardware, threads."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import importlib.util
import os
import platform
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

# Of <malloc.h>: M_TRIM_THRESHOLD (never), M_MMAP_MAX (no mapping of its own for a large block).
_KEEP_FREED = ((-1, -1), (-4, 0))
_DEVELOPMENT = re.compile(r"extra == .(dev|docs|test)\b")
_INTEGER_INSTRUCTIONS = ("avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
_SPINS = 10_000  # some ten microseconds
OWN_PACKAGES = ("protocols", "reports")
"""Top-level packages beside this one, whose names others may have too."""


def versions() -> dict[str, str]:
    """Return the versions of Python, evalsuite and what it depends on, extras that are installed among them."""
    return dict(_versions())


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    """Read them once in a process, in which what is imported stays as it is."""
    installed = {"python": platform.python_version(), "evalsuite": importlib.metadata.version("evalsuite")}
    for requirement in importlib.metadata.requires("evalsuite") or []:
        name = re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0]
        if not _DEVELOPMENT.search(requirement):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # an extra that is not installed
                installed[name] = importlib.metadata.version(name)
    return tuple(installed.items())


def hardware(device: str, threads: int) -> dict[str, Any]:
    """Return processor, its instructions for 8-bit products, cores, memory in bytes, device and torch threads."""
    info = _cpuinfo()
    return {
        "machine": platform.machine(),
        "processor": _processor(info),
        "integer_instructions": _integer_instructions(info),
        "cores": available_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(terse=True),
        "device": device_name(device),
        "threads": threads,
    }


def _cpuinfo() -> str:
    """Return what Linux says of the processor; nothing elsewhere."""
    info = Path("/proc/cpuinfo")
    return info.read_text(encoding="utf-8") if info.is_file() else ""


def _processor(info: str) -> str:
    for line in info.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _integer_instructions(info: str) -> list[str]:
    """Return which instructions for products of 8-bit integers there are: engines without them may saturate."""
    words = set(info.split())
    return [name for name in _INTEGER_INSTRUCTIONS if name in words]


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
    """Return how many cores this process may use: a cluster's job or a container often gets a part of the machine's.

    Affinity, the CPU quota of the control group and ``LOKY_MAX_CPU_COUNT`` are respected.
    """
    import joblib

    return int(joblib.cpu_count())


def threads_per_worker(workers: int) -> int:
    """Return how many threads each of so many worker processes should compute with, at least 1.

    The user's ``OMP_NUM_THREADS`` is taken as it is. Otherwise the available cores that nobody else holds are shared
    out: a parallel loop waits for its slowest thread, so that one core held by somebody else costs more than it adds.
    """
    chosen = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if chosen.isdecimal() and int(chosen) > 0:
        return int(chosen)
    cores = available_cores()
    if workers >= cores:
        return 1
    return max(1, (cores - busy_cores()) // workers)


def busy_cores(seconds: float = 0.25) -> int:
    """Return how many of this process's cores others hold now: more than half of the time for so many seconds.

    Where the system does not say (``/proc/stat`` of Linux does), 0.
    """
    before = _idle_time()
    time.sleep(seconds)
    after = _idle_time()
    return sum(core in before and idle - before[core] < seconds / 2 for core, idle in after.items())


def _idle_time() -> dict[int, float]:
    """Return the seconds for which each core that this process may use has been idle since the machine started."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    allowed, tick = os.sched_getaffinity(0), os.sysconf("SC_CLK_TCK")
    cores = [line.split() for line in lines if re.match(r"cpu\d", line)]
    idle = {int(name[3:]): (int(fields[3]) + int(fields[4])) / tick for name, *fields in cores}
    return {core: seconds for core, seconds in idle.items() if core in allowed}


def wait_briefly() -> None:
    """Tell OpenMP, which reads it when torch is imported, that a thread with nothing to do soon sleeps.

    By default idle threads spin for milliseconds on cores that others may need. Sleeping at once, on the other hand,
    makes every small operation wait for a thread to wake up: half as slow again on a small CNN, alone on the machine.
    Left as it is where the user has set ``OMP_WAIT_POLICY`` or ``GOMP_SPINCOUNT``; read by GNU's OpenMP, torch's on
    Linux, only.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(_SPINS))


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


def hiding(package: str) -> Path | None:
    """Return what Python would import in place of one of evalsuite's own top-level packages; None: it is that one.

    A folder ``protocols`` or ``reports`` in the working folder comes first under ``python -m`` and in scripts there.
    """
    own = Path(__file__).parents[1] / package
    spec = importlib.util.find_spec(package)
    if spec is None:
        return None
    places = [Path(place) for place in spec.submodule_search_locations or ([spec.origin] if spec.origin else [])]
    return None if not places or any(place.resolve() == own.resolve() for place in places) else places[0]


def peak_memory() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
