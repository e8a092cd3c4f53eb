"""Writing a study's streams to files, to look at them, change them or replay them elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from evalsuite.running.task_data import task_data
from evalsuite.study.file import read
from evalsuite.study.labels import labels
from evalsuite.study.settings import Study
from evalsuite.study.trials import expand, plan_stream


def write_streams(
    study: str | Path | Study,
    folder: str | Path,
    *,
    data_root: str | None = None,
    overrides: Sequence[str] = (),
) -> dict[tuple[str, str, int], Path]:
    """Write every stream of a study to a file, as its trials see it; runs no network.

    The protocol ``replay`` shows such a file again, ``Stream.load`` reads it.

    Parameters
    ----------
    study, data_root, overrides : as for :func:`evalsuite.run`.
    folder : where the files go, as ``DIGEST.npz``: a trial's stream is the file named by its ``stream_digest``.

    Returns
    -------
    The files by (``task``, ``stream_label``, ``seed``), columns of ``trials.parquet``. Tasks with as large a test set
    may share one.

    Raises
    ------
    RequestError
        If the study is wrong, or a stream does not fit its task's test set.
    """
    checked = study if isinstance(study, Study) else read(study, overrides)
    root = data_root or os.environ.get("EVALSUITE_DATA")
    trials = expand(checked, dict.fromkeys(checked.tasks, ""))
    named = labels(trials)
    files = {}
    for trial in {(t.task, t.stream, t.seed): t for t in trials}.values():
        stream = plan_stream(trial, task_data(trial.task, root).test_labels)
        file = Path(folder) / f"{stream.digest()}.npz"
        stream.save(file)
        label = named[trial.identity]
        files[label["task"], label["stream_label"], trial.seed] = file
    return files
