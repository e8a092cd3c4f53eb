"""Trials: the product of a study's settings, each with an identity of its own."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from evalsuite import registry
from evalsuite.errors import RequestError
from evalsuite.hashing import canonical_json, digest
from evalsuite.quantization.policy import BitPolicy
from evalsuite.registry import Setting, configure
from evalsuite.study import Calibration, Quantized, Study, display_name
from evalsuite.study_tables import Corruption

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
    return bool(getattr(registry.load("adapters", adapter.name), "adapts", True))


def expand(study: Study, digests: Mapping[Setting, str]) -> list[Trial]:
    """Return a study's trials in a fixed order, each once, with the references they need.

    ``digests``: by task, of its images and weights. A quantizer that is not calibrated (full precision) is
    the same trial for every calibration set; references that the study does not ask for are added at the end.
    Raises RequestError for a filter that matches nothing, or filters that leave nothing.
    """
    trials: dict[str, Trial] = {}
    unused = set(study.exclude)
    for task, calibration, quantizer, adapter, stream, seed in itertools.product(
        study.tasks, study.calibrations, study.quantizers, study.adapters, study.streams, study.seeds
    ):
        seen = calibration if quantizer.bits is not None else _UNCALIBRATED
        trial = Trial(
            task, digests[task], seen, quantizer, adapter, stream, seed, study.source_images, study.corruption
        )
        matching = [text for text in study.exclude if _matches(trial, json.loads(text))]
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


def _matches(trial: Trial, wanted: Mapping[str, Any]) -> bool:
    columns = trial.settings()
    return all(columns.get(key) in (value if isinstance(value, list) else [value]) for key, value in wanted.items())


T = TypeVar("T")


def labels(trials: Sequence[Trial]) -> dict[str, dict[str, str]]:
    """Return short names for people by trial: what a setting calls itself, and the options that tell it from others."""
    tasks = task_labels([t.task for t in trials])
    calibrations = _distinct((t.calibration for t in trials), str, lambda c: {"steps": c.as_dict()}, lambda c: {}, str)
    quantizers = _distinct(
        (t.quantizer for t in trials),
        lambda q: display_name(q.method),
        _quantizer_options,
        _quantizer_defaults,
        lambda q: q.method.name,
    )
    adapters = _distinct(
        (t.adapter for t in trials), display_name, Setting.values, _defaults, lambda adapter: adapter.name
    )
    streams = _distinct((t.stream for t in trials), display_name, Setting.values, _defaults, lambda s: s.name)
    return {
        t.identity: {
            "task": tasks[t.task],
            "calibration_label": calibrations[t.calibration],
            "quantizer_label": quantizers[t.quantizer] + (f" {t.quantizer.bits}" if t.quantizer.bits else ""),
            "adapter_label": adapters[t.adapter],
            "stream_label": streams[t.stream],
        }
        for t in trials
    }


def task_labels(tasks: Iterable[Setting]) -> dict[Setting, str]:
    """Return the names of tasks in the column ``task``: the plugin's, and the options that tell it from others."""
    return _distinct(tasks, lambda t: t.name, Setting.values, _defaults, lambda t: t.name, exact=True)


def _quantizer_options(quantizer: Quantized) -> dict[str, Any]:
    policy = quantizer.bits.as_dict() if quantizer.bits else {}
    return quantizer.method.values() | {k: v for k, v in policy.items() if k not in ("weight_bits", "activation_bits")}


def _defaults(setting: Setting) -> dict[str, Any]:
    return registry.defaults(setting.kind, setting.name)


def _quantizer_defaults(quantizer: Quantized) -> dict[str, Any]:
    return _defaults(quantizer.method) | BitPolicy().as_dict()


def _distinct(
    settings: Iterable[T],
    name: Callable[[T], str],
    options: Callable[[T], Mapping[str, Any]],
    defaults: Callable[[T], Mapping[str, Any]],
    plugin: Callable[[T], str],
    exact: bool = False,
) -> dict[T, str]:
    """Name settings, adding to those of one name the options in which they differ.

    What is at its default is left out, unless it is the only such option and not a mere switch.

    Where two plugins call themselves alike, the name by which the study calls them is added. Underscores become
    spaces unless names are to be ``exact``.
    """
    unique = list(dict.fromkeys(settings))
    names = {setting: name(setting) if exact else name(setting).replace("_", " ") for setting in unique}
    for alike in set(names.values()):
        own = [setting for setting in unique if names[setting] == alike]
        if len({plugin(setting) for setting in own}) > 1:
            names |= {setting: f"{alike} ({plugin(setting)})" for setting in own}
    found = {}
    for setting in unique:
        kin = [options(other) for other in unique if names[other] == names[setting]]
        chosen, usual = options(setting), defaults(setting)
        differing = [key for key in chosen if len({canonical_json(other.get(key)) for other in kin}) > 1]
        plain = {key for key in differing if canonical_json(chosen[key]) == canonical_json(usual.get(key))}
        if len(differing) == 1:
            plain = {key for key in plain if isinstance(chosen[key], bool | None)}
        words = [
            chosen[key] if exact and isinstance(chosen[key], str) else _worded(key, chosen[key])
            for key in differing
            if key not in plain
        ]
        found[setting] = " ".join([names[setting], *filter(None, words)])
    return found


def _worded(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return key.replace("_", " ") if value else f"without {key.replace('_', ' ')}"
    return value.replace("_", " ") if isinstance(value, str) else f"{key.replace('_', ' ')}={canonical_json(value)}"
