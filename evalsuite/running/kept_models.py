"""The quantized networks of a run, found again from what its folder says: by trial, or by the file that keeps one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from torch import Tensor, nn

from evalsuite import store
from evalsuite.bits import BitPolicy
from evalsuite.errors import RequestError
from evalsuite.quantization.saving import load
from evalsuite.registry import Kind, Setting, configure
from evalsuite.running.plan import task_digest
from evalsuite.running.quantized_models import load_quantized
from evalsuite.running.task_data import example, task_data, task_model
from evalsuite.running.workspace import Workspace
from evalsuite.study.labels import task_labels
from evalsuite.study.settings import Calibration, Quantized
from evalsuite.study.tables import Corruption
from evalsuite.study.trials import UNCALIBRATED, Trial
from evalsuite.study.trust import Trust

_EXPECTED = "RUN/TRIAL (the beginning of its hash will do), or a file of RUN/.work/models"
_LISTED = 5


def network_of(path: Path, root: str | None = None, trust: Trust | None = None) -> tuple[nn.Module, Tensor]:
    """Return the quantized network of a trial, in eval mode, and an example image (1, C, H, W), normalised.

    One that the run no longer keeps is quantized again.

    Parameters
    ----------
    path : ``RUN/TRIAL``, whose hash may be cut short, ``RUN/records/TRIAL.parquet``, or a file of ``RUN/.work/models``.
    root : folder with images and weights.
    trust : what Python files the run's study may name; by default those in its folder.

    Raises
    ------
    RequestError
        If there is no such run or trial, several begin so, or the study, its images or weights are others by now.
    Refused
        If it cannot be quantized.
    """
    if (path / store.STUDY).is_file():
        raise RequestError(f"{path} is a whole run: expected one of its networks, {_EXPECTED}")
    folder = next((each for each in path.parents if (each / store.STUDY).is_file()), None)
    if folder is None:
        raise RequestError(f"{path} is in no run's folder: expected {_EXPECTED}")
    if not (folder / store.PLAN).is_file():
        raise RequestError(f"{folder} has no {store.PLAN}, as runs of earlier versions: run the study again there")
    trial = _trial(folder, _model(folder, path), trust or Trust())
    module = load_quantized(trial, Workspace(folder, root)).module
    return module, example(task_data(trial.task, root))


def saved_network(path: Path, task: str, root: str | None = None) -> tuple[nn.Module, Tensor]:
    """Return what ``evalsuite.quantization.saving.save`` wrote of a task's network, and an example image as above.

    Raises
    ------
    RequestError
        If the file or the task cannot be read, or the one is not of the other.
    """
    image = example(task_data(task, root))
    return load(path, task_model(task, root), image), image


def _model(folder: Path, path: Path) -> str:
    """Return the hash of the network that a path names."""
    rows = store.read_plan(folder, ("trial", store.MODEL))
    key = path.stem if path.suffix in (".parquet", ".safetensors") else path.name
    found = {row[store.MODEL] for row in rows if row["trial"].startswith(key) or row[store.MODEL].startswith(key)}
    if len(found) != 1:
        what = f"{len(found)} networks begin so" if found else f"no trial of {folder} begins so"
        known = ", ".join(row["trial"] for row in rows[:_LISTED])
        raise RequestError(f"{key!r}: {what}; expected {_EXPECTED}, of trials such as {known}")
    (model,) = found
    return str(model)


def _trial(folder: Path, model: str, trust: Trust) -> Trial:
    """Return a trial of a network, whatever its adapter and stream."""
    study = store.load(folder).study
    settings = study["settings"]
    trust.check(folder / store.STUDY, settings, ("task", "calibration", "quantizer"))
    for trial in _candidates(settings, study["tasks"]):
        if trial.quantization == model:
            return trial
    raise RequestError(
        f"no setting of {folder / store.STUDY} gives the network {model}: expected the code that made it"
    )


def _candidates(settings: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Trial]:
    """Yield a trial of each network of a study."""
    tasks = [_setting("tasks", each) for each in settings["task"]]
    labels = task_labels(tasks)
    calibrations = [Calibration(tuple(_setting("protocols", step) for step in own)) for own in settings["calibration"]]
    quantizers = [
        Quantized(_setting("quantizers", each["method"]), each["bits"] and _POLICY.validate_python(each["bits"]))
        for each in settings["quantizer"]
    ]
    quantizers.append(Quantized(configure("quantizers", "full_precision"), None))  # references that are added
    adapter, stream = configure("adapters", "none"), _setting("protocols", settings["stream"][0])
    for task, seen, quantizer, seed in itertools.product(tasks, calibrations, quantizers, settings["seeds"]):
        calibration = seen if quantizer.bits is not None else UNCALIBRATED
        digests = task_digest(facts[labels[task]])
        yield Trial(task, digests, calibration, quantizer, adapter, stream, seed, 0, Corruption())


_POLICY = TypeAdapter(BitPolicy)


def _setting(kind: Kind, value: Mapping[str, Any]) -> Setting:
    return configure(kind, value["name"], value["options"])
