"""Stages of a run: many items of one kind of work, in this process or in several, with progress and time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from evalsuite.environment import keep_freed_memory
from evalsuite.errors import RequestError
from evalsuite.materials import Workspace

S = TypeVar("S")
T = TypeVar("T")


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
    work: Callable[[S, Workspace], T],
    items: Sequence[S],
    workspace: Workspace,
    workers: int,
    progress: Progress,
    size: Callable[[S], int] = lambda item: 1,
) -> Iterator[T]:
    """Do one stage's items, in this process or in several, and yield results as they come."""
    if not items:
        return
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    start = time.perf_counter()
    bar = progress.add_task(name, total=sum(size(item) for item in items))
    jobs = min(workers, len(items))
    calls = (delayed(_timed)(work, item, workspace, size(item)) for item in items)
    try:
        for result, done in Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(calls):
            progress.advance(bar, done)
            yield result
    except TerminatedWorkerError as error:
        raise RequestError(
            f"a worker process died while {name}, most likely for want of memory; run the same command with fewer "
            "--workers, it goes on from here"
        ) from error
    if not progress.console.is_terminal:
        progress.console.print(f"{name}: {len(items)} done in {time.perf_counter() - start:.0f} s")


def _timed(work: Callable[[S, Workspace], T], item: S, workspace: Workspace, size: int) -> tuple[T, int]:
    import torch

    keep_freed_memory()
    torch.set_num_threads(workspace.threads)
    with workspace.announced():
        return work(item, workspace), size
