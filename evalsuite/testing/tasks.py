"""What every task owes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalsuite.network_check import check_network
from evalsuite.optional_members import architecture_of, availability_of
from evalsuite.plugins import TaskData
from evalsuite.running.task_data import normalise
from evalsuite.testing._check import (
    Check,
    Failed,
    NotApplicable,
    check_methods,
    factory,
    make,
    process_kept,
    questions_about,
    require,
)


@dataclass(frozen=True)
class _Subject:
    fresh: Callable[[], Any]
    root: str | None

    @functools.cached_property
    def data(self) -> TaskData:
        """The task's data, loaded once."""
        return _loaded(self.fresh(), self.root)


def check_task(task: Any, *, root: str | None = None) -> None:
    """Raise AssertionError with every failed check of a task and its mend; parameters as below."""
    require(task_checks(task, root=root), task)


def task_checks(task: Any, *, root: str | None = None) -> list[Check]:
    """Check that a task keeps its contract.

    Parameters
    ----------
    task : a class, an instance, an entry point's name, ``package.module:Class`` or ``path.py:Class``.
    root : the folder of its data.

    Raises
    ------
    RequestError
        If the task cannot be found or made.
    """
    subject = _Subject(factory("tasks", task), root)
    asked = {
        "it has data, model and image_size": (_members, "Write the members of evalsuite.plugins.Task."),
        "data are valid": (_data, "Return an evalsuite.plugins.TaskData of uint8 images and labels of its classes."),
        "data are the same again": (_again, "Draw nothing, or from a fixed seed."),
        "no test image is in the pool": (_disjoint, "Draw calibration images from images that are not tested."),
        "the network is in eval mode": (_mode, "Call eval() on the network."),
        "the network gives finite logits of its classes": (_network, "Return logits (N, classes), before softmax."),
        "the architecture is known": (_architecture, "Say cnn or transformer, or nothing."),
        "found says what is there": (_found, "Return a line."),
        "the process is left as it was": (_process, "Put back what you set; fork generators that you seed."),
    }
    return make(questions_about(subject, asked))


def _loaded(task: Any, root: str | None) -> TaskData:
    data = task.data(root)
    if not isinstance(data, TaskData):
        raise Failed(f"data gives a {type(data).__name__}: expected an evalsuite.plugins.TaskData")
    return data


def _members(subject: _Subject) -> None:
    check_methods(subject.fresh, ("data", "model"))
    size = getattr(subject.fresh(), "image_size", None)
    if not isinstance(size, int) or size < 1:
        raise Failed(f"image_size is {size!r}: expected a number of pixels")


def _data(subject: _Subject) -> None:
    task, data = subject.fresh(), subject.data
    if data.test_images.shape[1:3] != (task.image_size, task.image_size):
        raise Failed(f"images are {data.test_images.shape[1:3]}, image_size is {task.image_size}")
    if data.test_images[:256].std() == 0:
        raise Failed("all pixels of the test images are the same")


def _again(subject: _Subject) -> None:
    first, second = subject.data, _loaded(subject.fresh(), subject.root)
    for name in ("test_images", "test_labels", "pool_images", "pool_labels"):
        if not np.array_equal(getattr(first, name), getattr(second, name)):
            raise Failed(f"{name} are others the second time")


def _disjoint(subject: _Subject) -> None:
    data = subject.data
    tested = {image.tobytes() for image in data.test_images}
    shared = sum(image.tobytes() in tested for image in data.pool_images)
    if shared:
        raise Failed(f"{shared} of {len(data.pool_images)} images of the pool are test images")


def _mode(subject: _Subject) -> None:
    if any(module.training for module in subject.fresh().model(subject.root).modules()):
        raise Failed("a module of the network is in train mode")


def _network(subject: _Subject) -> None:
    data, network = subject.data, subject.fresh().model(subject.root)
    check_network("the network", network, normalise(data.pool_images[[0, -1]], data), len(data.classes))


def _architecture(subject: _Subject) -> None:
    architecture = architecture_of(subject.fresh())
    if architecture is None:
        raise NotApplicable("it says none: the network's structure decides")
    if architecture not in ("cnn", "transformer"):
        raise Failed(f"architecture is {architecture!r}: expected cnn or transformer")


def _found(subject: _Subject) -> None:
    availability = availability_of(subject.fresh())
    if availability is None:
        raise NotApplicable("it has no found")
    text = availability(subject.root)
    if not isinstance(text, str) or not text:
        raise Failed(f"found gives {text!r}: expected a line")


def _process(subject: _Subject) -> None:
    with process_kept():
        task = subject.fresh()
        task.data(subject.root)
        task.model(subject.root)
