"""What trials share: a task's images, its calibration sets, corrupted test images, quantized models."""

from __future__ import annotations

import contextlib
import functools
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evalsuite import registry
from evalsuite.corruptions import corrupt
from evalsuite.errors import QuantizationWarning, RequestError
from evalsuite.files import replacing
from evalsuite.hashing import canonical_json, digest, digest_arrays, digest_tensors
from evalsuite.plugins import IntArray, Pool, Task, TaskData, UInt8Array
from evalsuite.quantization.policy import BitPolicy
from evalsuite.randomness import numpy_generator, torch_generator
from evalsuite.registry import Setting
from evalsuite.store import RECORD_SCHEMA
from evalsuite.streams import CLEAN, Domain, Stream
from evalsuite.study import Calibration
from evalsuite.trials import Trial

_FULL_PRECISION = BitPolicy()  # a quantizer that is not calibrated ignores it


@dataclass(frozen=True)
class Workspace:
    """Where a run lies, where its data come from, and what it may use."""

    folder: Path
    root: str | None = None
    device: str = "cpu"
    threads: int = 1

    def images_file(self, key: str) -> Path:
        """File of corrupted test images."""
        return self.folder / ".work" / "images" / f"{key}.npy"

    def model_file(self, key: str) -> Path:
        """File of a quantized model."""
        return self.folder / ".work" / "models" / f"{key}.safetensors"


@functools.lru_cache(maxsize=2)
def task_data(task: str, root: str | None) -> TaskData:
    """Load a task's images; the last two tasks' stay loaded in this process."""
    source: Task = registry.configure("tasks", task).build()
    data = source.data(root)
    for name, values in data.groups.items():
        if name in RECORD_SCHEMA.names or len(values) != len(data.test_labels):
            raise RequestError(
                f"task {task!r}, group column {name!r} of {len(values)} values: expected {len(data.test_labels)}, "
                f"and a name other than {', '.join(RECORD_SCHEMA.names)}"
            )
    return data


def task_model(task: str, root: str | None) -> nn.Module:
    """Build a task's network with its trained weights, in eval mode."""
    source: Task = registry.configure("tasks", task).build()
    return source.model(root).eval()


@functools.lru_cache(maxsize=2)
def data_digest(task: str, root: str | None) -> str:
    """Hash of a task's images, labels, groups and normalisation, made once in a process like :func:`task_data`."""
    data = task_data(task, root)
    arrays = digest_arrays(data.test_images, data.test_labels, data.pool_images, data.pool_labels)
    groups = {name: np.asarray(values).tolist() for name, values in data.groups.items()}
    return digest([arrays, groups, data.classes, data.mean, data.std])


def describe_task(task: str, root: str | None) -> dict[str, Any]:
    """Return what ``study.json`` says of a task; loads its images and weights."""
    data = task_data(task, root)
    source = registry.load("tasks", task)
    return {
        "classes": list(data.classes),
        "architecture": source.architecture,
        "image_size": source.image_size,
        "test_images": len(data.test_images),
        "pool_images": len(data.pool_images),
        "source_digest": registry.source_digest(task),
        "data_digest": data_digest(task, root),
        "weights_digest": digest_tensors(task_model(task, root).state_dict()),
    }


def normalise(images: UInt8Array, data: TaskData) -> Tensor:
    """Turn (N, H, W, 3) uint8 images into the network's (N, 3, H, W) float32 input."""
    pixels = torch.from_numpy(np.asarray(images, np.float32)).permute(0, 3, 1, 2).contiguous().div_(255)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (data.mean, data.std))
    return pixels.sub_(mean).div_(std)


def example(data: TaskData) -> Tensor:
    """Return one normalised image of the pool, as a batch, to find a network's order of execution with."""
    return normalise(data.pool_images[:1], data)


def select_images(calibration: Calibration, data: TaskData, seed: int, model: nn.Module | None = None) -> IntArray:
    """Return the pool indices of a calibration set. Raises RequestError if a step is impossible."""
    pool = Pool(data.pool_images, data.pool_labels, len(data.classes), model, data.mean, data.std)
    indices = np.arange(len(data.pool_labels), dtype=np.int64)
    for number, step in enumerate(calibration.steps):
        indices = step.build().select(pool, indices, _step_generator(seed, "select", number, step))
    return indices


def calibration_images(calibration: Calibration, data: TaskData, seed: int, model: nn.Module | None = None) -> Tensor:
    """Make a calibration set: (n, 3, H, W) normalised images. Raises RequestError if a step is impossible."""
    indices = select_images(calibration, data, seed, model)
    images = np.asarray(data.pool_images[indices])
    for number, step in enumerate(calibration.steps):
        images = step.build().transform(images, indices, _step_generator(seed, "transform", number, step))
    return normalise(images, data)


def _step_generator(seed: int, what: str, number: int, step: Setting) -> np.random.Generator:
    return numpy_generator(seed, "calibration", what, number, canonical_json(step.as_dict()))


def source_images(data: TaskData, count: int, seed: int) -> Tensor:
    """Draw the clean images that adapters may take source statistics from: min(count, pool), normalised."""
    size = min(count, len(data.pool_labels))
    chosen = numpy_generator(seed, "source").choice(len(data.pool_labels), size, replace=False)
    return normalise(data.pool_images[np.sort(chosen)], data)


def plan_stream(trial: Trial, labels: IntArray) -> Stream:
    """Lay out a trial's stream; every trial with the same stream, task data and seed gets the same."""
    generator = numpy_generator(trial.seed, "stream", canonical_json(trial.stream.as_dict()))
    stream: Stream = trial.stream.build().plan(labels, generator)
    return stream


@dataclass(frozen=True)
class DomainImages:
    """The test images ``indices`` (sorted) as one domain shows them."""

    domain: Domain
    indices: tuple[int, ...]
    key: str

    def load(self, workspace: Workspace, data: TaskData) -> UInt8Array:
        """Return (n, H, W, 3) uint8, memory-mapped where they were corrupted."""
        if self.domain.name == CLEAN:
            return data.test_images[list(self.indices)]
        file = workspace.images_file(self.key)
        try:
            images: UInt8Array = np.load(file, mmap_mode="r")
        except (OSError, ValueError, EOFError):  # missing or broken: what can be made can be made again
            file.unlink(missing_ok=True)
            self.make(workspace, data)
            images = np.load(file, mmap_mode="r")
        return images

    def make(self, workspace: Workspace, data: TaskData) -> None:
        """Corrupt the images and keep them, unless they are there already."""
        file = workspace.images_file(self.key)
        if self.domain.name == CLEAN or file.is_file():
            return
        chosen = np.array(self.indices, dtype=np.int64)
        made = corrupt(data.test_images[chosen], self.domain.name, self.domain.severity, indices=chosen)
        with replacing(file) as temporary:
            np.save(temporary, made)


def domain_images(stream: Stream, digest_of_data: str) -> list[DomainImages]:
    """Return what a stream shows of each of its domains."""
    found = []
    for number, domain in enumerate(stream.domains):
        indices = np.unique(stream.image[stream.domain == number])
        key = digest([digest_of_data, domain.name, domain.severity, digest_arrays(indices)])
        found.append(DomainImages(domain, tuple(indices.tolist()), key))
    return found


def build_quantized(trial: Trial, workspace: Workspace, model: nn.Module, data: TaskData) -> nn.Module:
    """Return the quantized network as ``insert`` makes it, not yet calibrated."""
    plugin = trial.quantizer.method.build()
    inserted: nn.Module = plugin.insert(model, trial.quantizer.bits or _FULL_PRECISION, example(data))
    return inserted.to(workspace.device).eval()


def quantize_model(trial: Trial, workspace: Workspace) -> None:
    """Quantize a trial's model and keep it as safetensors, unless it is there already."""
    file = workspace.model_file(trial.quantization)
    if file.is_file():
        return
    data = task_data(trial.task, workspace.root)
    model = task_model(trial.task, workspace.root)
    start = time.perf_counter()
    with own_warnings(QuantizationWarning) as caught:
        quantized = build_quantized(trial, workspace, model, data)
        if trial.quantizer.bits is not None:
            images = calibration_images(trial.calibration, data, trial.seed, model).to(workspace.device)
            generator = torch_generator(trial.seed, "quantize", trial.quantization)
            trial.quantizer.method.build().calibrate(quantized, images, generator)
    facts = {
        "seconds": f"{time.perf_counter() - start:.6f}",
        "warnings": json.dumps(caught),
    }
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in quantized.state_dict().items()}
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor.float()).all()]
    if broken:
        raise RequestError(f"{trial.quantizer.method.name} left values that are not finite in {', '.join(broken)}")
    with replacing(file) as temporary:
        save_file(state, temporary, metadata=facts)


@contextlib.contextmanager
def own_warnings(category: type[Warning]) -> Iterator[list[str]]:
    """Collect warnings of one category, each message once; others are shown as ever."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", category)
        yield messages
    for warning in caught:
        if not issubclass(warning.category, category):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif str(warning.message) not in messages:
            messages.append(str(warning.message))


@dataclass(frozen=True)
class QuantizedModel:
    """A quantized network, what it cost and what it warned of."""

    module: nn.Module
    seconds: float
    warnings: tuple[str, ...]


def load_quantized(trial: Trial, workspace: Workspace) -> QuantizedModel:
    """Load what :func:`quantize_model` kept; a file that is broken is made again."""
    try:
        return _load_quantized(trial, workspace)
    except (SafetensorError, OSError):
        workspace.model_file(trial.quantization).unlink(missing_ok=True)
        quantize_model(trial, workspace)
        return _load_quantized(trial, workspace)


def _load_quantized(trial: Trial, workspace: Workspace) -> QuantizedModel:
    file = workspace.model_file(trial.quantization)
    data = task_data(trial.task, workspace.root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuantizationWarning)
        module = build_quantized(trial, workspace, task_model(trial.task, workspace.root), data)
    with safe_open(file, framework="pt") as opened:
        facts = opened.metadata()
    module.load_state_dict(load_file(file), strict=True)
    return QuantizedModel(module, float(facts["seconds"]), tuple(json.loads(facts["warnings"])))
