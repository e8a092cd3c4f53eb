"""The simulation against an integer engine: W8A8 by rounding to nearest, and by ONNX Runtime.

python benchmarks/integer_engine.py [--data-root DIR] [--tasks NAME ...] [--images N]

Both take the same calibration images, min-max ranges and symmetric weights per output channel. On the same 1,000 test
images (of ImageNet's there are 800): how often both name the same class, both accuracies, and the time
of the integer engine over that of the simulation.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import torch
from report import Figure, main, note
from torch import Tensor, nn

from evalsuite import quantize
from evalsuite.running.task_data import normalise, task_data, task_model

TASKS = ("cifar10/resnet20", "imagenet/mobilenet_v2", "imagenet/deit_tiny")
IMAGES = 1000
CALIBRATION = 128
BATCH = 50
THREADS = 2


def measure(data_root: str | None, tasks: Sequence[str] = TASKS, images: int = IMAGES) -> list[Figure]:
    torch.set_num_threads(THREADS)
    return [figure for task in tasks for figure in compare(task, data_root, images)]


def compare(task: str, data_root: str | None, count: int) -> list[Figure]:
    data, model = task_data(task, data_root), task_model(task, data_root)
    images = normalise(data.test_images[:count], data)
    labels = torch.from_numpy(data.test_labels[: len(images)])
    calibration = normalise(data.pool_images[:CALIBRATION], data)
    policy = {"weight_bits": 8, "activation_bits": 8, "symmetric": True, "fold_norm": True}
    simulated = quantize(model, calibration, method="rtn", range="minmax", **policy)
    engine = quantize(model, calibration, method="onnxruntime", **policy)
    plain, ours, theirs, ratio = side_by_side([model, simulated, engine], images)

    def percent(name: str, right: Tensor) -> Figure:
        return Figure(f"{task}, {len(images)} images: {name}", 100 * float(right.float().mean()), "%")

    figures = [
        percent("simulated W8A8 and engine agree", ours == theirs),
        percent("full precision, accuracy", plain == labels),
        percent("simulated W8A8, accuracy", ours == labels),
        percent("engine, accuracy", theirs == labels),
        Figure(f"{task}, batch {BATCH}, {THREADS} threads: engine / simulated, time", ratio),
    ]
    for figure in figures:
        note(f"{figure.name} {figure.value:.4g} {figure.unit}")
    return figures


@torch.inference_mode()
def side_by_side(models: list[nn.Module], images: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """Return the classes that three networks name, and the median over batches of third / second in time."""
    named: list[list[Tensor]] = [[] for _ in models]
    ratios = []
    for batch in images.split(BATCH):
        seconds = []
        for model, found in zip(models, named, strict=True):
            start = time.perf_counter()
            found.append(model(batch).argmax(1))
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[2] / seconds[1])
    plain, ours, theirs = (torch.cat(found) for found in named)
    return plain, ours, theirs, statistics.median(ratios[1:])


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", nargs="+", default=TASKS, metavar="NAME")
    parser.add_argument("--images", type=int, default=IMAGES)


if __name__ == "__main__":
    main(measure, __doc__, options)
