"""What trials share: a task's images, its calibration sets, corrupted test images, quantized models."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalsuite import optional_members, registry
from evalsuite.bits import BitPolicy
from evalsuite.corruptions import check as check_corruption
from evalsuite.errors import RequestError
from evalsuite.hashing import canonical_json, digest_list
from evalsuite.isolation import requested
from evalsuite.optional_members import SIMULATED
from evalsuite.oracles import ORACLE
from evalsuite.plugins import IntArray
from evalsuite.randomness import numpy_generator
from evalsuite.registry import Setting, configure
from evalsuite.streams import CLEAN, Stream
from evalsuite.study.filters import Filters, still_meant
from evalsuite.study.settings import Calibration, Quantized, Study
from evalsuite.study.tables import Corruption


def plan_stream(trial: Trial, labels: IntArray) -> Stream:
    """Lay out a trial's stream; every trial with the same stream, task data and seed gets the same.

    Raises RequestError if it shows an image that the test set does not have, or an unknown domain.
    """
    protocol = trial.stream.build()
    options = trial.stream.values()
    drawn_by = {"options": {name: options[name] for name in optional_members.drawn_by(protocol, options)}}
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


CALIBRATION_ORDER = "calibration_order"
"""What ``[[exclude]]`` calls a calibration set's position in the study, 0 the first."""
SCHEMA = 2  # raised when the same settings would give other records
UNCALIBRATED = Calibration(())
"""The calibration set of a quantizer that is not calibrated."""


@dataclass(frozen=True)
class Trial:
    """One (task, calibration set, quantizer, bits, adapter, stream, seed), with the digests of what it reads."""

    task: Setting
    digests: str
    """Digest of the task's images and weights."""
    calibration: Calibration
    quantizer: Quantized
    adapter: Setting
    stream: Setting
    seed: int
    source_images: int
    corruption: Corruption
    calibration_digest: str = ""
    """Digest of the images of other tasks that the calibration set takes; empty: none."""

    @functools.cached_property
    def quantization(self) -> str:
        """Hash of what the quantized model depends on."""
        draw = str(self.seed) if self.quantizer.bits is not None else "null"
        parts = (self.task.canonical, json.dumps(self.digests), self.calibration.canonical, self.quantizer.canonical)
        further = [self.calibration_digest] if self.calibration.steps and self.calibration_digest else []
        return digest_list([str(SCHEMA), *parts, draw, *further])

    @functools.cached_property
    def identity(self) -> str:
        """Hash of the resolved settings, 16 hex digits."""
        # An adapter that never changes the model reads no source images, so their number is not its identity.
        source = self.source_images if adapts(self.adapter) else 0
        corrupted = _corruption_json(self.corruption) if shows_corruption(self.stream) else "null"
        shown = (self.stream.canonical, str(self.seed), str(source), corrupted)
        engine = [json.dumps(self.quantizer.engine)] if self.quantizer.exported else []
        return digest_list([f'"{self.quantization}"', self.adapter.canonical, *shown, *engine])

    @property
    def network(self) -> tuple[str, str]:
        """What computes: the hash of the quantized model, and the engine."""
        return self.quantization, self.quantizer.engine

    @property
    def is_reference(self) -> bool:
        """Whether this is the full-precision network without adaptation."""
        return self.quantizer.bits is None and not adapts(self.adapter)

    def settings(self) -> dict[str, Any]:
        """Return the columns of ``trials.parquet`` that say what the trial is."""
        bits = self.quantizer.bits
        columns: dict[str, Any] = {
            "trial": self.identity,
            "task": self.task.name,
            "calibration": self.calibration.canonical,
            "quantizer": self.quantizer.method.name,
            "bits": str(bits) if bits else "FP32",
            "adapter": self.adapter.name,
            "stream": self.stream.name,
            "seed": self.seed,
            "source_images": self.source_images,
            "corrupted_images": self.corrupted_images,
            **(_bit_columns(bits) if bits else {}),
            **({"engine": self.quantizer.engine} if self.quantizer.exported else {}),
            **({ORACLE: True} if is_oracle(self.adapter) else {}),
        }
        for table, setting in (
            ("task", self.task),
            ("quantizer", self.quantizer.method),
            ("adapter", self.adapter),
            ("stream", self.stream),
        ):
            columns |= _option_columns(table, setting)
        return columns

    @property
    def corrupted_images(self) -> str:
        """Where the corrupted images of the stream come from, in words; empty where it shows clean ones only."""
        if not shows_corruption(self.stream):
            return ""
        return "published files" if self.corruption.files == "published" else "regenerated"


@functools.cache
def shows_corruption(stream: Setting) -> bool:
    """Whether a stream shows any corrupted domain."""
    try:
        return any(domain.severity > 0 for domain in stream.build().domains())
    except (RequestError, KeyboardInterrupt):
        raise
    except BaseException:  # a plugin's fault, which shows again when the trial is run
        return True


@functools.cache
def adapts(adapter: Setting) -> bool:
    """Whether an adapter ever changes the model."""
    return optional_members.adapts(registry.load("adapters", adapter.name))


@functools.cache
def passes_of(adapter: Setting) -> float:
    """Return image passes that a batch is expected to cost. Raises RequestError if the adapter cannot say."""
    with requested(f"adapter {adapter.name!r} cannot say how many passes it makes"):
        return optional_members.passes_of(adapter.build())


@functools.cache
def is_oracle(adapter: Setting) -> bool:
    """Whether an adapter is told the labels."""
    return optional_members.is_oracle(registry.load("adapters", adapter.name))


@functools.cache
def _corruption_json(corruption: Corruption) -> str:
    return canonical_json(corruption.as_dict())


@functools.cache
def _bit_columns(bits: BitPolicy) -> dict[str, Any]:
    return _plain_columns(bits.as_dict())


@functools.cache
def _option_columns(table: str, setting: Setting) -> dict[str, Any]:
    return _plain_columns({f"{table}.{option}": value for option, value in setting.values().items()})


def _quantizer_columns(quantizer: Quantized) -> dict[str, Any]:
    bits, method = quantizer.bits, quantizer.method
    own = {"quantizer": method.name, "bits": str(bits) if bits else "FP32", "engine": quantizer.engine}
    return own | (_bit_columns(bits) if bits else {}) | _option_columns("quantizer", method)


def _plain_columns(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: canonical_json(value) if isinstance(value, list | dict) else value for key, value in values.items()}


def expand(
    study: Study, digests: Mapping[Setting, str], calibration_digests: Mapping[Calibration, str] | None = None
) -> list[Trial]:
    """Return a study's trials in a fixed order, each once, with the references they need.

    ``digests``: by task, of its images and weights; ``calibration_digests``: of the images of other tasks that a
    calibration set takes, where one takes any. A quantizer that is not calibrated (full precision) is
    the same trial for every calibration set, and left out only where it is for all. References, and the simulations of
    what engines run, are added at the end where the study does not ask for them.
    Raises RequestError for a filter that matches nothing, or filters that leave nothing.
    """
    trials: dict[str, Trial] = {}
    uncalibrated = [quantizer.bits is None for quantizer in study.quantizers]
    calibrations = [(order, seen) for order, own in enumerate(study.calibrations) for seen in (own, UNCALIBRATED)]
    left_out = Filters(study.exclude, _axes(study, calibrations))
    counts = (len(study.tasks), len(study.calibrations), len(study.quantizers), len(study.adapters))
    for place in itertools.product(*map(range, (*counts, len(study.streams), len(study.seeds)))):
        task, order, quantizer, adapter, stream, seed = place
        calibration = 2 * order + uncalibrated[quantizer]
        if left_out.match((task, calibration, quantizer, adapter, stream, seed)):
            continue
        trial = Trial(
            study.tasks[task],
            digests[study.tasks[task]],
            calibrations[calibration][1],
            study.quantizers[quantizer],
            study.adapters[adapter],
            study.streams[stream],
            study.seeds[seed],
            study.source_images,
            study.corruption,
            (calibration_digests or {}).get(calibrations[calibration][1], ""),
        )
        trials.setdefault(trial.identity, trial)
    left_out.check_used()
    if not trials:
        raise RequestError("[[exclude]] leaves no trial of the study: expected at least one")
    for own in list(map(simulated, trials.values())):
        trials.setdefault(own.identity, own)
    for own in list(map(references(study), trials.values())):
        trials.setdefault(own.identity, own)
    return list(trials.values())


def _axes(study: Study, calibrations: Sequence[tuple[int, Calibration]]) -> list[list[dict[str, Any]]]:
    """Return, for each axis of a study, what its values put into the columns that filters know."""
    return [
        [{"task": task.name, **_option_columns("task", task)} for task in study.tasks],
        [{"calibration": seen.canonical, CALIBRATION_ORDER: order} for order, seen in calibrations],
        [_quantizer_columns(quantizer) for quantizer in study.quantizers],
        [{"adapter": adapter.name, **_option_columns("adapter", adapter)} for adapter in study.adapters],
        [{"stream": stream.name, **_option_columns("stream", stream)} for stream in study.streams],
        [{"seed": seed} for seed in study.seeds],
    ]


def narrowed(study: Study, before: Study) -> Study:
    """Return a study whose filters say nothing of values that ``before``, its file without overrides, alone has."""
    values = [
        [columns for axis in _axes(each, [*enumerate(each.calibrations)]) for columns in axis]
        for each in (before, study)
    ]
    return replace(study, exclude=still_meant(study.exclude, *values))


def simulated(trial: Trial) -> Trial:
    """Return the trial that simulates what an engine runs in this one; a trial that is simulated as it is."""
    return replace(trial, quantizer=replace(trial.quantizer, engine=SIMULATED)) if trial.quantizer.exported else trial


def references(study: Study) -> Callable[[Trial], Trial]:
    """Return a function that gives the trial of the full-precision, unadapted network on a trial's task and stream."""
    unadapted = [setting for setting in study.adapters if not adapts(setting)]
    full = [quantizer for quantizer in study.quantizers if quantizer.bits is None]
    quantizer = full[0] if full else Quantized(configure("quantizers", "full_precision"), None)
    adapter = unadapted[0] if unadapted else configure("adapters", "none")
    known: dict[tuple[Setting, Setting, int], Trial] = {}

    def reference_of(trial: Trial) -> Trial:
        key = (trial.task, trial.stream, trial.seed)
        if key not in known:
            known[key] = replace(trial, calibration=UNCALIBRATED, quantizer=quantizer, adapter=adapter)
        return known[key]

    return reference_of


def reference(trial: Trial, study: Study) -> Trial:
    """Return the trial of the full-precision, unadapted network on the same task, stream and seed."""
    return references(study)(trial)
