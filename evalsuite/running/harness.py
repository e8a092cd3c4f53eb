"""Running a study: shared work first, then the trials; finished trials are never repeated."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from evalsuite import store
from evalsuite.environment import (
    available_cores,
    hardware,
    resolve_device,
    threads_per_worker,
    versions,
    wait_briefly,
)
from evalsuite.errors import ReasonCode, RequestError
from evalsuite.files import Unwritable, remove_left
from evalsuite.groups import chosen_groups
from evalsuite.hashing import digest
from evalsuite.isolation import Failure, requested
from evalsuite.quantization.insert import check_overrides
from evalsuite.registry import Setting
from evalsuite.running import gate, jitter
from evalsuite.running.calibration_sets import calibration_pool, check_calibration
from evalsuite.running.domain_images import DomainImages, domain_images, trim
from evalsuite.running.evaluation import run_trial, unit
from evalsuite.running.examples import keep_examples
from evalsuite.running.notes import notes
from evalsuite.running.process_state import restored
from evalsuite.running.quantized_models import quantize_model
from evalsuite.running.stages import progress_of, stage
from evalsuite.running.task_data import describe_task, example, task_data, task_model
from evalsuite.running.workers import TIME_LIMIT, Here, Limits, Workers
from evalsuite.running.workspace import Workspace
from evalsuite.study.file import read
from evalsuite.study.labels import labels, task_labels
from evalsuite.study.settings import Study
from evalsuite.study.trials import Trial, expand, plan_stream, reference

CACHE_GIGABYTES = 20.0
"""How much a folder of images that runs share may hold."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    folder: Path
    done: int
    refused: int
    failed: int
    reused: int
    """How many of them an earlier call had finished."""


def run(
    study: str | Path | Study,
    out: str | Path | None = None,
    workers: int = 1,
    *,
    data_root: str | None = None,
    device: str = "auto",
    overrides: Sequence[str] = (),
    cache: str | Path | None = None,
    cache_gigabytes: float = CACHE_GIGABYTES,
    time_limit: float = TIME_LIMIT,
    in_process: bool = False,
) -> Path:
    """Run a study and return the run's folder; a run that is there already is resumed.

    Trials run in processes of their own: one that dies or hangs costs its trial. These processes, or this one where it
    runs them, tell glibc's allocator to keep freed memory (:func:`evalsuite.environment.keep_freed_memory`), and OpenMP
    to wait for work only briefly (:func:`evalsuite.environment.wait_briefly`).

    Parameters
    ----------
    study : a registered study's name, a TOML file or a checked study.
    out : the run's folder, by default ``runs/NAME``.
    workers : processes; each gets an equal share of the cores that are free, or ``OMP_NUM_THREADS`` threads.
    data_root : folder with images and weights, by default ``EVALSUITE_DATA``.
    device : ``auto``, ``cpu`` or ``cuda``.
    overrides : ``KEY=VALUE`` changes to the study.
    cache : folder for images that runs share, by default ``EVALSUITE_CACHE``; without either, corrupted images lie in
        the run's folder.
    cache_gigabytes : beyond so many, the least recently used corrupted images there are removed, those of this run
        excepted.
    time_limit : seconds after which one trial, one quantization or one domain's images are given up.
    in_process : run trials in this process, for a debugger; then one that dies or hangs is the end of the run.

    Raises
    ------
    RequestError
        If the study, a path or an option is wrong; nothing has been written then.
    """
    return execute(
        study,
        out,
        workers,
        data_root=data_root,
        device=device,
        overrides=overrides,
        cache=cache,
        cache_gigabytes=cache_gigabytes,
        time_limit=time_limit,
        in_process=in_process,
    ).folder


def execute(
    study: str | Path | Study,
    out: str | Path | None = None,
    workers: int = 1,
    *,
    data_root: str | None = None,
    device: str = "auto",
    overrides: Sequence[str] = (),
    cache: str | Path | None = None,
    cache_gigabytes: float = CACHE_GIGABYTES,
    time_limit: float = TIME_LIMIT,
    in_process: bool = False,
    command: str = "",
    console: Console | None = None,
) -> Outcome:
    """Run a study like :func:`run` and say how it ended."""
    if isinstance(study, Study) and overrides:
        raise RequestError("overrides change a study file: expected none with a study that is checked already")
    checked = study if isinstance(study, Study) else read(study, overrides)
    if workers < 0:
        raise RequestError(f"workers = {workers}: expected at least 1, or 0 for one a core")
    workers = workers or available_cores()
    wait_briefly()
    threads = threads_per_worker(workers)
    root = data_root or os.environ.get("EVALSUITE_DATA")
    folder = Path(out) if out is not None else Path("runs") / checked.name
    if not cache_gigabytes >= 0:
        raise RequestError(f"cache of {cache_gigabytes} gigabytes: expected at least 0")
    if not time_limit > 0:
        raise RequestError(f"a time limit of {time_limit:g} s: expected more than 0")
    if in_process and workers > 1:
        raise RequestError(f"{workers} workers in this process: expected 1")
    shared = cache or os.environ.get("EVALSUITE_CACHE")
    # Absolute, for a plugin may change the working folder.
    workspace = Workspace(
        folder.absolute(),
        str(Path(root).absolute()) if root else root,
        resolve_device(device),
        threads,
        Path(shared).absolute() if shared else None,
    )
    pool = Here(workspace) if in_process else Workers(workers, workspace, Limits(time_limit))
    with workspace.announced():
        outcome = _execute(checked, workspace, pool, 1e9 * cache_gigabytes, command, console or Console(stderr=True))
    return replace(outcome, folder=folder)


def _execute(
    checked: Study,
    workspace: Workspace,
    pool: Here | Workers,
    cache_bytes: float,
    command: str,
    console: Console,
) -> Outcome:
    folder, root = workspace.folder, workspace.root
    remove_left(folder)
    remove_left(folder / ".work")
    tasks = {task: _described(task, root) for task in checked.tasks}
    chosen_groups(checked.analysis.groups, [facts["groups"] for facts in tasks.values()])
    digests = {
        task: digest([facts["source_digest"], facts["data_digest"], facts["weights_digest"]])
        for task, facts in tasks.items()
    }
    trials = expand(checked, digests)
    named = task_labels(trial.task for trial in trials)
    facts = _facts(checked, command, trials, workspace)
    facts["tasks"] = {label: tasks[task] for task, label in named.items()}
    finished = {t: row for t, row in store.read_rows(folder).items() if row["status"] != "failed"}
    missing = [trial for trial in trials if trial.identity not in finished]
    failures: dict[str, Failure] | None = None
    with pool if missing else nullcontext():
        shown = _check(missing, workspace)
        quantized = {named[trial.task]: trial.task for trial in trials if trial.quantizer.bits is not None}
        facts["gate"] = gate.check(quantized, digests, workspace, checked.gate, console)
        _begin(facts, workspace)
        if missing:
            _make_room(list(shown.values()), workspace, cache_bytes)
        try:
            failures = _run_missing(missing, shown, workspace, pool, console) if missing else {}
        finally:
            rows = gather(trials, checked, folder, failures)
    status = [row["status"] for row in rows]
    ended = {row["trial"] for row in rows if row["status"] == "done"}
    done = [trial for trial in trials if trial.identity in ended]
    if done and checked.analysis.jitter:
        jitter.measure(done, checked.analysis.jitter, workspace, pool, console)
    if done:
        with _plugin_faults_later():
            keep_examples(done[0], named[done[0].task], workspace)
    return Outcome(
        folder,
        done=status.count("done"),
        refused=status.count("refused"),
        failed=status.count("failed"),
        reused=len(trials) - len(missing),
    )


def _described(task: Setting, root: str | None) -> dict[str, Any]:
    with requested(f"task {task.name!r} cannot be loaded"), restored():
        return describe_task(task, root)


def _facts(study: Study, command: str, trials: Sequence[Trial], workspace: Workspace) -> dict[str, Any]:
    """Return what ``study.json`` says of a study and of the machine."""
    settings = study.as_dict()
    return {
        "name": study.name,
        "title": study.title,
        "description": study.description,
        "command": command,
        "settings": settings,
        "trials": len(trials),
        "seeds": list(study.seeds),
        "analysis": settings["analysis"],
        "tasks": {},
        "versions": versions(),
        "hardware": hardware(workspace.device, workspace.threads),
        "notes": notes(trials, study, workspace.root),
    }


def _check(missing: Sequence[Trial], workspace: Workspace) -> dict[str, DomainImages]:
    """Refuse what a task cannot serve before anything is written; return the corrupted images that trials need."""
    shown = shared_images(missing, workspace)
    for task, calibration, seed in dict.fromkeys((t.task, t.calibration, t.seed) for t in missing):
        with _plugin_faults_later():
            check_calibration(calibration, calibration_pool(task, workspace, seed))
    for task, bits in dict.fromkeys((t.task, t.quantizer.bits) for t in missing):
        if bits is not None and bits.overrides:
            with _plugin_faults_later():
                check_overrides(task_model(task, workspace.root), bits, example(task_data(task, workspace.root)))
    return shown


def _begin(facts: dict[str, Any], workspace: Workspace) -> None:
    try:
        if workspace.cache is not None:
            (workspace.cache / "images").mkdir(parents=True, exist_ok=True)
            remove_left(workspace.cache)
    except OSError as error:
        raise RequestError(f"cannot write to {error.filename or workspace.cache}: {error.strerror}") from error
    store.write_study(workspace.folder, facts)


def gather(
    trials: Sequence[Trial], study: Study, folder: Path, failures: Mapping[str, Failure] | None = None
) -> list[dict[str, Any]]:
    """Write ``trials.parquet`` from the rows of the trials that have ended, and return them in the study's order.

    ``failures``, by trial: of a run that has come to its end; then a trial without a row has failed as well. Without
    them, trials that have no row have not been run yet.
    """
    ended = store.read_rows(folder)
    if failures is not None:
        ended |= {identity: _failed_row(identity, failure) for identity, failure in failures.items()}
        gone = f"its record is not in {folder / 'records'}: it was removed, or written elsewhere"
        lost = Failure("failed", gone, ReasonCode.RECORD_MISSING)
        for trial in trials:
            ended.setdefault(trial.identity, _failed_row(trial.identity, lost))
    named = labels(trials)
    rows = []
    for trial in trials:
        row = ended.get(trial.identity)
        if row is not None:
            own = reference(trial, study).identity
            rows.append({**trial.settings(), **named[trial.identity], "reference": own, **row})
    if rows:
        store.write_trials(folder, rows)
    return rows


def _make_room(shown: Sequence[DomainImages], workspace: Workspace, limit: float) -> None:
    """Remove from the shared folder what the images of this run leave no room for."""
    if workspace.cache is not None:
        files = [workspace.images_file(images.key) for images in shown]
        needed = sum(images.size(workspace) for images, file in zip(shown, files, strict=True) if not file.is_file())
        trim(workspace.cache / "images", limit - needed, files)


def shared_images(trials: Sequence[Trial], workspace: Workspace) -> dict[str, DomainImages]:
    """Return, by key, every set of corrupted images the trials need."""
    needed: dict[str, DomainImages] = {}
    planned = set()
    for trial in trials:
        plan = (trial.task, trial.stream, trial.seed)
        if plan not in planned:
            planned.add(plan)
            test_labels = task_data(trial.task, workspace.root).test_labels
            with _plugin_faults_later():
                stream = plan_stream(trial, test_labels)
                for shown in domain_images(trial, stream, workspace.root):
                    if shown.file(workspace) is not None:
                        needed.setdefault(shown.key, shown)
    return needed


@contextmanager
def _plugin_faults_later() -> Iterator[None]:
    """Let a wrong request through, and any other fault of a plugin wait for the trials that it will fail."""
    try:
        with restored():
            yield
    except (RequestError, KeyboardInterrupt):
        raise
    except BaseException:  # shows again, with its reason, in the trials' rows
        return


def _run_missing(
    missing: Sequence[Trial],
    shown: Mapping[str, DomainImages],
    workspace: Workspace,
    pool: Here | Workers,
    console: Console,
) -> dict[str, Failure]:
    """Do the shared work, then the trials; return how trials failed."""
    models = {trial.quantization: trial for trial in missing if not workspace.model_file(trial.quantization).is_file()}
    units: dict[tuple[str, str], list[Trial]] = {}
    for trial in missing:
        units.setdefault(unit(trial), []).append(trial)
    failures: dict[str, Failure] = {}
    with progress_of(console) as progress:
        images = [[one] for one in shown.values() if not workspace.images_file(one.key).is_file()]
        for _ in stage("corrupting images", _corrupt, images, pool, progress):
            pass  # a failure shows again, with its reason, in the trials that need these images
        unquantized = {}
        for trial, failure in stage("quantizing", _quantize, [[trial] for trial in models.values()], pool, progress):
            if failure is not None:
                unquantized[trial.quantization] = failure
        for trial in missing:
            if trial.quantization in unquantized:
                failures[trial.identity] = unquantized[trial.quantization]
                _write_failure(workspace.folder, trial, failures[trial.identity])
        ready = [trials for (model, _), trials in units.items() if model not in unquantized]
        for trial, failure in stage("evaluating", run_trial, ready, pool, progress):
            if failure is not None:
                failures[trial.identity] = failure
                _write_failure(workspace.folder, trial, failure)
    return failures


def _corrupt(shown: DomainImages, workspace: Workspace, kept: dict[str, Any]) -> None:
    shown.make(workspace)


def _quantize(trial: Trial, workspace: Workspace, kept: dict[str, Any]) -> None:
    quantize_model(trial, workspace)


def _failed_row(identity: str, failure: Failure) -> dict[str, Any]:
    return {"trial": identity, "status": failure.status, "reason": failure.reason, "reason_code": str(failure.code)}


def _write_failure(folder: Path, trial: Trial, failure: Failure) -> None:
    with suppress(Unwritable):  # on a full disk; the row is gathered all the same
        store.write_trial(folder, _failed_row(trial.identity, failure))
