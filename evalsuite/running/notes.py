"""Sentences that a reader of a study's results must know; ``study.json`` and the page hold them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evalsuite.corruptions.constants import choose
from evalsuite.isolation import attempt
from evalsuite.plugins import IntArray
from evalsuite.running.process_state import restored
from evalsuite.running.task_data import task_data
from evalsuite.streams import Stream
from evalsuite.study.settings import Study
from evalsuite.study.tables import Corruption
from evalsuite.study.trials import Trial, plan_stream

SIMULATED = (
    "Where a trial's engine is called simulated, quantization is simulated in floating point, and times are those of "
    "the simulation, not of an integer engine."
)
COARSE_BITS = 4
ROUNDING = (
    "At activations of 4 bits and fewer, sums that are rounded in another order (another processor, thread count or "
    "library) move some activations across a rounding edge, and adapters that use batch statistics carry that to every "
    "image of the batch: some predictions and some tenths of a point of error are reproduced on this machine only. "
    "[analysis] jitter = 5 measures how many (jitter_flip_rate, jitter_error in summary.csv)."
)
"""Said of studies with activations of ``COARSE_BITS`` and fewer; which those are is a choice of ours."""


def notes(trials: Sequence[Trial], study: Study, root: str | None) -> list[str]:
    """Return the sentences that a reader of a study's results must know."""
    rounding = [ROUNDING] if any(_coarse(trial) for trial in trials) else []
    return [*_images(trials, study.corruption, root), *_classes_left_out(trials, root), SIMULATED, *rounding]


def _coarse(trial: Trial) -> bool:
    bits = trial.quantizer.bits
    return bits is not None and bits.activation_bits <= COARSE_BITS


def _classes_left_out(trials: Sequence[Trial], root: str | None) -> list[str]:
    """Say which streams show less than half of the classes that so many images of the test set could be of."""
    said = []
    for trial in {(trial.task, trial.stream): trial for trial in reversed(trials)}.values():
        labels = task_data(trial.task, root).test_labels
        images = _images_of(trial, labels)
        shown, known = (len(np.unique(own)) for own in (labels[images], labels))
        if 2 * shown < min(known, len(images)):
            said.append(
                f"Of the {known} classes of {trial.task.name} the stream {trial.stream.name} shows {shown} by its "
                f"{len(images)} images: what is said of errors is about these alone. Streams take the first images "
                "of a test set, and this one may be sorted by class."
            )
    return list(dict.fromkeys(said))


def _images_of(trial: Trial, labels: IntArray) -> NDArray[np.int64]:
    """Return which images a stream shows; none of one that cannot be planned, which its trials will say."""
    streams: list[Stream] = []
    with restored():
        attempt(lambda: streams.append(plan_stream(trial, labels)))
    return np.unique(streams[0].image) if streams else np.empty(0, np.int64)


def _images(trials: Sequence[Trial], corruption: Corruption, root: str | None) -> list[str]:
    tasks = dict.fromkeys(trial.task for trial in trials if trial.corrupted_images)
    if not tasks:
        return []
    if corruption.files == "published":
        return ["Corrupted images are the published files, read as they are distributed."]
    sizes = sorted({task_data(task, root).test_images.shape[1:3] for task in tasks})
    named = [(size, constants_of(corruption, *size)) for size in sizes]
    constants = " and ".join(f"the {name!r} constants at {width} x {height} pixels" for (height, width), name in named)
    return [
        f"Corrupted images were regenerated from the clean test images by the {corruption.engine!r} engine with "
        f"{constants} (seed {corruption.seed}); they are not the published files, whose random draws differ."
    ]


def constants_of(corruption: Corruption, height: int, width: int) -> str:
    """Return the name of the constants by which images of this size are corrupted."""
    if corruption.engine == "reference":
        return "imagenet"
    return choose(corruption.constants, height, width)
