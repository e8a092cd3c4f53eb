"""What every calibration step and every stream owes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalsuite import registry
from evalsuite.errors import RequestError
from evalsuite.optional_members import is_calibration_step, length_of, missing_methods, selected, transformed
from evalsuite.plugins import IntArray, Pool, PoolOutputs, TaskData, UInt8Array
from evalsuite.streams import Stream
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
    scatter,
)

_IMAGES, _CLASSES, _SIZE = 800, 4, 32
_TESTED = 1200
_PART = 200  # images that a step which takes another task's images in their place finds there


def pool() -> Pool:
    """Return a pool of 800 made-up images (32 x 32) of 4 classes, with outputs, for checks."""
    generator = np.random.default_rng(0)
    labels = np.arange(_IMAGES) % _CLASSES
    levels = 30 + 50 * labels[:, None, None, None]
    images = (levels + generator.integers(-25, 26, (_IMAGES, _SIZE, _SIZE, 3))).astype(np.uint8)
    outputs = PoolOutputs(*(generator.standard_normal((_IMAGES, n), dtype=np.float32) for n in (_CLASSES, 7)))
    classes = tuple(f"class {k}" for k in range(_CLASSES))
    return Pool(images, labels, classes, data_set="testing", outputs=lambda: outputs, load=_load)


def _load(task: str, options: Any) -> TaskData:
    return _loaded(registry.configure("tasks", task, options))


@functools.lru_cache(maxsize=1)
def _loaded(task: registry.Setting) -> TaskData:
    data: TaskData = task.build().data(None)
    return data


def check_step(step: Any, *, pool: Pool | None = None) -> None:
    """Raise AssertionError with every failed check of a calibration step and its mend; parameters as below."""
    require(step_checks(step, pool=pool), step)


def step_checks(step: Any, *, pool: Pool | None = None) -> list[Check]:
    """Check that a calibration step keeps its contract.

    Parameters
    ----------
    step : a class, an instance, an entry point's name, ``package.module:Class`` or ``path.py:Class``.
    pool : where images come from; by default 800 made-up ones of 4 classes.

    Raises
    ------
    RequestError
        If the step cannot be found or made.
    """
    subject = _StepSubject(factory("protocols", step), pool or _default_pool())
    asked = {
        "it has select or transform": (_has_one, "Write at least one of the two of evalsuite.plugins."),
        "select keeps some of the images, none twice": (_subset, "Return part of the indices that it was given."),
        "transform keeps shape and type": (_shape, "Return as many uint8 images of the same size."),
        "the same generator gives the same": (_step_again, "Draw from the generator that it was given, only."),
        "what it is given is untouched": (_step_input, "Change a copy."),
        "the process is left as it was": (_step_process, "Put back what you set."),
    }
    return make(questions_about(subject, asked))


_default_pool = pool


@dataclass(frozen=True)
class _StepSubject:
    fresh: Callable[[], Any]
    pool: Pool


def _chosen(step: Any, pool: Pool) -> IntArray:
    """Select from the whole pool, or from part of it for a step that can change no more."""
    try:
        return selected(step, pool, np.arange(len(pool.labels)), np.random.default_rng(1))
    except RequestError:
        return selected(step, pool, np.arange(min(len(pool.labels), _PART)), np.random.default_rng(1))


def _applied(step: Any, pool: Pool) -> tuple[IntArray, UInt8Array]:
    chosen = _chosen(step, pool)
    images = np.asarray(pool.images[chosen][:64])
    return chosen, transformed(step, pool, images, chosen[:64], np.random.default_rng(2))


def _has_one(subject: _StepSubject) -> None:
    if not is_calibration_step(subject.fresh()):
        raise Failed("it has neither select nor transform")


def _subset(subject: _StepSubject) -> None:
    step = subject.fresh()
    if missing_methods(step, ["select"]):
        raise NotApplicable("it has no select")
    for offered in (np.arange(len(subject.pool.labels)), np.arange(1, len(subject.pool.labels))):
        try:
            chosen = np.asarray(step.select(subject.pool, offered.copy(), np.random.default_rng(1)))
        except RequestError:
            continue
        if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer) or not len(chosen):
            raise Failed(f"select gave {chosen.dtype} of shape {chosen.shape}: expected indices, at least one")
        if len(np.unique(chosen)) < len(chosen):
            raise Failed("select gave an image twice")
        if not np.isin(chosen, offered).all():
            raise Failed("select gave an image that it was not offered")


def _shape(subject: _StepSubject) -> None:
    step = subject.fresh()
    if missing_methods(step, ["transform"]):
        raise NotApplicable("it has no transform")
    for count in (40, 1):
        images = np.asarray(subject.pool.images[:count])
        made = step.transform(subject.pool, images.copy(), np.arange(count), np.random.default_rng(2))
        if not isinstance(made, np.ndarray) or made.shape != images.shape or made.dtype != np.uint8:
            said = f"{made.dtype} {made.shape}" if isinstance(made, np.ndarray) else type(made).__name__
            raise Failed(f"transform gave {said}: expected uint8 {images.shape}")


def _step_again(subject: _StepSubject) -> None:
    results: list[tuple[IntArray, UInt8Array]] = []
    step = subject.fresh()
    for plugin in (step, step, subject.fresh()):
        scatter(len(results))
        results.append(_applied(plugin, subject.pool))
    chosen, made = results[0]
    if any(not (np.array_equal(chosen, a) and np.array_equal(made, b)) for a, b in results[1:]):
        raise Failed("the same generator gave something else")


def _step_input(subject: _StepSubject) -> None:
    step, images, labels = subject.fresh(), np.array(subject.pool.images), np.array(subject.pool.labels)
    offered = np.arange(len(labels))
    with contextlib.suppress(RequestError):
        selected(step, subject.pool, offered, np.random.default_rng(1))
    if not np.array_equal(offered, np.arange(len(labels))):
        raise Failed("select changed the indices that it was given")
    chosen = _chosen(step, subject.pool)
    given = np.array(images[chosen][:64])
    before = given.copy()
    transformed(step, subject.pool, given, chosen[:64], np.random.default_rng(2))
    if not np.array_equal(given, before):
        raise Failed("transform changed the images that it was given")
    if not (np.array_equal(subject.pool.images, images) and np.array_equal(subject.pool.labels, labels)):
        raise Failed("the pool changed")


def _step_process(subject: _StepSubject) -> None:
    with process_kept():
        _applied(subject.fresh(), subject.pool)


def check_stream(stream: Any, *, labels: IntArray | None = None) -> None:
    """Raise AssertionError with every failed check of a stream and its mend; parameters as below."""
    require(stream_checks(stream, labels=labels), stream)


def stream_checks(stream: Any, *, labels: IntArray | None = None) -> list[Check]:
    """Check that a stream protocol keeps its contract.

    Parameters
    ----------
    stream : a class, an instance, an entry point's name, ``package.module:Class`` or ``path.py:Class``.
    labels : (N,) of a test set; by default 1,200, of 4 classes.

    Raises
    ------
    RequestError
        If the stream cannot be found or made.
    """
    given = np.arange(_TESTED, dtype=np.int64) % _CLASSES if labels is None else labels
    subject = _StreamSubject(factory("protocols", stream), given)
    asked = {
        "it has domains and plan": (_stream_methods, "Write the methods of evalsuite.plugins.StreamProtocol."),
        "plan lays out a stream": (_laid_out, "Return an evalsuite.streams.Stream of images of the test set."),
        "domains are those that are shown": (_domains, "Return from domains() what plan shows, and nothing else."),
        "the length is what it says": (_length, "Return from length the images of the whole stream."),
        "the same generator gives the same": (_stream_again, "Draw from the generator that plan is given, only."),
        "the labels are untouched": (_labels, "Change a copy."),
    }
    return make(questions_about(subject, asked))


@dataclass(frozen=True)
class _StreamSubject:
    fresh: Callable[[], Any]
    labels: IntArray


def _plan(stream: Any, labels: IntArray) -> Stream:
    planned = stream.plan(labels, np.random.default_rng(1))
    if not isinstance(planned, Stream):
        raise Failed(f"plan gave a {type(planned).__name__}: expected an evalsuite.streams.Stream")
    return planned


def _stream_methods(subject: _StreamSubject) -> None:
    check_methods(subject.fresh, ("domains", "plan"))


def _laid_out(subject: _StreamSubject) -> None:
    planned = _plan(subject.fresh(), subject.labels)
    if planned.image.max() >= len(subject.labels):
        raise Failed(f"it shows image {planned.image.max()} of {len(subject.labels)}")


def _domains(subject: _StreamSubject) -> None:
    stream = subject.fresh()
    planned, said = _plan(stream, subject.labels), tuple(stream.domains())
    shown = {planned.domains[number] for number in np.unique(planned.domain).tolist()}
    if shown != set(said):
        texts = sorted(map(str, shown ^ set(said)))
        raise Failed(f"domains() and plan disagree on {', '.join(texts[:3])}")


def _length(subject: _StreamSubject) -> None:
    stream = subject.fresh()
    length = length_of(stream)
    if length is None:
        raise NotApplicable("it has no length")
    if length != len(_plan(stream, subject.labels)):
        raise Failed(f"length is {length}, plan shows {len(_plan(stream, subject.labels))} images")


def _stream_again(subject: _StreamSubject) -> None:
    digests, stream = set(), subject.fresh()
    for number, plugin in enumerate((stream, stream, subject.fresh())):
        scatter(number)
        digests.add(_plan(plugin, subject.labels).digest())
    if len(digests) > 1:
        raise Failed("the same generator gave another stream")


def _labels(subject: _StreamSubject) -> None:
    given = subject.labels.copy()
    _plan(subject.fresh(), given)
    if not np.array_equal(given, subject.labels):
        raise Failed("plan changed the labels")
