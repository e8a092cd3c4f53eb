"""Running a study as planned: shared work first, then the trials; finished trials are never repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from evalsuite import store
from evalsuite.environment import wait_briefly
from evalsuite.errors import ReasonCode, RequestError
from evalsuite.files import Unwritable, remove_left
from evalsuite.isolation import Failure, reason_of
from evalsuite.running import gate, jitter
from evalsuite.running.domain_images import DomainImages, trim
from evalsuite.running.evaluation import run_trial
from evalsuite.running.examples import keep_examples
from evalsuite.running.foreign import digests, forget, harmed, runs_a_file
from evalsuite.running.options import CACHE_GIGABYTES, RunOptions
from evalsuite.running.plan import Needed, Plan, checked_images, planned
from evalsuite.running.process_state import restored
from evalsuite.running.quantized_models import quantize_model
from evalsuite.running.stages import progress_of, stage
from evalsuite.running.units import Schedule
from evalsuite.running.workers import TIME_LIMIT, Here, Workers
from evalsuite.running.workspace import Workspace
from evalsuite.shared_cache import sharing
from evalsuite.study.file import read
from evalsuite.study.labels import labels
from evalsuite.study.settings import Study
from evalsuite.study.shards import Shard, folder_name
from evalsuite.study.trials import Trial, references

Lend = Callable[[Plan, Path], Plan]
"""Writes results of a plan that are known already into a folder, and returns what is then left to do."""


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
    workers: int | None = None,
    *,
    data_root: str | None = None,
    device: str = "auto",
    overrides: Sequence[str] = (),
    cache: str | Path | None = None,
    cache_gigabytes: float = CACHE_GIGABYTES,
    time_limit: float = TIME_LIMIT,
    memory_limit: float | None = None,
    in_process: bool = False,
    shard: tuple[int, int] | None = None,
) -> Path:
    """Run a study and return the run's folder; a run that is there already is resumed.

    Trials run in processes of their own: one that dies or hangs costs its trial. These processes, or this one where it
    runs them, tell glibc's allocator to keep freed memory (:func:`evalsuite.environment.keep_freed_memory`), and OpenMP
    to wait for work only briefly (:func:`evalsuite.environment.wait_briefly`).

    Parameters
    ----------
    study : a registered study's name, a TOML file or a checked study.
    out : the run's folder, by default ``runs/NAME``, or ``runs/NAME-K-of-N`` of a shard.
    workers : processes, by default one a device; 0: one a core, or a GPU. Each gets an equal share of the cores that
        are free, or ``OMP_NUM_THREADS`` threads.
    data_root : folder with images and weights, by default ``EVALSUITE_DATA``.
    device : ``auto``, ``cpu``, ``cuda`` (all GPUs, each worker one in turn) or a list like ``cuda:0,cuda:2``.
    overrides : ``KEY=VALUE`` changes to the study.
    cache : folder for images that runs share, by default ``EVALSUITE_CACHE``; without either, corrupted images lie in
        the run's folder.
    cache_gigabytes : beyond so many, the least recently used corrupted images there are removed, those of this run
        excepted.
    time_limit : seconds after which one trial, one quantization or one domain's images are given up.
    memory_limit : gigabytes that a process and all that it starts may hold; one that holds more loses the item that it
        is at. By default nearly all that is free.
    in_process : run trials in this process, for a debugger; then one that dies or hangs is the end of the run.
    shard : ``(K, N)``: the K-th of N parts of the study, from 1 (:mod:`evalsuite.study.shards`).

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
        memory_limit=memory_limit,
        in_process=in_process,
        shard=shard,
    ).folder


def execute(
    study: str | Path | Study,
    out: str | Path | None = None,
    workers: int | None = None,
    *,
    data_root: str | None = None,
    device: str = "auto",
    overrides: Sequence[str] = (),
    cache: str | Path | None = None,
    cache_gigabytes: float = CACHE_GIGABYTES,
    time_limit: float = TIME_LIMIT,
    memory_limit: float | None = None,
    in_process: bool = False,
    shard: tuple[int, int] | None = None,
    command: str = "",
    console: Console | None = None,
    lend: Lend | None = None,
) -> Outcome:
    """Run a study like :func:`run` and say how it ended; ``lend`` gives results that are known already."""
    if isinstance(study, Study) and overrides:
        raise RequestError("overrides change a study file: expected none with a study that is checked already")
    part = None if shard is None else Shard(*shard)
    checked = study if isinstance(study, Study) else read(study, overrides)
    options = RunOptions(workers, data_root, device, cache, cache_gigabytes, time_limit, in_process, memory_limit)
    wait_briefly()
    folder = Path(out) if out is not None else Path("runs") / folder_name(checked, part)
    workspace = options.workspace(folder)
    pool = options.pool(workspace)
    with sharing(workspace.cache):
        remove_left(workspace.folder)
        remove_left(workspace.folder / ".work")
        plan = planned(checked, workspace, command, part)
        try:
            outcome = _execute(plan, workspace, pool, options.cache_bytes, console or Console(stderr=True), lend)
        finally:
            remove_left(workspace.folder)  # what processes were writing that were ended
            remove_left(workspace.folder / ".work")
    return replace(outcome, folder=folder)


def _execute(
    plan: Plan, workspace: Workspace, pool: Here | Workers, cache_bytes: float, console: Console, lend: Lend | None
) -> Outcome:
    """Do what is missing, write the table of trials, and what is measured on those that are done."""
    failures: dict[str, Failure] | None = None
    with pool if plan.missing else nullcontext():
        needed = checked_images(plan.missing, workspace)  # while the processes start
        gated = gate.check(plan.quantized_tasks, plan.digests, workspace, plan.study.gate, console)
        plan = lend(plan, workspace.folder) if lend is not None else plan
        _begin({**plan.facts, "gate": gated}, workspace)
        if plan.missing:
            _make_room(list(needed.images.values()), workspace, cache_bytes)
        try:
            failures = _run_missing(plan, needed, workspace, pool, console) if plan.missing else {}
        finally:
            rows = gather(plan.trials, plan.study, workspace.folder, failures, plan.of_study)
        _begin({**plan.facts, "gate": gated}, workspace)  # again, for what runs may write where it likes
    status = [row["status"] for row in rows]
    ended = {row["trial"] for row in rows if row["status"] == "done"}
    done = [trial for trial in plan.trials if trial.identity in ended]
    if done:
        if plan.study.analysis.jitter:
            jitter.measure(done, plan.study.analysis.jitter, workspace, pool, console)
        _keep_examples(done[0], plan.names[done[0].task], workspace, console)
    return Outcome(workspace.folder, status.count("done"), status.count("refused"), status.count("failed"), plan.reused)


def _keep_examples(trial: Trial, task: str, workspace: Workspace, console: Console) -> None:
    """Keep images for the report; a plugin's fault costs these, and a line says so."""
    try:
        with restored():
            keep_examples(trial, task, workspace)
    except (RequestError, KeyboardInterrupt):
        raise
    except BaseException as error:
        console.print(f"the report will show no example images: {reason_of(error)}", markup=False, soft_wrap=True)


def _begin(facts: dict[str, Any], workspace: Workspace) -> None:
    try:
        if workspace.cache is not None:
            (workspace.cache / "images").mkdir(parents=True, exist_ok=True)
            remove_left(workspace.cache)
    except OSError as error:
        raise RequestError(f"cannot write to {error.filename or workspace.cache}: {error.strerror}") from error
    store.write_study(workspace.folder, facts)


def gather(
    trials: Sequence[Trial],
    study: Study,
    folder: Path,
    failures: Mapping[str, Failure] | None = None,
    of_study: Sequence[Trial] | None = None,
) -> list[dict[str, Any]]:
    """Write ``trials.parquet`` from the rows of the trials that have ended, and return them in the study's order.

    ``failures``, by trial: of a run that has come to its end; then a trial without a row has failed as well. Without
    them, trials that have no row have not been run yet. ``of_study``: all that labels must tell apart, by default
    these trials.
    """
    ended = store.read_rows(folder)
    if failures is not None:
        ended |= {identity: _failed_row(identity, failure) for identity, failure in failures.items()}
        gone = f"its record is not in {folder / 'records'}: it was removed, or written elsewhere"
        lost = Failure("failed", gone, ReasonCode.RECORD_MISSING)
        for trial in trials:
            ended.setdefault(trial.identity, _failed_row(trial.identity, lost))
    named, own = labels(trials if of_study is None else of_study), references(study)
    rows = []
    for trial in trials:
        row = ended.get(trial.identity)
        if row is not None:
            rows.append({**trial.settings(), **named[trial.identity], "reference": own(trial).identity, **row})
    if rows:
        store.write_trials(folder, rows)
    return rows


def _make_room(shown: Sequence[DomainImages], workspace: Workspace, limit: float) -> None:
    """Remove from the shared folder what the images of this run leave no room for."""
    if workspace.cache is not None:
        files = [workspace.images_file(images.key) for images in shown]
        needed = sum(images.size(workspace) for images, file in zip(shown, files, strict=True) if not file.is_file())
        trim(workspace.cache / "images", limit - needed, files)


def _run_missing(
    plan: Plan, needed: Needed, workspace: Workspace, pool: Here | Workers, console: Console
) -> dict[str, Failure]:
    """Do what is missing, trials that run a user's file after all others; return how trials failed."""
    own = [trial for trial in plan.missing if not runs_a_file(trial)]
    foreign = [trial for trial in plan.missing if runs_a_file(trial)]
    schedule = Schedule(pool.count, plan.estimates, needed.shows)
    with progress_of(console) as progress:
        _make_images(needed.images, workspace, pool, progress)
        failures = _do(own, schedule, workspace, pool, progress)
        if not foreign:
            return failures
        guarded = [trial for trial in plan.trials if not runs_a_file(trial)]
        before = digests(workspace.folder, guarded)
        try:
            failures |= _do(foreign, schedule, workspace, pool, progress)
        finally:
            pool.renew()
            again = harmed(workspace.folder, guarded, before)
            if again:
                forget(workspace.folder, again)  # also where this run ends here: the next one does them
        if again:
            line = f"{len(again)} records of other trials were changed while a file's code ran: these are run again"
            console.print(line, markup=False, soft_wrap=True)
            needed = checked_images(again, workspace)
            _make_images(needed.images, workspace, pool, progress)
            failures |= _do(again, replace(schedule, shows=needed.shows), workspace, pool, progress)
    return failures


def _make_images(
    shown: Mapping[str, DomainImages], workspace: Workspace, pool: Here | Workers, progress: Progress
) -> None:
    images = [[one] for one in shown.values() if not workspace.images_file(one.key).is_file()]
    for _ in stage("corrupting images", _corrupt, images, pool, progress):
        pass  # a failure shows again, with its reason, in the trials that need these images


def _do(
    trials: Sequence[Trial], schedule: Schedule, workspace: Workspace, pool: Here | Workers, progress: Progress
) -> dict[str, Failure]:
    """Make the networks that trials need, then run the trials; return how they failed."""
    models = {trial.quantization: trial for trial in trials}
    unmade = [trial for model, trial in models.items() if not workspace.model_file(model).is_file()]
    failures: dict[str, Failure] = {}
    unquantized = {}
    items = [[trial] for trial in schedule.quantizing_order(unmade)]
    for trial, failure in stage("quantizing", _quantize, items, pool, progress):
        if failure is not None:
            unquantized[trial.quantization] = failure
    for trial in trials:
        if trial.quantization in unquantized:
            failures[trial.identity] = unquantized[trial.quantization]
            _write_failure(workspace.folder, trial, failures[trial.identity])
    ready = schedule.groups([trial for trial in trials if trial.quantization not in unquantized])
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
