"""Why a run's quantized networks break: each is looked into once, on a few images of each domain of its streams. Ours.

A pass of its own after the trials, where ``[diagnosis] images`` asks for one; no record and no trial depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from evalsuite.diagnoses import CALIBRATION, Diagnosis, is_diagnosed, write_diagnosis
from evalsuite.errors import Refused
from evalsuite.hashing import digest
from evalsuite.isolation import Failure
from evalsuite.plugins import UInt8Array
from evalsuite.quantization.diagnosis import COLUMNS, Values, layer_rows, rounds, weight_diagnosis
from evalsuite.quantization.grids.layers import QuantLayer, QuantMatMul
from evalsuite.registry import Setting
from evalsuite.running.calibration_sets import calibration_images, calibration_pool
from evalsuite.running.domain_images import DomainImages, domain_images
from evalsuite.running.items import facts_of
from evalsuite.running.pools import Pool
from evalsuite.running.quantized_models import load_quantized, uncalibrated
from evalsuite.running.run_log import RunLog, Stage
from evalsuite.running.stages import monitor_of, stage
from evalsuite.running.task_data import normalise, task_data
from evalsuite.running.workspace import Workspace
from evalsuite.streams import Domain
from evalsuite.study.trials import Trial, plan_stream

_VERSION = 1  # raised when the same images would give other numbers


@dataclass(frozen=True)
class Network:
    """A quantized network that is to be diagnosed: those of its trials that are done, and how many images at most."""

    trials: tuple[Trial, ...]
    images: int

    @property
    def trial(self) -> Trial:
        """One of its trials."""
        return self.trials[0]


@facts_of.register
def _(item: Network) -> dict[str, Any]:
    return facts_of(item.trial)


def measure(
    done: Sequence[Trial], images: int, workspace: Workspace, pool: Pool, console: Console, log: RunLog
) -> list[tuple[Network, Failure]]:
    """Diagnose the quantized networks of trials, unless that is done; return those that cannot be, and say so."""
    by_model: dict[str, list[Trial]] = {}
    for trial in done:
        if trial.quantizer.bits is not None:
            by_model.setdefault(trial.quantization, []).append(trial)
    groups: dict[Any, list[Network]] = {}
    for trials in by_model.values():
        network = Network(tuple(trials), images)
        if not is_diagnosed(workspace.folder, network.trial.quantization, _key(network, workspace)):
            # A process keeps the uncalibrated network of a group.
            groups.setdefault((trials[0].task, trials[0].quantizer.canonical), []).append(network)
    if not groups:
        return []
    with pool, monitor_of(console, log) as monitor:
        ended = list(stage(Stage.DIAGNOSIS, look, list(groups.values()), pool, monitor))
    failures = [(network, failure) for network, failure in ended if failure is not None]
    for network, failure in failures:
        what = facts_of(network)["what"]
        console.print(f"no diagnosis of {what}: {failure.reason}", markup=False, soft_wrap=True)
    return failures


def look(network: Network, workspace: Workspace, kept: dict[str, Any]) -> None:
    """Diagnose a network and write what was found; nothing is found of one without quantized layers.

    Raises
    ------
    Refused
        If calibration set or a domain has one image only.
    """
    trial = network.trial
    known = trial.task, trial.quantizer.canonical
    if kept.get("diagnosed") != known:
        kept.clear()
        plain = uncalibrated(trial, workspace)
        kept.update({"diagnosed": known, "reference": None if rounds(plain) else plain})
    quantized, data = load_quantized(trial, workspace).module, task_data(trial.task, workspace.root)
    rows: list[Values] = []
    if any(isinstance(module, QuantLayer | QuantMatMul) for module in quantized.modules()):
        weights = weight_diagnosis(kept["reference"], quantized)
        for domain, pixels in _shown(network, workspace):
            images = normalise(pixels, data).to(workspace.device)
            rows += _labelled(layer_rows(kept["reference"], quantized, images, weights), domain, len(images))
    table = pd.DataFrame(rows, columns=["domain", "severity", "images", "place", *COLUMNS])
    table["severity"] = table["severity"].astype("Int64")
    identities = tuple(each.identity for each in network.trials)
    key = _key(network, workspace)
    write_diagnosis(workspace.folder, trial.quantization, key, Diagnosis(identities, table))


def _labelled(rows: list[Values], domain: Domain | None, images: int) -> list[Values]:
    name, severity = (CALIBRATION, None) if domain is None else (domain.name, domain.severity)
    seen = {"domain": name, "severity": severity, "images": images}
    return [{**seen, "place": place, **row} for place, row in enumerate(rows)]


def _shown(network: Network, workspace: Workspace) -> list[tuple[Domain | None, UInt8Array]]:
    """Return what is looked at, as many calibration images (None) as of each domain: codes are counted in them."""
    trial = network.trial
    seen = calibration_images(trial.calibration, calibration_pool(trial.task, workspace, trial.seed))
    domains = _domains(network, workspace)
    count = min([network.images, len(seen), *(len(each.indices) for each in domains)])
    if count < 2:
        raise Refused("a diagnosis of one image would call every channel dead; expected two of each domain at least")
    shown: list[tuple[Domain | None, UInt8Array]] = [(None, seen[spread(len(seen), count)])]
    for each in domains:
        chosen = each.indices[spread(len(each.indices), count)]
        shown.append((each.domain, each.open(workspace).fetch(chosen)))
    return shown


def _domains(network: Network, workspace: Workspace) -> list[DomainImages]:
    """Return the images of each domain that the streams of a network show, by the first stream that shows it."""
    labels = task_data(network.trial.task, workspace.root).test_labels
    found: dict[Domain, DomainImages] = {}
    first: dict[Setting, Trial] = {}
    for trial in network.trials:
        first.setdefault(trial.stream, trial)
    for trial in first.values():
        for each in domain_images(trial, plan_stream(trial, labels), workspace.root):
            if len(each.indices):  # a stream may name a domain and not show it
                found.setdefault(each.domain, each)
    return list(found.values())


def spread(size: int, count: int) -> NDArray[np.int64]:
    """Return ``count`` places of 0 .. ``size`` - 1, spread evenly, first and last among them."""
    return np.linspace(0, size - 1, count).round().astype(np.int64)


def _key(network: Network, workspace: Workspace) -> str:
    """Hash of what a network is shown: the same again is not looked at again."""
    return digest([_VERSION, network.images, sorted(each.key for each in _domains(network, workspace))])[:16]
