"""A worker's memory budget (``--memory``): what is chosen so that a trial stays within it.

Caches of quantizers take a part of it, networks that do not adapt pass fewer images at once, and a run whose networks
cannot fit is refused before anything is written. What still asks for more gets Python's MemoryError, and its trial a
row that says so.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from evalsuite.errors import RequestError
from evalsuite.isolation import out_of_memory
from evalsuite.plugins import GIGABYTES
from evalsuite.registry import Setting

T = TypeVar("T")

CACHE_SHARE = 0.25
"""Of the budget that a quantizer's cache may take; ours."""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"k": 1e-6, "m": 1e-3, "": 1.0, "g": 1.0, "t": 1e3}


def gigabytes(text: str) -> float:
    """Return the gigabytes (10^9 bytes) that ``4``, ``4G``, ``4GB`` or ``500M`` says; a number alone is of gigabytes.

    Raises
    ------
    RequestError
        If it says none, or 0.
    """
    found = _SIZE.fullmatch(text.strip())
    size = float(found[1]) * _UNITS[found[2].lower()] if found else 0.0
    if not size > 0:
        raise RequestError(f"memory {text!r}: expected a size such as 4, 4G or 500M")
    return size


def build_within(setting: Setting, budget: float | None, share: float = CACHE_SHARE) -> Any:
    """Build a plugin whose options of gigabytes take at most a share of a budget of bytes; these change speed only."""
    plugin = setting.build()
    if budget is None:
        return plugin
    most = share * budget / 2**30
    sizes = {
        field.name: getattr(plugin, field.name) for field in dataclasses.fields(plugin) if GIGABYTES in field.metadata
    }
    smaller = {name: most for name, size in sizes.items() if size > most}
    return dataclasses.replace(plugin, **smaller) if smaller else plugin


def with_fewer(do: Callable[[int], T], size: int) -> tuple[T, int]:
    """Call ``do(size)``, with half as many while memory does not suffice; return what it gave and for how many.

    Raises
    ------
    MemoryError
        Or what the allocator raises, where one is too many.
    """
    while True:
        try:
            return do(size), size
        except BaseException as error:
            if size == 1 or not out_of_memory(error):
                raise
        size = -(-size // 2)  # outside of the handler, whose traceback holds what was allocated


def check_fits(peaks: Iterable[tuple[str, int]], budget: float) -> None:
    """Refuse a budget in bytes that the networks of some task do not fit into.

    Parameters
    ----------
    peaks : each task and the bytes that a process needs for it, at least.

    Raises
    ------
    RequestError
        With the task, what it needs and what it may have.
    """
    for task, peak in peaks:
        if peak > budget:
            raise RequestError(
                f"a process needs about {peak / 1e9:.1f} GB for the networks of task {task!r}: "
                f"expected at least so much memory, not {budget / 1e9:g} GB (--memory)"
            )
