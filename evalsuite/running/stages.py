"""Stages of a run: many items of one kind of work, in this process or in several, watched while they are done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from evalsuite.isolation import Failure
from evalsuite.running.durations import in_words
from evalsuite.running.items import facts_of
from evalsuite.running.pools import Pool
from evalsuite.running.run_log import Event, RunLog, Stage
from evalsuite.running.workers import Work

S = TypeVar("S")

SIGN_OF_LIFE = 60.0
"""Seconds between two lines that say how far a stage is; ours."""


@dataclass(frozen=True)
class Monitor:
    """What is told of a run while it runs, to people and to its log.

    Attributes
    ----------
    progress : bars on a terminal.
    log : the run's.
    every : seconds between two lines, on a console that is no terminal, that say how far a stage is.
    """

    progress: Progress
    log: RunLog
    every: float = SIGN_OF_LIFE

    def failed(self, item: Any, failure: Failure, name: Stage) -> None:
        """Tell of an item that failed by what it shares with others."""
        facts = facts_of(item) | {"status": failure.status, "reason_code": str(failure.code)}
        self.log.add(Event.TRIAL_FAILED, stage=name, **facts)


@contextmanager
def monitor_of(console: Console, log: RunLog, every: float = SIGN_OF_LIFE) -> Iterator[Monitor]:
    """Show bars while the context lasts, where the console is a terminal."""
    columns = (
        TextColumn("{task.description:>17}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=False),
    )
    with Progress(*columns, console=console, disable=console.quiet or not console.is_terminal) as progress:
        yield Monitor(progress, log, every)


class _Watch:
    """Tells of one stage's items as they are begun and end."""

    def __init__(self, name: Stage, total: int, monitor: Monitor) -> None:
        self._name, self._total, self._monitor = name, total, monitor
        self._bar = monitor.progress.add_task(name, total=total)
        self._started: dict[int, tuple[float, int]] = {}
        self._ended = self._failed = 0
        self._begun = self._told = time.monotonic()
        monitor.log.add(Event.STAGE_STARTED, stage=name, items=total)

    def started(self, item: Any, process: int, since: int | None) -> None:
        """Take note that a process has begun an item; one that is tried again is begun again."""
        self._started[id(item)] = time.monotonic(), process
        facts = facts_of(item) | {"process": process, "born": since}
        self._monitor.log.add(Event.ITEM_STARTED, stage=self._name, **facts)

    def ended(self, item: Any, failure: Failure | None) -> None:
        """Take note that an item has ended."""
        since, process = self._started.pop(id(item), (None, None))
        seconds = None if since is None else round(time.monotonic() - since, 3)
        facts = facts_of(item) | {
            "process": process,
            "seconds": seconds,
            "status": failure.status if failure else "done",
        }
        if failure is not None:
            facts |= {"reason_code": str(failure.code)}
        self._monitor.log.add(Event.ITEM_ENDED, stage=self._name, **facts)
        self._ended += 1
        self._failed += failure is not None and failure.status == "failed"
        self._monitor.progress.advance(self._bar)
        self.tick()

    def tick(self) -> None:
        """Say how far the stage is, once a minute."""
        now = time.monotonic()
        if now - self._told < self._monitor.every or self._ended == self._total:
            return
        self._told = now
        self._monitor.log.add(Event.PROGRESS, stage=self._name, items=self._total, ended=self._ended)
        left = (now - self._begun) / self._ended * (self._total - self._ended) if self._ended else None
        self._say(f"{self._ended} of {self._total} done{self._failures}, {in_words(left)} left")

    def close(self) -> None:
        """Say that the stage has come to its end."""
        seconds = time.monotonic() - self._begun
        self._monitor.log.add(Event.STAGE_ENDED, stage=self._name, items=self._total, seconds=round(seconds, 3))
        self._say(f"{self._total} done{self._failures} in {seconds:.0f} s")

    @property
    def _failures(self) -> str:
        return f" ({self._failed} failed)" if self._failed else ""

    def _say(self, text: str) -> None:
        console = self._monitor.progress.console
        if not console.is_terminal:
            console.print(f"{self._name}: {text}", markup=False, highlight=False, soft_wrap=True)


def stage(
    name: Stage,
    work: Work[S],
    items: Sequence[Sequence[S]],
    workers: Pool,
    monitor: Monitor,
) -> Iterator[tuple[S, Failure | None]]:
    """Do one stage's items, in groups that share something, and yield each as it ends with how it failed, if it did."""
    total = sum(len(group) for group in items)
    if not total:
        return
    watch = _Watch(name, total, monitor)
    for item, failure in workers.run(work, items, watch):
        watch.ended(item, failure)
        yield item, failure
    watch.close()
