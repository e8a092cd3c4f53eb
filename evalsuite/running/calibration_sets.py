"""Calibration sets: which images of the pool a quantizer sees, and what is done to them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from evalsuite import registry
from evalsuite.hashing import canonical_json, digest, digest_tensors
from evalsuite.optional_members import data_read_by, selected, transformed
from evalsuite.plugins import IntArray, Pool, PoolOutputs, TaskData, UInt8Array
from evalsuite.randomness import numpy_generator
from evalsuite.registry import Setting
from evalsuite.running.pool_outputs import kept, look
from evalsuite.running.task_data import (
    _loaded_data,
    code_digest,
    data_digest,
    digest_data,
    normalise,
    task_data,
    task_model,
)
from evalsuite.running.workspace import Workspace
from evalsuite.study.settings import Calibration

_BATCH = 128  # images of the pool that the network looks at together


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
    read = [code_digest(task), data_digest(task, workspace.root), weights]
    key = digest([task.as_dict(), *read, workspace.device.partition(":")[0]])
    starts = range(0, len(data.pool_images), _BATCH)
    batches = (normalise(data.pool_images[start : start + _BATCH], data).to(workspace.device) for start in starts)
    file = workspace.outputs_file(key)
    return kept(file, len(data.pool_images), lambda: look(model.to(workspace.device), batches))


def _other_data(root: str | None, task: str, options: Mapping[str, Any]) -> TaskData:
    return _configured_data(registry.configure("tasks", task, options), root)


@functools.lru_cache(maxsize=1)
def _configured_data(task: Setting, root: str | None) -> TaskData:
    return _loaded_data(task.build(), task.name, root)


def loaded_digest(calibration: Calibration, root: str | None) -> str:
    """Return a hash of the data of other tasks that a calibration set's steps load; empty where they load none.

    Raises RequestError if these are not here.
    """
    read = [each for step in calibration.steps for each in data_read_by(step.build())]
    tasks = [registry.configure("tasks", name, options) for name, options in read]
    return digest([digest_data(_configured_data(task, root)) for task in tasks]) if tasks else ""


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
        indices = selected(step.build(), pool, indices, _step_generator(pool.seed, "select", number, step))
    return indices


def calibration_images(calibration: Calibration, pool: Pool) -> UInt8Array:
    """Make a calibration set: (n, H, W, 3) uint8 images. Raises RequestError if a step is impossible."""
    indices = select_images(calibration, pool)
    images = np.asarray(pool.images[indices])
    for number, step in enumerate(calibration.steps):
        generator = _step_generator(pool.seed, "transform", number, step)
        images = transformed(step.build(), pool, images, indices, generator)
    return images


def _step_generator(seed: int, what: str, number: int, step: Setting) -> np.random.Generator:
    return numpy_generator(seed, "calibration", what, number, canonical_json(step.as_dict()))
