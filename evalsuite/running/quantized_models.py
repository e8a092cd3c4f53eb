"""Quantized networks: made once, kept in the run's folder, read back."""

from __future__ import annotations

import copy
import functools
import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from evalsuite.bits import BitPolicy
from evalsuite.checksums import warn_of
from evalsuite.errors import QuantizationWarning, ReasonCode, Refused, own_warnings
from evalsuite.plugins import TaskData
from evalsuite.quantization.plain_state import lost_attributes, plain_attributes
from evalsuite.quantization.saving import DamagedFile, read_facts, read_state, would_be_lost, write_state
from evalsuite.randomness import torch_generator
from evalsuite.registry import Setting
from evalsuite.running.calibration_sets import calibration_images, calibration_pool
from evalsuite.running.memory_budget import build_within
from evalsuite.running.task_data import example, normalise, task_data, task_model
from evalsuite.running.workspace import Workspace
from evalsuite.study.settings import Quantized
from evalsuite.study.trials import Trial

_FULL_PRECISION = BitPolicy()  # a quantizer that is not calibrated ignores it


def build_quantized(quantizer: Quantized, workspace: Workspace, model: nn.Module, data: TaskData) -> nn.Module:
    """Return the quantized network as ``insert`` makes it, not yet calibrated."""
    plugin = build_within(quantizer.method, workspace.memory)
    inserted: nn.Module = plugin.insert(model, quantizer.bits or _FULL_PRECISION, example(data))
    return inserted.to(workspace.device).eval()


def uncalibrated(trial: Trial, workspace: Workspace) -> nn.Module:
    """Return a trial's network as its quantizer inserts it: what it quantizes, and rounds nothing yet."""
    _inserted.cache_clear()  # it may be filled; what is inserted now is what the trial's state is read into next
    return copy.deepcopy(_inserted(trial.task, trial.quantizer, workspace)).eval()


def quantize_model(trial: Trial, workspace: Workspace) -> None:
    """Quantize a trial's model and keep it as safetensors, unless it is there already."""
    file = workspace.model_file(trial.quantization)
    if file.is_file():
        return
    data = task_data(trial.task, workspace.root)
    model = task_model(trial.task, workspace.root)
    start = time.perf_counter()
    with own_warnings(QuantizationWarning) as caught:
        quantized = build_quantized(trial.quantizer, workspace, model, data)
        before = plain_attributes(quantized)
        if trial.quantizer.bits is not None:
            pool = calibration_pool(trial.task, workspace, trial.seed)
            images = normalise(calibration_images(trial.calibration, pool), data).to(workspace.device)
            generator = torch_generator(trial.seed, "quantize", trial.quantization)
            build_within(trial.quantizer.method, workspace.memory).calibrate(quantized, images, generator)
            if lost := lost_attributes(quantized, before, images[:1]):
                raise Refused(would_be_lost(lost), ReasonCode.UNSUPPORTED_OPERATION)
    facts = {
        "seconds": f"{time.perf_counter() - start:.6f}",
        "warnings": json.dumps(caught),
    }
    write_state(file, quantized, facts)


@dataclass(frozen=True)
class QuantizedModel:
    """A quantized network, what it cost and what it warned of; of one on an engine, columns of what was measured."""

    module: nn.Module
    seconds: float
    warnings: tuple[str, ...]
    measured: Mapping[str, float] = field(default_factory=dict)


def load_quantized(trial: Trial, workspace: Workspace) -> QuantizedModel:
    """Load what :func:`quantize_model` kept; a file that is broken is made again.

    The module is valid until the next call: a process keeps one inserted network and fills it with each state.
    """
    try:
        return _load_quantized(trial, workspace)
    except DamagedFile as error:
        file = workspace.model_file(trial.quantization)
        if file.is_file():
            warn_of(file, error, "the network is quantized again")
            file.unlink(missing_ok=True)
        quantize_model(trial, workspace)
        return _load_quantized(trial, workspace)


def _load_quantized(trial: Trial, workspace: Workspace) -> QuantizedModel:
    file = workspace.model_file(trial.quantization)
    facts = read_facts(file)
    module = _inserted(trial.task, trial.quantizer, workspace)
    try:
        read_state(file, module)
    except DamagedFile:  # or the state does not fit into what another one has left
        _inserted.cache_clear()
        module = _inserted(trial.task, trial.quantizer, workspace)
        read_state(file, module)
    try:
        return QuantizedModel(module, float(facts["seconds"]), tuple(json.loads(facts["warnings"])))
    except (KeyError, ValueError, TypeError) as error:  # of a file without a checksum
        raise DamagedFile(f"{file} says not what its network cost: {error}") from error


@functools.lru_cache(maxsize=1)
def _inserted(task: Setting, quantizer: Quantized, workspace: Workspace) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuantizationWarning)
        model = task_model(task, workspace.root)
        return build_quantized(quantizer, workspace, model, task_data(task, workspace.root))
