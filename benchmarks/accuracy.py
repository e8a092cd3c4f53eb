"""Do the networks with shared weights classify as well as published? All images, full precision, three minutes.

In the tests a few hundred images stand for all.
"""

from __future__ import annotations

import numpy as np
import torch
from report import Figure, main, note

from evalsuite.registry import configure
from evalsuite.running.task_data import normalise

PUBLISHED = {
    "cifar10/resnet20": (91.73, 0),
    "cifar10/resnet56": (93.39, 0),
    "cifar10/resnet26_gn": (90.83, 0),
    "cifar10/vit": (71.93, 0),
    "imagenet/deit_tiny": (78.4, 200),
    "imagenet/mobilenet_v2": (83.2, 200),
}
"""Per cent right, on the test images and so many of the pool: the authors' for CIFAR, measured for the sample."""
_TOLERANCE = 0.05
_BATCH = 16


@torch.no_grad()
def right(name: str, data_root: str | None, pool: int) -> tuple[int, int]:
    """Return how many images a task's network has right, and of how many."""
    task = configure("tasks", name).build()
    network, data = task.model(data_root), task.data(data_root)
    hits = count = 0
    for images, labels in (
        (data.test_images, data.test_labels),
        (data.pool_images[:pool], data.pool_labels[:pool]),
    ):
        for start in range(0, len(images), _BATCH):
            batch = normalise(np.asarray(images[start : start + _BATCH]), data)
            hits += int((network(batch).argmax(1).numpy() == labels[start : start + _BATCH]).sum())
        count += len(images)
    return hits, count


def measure(data_root: str | None) -> list[Figure]:
    figures = []
    for name, (published, pool) in PUBLISHED.items():
        note(name)
        hits, count = right(name, data_root, pool)
        low, high = published - _TOLERANCE, published + _TOLERANCE
        figures.append(Figure(f"{name}, {count:,} images", 100 * hits / count, "% right", at_least=low, at_most=high))
    return figures


if __name__ == "__main__":
    main(measure, __doc__)
