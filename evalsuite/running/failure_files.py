"""Why trials failed, for people: ``failures/TRIAL.txt`` in the run's folder, gone once the trial has a result."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from evalsuite.files import Unwritable, write_text
from evalsuite.isolation import Failure

FAILURES = "failures"


def write_failure(folder: Path, trial: str, stage: str, failure: Failure) -> None:
    """Write how a trial failed; on a full disk, or where the folder is a link to another, nothing."""
    place = folder / FAILURES
    said = failure.traceback or "no traceback: nothing was raised in the process that worked on it\n"
    text = f"trial {trial}, {stage}: {failure.status} ({failure.code})\n{failure.reason}\n\n{said}"
    if not place.is_symlink():
        with suppress(Unwritable):
            write_text(place / f"{trial}.txt", text)


def remove_failures(folder: Path, trials: Iterable[str]) -> None:
    """Remove what was written of trials that have a result by now, and the folder once it is empty."""
    place = folder / FAILURES
    if place.is_symlink():
        return
    with suppress(OSError):
        there = {file.stem for file in place.glob("[!.]*.txt")}
        for trial in there.intersection(trials):
            (place / f"{trial}.txt").unlink(missing_ok=True)
        place.rmdir()
