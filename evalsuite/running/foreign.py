"""Trials that run a user's file, kept apart from the others: these come first, and what is done to them is undone.

A file's code runs with this user's rights. In a worker process it cannot harm other trials' memory, but it can write
wherever the run can. So the records of the other trials are written before any of it runs, and are compared after it;
those that are not what they were are measured again, by new processes, from images and networks that are made again.
Not defended: a folder of images that runs share, what a file does when the command itself imports it or jitter runs it,
and its own trials' numbers.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from evalsuite import store
from evalsuite.registry import Setting, python_files
from evalsuite.study.trials import Trial


def runs_a_file(trial: Trial) -> bool:
    """Whether a trial's quantizer or adapter is code of a file, or is given one."""
    return _is_a_file(trial.quantizer.method) or _is_a_file(trial.adapter)


@functools.cache
def _is_a_file(setting: Setting) -> bool:
    return bool(setting.source) or any(python_files(setting.values()))


def digests(folder: Path, trials: Iterable[Trial]) -> dict[str, str]:
    """Return the digest of each trial's record file, by trial; empty for one that is not there."""
    return {trial.identity: _digest(store.record_file(folder, trial.identity)) for trial in trials}


def harmed(folder: Path, trials: Sequence[Trial], before: Mapping[str, str]) -> list[Trial]:
    """Return the trials whose records are no longer what they were."""
    now = digests(folder, trials)
    return [trial for trial in trials if now[trial.identity] != before[trial.identity]]


def forget(folder: Path, trials: Iterable[Trial]) -> None:
    """Remove the records of trials, and all that trials share in a run's folder."""
    for trial in trials:
        store.record_file(folder, trial.identity).unlink(missing_ok=True)
    shutil.rmtree(folder / ".work", ignore_errors=True)


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""
