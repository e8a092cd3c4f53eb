"""Being told what the processes of a run are at."""

from __future__ import annotations

from typing import Any, Protocol


class Watch(Protocol):
    """Is told what the processes are at."""

    def started(self, item: Any, process: int, since: int | None) -> None:
        """Take note that a process, :func:`evalsuite.running.alive.born` then, has begun an item."""

    def tick(self) -> None:
        """Look around; called about twice a second while items are done by other processes."""


class Unwatched:
    """Is told and does nothing."""

    def started(self, item: Any, process: int, since: int | None) -> None:
        """Do nothing."""

    def tick(self) -> None:
        """Do nothing."""
