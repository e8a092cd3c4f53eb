"""Stages of a run: many items of one kind of work, in this process or in several, with progress and time left."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from evalsuite.isolation import Failure
from evalsuite.running.workers import Here, Work, Workers

S = TypeVar("S")


@contextmanager
def progress_of(console: Console) -> Iterator[Progress]:
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
        yield progress


def stage(
    name: str,
    work: Work[S],
    items: Sequence[Sequence[S]],
    workers: Workers | Here,
    progress: Progress,
) -> Iterator[tuple[S, Failure | None]]:
    """Do one stage's items, in groups that share something, and yield each as it ends with how it failed, if it did."""
    total = sum(len(group) for group in items)
    if not total:
        return
    start = time.perf_counter()
    bar = progress.add_task(name, total=total)
    for item, failure in workers.run(work, items):
        progress.advance(bar)
        yield item, failure
    if not progress.console.is_terminal:
        progress.console.print(f"{name}: {total} done in {time.perf_counter() - start:.0f} s")
