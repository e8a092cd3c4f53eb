"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalsuite.errors import RequestError
from evalsuite.running.memory_budget import gigabytes

DONE, SOME_FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses."""


def _gigabytes(text: str) -> float:
    try:
        return gigabytes(text)
    except RequestError as error:  # which is a ValueError, and would be shown with that name before it
        raise typer.BadParameter(str(error)) from error


DataRoot = Annotated[
    str | None,
    typer.Option("--data-root", metavar="DIR", help="Folder with images and weights [default: $EVALSUITE_DATA]."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder to write to.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=0, help="Processes; 0 is one a core, or a GPU [default: one a device]."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the study, for example stream.images=100."),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Folder for images that runs share [default: $EVALSUITE_CACHE, else the run's own].",
    ),
]
CacheGigabytes = Annotated[
    float, typer.Option("--cache-gigabytes", min=0, help="How much of it corrupted images may take.")
]
TimeLimit = Annotated[
    float,
    typer.Option(
        "--time-limit",
        metavar="SECONDS",
        help="What one trial, one quantization or one domain's images may take; a trial whose process uses no "
        "processor time for 300 s is given up in any case.",
    ),
]
MemoryLimit = Annotated[
    float | None,
    typer.Option("--memory-limit", metavar="GB", help="What a worker process and all that it starts may take."),
]
Memory = Annotated[
    float | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        parser=_gigabytes,
        help="What a worker process is to keep to, as 4G: caches and images at once are chosen by it, and what cannot "
        "fit is refused.",
    ),
]
InProcess = Annotated[
    bool, typer.Option("--in-process", help="Run trials in this process, for a debugger; one that dies ends the run.")
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile/--no-compile",
        help="Whether networks that do not adapt are evaluated by compiled code where that pays; needs a C++ compiler, "
        "and rounds some last digits otherwise.",
    ),
]
ShardOf = Annotated[
    str | None,
    typer.Option("--shard", metavar="K/N", help="Only the K-th of N parts of the study; evalsuite merge joins them."),
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed/--no-retry-failed", help="Whether trials that failed in an earlier call are tried again."
    ),
]
MaxFailures = Annotated[
    float,
    typer.Option(
        "--max-failures",
        metavar="SHARE",
        help="Stop, with all that is finished kept, once more than this share (0 to 1) of the trials that have ended "
        "failed, of 5 at least.",
    ),
]
Backend = Annotated[
    str, typer.Option("--backend", help="What hands the work out: local processes, or a dask or ray cluster.")
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address", help="The cluster's; by default DASK_SCHEDULER_ADDRESS or RAY_ADDRESS.", show_default=False
    ),
]
TrustCode = Annotated[
    bool,
    typer.Option("--trust", help="Run Python files that the study names and that do not lie beside it."),
]
Device = Annotated[
    str,
    typer.Option("--device", help="auto, cpu, cuda (all GPUs, each worker one in turn) or a list: cuda:0,cuda:2."),
]


def names(text: str | None) -> list[str]:
    """Return the names of a list with commas; none of None."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else []
