"""Made-up runs: a folder exactly as ``docs/api.md`` describes it, without any network."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from evalsuite import store
from evalsuite.hashing import canonical_json, digest, digest_arrays
from evalsuite.randomness import numpy_generator

FAMILIES = {
    "gaussian_noise": "noise",
    "shot_noise": "noise",
    "impulse_noise": "noise",
    "defocus_blur": "blur",
    "glass_blur": "blur",
    "motion_blur": "blur",
    "zoom_blur": "blur",
    "snow": "weather",
    "frost": "weather",
    "fog": "weather",
    "brightness": "weather",
    "contrast": "digital",
    "elastic_transform": "digital",
    "pixelate": "digital",
    "jpeg_compression": "digital",
}
USUAL_ORDER = tuple(FAMILIES)
NO_STUDY: dict[str, Any] = dict.fromkeys(store.STUDY_KEYS, "") | {
    **{key: {} for key in ("settings", "analysis", "tasks", "versions", "hardware")},
    **{"trials": 0, "seeds": [], "notes": []},
}
"""What ``study.json`` holds of nothing at all."""
HARMED_CLASS = 3
ENGINE = "rtn W8A8 on onnxruntime"
SEVERITY = 5
BATCH = 10


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """A calibration set: its label, its steps, and by how much it harms a network quantized to four bits."""

    label: str
    steps: Sequence[tuple[str, Mapping[str, Any]]]
    harm: float = 0.0


USUAL_SET = CalibrationSet("size 64", [("calibration", {"size": 64})])
"""What all quantizers of a made-up run see, unless it is given other sets."""

_HARM = {"FP32": 0.0, "W8A8": 0.05, "W4A8": 0.4, "W4A4": 0.7}
_BETTER = {"adaround": 0.6, "gptq": 0.8, "brecq": 0.55}
_GAIN = {"none": 0.0, "bn_adapt": 0.4, "tent": 0.6, "zoa": 0.5}
_FORGETS = {"tent": 0.2, "zoa": 0.05}  # of the gain, in a round
_OPTIONS: dict[str, dict[str, Any]] = {
    "quantizer.rtn": {"quantizer.range": "minmax"},
    "quantizer.adaround": {"quantizer.range": "mse", "quantizer.steps": 1000},
    "adapter.tent": {"adapter.learning_rate": 0.001},
    "adapter.zoa": {"adapter.learning_rate": 0.0005, "adapter.activation_shift": True},
}


def make_run(
    folder: Path,
    *,
    tasks: Sequence[str] = ("digits/resnet", "digits/vit"),
    quantizers: Sequence[tuple[str, str]] = (
        ("full_precision", "FP32"),
        ("rtn", "W8A8"),
        ("rtn", "W4A4"),
        ("adaround", "W4A4"),
    ),
    adapters: Sequence[str] = ("none", "bn_adapt", "tent", "zoa"),
    streams: Sequence[str] = ("usual", "reversed"),
    calibrations: Sequence[CalibrationSet] = (USUAL_SET,),
    domains: Sequence[str] = USUAL_ORDER,
    severities: Sequence[int] = (SEVERITY,),
    rounds: int = 1,
    images: int = 40,
    classes: int = 10,
    seeds: Sequence[int] = (0,),
    seed: int = 0,
    broken: bool = False,
    permutations: int = 200,
    bootstrap: int = 200,
    sites: int = 0,
    groups: Sequence[str] = (),
) -> Path:
    """Write a believable run and return its folder.

    Every image has a difficulty that all trials share; quantization harms class ``HARMED_CLASS`` four
    times as much as the others. ``domains`` may contain ``clean``. The first quantizer and adapter make the
    references. An adapter ``NAME:OPTION=VALUE`` is ``NAME`` with that option and half the gain. ``broken`` turns one
    trial into a failed one and one into a refused one, never a reference. ``sites``: a column of the task's own says
    at which of so many sites an image was taken; quantization harms class ``HARMED_CLASS`` most at the last of them.
    ``groups``: the groupings that the study asks for.
    """
    shown = [(name, severity) for name in domains for severity in ((0,) if name == "clean" else severities)]
    settings = [
        Key(task, quantizer, bits, adapter, stream, draw, calibration)
        for task, (quantizer, bits), adapter, stream, draw in itertools.product(
            tasks, quantizers, adapters, streams, seeds
        )
        for calibration in ([None] if bits == "FP32" else calibrations)
    ]
    hashes = {key: digest([repr(key), images, classes, shown, rounds, seed]) for key in settings}
    others = [key for key in settings if _reference(key, quantizers, adapters) != key]
    ends = {others[-1]: "refused", others[len(others) // 2]: "failed"} if broken else {}
    rows = []
    for key in settings:
        reference = hashes[_reference(key, quantizers, adapters)]
        status = ends.get(key, "done")
        records = _records(key, shown, rounds, images, classes, seed, sites) if status == "done" else None
        row = _row(key, hashes[key], reference, status, records) | {"stream.rounds": rounds}
        store.write_trial(folder, row, records)
        rows.append(row)
    store.write_trials(folder, rows)
    study = _study(tasks, settings, images, classes, seeds, permutations, bootstrap)
    study["analysis"]["groups"] = list(groups)
    store.write_study(folder, study)
    return folder


class Key(NamedTuple):
    """What makes a trial."""

    task: str
    quantizer: str
    bits: str
    adapter: str
    stream: str
    draw: int
    calibration: CalibrationSet | None


def _reference(key: Key, quantizers: Sequence[tuple[str, str]], adapters: Sequence[str]) -> Key:
    name, bits = quantizers[0]
    return key._replace(quantizer=name, bits=bits, adapter=adapters[0], calibration=None)


def _option(adapter: str) -> dict[str, Any]:
    name, _, option = adapter.partition("=")
    return {f"adapter.{name.partition(':')[2]}": option == "true"} if option else {}


def _row(key: Key, trial: str, reference: str, status: str, records: dict[str, Any] | None) -> dict[str, Any]:
    task, quantizer, bits, adapter, stream, seed, calibration = key
    full = calibration is None
    steps = [] if full else [{"name": name, "options": dict(options)} for name, options in calibration.steps]
    plugin = adapter.partition(":")[0]
    row: dict[str, Any] = {
        "trial": trial,
        "task": task,
        "quantizer": quantizer,
        "adapter": plugin,
        "stream": stream,
        "seed": seed,
        "source_images": 256,
        "calibration": canonical_json(steps),
        "bits": bits,
        "weight_bits": None if full else int(bits[1]),
        "activation_bits": None if full else int(bits[3]),
        "first_last_bits": None if full else 8,
        "per_channel": None if full else True,
        "symmetric": None if full else False,
        "fold_norm": None if full else False,
        **_OPTIONS.get(f"quantizer.{quantizer}", {}),
        **_OPTIONS.get(f"adapter.{plugin}", {}),
        **_option(adapter),
        "stream.batch_size": BATCH,
        "calibration_label": "none" if full else calibration.label,
        "quantizer_label": quantizer.replace("_", " ") + ("" if full else f" {bits}"),
        "adapter_label": adapter.replace("_", " ").replace(":", " ").replace("=false", " off"),
        "stream_label": stream,
        "reference": reference,
        "status": status,
        "reason": {"done": "", "failed": "RuntimeError: out of memory", "refused": "no BatchNorm layer"}[status],
    }
    return row | _costs(plugin, full, records)


def _costs(adapter: str, full: bool, records: dict[str, Any] | None) -> dict[str, Any]:
    if records is None:
        names = ("error", "images", "batches", "forwards", "backwards", "adapt_seconds", "forward_seconds")
        names += (
            "quantize_seconds",
            "adapted_parameters",
            "state_bytes",
            "peak_bytes",
            "engine",
            "stream_digest",
        )
        return dict.fromkeys(names) | {"warnings": "[]", "collapsed_at": None}
    length = len(records["image"])
    batches = -(-length // BATCH)
    passes = {"none": (1, 0), "bn_adapt": (1, 0), "tent": (1, 1), "zoa": (3, 0)}.get(adapter, (1, 1))
    adapts = adapter != "none"
    return {
        "error": float(np.mean(records["prediction"] != records["label"])),
        "images": length,
        "batches": batches,
        "forwards": float(passes[0] * batches),
        "backwards": float(passes[1] * batches),
        "adapt_seconds": 0.002 * sum(passes) * batches,
        "forward_seconds": 0.002 * batches,
        "quantize_seconds": 0.0 if full else 1.5,
        "adapted_parameters": 960 if adapts else 0,
        "state_bytes": 7680 if adapts else 0,
        "peak_bytes": 400_000_000,
        "engine": "simulated",
        "stream_digest": digest_arrays(records["image"], records["position"]),
        "warnings": "[]",
        "collapsed_at": None,
    }


def _records(
    key: Key, domains: Sequence[tuple[str, int]], rounds: int, images: int, classes: int, seed: int, sites: int = 0
) -> dict[str, Any]:
    task, quantizer, bits, adapter, stream, draw, calibration = key
    plugin = adapter.partition(":")[0]
    steps = (list(domains)[::-1] if stream == "reversed" else list(domains)) * rounds
    shown = [name for name, _ in steps]
    # What an image and a domain are like is common to all trials of a task; so is the order within a stream.
    world = numpy_generator(seed, "world", task)
    difficulty = world.normal(0.0, 1.0, images)
    names = list(dict.fromkeys(name for name, _ in domains))
    hardness = dict(zip(names, world.uniform(0.0, 1.5, len(names)), strict=True)) | {"clean": -0.5}
    view = {name: numpy_generator(seed, "view", task, name).normal(0.0, 0.5, images) for name in names}
    order = numpy_generator(seed, "order", task, stream, draw)
    image = np.concatenate([order.permutation(images) for _ in shown]).astype(np.int32)
    position = np.arange(len(image), dtype=np.int32)
    code = np.repeat(np.arange(len(shown)), images)
    label = (image % classes).astype(np.int32)

    usual = calibration in (None, USUAL_SET)
    harm = _HARM.get(bits, 0.3) * _BETTER.get(quantizer, 1.0)
    harm *= 1 if usual else 1 + calibration.harm
    drawn = draw if bits != "FP32" else -1
    other_set = [] if usual else [calibration.label]
    own = numpy_generator(seed, "own", task, quantizer, bits, adapter, stream, drawn, *other_set)
    margin = 2.0 - 0.8 * difficulty[image]
    margin -= (
        np.array([hardness[name] for name in shown]) + 0.3 * np.array([(s or SEVERITY) - SEVERITY for _, s in steps])
    )[code]
    margin += np.stack([view[name] for name in shown])[code, image]
    margin -= harm * np.where(label == HARMED_CLASS % classes, 2.5, 0.6)
    site = image // classes % max(sites, 1)
    if sites:
        margin -= harm * 2.5 * ((label == HARMED_CLASS % classes) & (site == sites - 1))
    gain = _GAIN.get(plugin, 0.5) * (0.5 if ":" in adapter else 1.0)
    gain *= 1 - _FORGETS.get(plugin, 0.0) * (code // len(domains))
    margin += gain * (code % len(domains) + 1) / len(domains)
    if bits != "FP32" or adapter != "none":
        margin += own.normal(0.0, 0.2, len(image))

    wrong = margin < 0
    confidence = 1 / classes + (1 - 1 / classes) * -np.expm1(-np.abs(margin))
    of_label = np.where(wrong, (1 - confidence) / (classes - 1), confidence)
    other = (label + own.integers(1, classes, len(image))) % classes
    return {
        "image": image,
        "position": position,
        "domain": _dictionary(code, shown),
        "family": _dictionary(code, [FAMILIES.get(name, name) for name in shown]),
        "severity": np.array([severity for _, severity in steps], np.int8)[code],
        "label": label,
        "prediction": np.where(wrong, other, label).astype(np.int32),
        "confidence": confidence.astype(np.float32),
        "loss": -np.log(np.maximum(of_label, 1e-12)).astype(np.float32),
        "brier": np.square(1 - of_label).astype(np.float32),
        "batch": position // BATCH,
        "reset": np.zeros(len(position), np.bool_),
        "round": (code // len(domains)).astype(np.int16),
        **({"site": np.array([f"site {index}" for index in range(sites)], object)[site]} if sites else {}),
    }


def _dictionary(code: np.ndarray[Any, Any], names: Sequence[str]) -> pa.DictionaryArray:
    values, inverse = np.unique(np.array(names), return_inverse=True)
    return pa.DictionaryArray.from_arrays(pa.array(inverse[code], pa.int32()), pa.array(values.tolist(), pa.string()))


def _study(
    tasks: Sequence[str],
    settings: Sequence[Key],
    images: int,
    classes: int,
    seeds: Sequence[int],
    permutations: int,
    bootstrap: int,
) -> dict[str, Any]:
    facts = {
        task: {
            "classes": [f"class {index}" for index in range(classes)],
            "architecture": "transformer" if task.endswith("vit") else "cnn",
            "image_size": 16,
            "test_images": images,
            "data_digest": digest([task, "data"]),
            "weights_digest": digest([task, "weights"]),
        }
        for task in tasks
    }
    return {
        "name": "dummy",
        "title": "A made-up study",
        "description": "Records drawn from a formula; nothing was measured.",
        "command": "evalsuite run dummy",
        "settings": {"tasks": list(tasks)},
        "trials": len(settings),
        "seeds": list(seeds),
        "analysis": {"seed": 0, "permutations": permutations, "bootstrap": bootstrap},
        "tasks": facts,
        "versions": {"python": "3.11", "evalsuite": "0.1.0"},
        "hardware": {"cpu": "made up", "threads": 1},
        "notes": ["The numbers of this run are made up."],
    }
