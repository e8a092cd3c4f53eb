"""What trials share: a task's images, its calibration sets, corrupted test images, quantized models."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from evalsuite import registry
from evalsuite.checksums import warn_of
from evalsuite.corruptions import check as check_corruption
from evalsuite.errors import QuantizationWarning, Refused, RequestError
from evalsuite.features import kept, look
from evalsuite.hashing import canonical_json, digest, digest_arrays, digest_tensors
from evalsuite.network_check import check_network
from evalsuite.networks import plain
from evalsuite.plugins import IntArray, Pool, PoolOutputs, Task, TaskData, UInt8Array
from evalsuite.quantization.plain_state import lost_attributes, plain_attributes
from evalsuite.quantization.policy import BitPolicy
from evalsuite.quantization.saving import DamagedFile, read_facts, read_state, would_be_lost, write_state
from evalsuite.randomness import numpy_generator, torch_generator
from evalsuite.registry import Setting
from evalsuite.store import RECORD_SCHEMA
from evalsuite.streams import CLEAN, Stream
from evalsuite.structure import describe
from evalsuite.study import Calibration
from evalsuite.task_arrays import WrongTaskData
from evalsuite.trials import Trial

_FULL_PRECISION = BitPolicy()  # a quantizer that is not calibrated ignores it
_BATCH = 128  # images of the pool that the network looks at together


@dataclass(frozen=True)
class Workspace:
    """Where a run lies, where its data come from, and what it may use."""

    folder: Path
    root: str | None = None
    device: str = "cpu"
    threads: int = 1
    cache: Path | None = None
    """Folder that runs share for images; without one a run keeps its own."""

    @contextlib.contextmanager
    def announced(self) -> Iterator[None]:
        """Tell tasks, which know no workspace, by ``EVALSUITE_CACHE`` where images are shared, for a while."""
        before = os.environ.get("EVALSUITE_CACHE")
        if self.cache is not None:
            os.environ["EVALSUITE_CACHE"] = str(self.cache)
        try:
            yield
        finally:
            if self.cache is not None:
                os.environ.pop("EVALSUITE_CACHE")
                os.environ.update({} if before is None else {"EVALSUITE_CACHE": before})

    def images_file(self, key: str) -> Path:
        """File of corrupted test images."""
        return (self.cache or self.folder / ".work") / "images" / f"{key}.npy"

    def outputs_file(self, key: str) -> Path:
        """File of what a full-precision network makes of its pool."""
        return self.folder / ".work" / "outputs" / f"{key}.npz"

    def model_file(self, key: str) -> Path:
        """File of a quantized model."""
        return self.folder / ".work" / "models" / f"{key}.safetensors"


def _task(task: Setting | str) -> Task:
    setting = registry.configure("tasks", task) if isinstance(task, str) else task
    built: Task = setting.build()
    return built


@functools.lru_cache(maxsize=2)
def task_data(task: Setting | str, root: str | None) -> TaskData:
    """Load the images of a task, given with its options or by name; the last two tasks' stay loaded in this process."""
    title = task if isinstance(task, str) else task.name
    data = _loaded_data(_task(task), title, root)
    for name, values in data.groups.items():
        if name in RECORD_SCHEMA.names or len(values) != len(data.test_labels):
            raise RequestError(
                f"task {title!r}, group column {name!r} of {len(values)} values: expected {len(data.test_labels)}, "
                f"and a name other than {', '.join(RECORD_SCHEMA.names)}"
            )
    _check_writable(data, title)
    # Every trial of this process reads these.
    for shared in (data.test_images, data.test_labels, data.pool_images, data.pool_labels, *data.groups.values()):
        if isinstance(shared, np.ndarray):
            shared.setflags(write=False)
    return data


def _loaded_data(task: Task, title: str, root: str | None) -> TaskData:
    try:
        data = task.data(root)
    except WrongTaskData as error:
        raise RequestError(f"task {title!r}: {error}") from error
    except RequestError:
        raise
    except Exception as error:  # whatever a foreign task does
        reason = " ".join(str(error).split())
        raise RequestError(f"task {title!r} cannot load its images: {type(error).__name__}: {reason}") from error
    if not isinstance(data, TaskData):
        raise RequestError(f"task {title!r} loads a {type(data).__name__}: expected an evalsuite.plugins.TaskData")
    return data


def _check_writable(data: TaskData, title: str) -> None:
    """Raise RequestError for names and values that only writing the records or the report would find impossible."""
    for what, values in (("class names", np.array(data.classes, dtype=object)), *data.groups.items()):
        try:
            pa.array(values)
        except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
            raise RequestError(
                f"task {title!r}, {what}: {' '.join(str(error).split())}; expected text in UTF-8, or numbers of 64 bits"
            ) from error


def task_model(task: Setting | str, root: str | None) -> nn.Module:
    """Build a task's network with its trained weights, in eval mode; in float32 if it comes in half precision."""
    model = _task(task).model(root)
    if not isinstance(model, nn.Module):
        title = task if isinstance(task, str) else task.name
        raise RequestError(f"task {title!r} builds a {type(model).__name__}: expected a torch.nn.Module")
    return plain(model).eval()


@functools.lru_cache(maxsize=2)
def images_digest(task: Setting, root: str | None) -> str:
    """Hash of a task's test images, the same for all tasks on them, made once in a process like :func:`task_data`."""
    return digest_arrays(task_data(task, root).test_images)


def data_digest(task: Setting, root: str | None) -> str:
    """Hash of a task's images, labels, groups and normalisation."""
    data = task_data(task, root)
    arrays = [images_digest(task, root), digest_arrays(data.test_labels, data.pool_images, data.pool_labels)]
    groups = {name: np.asarray(values).tolist() for name, values in data.groups.items()}
    return digest([arrays, groups, data.classes, data.mean, data.std, data.data_set])


def describe_task(task: Setting, root: str | None) -> dict[str, Any]:
    """Return what ``study.json`` says of a task; loads its images and weights, and runs its network once.

    Raises
    ------
    RequestError
        If the images or the network are not what a task's should be.
    """
    data, model, source = task_data(task, root), task_model(task, root), _task(task)
    twice = normalise(data.pool_images[[0, -1]], data)  # two images: a network may drop the dimension of one
    check_network(f"the network of task {task.name!r}", model, twice, len(data.classes))
    return {
        "plugin": task.name,
        "options": task.values(),
        "data_set": data.data_set,
        "classes": list(data.classes),
        "architecture": getattr(source, "architecture", None) or describe(model, example(data)).architecture,
        "image_size": source.image_size,
        "test_images": len(data.test_images),
        "pool_images": len(data.pool_images),
        "groups": sorted(data.groups),
        "source_digest": digest([registry.source_digest(name) for name in (task.name, *_sources(task))]),
        "data_digest": data_digest(task, root),
        "weights_digest": digest_tensors(model.state_dict()),
    }


def _sources(task: Setting) -> list[str]:
    """Return the options that point into a file of code, as ``file.py:factory`` does."""
    return [value for value in task.values().values() if isinstance(value, str) and ".py:" in value]


def normalise(images: UInt8Array, data: TaskData) -> Tensor:
    """Turn (N, H, W, 3) uint8 images into the network's (N, 3, H, W) float32 input."""
    pixels = torch.from_numpy(np.asarray(images, np.float32)).permute(0, 3, 1, 2).contiguous().div_(255)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (data.mean, data.std))
    return pixels.sub_(mean).div_(std)


def example(data: TaskData) -> Tensor:
    """Return one normalised image of the pool, as a batch, to find a network's order of execution with."""
    return normalise(data.pool_images[:1], data)


def calibration_pool(task: Setting, workspace: Workspace, seed: int) -> Pool:
    """Return the pool that a task's calibration sets of one seed are made from."""
    data = task_data(task, workspace.root)
    return Pool(
        images=data.pool_images,
        labels=data.pool_labels,
        classes=data.classes,
        mean=data.mean,
        std=data.std,
        data_set=data.data_set,
        seed=seed,
        outputs=functools.partial(_pool_outputs, task, workspace),
        load=functools.partial(_other_data, workspace.root),
    )


@functools.lru_cache(maxsize=2)
def _pool_outputs(task: Setting, workspace: Workspace) -> PoolOutputs:
    data, model = task_data(task, workspace.root), task_model(task, workspace.root)
    weights = digest_tensors(model.state_dict())
    key = digest([task.as_dict(), data_digest(task, workspace.root), weights, workspace.device])
    starts = range(0, len(data.pool_images), _BATCH)
    batches = (normalise(data.pool_images[start : start + _BATCH], data).to(workspace.device) for start in starts)
    file = workspace.outputs_file(key)
    return kept(file, len(data.pool_images), lambda: look(model.to(workspace.device), batches))


def _other_data(root: str | None, task: str, options: Mapping[str, Any]) -> TaskData:
    return _configured_data(registry.configure("tasks", task, options), root)


@functools.lru_cache(maxsize=1)
def _configured_data(task: Setting, root: str | None) -> TaskData:
    return _loaded_data(task.build(), task.name, root)


def check_calibration(calibration: Calibration, pool: Pool) -> None:
    """Raise RequestError if a calibration set is impossible; runs no network and writes nothing.

    What comes after a step that asks for the network's outputs remains to be seen when the set is made.
    """

    def later() -> PoolOutputs:
        raise _OutputsWanted

    with contextlib.suppress(_OutputsWanted):
        select_images(calibration, replace(pool, outputs=later))


class _OutputsWanted(Exception):
    """A step cannot be checked without running the network."""


def select_images(calibration: Calibration, pool: Pool) -> IntArray:
    """Return the pool indices of a calibration set. Raises RequestError if a step is impossible."""
    indices = np.arange(len(pool.labels), dtype=np.int64)
    for number, step in enumerate(calibration.steps):
        indices = step.build().select(pool, indices, _step_generator(pool.seed, "select", number, step))
    return indices


def calibration_images(calibration: Calibration, pool: Pool) -> UInt8Array:
    """Make a calibration set: (n, H, W, 3) uint8 images. Raises RequestError if a step is impossible."""
    indices = select_images(calibration, pool)
    images = np.asarray(pool.images[indices])
    for number, step in enumerate(calibration.steps):
        images = step.build().transform(pool, images, indices, _step_generator(pool.seed, "transform", number, step))
    return images


def _step_generator(seed: int, what: str, number: int, step: Setting) -> np.random.Generator:
    return numpy_generator(seed, "calibration", what, number, canonical_json(step.as_dict()))


def source_images(data: TaskData, count: int, seed: int) -> Tensor:
    """Draw the clean images that adapters may take source statistics from: min(count, pool), normalised."""
    size = min(count, len(data.pool_labels))
    chosen = numpy_generator(seed, "source").choice(len(data.pool_labels), size, replace=False)
    return normalise(data.pool_images[np.sort(chosen)], data)


def plan_stream(trial: Trial, labels: IntArray) -> Stream:
    """Lay out a trial's stream; every trial with the same stream, task data and seed gets the same.

    Raises RequestError if it shows an image that the test set does not have, or an unknown domain.
    """
    protocol = trial.stream.build()
    options = trial.stream.values()
    drawn_by = {"options": {name: options[name] for name in getattr(protocol, "drawn_by", options)}}
    generator = numpy_generator(trial.seed, "stream", canonical_json(trial.stream.as_dict() | drawn_by))
    stream: Stream = protocol.plan(labels, generator)
    if stream.image.max() >= len(labels):
        raise RequestError(
            f"stream {trial.stream.name!r} shows test image {stream.image.max()}: expected less than {len(labels)}, "
            "the test set's size"
        )
    for domain in stream.domains:
        if domain.name != CLEAN and trial.corruption.files != "published":  # published ones are looked for by name
            check_corruption(domain.name, domain.severity)
    return stream


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
        before = plain_attributes(quantized)
        if trial.quantizer.bits is not None:
            pool = calibration_pool(trial.task, workspace, trial.seed)
            images = normalise(calibration_images(trial.calibration, pool), data).to(workspace.device)
            generator = torch_generator(trial.seed, "quantize", trial.quantization)
            trial.quantizer.method.build().calibrate(quantized, images, generator)
            if lost := lost_attributes(quantized, before, images[:1]):
                raise Refused(would_be_lost(lost))
    facts = {
        "seconds": f"{time.perf_counter() - start:.6f}",
        "warnings": json.dumps(caught),
    }
    write_state(file, quantized, facts)


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
    except DamagedFile as error:
        file = workspace.model_file(trial.quantization)
        if file.is_file():
            warn_of(file, error, "the network is quantized again")
            file.unlink(missing_ok=True)
        quantize_model(trial, workspace)
        return _load_quantized(trial, workspace)


def _load_quantized(trial: Trial, workspace: Workspace) -> QuantizedModel:
    file = workspace.model_file(trial.quantization)
    data = task_data(trial.task, workspace.root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuantizationWarning)
        module = build_quantized(trial, workspace, task_model(trial.task, workspace.root), data)
    facts = read_facts(file)
    read_state(file, module)
    try:
        return QuantizedModel(module, float(facts["seconds"]), tuple(json.loads(facts["warnings"])))
    except (KeyError, ValueError, TypeError) as error:  # of a file without a checksum
        raise DamagedFile(f"{file} says not what its network cost: {error}") from error
