"""What trials share: a task's images, its calibration sets, corrupted test images, quantized models."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from evalsuite import optional_members, registry
from evalsuite.corruptions import check as check_corruption
from evalsuite.errors import RequestError
from evalsuite.hashing import canonical_json, digest
from evalsuite.plugins import IntArray
from evalsuite.randomness import numpy_generator
from evalsuite.registry import Setting, configure
from evalsuite.streams import CLEAN, Stream
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
_UNCALIBRATED = Calibration(())


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

    @functools.cached_property
    def quantization(self) -> str:
        """Hash of what the quantized model depends on."""
        draw = self.seed if self.quantizer.bits is not None else None
        task = self.task.as_dict()
        return digest([SCHEMA, task, self.digests, self.calibration.as_dict(), self.quantizer.as_dict(), draw])

    @functools.cached_property
    def identity(self) -> str:
        """Hash of the resolved settings, 16 hex digits."""
        # An adapter that never changes the model reads no source images, so their number is not its identity.
        source = self.source_images if adapts(self.adapter) else 0
        corrupted = self.corruption.as_dict() if shows_corruption(self.stream) else None
        stream = self.stream.as_dict()
        return digest([self.quantization, self.adapter.as_dict(), stream, self.seed, source, corrupted])

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
            "calibration": canonical_json(self.calibration.as_dict()),
            "quantizer": self.quantizer.method.name,
            "bits": str(bits) if bits else "FP32",
            "adapter": self.adapter.name,
            "stream": self.stream.name,
            "seed": self.seed,
            "source_images": self.source_images,
            "corrupted_images": self.corrupted_images,
            **(bits.as_dict() | {"overrides": canonical_json(dict(bits.overrides))} if bits else {}),
        }
        for table, setting in (
            ("task", self.task),
            ("quantizer", self.quantizer.method),
            ("adapter", self.adapter),
            ("stream", self.stream),
        ):
            for option, value in setting.values().items():
                columns[f"{table}.{option}"] = value
        return {
            key: canonical_json(value) if isinstance(value, list | dict) else value for key, value in columns.items()
        }

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


def adapts(adapter: Setting) -> bool:
    """Whether an adapter ever changes the model."""
    return optional_members.adapts(registry.load("adapters", adapter.name))


def expand(study: Study, digests: Mapping[Setting, str]) -> list[Trial]:
    """Return a study's trials in a fixed order, each once, with the references they need.

    ``digests``: by task, of its images and weights. A quantizer that is not calibrated (full precision) is
    the same trial for every calibration set, and left out only where it is for all; references
    that the study does not ask for are added at the end.
    Raises RequestError for a filter that matches nothing, or filters that leave nothing.
    """
    trials: dict[str, Trial] = {}
    unused = set(study.exclude)
    for task, (order, calibration), quantizer, adapter, stream, seed in itertools.product(
        study.tasks, enumerate(study.calibrations), study.quantizers, study.adapters, study.streams, study.seeds
    ):
        seen = calibration if quantizer.bits is not None else _UNCALIBRATED
        trial = Trial(
            task, digests[task], seen, quantizer, adapter, stream, seed, study.source_images, study.corruption
        )
        columns = trial.settings() | {CALIBRATION_ORDER: order}
        matching = [text for text in study.exclude if _matches(columns, json.loads(text))]
        unused.difference_update(matching)
        if not matching:
            trials.setdefault(trial.identity, trial)
    if unused:
        raise RequestError(f"[[exclude]] {min(unused)} matches no trial of the study: expected one that does")
    if not trials:
        raise RequestError("[[exclude]] leaves no trial of the study: expected at least one")
    for trial in list(trials.values()):
        own = reference(trial, study)
        trials.setdefault(own.identity, own)
    return list(trials.values())


def reference(trial: Trial, study: Study) -> Trial:
    """Return the trial of the full-precision, unadapted network on the same task, stream and seed."""
    unadapted = [setting for setting in study.adapters if not adapts(setting)]
    full = [quantizer for quantizer in study.quantizers if quantizer.bits is None]
    return replace(
        trial,
        calibration=_UNCALIBRATED,
        quantizer=full[0] if full else Quantized(configure("quantizers", "full_precision"), None),
        adapter=unadapted[0] if unadapted else configure("adapters", "none"),
    )


def _matches(columns: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(columns.get(key) in (value if isinstance(value, list) else [value]) for key, value in wanted.items())
