"""A task's images and network as a run needs them: loaded once, described, hashed, normalised."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from evalsuite import registry
from evalsuite.errors import RequestError
from evalsuite.files import is_utf8
from evalsuite.hashing import digest, digest_arrays, digest_tensors
from evalsuite.network_check import check_network
from evalsuite.networks import plain
from evalsuite.optional_members import architecture_of
from evalsuite.plugins import Task, TaskData, UInt8Array
from evalsuite.randomness import numpy_generator
from evalsuite.registry import Setting
from evalsuite.store import RECORD_SCHEMA
from evalsuite.structure import describe
from evalsuite.task_arrays import WrongTaskData


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
    odd = [name for name in data.classes if isinstance(name, str) and not is_utf8(name)]
    if odd:
        raise RequestError(f"task {title!r}, class {odd[0]!r}: expected a name in UTF-8; rename its folder")
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


def code_digest(task: Setting) -> str:
    """Hash of the files that a task's code comes from, its own and those that its options name."""
    return digest([registry.source_digest(task.name), *registry.options_digests(task.values())])


def data_digest(task: Setting, root: str | None) -> str:
    """Hash of a task's images, labels, groups and normalisation."""
    return digest_data(task_data(task, root), images_digest(task, root))


def digest_data(data: TaskData, images: str | None = None) -> str:
    """Return the same of a task's data; ``images``: hash of the test images, where it is known."""
    known = digest_arrays(data.test_images) if images is None else images
    arrays = [known, digest_arrays(data.test_labels, data.pool_images, data.pool_labels)]
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
        "architecture": architecture_of(source) or describe(model, example(data)).architecture,
        "image_size": source.image_size,
        "test_images": len(data.test_images),
        "pool_images": len(data.pool_images),
        "groups": sorted(data.groups),
        "source_digest": code_digest(task),
        "data_digest": data_digest(task, root),
        "weights_digest": digest_tensors(model.state_dict()),
    }


def normalise(images: UInt8Array, data: TaskData) -> Tensor:
    """Turn (N, H, W, 3) uint8 images into the network's (N, 3, H, W) float32 input."""
    pixels = torch.from_numpy(np.asarray(images, np.float32)).permute(0, 3, 1, 2).contiguous().div_(255)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (data.mean, data.std))
    return pixels.sub_(mean).div_(std)


def example(data: TaskData) -> Tensor:
    """Return one normalised image of the pool, as a batch, to find a network's order of execution with."""
    return normalise(data.pool_images[:1], data)


def source_images(data: TaskData, count: int, seed: int) -> Tensor:
    """Draw the clean images that adapters may take source statistics from: min(count, pool), normalised."""
    size = min(count, len(data.pool_labels))
    chosen = numpy_generator(seed, "source").choice(len(data.pool_labels), size, replace=False)
    return normalise(data.pool_images[np.sort(chosen)], data)
