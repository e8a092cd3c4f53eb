"""The table of a run's trials: what they are, from its plan, and how they ended, from its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsuite import store
from evalsuite.errors import ReasonCode
from evalsuite.isolation import Failure
from evalsuite.study.labels import labels
from evalsuite.study.settings import Study
from evalsuite.study.trials import Trial, references, simulated


def asked(trials: Sequence[Trial], study: Study, of_study: Sequence[Trial] | None = None) -> list[dict[str, Any]]:
    """Return the columns of ``trials.parquet`` that say what each trial is.

    Of what an engine runs, ``simulation`` names the trial that simulates it; of all others there is no such column.
    ``of_study``: all that labels must tell apart, by default these trials.
    """
    named, own = labels(trials if of_study is None else of_study), references(study)
    return [
        {**trial.settings(), **named[trial.identity], "reference": own(trial).identity}
        | ({store.SIMULATION: simulated(trial).identity} if trial.quantizer.exported else {})
        for trial in trials
    ]


def with_models(rows: Sequence[Mapping[str, Any]], trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return rows of :func:`asked` with the hash of each trial's quantized model, as ``plan.parquet`` has them."""
    return [{**row, store.MODEL: trial.quantization} for row, trial in zip(rows, trials, strict=True)]


def gather(rows: Sequence[Mapping[str, Any]], folder: Path, failures: Mapping[str, Failure] | None = None) -> list[Any]:
    """Write ``trials.parquet`` from the rows of the trials that have ended, and return them in the study's order.

    ``rows``: of :func:`asked`. ``failures``, by trial: of a run that has come to its end; then a trial without a record
    has failed as well. Without them, trials that have no record have not been run yet.
    """
    ended = store.read_rows(folder)
    if failures is not None:
        ended |= {identity: failed_row(identity, failure) for identity, failure in failures.items()}
        gone = f"its record is not in {folder / 'records'}: it was removed, or written elsewhere"
        lost = Failure("failed", gone, ReasonCode.RECORD_MISSING)
        for row in rows:
            ended.setdefault(row["trial"], failed_row(row["trial"], lost))
    gathered = [{**row, **ended[row["trial"]]} for row in rows if row["trial"] in ended]
    if gathered:
        store.write_trials(folder, gathered)
    return gathered


def failed_row(identity: str, failure: Failure) -> dict[str, Any]:
    """Return the row of a trial that has no result."""
    return {"trial": identity, "status": failure.status, "reason": failure.reason, "reason_code": str(failure.code)}
