"""Running a study as planned: shared work first, then the trials; finished trials are never repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console

from evalsuite import store
from evalsuite.environment import wait_briefly
from evalsuite.errors import RequestError
from evalsuite.files import Unwritable, remove_left
from evalsuite.isolation import Failure, reason_of
from evalsuite.running import diagnosis, gate, jitter
from evalsuite.running.compiled import asked_for, to_come
from evalsuite.running.domain_images import DomainImages, trim
from evalsuite.running.evaluation import run_trial
from evalsuite.running.examples import Done, keep_examples
from evalsuite.running.failure_files import remove_failures, write_failure
from evalsuite.running.failure_limit import FailureLimit, TooManyFailed
from evalsuite.running.forecast import peaks
from evalsuite.running.foreign import digests, forget, harmed, runs_a_file
from evalsuite.running.lock import RunLock
from evalsuite.running.memory_budget import check_fits
from evalsuite.running.options import RunOptions
from evalsuite.running.plan import Needed, Plan, checked_images, planned
from evalsuite.running.pools import Pool
from evalsuite.running.process_state import restored
from evalsuite.running.quantized_models import quantize_model
from evalsuite.running.run_log import RunLog, Stage
from evalsuite.running.stages import Monitor, monitor_of, stage
from evalsuite.running.table import asked, failed_row, gather, with_models
from evalsuite.running.units import Schedule
from evalsuite.running.workspace import Workspace
from evalsuite.shared_cache import sharing
from evalsuite.study.file import read
from evalsuite.study.settings import Study
from evalsuite.study.shards import Shard, folder_name
from evalsuite.study.trials import Trial
from evalsuite.study.trust import Trust

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
    left: int = 0
    """How many have not ended, where the run was stopped."""
    stopped: str = ""
    """Why it was stopped; empty where it has come to its end."""


def run(
    study: str | Path | Study,
    out: str | Path | None = None,
    workers: int | None = None,
    *,
    overrides: Sequence[str] = (),
    shard: tuple[int, int] | None = None,
    trust: bool = False,
    **options: Any,
) -> Path:
    """Run a study and return the run's folder; a run that is there already is resumed.

    Parameters
    ----------
    study : a registered study's name, a TOML file or a checked study.
    out : the run's folder, by default ``runs/NAME``, or ``runs/NAME-K-of-N`` of a shard.
    workers : processes, by default one a device; 0: one a core, or a GPU. Each gets an equal share of the cores that
        are free, or ``OMP_NUM_THREADS`` threads.
    overrides : ``KEY=VALUE`` changes to the study.
    shard : ``(K, N)``: the K-th of N parts of the study, from 1 (:mod:`evalsuite.study.shards`).
    trust : whether a study file may name Python files that do not lie beside it: their code is run.
    options : what else the run may use: the fields of :class:`evalsuite.running.options.RunOptions`.

    Raises
    ------
    RequestError
        If the study, a path or an option is wrong; nothing has been written then.
    """
    return execute(study, out, workers, overrides=overrides, shard=shard, trust=trust, **options).folder


def execute(
    study: str | Path | Study,
    out: str | Path | None = None,
    workers: int | None = None,
    *,
    overrides: Sequence[str] = (),
    shard: tuple[int, int] | None = None,
    trust: bool = False,
    command: str = "",
    console: Console | None = None,
    lend: Lend | None = None,
    **options: Any,
) -> Outcome:
    """Run a study like :func:`run` and say how it ended; ``lend`` gives results that are known already."""
    if isinstance(study, Study) and overrides:
        raise RequestError("overrides change a study file: expected none with a study that is checked already")
    part = None if shard is None else Shard(*shard)
    said = console or Console(stderr=True)
    checked = study if isinstance(study, Study) else read(study, overrides, Trust.on(said, trust))
    chosen = RunOptions(workers, **options)
    wait_briefly()
    folder = Path(out) if out is not None else Path("runs") / folder_name(checked, part)
    workspace = chosen.workspace(folder)
    pool = chosen.pool(workspace)
    with sharing(workspace.cache):
        remove_left(workspace.folder)
        remove_left(workspace.folder / ".work")
        plan = asked_for(planned(checked, workspace, command, part, chosen.retry_failed), workspace, chosen.compile)
        if workspace.memory is not None and plan.missing:
            check_fits(peaks(checked.tasks, workspace.root), workspace.memory)
        try:
            with RunLock(workspace.folder, checked, part, said) as lock, RunLog(workspace.folder) as log:
                outcome = _execute(plan, workspace, pool, chosen, said, lock, log, lend)
        finally:
            remove_left(workspace.folder)  # what processes were writing that were ended
            remove_left(workspace.folder / ".work")
    return replace(outcome, folder=folder)


def _execute(
    plan: Plan,
    workspace: Workspace,
    pool: Pool,
    options: RunOptions,
    console: Console,
    lock: RunLock,
    log: RunLog,
    lend: Lend | None,
) -> Outcome:
    """Do what is missing, write the table of trials, and what is measured on those that are done."""
    failures: dict[str, Failure] | None = None
    stopped = ""
    with pool if plan.missing else nullcontext():
        needed = checked_images(plan.missing, workspace)  # while the processes start
        gated = gate.check(plan.quantized_tasks, plan.digests, workspace, plan.study.gate, console)
        lock.take()
        plan = lend(plan, workspace.folder) if lend is not None else plan
        doubts = gate.doubts(gated)
        for line in doubts:
            console.print(line, markup=False, soft_wrap=True)
        facts = {**plan.facts, "gate": gated, "notes": [*doubts, *plan.facts["notes"]]}
        _begin(facts, workspace)
        rows = asked(plan.trials, plan.study, plan.of_study)
        store.write_plan(workspace.folder, with_models(rows, plan.trials))
        log.begin(trials=len(plan.trials), missing=len(plan.missing), workers=options.count)
        if plan.missing:
            _make_room(list(needed.images.values()), workspace, options.cache_bytes)
        try:
            limit = FailureLimit(plan.reused, plan.failed, options.max_failures)
            failures = _run_missing(plan, needed, workspace, pool, console, log, limit) if plan.missing else {}
        except TooManyFailed as error:
            stopped = str(error)
        finally:
            rows = gather(rows, workspace.folder, failures)
            remove_failures(workspace.folder, [row["trial"] for row in rows if row["status"] != "failed"])
        _begin(facts, workspace)  # again, for what runs may write where it likes
    status = [row["status"] for row in rows]
    ended = {row["trial"] for row in rows if row["status"] == "done"}
    done = [trial for trial in plan.trials if trial.identity in ended]
    if done:
        if plan.study.analysis.jitter and not stopped:
            jitter.measure(done, plan.study.analysis.jitter, workspace, pool, console, log)
        if plan.study.diagnosis.images and not stopped:
            diagnosis.measure(done, plan.study.diagnosis.images, workspace, pool, console, log)
        by_trial = {row["trial"]: row for row in rows}
        kept = [Done(trial, by_trial[trial.identity]) for trial in done]
        _keep_examples(kept, {plan.names[task] for task in plan.study.private}, workspace, console)
    log.end("stopped" if stopped else "done")
    counts = {each: status.count(each) for each in ("done", "refused", "failed")}
    left = len(plan.trials) - len(rows)
    return Outcome(workspace.folder, **counts, reused=plan.reused, left=left, stopped=stopped)


def _keep_examples(done: Sequence[Done], private: set[str], workspace: Workspace, console: Console) -> None:
    """Keep images for the report; a plugin's fault costs these, and a line says so."""
    try:
        with restored():
            keep_examples(done, private, workspace)
    except (RequestError, KeyboardInterrupt):
        raise
    except BaseException as error:
        console.print(f"the report will show no example images: {reason_of(error)}", markup=False, soft_wrap=True)


def _begin(facts: dict[str, Any], workspace: Workspace) -> None:
    try:
        if workspace.cache is not None and not workspace.cache_read_only:
            (workspace.cache / "images").mkdir(parents=True, exist_ok=True)
            remove_left(workspace.cache)
    except OSError as error:
        raise RequestError(f"cannot write to {error.filename or workspace.cache}: {error.strerror}") from error
    store.write_study(workspace.folder, facts)


def _make_room(shown: Sequence[DomainImages], workspace: Workspace, limit: float) -> None:
    """Remove from the shared folder what the images of this run leave no room for."""
    if workspace.cache is not None and not workspace.cache_read_only:
        files = [file for images in shown for file in images.files(workspace)]
        needed = sum(images.size(workspace) for images in shown if not images.made(workspace))
        trim(workspace.cache / "images", limit - needed, files)


def _run_missing(
    plan: Plan,
    needed: Needed,
    workspace: Workspace,
    pool: Pool,
    console: Console,
    log: RunLog,
    limit: FailureLimit,
) -> dict[str, Failure]:
    """Do what is missing, trials that run a user's file after all others; return how trials failed."""
    own = [trial for trial in plan.missing if not runs_a_file(trial)]
    foreign = [trial for trial in plan.missing if runs_a_file(trial)]
    schedule = Schedule(pool.count, plan.estimates, needed.shows, compiled=bool(plan.facts.get("compile")))
    with monitor_of(console, log) as monitor:
        _make_images(needed.images, workspace, pool, monitor)
        failures = _do(own, schedule, workspace, pool, monitor, limit)
        if not foreign:
            return failures
        guarded = [trial for trial in plan.trials if not runs_a_file(trial)]
        before = digests(workspace.folder, guarded)
        try:
            failures |= _do(foreign, schedule, workspace, pool, monitor, limit)
        finally:
            pool.renew()
            again = harmed(workspace.folder, guarded, before)
            if again:
                forget(workspace.folder, again)  # also where this run ends here: the next one does them
        if again:
            line = f"{len(again)} records of other trials were changed while a file's code ran: these are run again"
            console.print(line, markup=False, soft_wrap=True)
            needed = checked_images(again, workspace)
            _make_images(needed.images, workspace, pool, monitor)
            failures |= _do(again, replace(schedule, shows=needed.shows), workspace, pool, monitor, limit)
    return failures


def _make_images(shown: Mapping[str, DomainImages], workspace: Workspace, pool: Pool, monitor: Monitor) -> None:
    images = [[one] for one in shown.values() if not one.made(workspace)]
    for _ in stage(Stage.IMAGES, _corrupt, images, pool, monitor):
        pass  # a failure shows again, with its reason, in the trials that need these images


def _do(
    trials: Sequence[Trial],
    schedule: Schedule,
    workspace: Workspace,
    pool: Pool,
    monitor: Monitor,
    limit: FailureLimit,
) -> dict[str, Failure]:
    """Make the networks that trials need, then run the trials; return how they failed."""
    of_model: dict[str, list[Trial]] = {}
    for trial in trials:
        of_model.setdefault(trial.quantization, []).append(trial)
    unmade = [own[0] for model, own in of_model.items() if not workspace.model_file(model).is_file()]
    failures: dict[str, Failure] = {}
    unquantized: set[str] = set()
    items = [[trial] for trial in schedule.quantizing_order(unmade)]
    for trial, failure in stage(Stage.QUANTIZING, _quantize, items, pool, monitor):
        if failure is None:
            continue
        unquantized.add(trial.quantization)
        for other in of_model[trial.quantization]:
            failures[other.identity] = failure
            _write_failure(workspace.folder, other, failure, Stage.QUANTIZING)
            monitor.failed(other, failure, Stage.QUANTIZING)
            limit.add(failure.status == "failed")
    ready = schedule.groups([trial for trial in trials if trial.quantization not in unquantized])
    coming = to_come([*chain(*ready)], schedule.shows, schedule.workers) if schedule.compiled else None
    for trial, failure in stage(Stage.EVALUATING, partial(run_trial, planned=coming), ready, pool, monitor):
        if failure is not None:
            failures[trial.identity] = failure
            _write_failure(workspace.folder, trial, failure, Stage.EVALUATING)
        else:
            remove_failures(workspace.folder, [trial.identity])
        limit.add(failure is not None and failure.status == "failed")
    return failures


def _corrupt(shown: DomainImages, workspace: Workspace, kept: dict[str, Any]) -> None:
    shown.make(workspace)


def _quantize(trial: Trial, workspace: Workspace, kept: dict[str, Any]) -> None:
    quantize_model(trial, workspace)


def _write_failure(folder: Path, trial: Trial, failure: Failure, name: Stage) -> None:
    with suppress(Unwritable):  # on a full disk; the row is gathered all the same
        store.write_trial(folder, failed_row(trial.identity, failure))
    if failure.status == "failed":
        write_failure(folder, trial.identity, name, failure)
