"""Making what a device will need next while it computes: a thread, a few items ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")

DEPTH = 2
"""Items that are made ahead; one covers the wait, the second a slow one. Ours."""


def depth_for(device: str) -> int:
    """Return how many items to make ahead of a device: none of the CPU, which would have to make them itself."""
    return 0 if device == "cpu" else DEPTH


def ahead(make: Callable[[S], T], items: Iterable[S], depth: int) -> Generator[T, None, None]:
    """Yield ``make(item)`` of all items in order, up to ``depth`` of them made before they are asked for.

    They are made by one thread, which ends with the generator: close that where it is not run to its end
    (:func:`contextlib.closing`). What ``make`` raises is raised here, when its item's turn comes. With ``depth`` 0
    there is no thread.
    """
    if not depth:
        yield from map(make, items)
        return
    made: deque[Future[T]] = deque()
    thread = ThreadPoolExecutor(1, "ahead")
    try:
        for item in items:
            made.append(thread.submit(make, item))
            if len(made) > depth:
                yield made.popleft().result()
        while made:
            yield made.popleft().result()
    finally:
        thread.shutdown(wait=True, cancel_futures=True)
