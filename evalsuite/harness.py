"""Running a study: shared work first, then the trials; finished trials are never repeated."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from evalsuite import gate, store
from evalsuite.corruptions.constants import choose
from evalsuite.domain_images import DomainImages, domain_images, trim
from evalsuite.environment import (
    available_cores,
    hardware,
    resolve_device,
    threads_per_worker,
    versions,
    wait_briefly,
)
from evalsuite.errors import Refused, RequestError
from evalsuite.evaluation import Evaluator
from evalsuite.examples import keep_examples
from evalsuite.groups import chosen_groups
from evalsuite.hashing import digest
from evalsuite.materials import (
    Workspace,
    calibration_pool,
    check_calibration,
    describe_task,
    example,
    plan_stream,
    quantize_model,
    task_data,
    task_model,
)
from evalsuite.quantization.insert import check_overrides
from evalsuite.stages import progress_of, stage
from evalsuite.study import Study, read
from evalsuite.study_tables import Corruption
from evalsuite.trials import Trial, expand, labels, reference, task_labels

Failure = tuple[str, str]
"""(status, reason) of what could not be done."""

SIMULATED = (
    "Where a trial's engine is called simulated, quantization is simulated in floating point, and times are those of "
    "the simulation, not of an integer engine."
)
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
) -> Path:
    """Run a study and return the run's folder; a run that is there already is resumed.

    Its processes, this one where it is the only worker, tell glibc's allocator to keep freed memory, which it goes on
    doing (:func:`evalsuite.environment.keep_freed_memory`), and OpenMP to wait for work only briefly
    (:func:`evalsuite.environment.wait_briefly`).

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
    shared = cache or os.environ.get("EVALSUITE_CACHE")
    workspace = Workspace(folder, root, resolve_device(device), threads, Path(shared) if shared else None)
    with workspace.announced():
        return _execute(checked, workspace, workers, 1e9 * cache_gigabytes, command, console or Console(stderr=True))


def _execute(
    checked: Study, workspace: Workspace, workers: int, cache_bytes: float, command: str, console: Console
) -> Outcome:
    import torch

    folder, root = workspace.folder, workspace.root
    tasks = {task: describe_task(task, root) for task in checked.tasks}
    chosen_groups(checked.analysis.groups, [facts["groups"] for facts in tasks.values()])
    digests = {
        task: digest([facts["source_digest"], facts["data_digest"], facts["weights_digest"]])
        for task, facts in tasks.items()
    }
    trials = expand(checked, digests)
    settings = checked.as_dict()
    named = task_labels(trial.task for trial in trials)
    facts = {
        "name": checked.name,
        "title": checked.title,
        "description": checked.description,
        "command": command,
        "settings": settings,
        "trials": len(trials),
        "seeds": list(checked.seeds),
        "analysis": settings["analysis"],
        "tasks": {label: tasks[task] for task, label in named.items()},
        "versions": versions(),
        "hardware": hardware(workspace.device, workspace.threads),
        "notes": notes(trials, checked.corruption, root),
    }
    finished = {t: row for t, row in store.read_rows(folder).items() if row["status"] != "failed"}
    missing = [trial for trial in trials if trial.identity not in finished]
    # What a task cannot serve is refused here, before anything is written.
    shown = shared_images(missing, workspace)
    for task, calibration, seed in dict.fromkeys((t.task, t.calibration, t.seed) for t in missing):
        with _plugin_faults_later():
            check_calibration(calibration, calibration_pool(task, workspace, seed))
    for task, bits in dict.fromkeys((t.task, t.quantizer.bits) for t in missing):
        if bits is not None and bits.overrides:
            with _plugin_faults_later():
                check_overrides(task_model(task, root), bits, example(task_data(task, root)))
    quantized = {named[trial.task]: trial.task for trial in trials if trial.quantizer.bits is not None}
    facts["gate"] = gate.check(quantized, digests, workspace, checked.gate, console)
    try:
        if workspace.cache is not None:
            (workspace.cache / "images").mkdir(parents=True, exist_ok=True)
        store.write_study(folder, facts)
    except OSError as error:
        raise RequestError(f"cannot write to {error.filename or folder}: {error.strerror}") from error
    before = torch.get_num_threads()
    try:
        if missing:
            _make_room(list(shown.values()), workspace, cache_bytes)
            _run_missing(missing, shown, workspace, workers, console)
    finally:
        torch.set_num_threads(before)
        rows = gather(trials, checked, folder)
    status = [row["status"] for row in rows]
    if "done" in status:
        first = rows[status.index("done")]["trial"]
        done = next(trial for trial in trials if trial.identity == first)
        with _plugin_faults_later():
            keep_examples(done, named[done.task], workspace)
    return Outcome(
        folder,
        done=status.count("done"),
        refused=status.count("refused"),
        failed=status.count("failed"),
        reused=len(trials) - len(missing),
    )


def gather(trials: Sequence[Trial], study: Study, folder: Path) -> list[dict[str, Any]]:
    """Write ``trials.parquet`` from the rows of the trials that have ended, and return them in the study's order."""
    ended = store.read_rows(folder)
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


def notes(trials: Sequence[Trial], corruption: Corruption, root: str | None) -> list[str]:
    """Return the sentences that a reader of a study's results must know."""
    tasks = dict.fromkeys(trial.task for trial in trials if trial.corrupted_images)
    if not tasks:
        return [SIMULATED]
    if corruption.files == "published":
        return ["Corrupted images are the published files, read as they are distributed.", SIMULATED]
    sizes = sorted({task_data(task, root).test_images.shape[1:3] for task in tasks})
    named = [(size, constants_of(corruption, *size)) for size in sizes]
    constants = " and ".join(f"the {name!r} constants at {width} x {height} pixels" for (height, width), name in named)
    made = (
        f"Corrupted images were regenerated from the clean test images by the {corruption.engine!r} engine with "
        f"{constants} (seed {corruption.seed}); they are not the published files, whose random draws differ."
    )
    return [made, SIMULATED]


def constants_of(corruption: Corruption, height: int, width: int) -> str:
    """Return the name of the constants by which images of this size are corrupted."""
    if corruption.engine == "reference":
        return "imagenet"
    return choose(corruption.constants, height, width)


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
        yield
    except RequestError:
        raise
    except Exception:  # shows again, with its reason, in the trials' rows
        return


def _run_missing(
    missing: Sequence[Trial],
    shown: Mapping[str, DomainImages],
    workspace: Workspace,
    workers: int,
    console: Console,
) -> None:
    models = {trial.quantization: trial for trial in missing if not workspace.model_file(trial.quantization).is_file()}
    units: dict[tuple[str, str], list[Trial]] = {}
    for trial in missing:
        units.setdefault((trial.quantization, digest(trial.adapter.as_dict())), []).append(trial)
    with progress_of(console) as progress:
        images = [one for one in shown.values() if not workspace.images_file(one.key).is_file()]
        for _ in stage("corrupting images", _corrupt, images, workspace, workers, progress):
            pass
        quantized = stage("quantizing", _quantize, list(models.values()), workspace, workers, progress)
        failures = {key: failure for key, failure in quantized if failure is not None}
        for trial in missing:
            if trial.quantization in failures:
                _write_failure(workspace.folder, trial, failures[trial.quantization])
        ready = [trials for (model, _), trials in units.items() if model not in failures]
        for _ in stage("evaluating", _evaluate, ready, workspace, workers, progress, size=len):
            pass


def _corrupt(shown: DomainImages, workspace: Workspace) -> None:
    # A failure shows again, with its reason, in the trials that need these images.
    _attempt(lambda: shown.make(workspace))


def _quantize(trial: Trial, workspace: Workspace) -> tuple[str, Failure | None]:
    return trial.quantization, _attempt(lambda: quantize_model(trial, workspace))


def _evaluate(trials: Sequence[Trial], workspace: Workspace) -> None:
    """Run trials that share a quantized model and an adapter; what goes wrong becomes the trial's row."""
    prepared: list[Evaluator] = []
    failure = _attempt(lambda: prepared.append(Evaluator(trials[0], workspace)))
    for trial in trials:
        own = failure or _attempt(lambda trial=trial: _write_done(workspace.folder, trial, prepared[0]))  # type: ignore[misc]
        if own is not None:
            _write_failure(workspace.folder, trial, own)


def _write_done(folder: Path, trial: Trial, evaluator: Evaluator) -> None:
    columns, records = evaluator.run(trial)
    store.write_trial(folder, {"trial": trial.identity, **columns}, records)


def _write_failure(folder: Path, trial: Trial, failure: Failure) -> None:
    status, reason = failure
    store.write_trial(folder, {"trial": trial.identity, "status": status, "reason": reason})


def _attempt(action: Callable[[], Any]) -> Failure | None:
    try:
        action()
    except Refused as error:
        return "refused", _one_line(error)
    except Exception as error:  # a plugin may raise anything; the rest of the study must go on
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if isinstance(error, RequestError) else f" ({Path(last.filename).name}:{last.lineno})"
        return "failed", f"{type(error).__name__}: {_one_line(error)}{where}"
    return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
