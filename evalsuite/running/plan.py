"""What a run is going to do, known before anything is written: its trials, and what of them is there already."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from evalsuite import registry, store
from evalsuite.environment import hardware, versions
from evalsuite.errors import ReasonCode, RequestError
from evalsuite.groups import chosen_groups
from evalsuite.hashing import digest
from evalsuite.isolation import printable, requested
from evalsuite.quantization.insert import check_overrides
from evalsuite.registry import Setting
from evalsuite.running.calibration_sets import calibration_pool, check_calibration, loaded_digest
from evalsuite.running.domain_images import DomainImages, domain_images
from evalsuite.running.estimates import Estimates, learnt
from evalsuite.running.notes import notes
from evalsuite.running.process_state import restored
from evalsuite.running.task_data import describe_task, example, task_data, task_model
from evalsuite.running.units import Shown, Shows
from evalsuite.running.workspace import Workspace
from evalsuite.study.labels import task_labels
from evalsuite.study.settings import Study
from evalsuite.study.shards import Shard, part_of
from evalsuite.study.trials import Trial, expand, plan_stream

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Plan:
    """What a run is going to do.

    Attributes
    ----------
    study : as it was asked for.
    trials : all that are to be done, in the study's order, references added: a part of the study's in a shard.
    missing : those that no earlier call has finished; failed ones among them if these are to be tried again.
    failed : of those that are not missing, how many have failed.
    digests : of each task's source, images and weights.
    names : each task's label.
    estimates : what trials take, learnt from those that have ended.
    facts : what ``study.json`` will say, but for the gate.
    of_study : all trials of the study: what labels must tell apart.
    """

    study: Study
    trials: tuple[Trial, ...]
    missing: tuple[Trial, ...]
    digests: Mapping[Setting, str]
    names: Mapping[Setting, str]
    estimates: Estimates
    facts: Mapping[str, Any]
    of_study: tuple[Trial, ...]
    failed: int = 0

    @property
    def reused(self) -> int:
        """How many trials an earlier call has finished."""
        return len(self.trials) - len(self.missing)

    @property
    def quantized_tasks(self) -> dict[str, Setting]:
        """The tasks, by label, whose network is quantized in a trial."""
        return {self.names[trial.task]: trial.task for trial in self.trials if trial.quantizer.bits is not None}


def planned(
    study: Study, workspace: Workspace, command: str, shard: Shard | None = None, retry_failed: bool = True
) -> Plan:
    """Lay a run out, of a shard if one is given; loads the tasks' images and networks and runs none.

    Raises RequestError if one cannot be, or if the folder holds the run of another study.
    """
    tasks = {task: _described(task, workspace.root) for task in study.tasks}
    chosen_groups(study.analysis.groups, [facts["groups"] for facts in tasks.values()])
    digests = {task: task_digest(facts) for task, facts in tasks.items()}
    of_study = expand(study, digests, {each: loaded_digest(each, workspace.root) for each in study.calibrations})
    trials = of_study if shard is None else part_of(of_study, study, shard)
    names = task_labels(trial.task for trial in of_study)
    rows = store.read_rows(workspace.folder)
    _check_whose(workspace.folder, rows, study, of_study)
    finished = {trial for trial, row in rows.items() if not (retry_failed and _may_end_otherwise(row))}
    missing = tuple(trial for trial in trials if trial.identity not in finished)
    failed = sum(trial.identity in finished and rows[trial.identity]["status"] == "failed" for trial in trials)
    private = {task: {"private": True} for task in study.private}
    described = {label: tasks[task] | private.get(task, {}) for task, label in names.items()}
    facts = _facts(study, command, of_study, described, workspace) | {"trials": len(trials)}
    if shard is not None:
        place = {trial.identity: index for index, trial in enumerate(of_study)}
        places = [place[trial.identity] for trial in trials]
        facts["shard"] = {"number": shard.number, "of": shard.of, "of_study": len(of_study), "places": places}
    return Plan(study, tuple(trials), missing, digests, names, learnt(trials, rows), facts, tuple(of_study), failed)


def _check_whose(folder: Path, rows: Collection[str], study: Study, trials: Sequence[Trial]) -> None:
    """Refuse a folder with results of a study of another name that has none of these trials: its tables would go."""
    if not rows or any(trial.identity in rows for trial in trials):
        return
    try:
        name = store.read_study(folder).get("name")
    except (OSError, ValueError):  # damaged: nobody's any more
        return
    if isinstance(name, str) and name != study.name:
        raise RequestError(
            f"{folder} holds the run of study {printable(str(name), 100)!r}, {len(rows)} trials, none of which study "
            f"{study.name!r} has: expected its own folder or a new one (--out)"
        )


def _may_end_otherwise(row: Mapping[str, Any]) -> bool:
    return bool(row["status"] == "failed" or row.get("reason_code") == ReasonCode.NOT_INSTALLED)


def task_digest(facts: Mapping[str, Any]) -> str:
    """Return what enters the identities of a task's trials, from what ``study.json`` says of it."""
    return digest([facts[name] for name in ("source_digest", "data_digest", "weights_digest")])


def _described(task: Setting, root: str | None) -> dict[str, Any]:
    with requested(f"task {task.name!r} cannot be loaded"), restored():
        return describe_task(task, root)


def _facts(
    study: Study, command: str, trials: Sequence[Trial], tasks: dict[str, Any], workspace: Workspace
) -> dict[str, Any]:
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
        "tasks": tasks,
        "methods": _methods(study),
        "versions": versions(),
        "hardware": hardware(workspace.device, workspace.threads),
        "notes": notes(trials, study, workspace.root),
    }


def _methods(study: Study) -> dict[str, str]:
    """Return what each quantizer and adapter says of itself in a line, by name; both, where they have one name."""
    told: dict[str, list[str]] = {}
    for setting in (*(each.method for each in study.quantizers), *study.adapters):
        line = registry.summary(setting.kind, setting.name)
        if line and line not in told.setdefault(setting.name, []):
            told[setting.name].append(line)
    return {name: " ".join(lines) for name, lines in told.items()}


class Needed(NamedTuple):
    """What trials show: the corrupted images that they need, by key, and how many images each stream has."""

    images: dict[str, DomainImages]
    shows: Shows


def checked_images(missing: Sequence[Trial], workspace: Workspace) -> Needed:
    """Refuse what a task cannot serve before anything is written; return what trials show."""
    shown = _shared_images(missing, workspace)
    for (task, calibration), own in _seeds(missing, lambda t: (t.task, t.calibration)).items():
        with restored():  # once for all seeds of a plugin: it takes longer than most checks
            for seed in own:
                with _faults_later():
                    check_calibration(calibration, calibration_pool(task, workspace, seed))
    for task, bits in dict.fromkeys((t.task, t.quantizer.bits) for t in missing):
        if bits is not None and bits.overrides:
            with plugin_faults_later():
                check_overrides(task_model(task, workspace.root), bits, example(task_data(task, workspace.root)))
    return shown


def _shared_images(trials: Sequence[Trial], workspace: Workspace) -> Needed:
    images: dict[str, DomainImages] = {}
    shows: dict[tuple[Setting, Setting, int], Shown] = {}
    for (task, _), own in _seeds(trials, lambda t: (t.task, t.stream)).items():
        test_labels = task_data(task, workspace.root).test_labels
        with restored():
            for trial in own.values():
                with _faults_later():
                    stream = plan_stream(trial, test_labels)
                    parts = domain_images(trial, stream, workspace.root)
                    different = {part.key: len(part.indices) for part in parts}
                    shown = Shown(len(stream), different, stream.largest_batch)
                    shows[trial.task, trial.stream, trial.seed] = shown
                    for part in parts:
                        if part.files(workspace):
                            images.setdefault(part.key, part)
    return Needed(images, shows)


def _seeds(trials: Iterable[Trial], kind: Callable[[Trial], T]) -> dict[T, dict[int, Trial]]:
    """Return, by kind of trial, the first trial of each seed."""
    found: dict[T, dict[int, Trial]] = {}
    for trial in trials:
        found.setdefault(kind(trial), {}).setdefault(trial.seed, trial)
    return found


@contextmanager
def plugin_faults_later() -> Iterator[None]:
    """Let a wrong request through, and any other fault of a plugin wait for the trials that it will fail."""
    with restored(), _faults_later():
        yield


@contextmanager
def _faults_later() -> Iterator[None]:
    try:
        yield
    except (RequestError, KeyboardInterrupt):
        raise
    except BaseException:  # shows again, with its reason, in the trials' rows
        return
