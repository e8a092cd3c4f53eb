"""How long an engine takes for an image, beside the same engine with the network in full precision: in pairs. Ours.

Both pass the same images in turn, so that what else the machine does hits both; medians over the pairs are what counts.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.engines.deploy import deploy
from evalsuite.errors import Refused
from evalsuite.exporting.floating import onnx_of
from evalsuite.registry import Setting
from evalsuite.running.task_data import task_model

PAIRS, IMAGES = 9, 16
"""Pairs, and images that pass at once; ours."""


@dataclass(frozen=True)
class Latency:
    """What an image takes on an engine.

    Attributes
    ----------
    latency_ms, float_latency_ms : of the quantized network and of the one in full precision, medians over pairs.
    latency_ratio : the first over the second within a pair, the median.
    """

    latency_ms: float
    float_latency_ms: float
    latency_ratio: float


def paired_latency(
    network: Callable[[Tensor], Tensor],
    reference: Callable[[Tensor], Tensor],
    images: Tensor,
    pairs: int = PAIRS,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Time two networks in turn on (N, C, H, W) images, after one pass of each that does not count."""

    def milliseconds(compute: Callable[[Tensor], Tensor]) -> float:
        start = clock()
        compute(images)
        return 1000 * (clock() - start) / len(images)

    with torch.no_grad():
        network(images), reference(images)
        times = [(milliseconds(network), milliseconds(reference)) for _ in range(pairs)]
    own, other = (statistics.median(column) for column in zip(*times, strict=True))
    return Latency(own, other, statistics.median(a / b for a, b in times))


def latency_of(network: nn.Module, engine: str, task: Setting, root: str | None, image: Tensor) -> Latency | None:
    """Return the latency of a task's network on an engine, None where that cannot run it in full precision.

    ``image``: (1, C, H, W) normalised.
    """
    reference = _in_full_precision(engine, task, root, tuple(image.shape))
    return None if reference is None else paired_latency(network, reference, image.repeat(IMAGES, 1, 1, 1))


@functools.lru_cache(maxsize=1)
def _in_full_precision(engine: str, task: Setting, root: str | None, shape: tuple[int, ...]) -> nn.Module | None:
    image = torch.zeros(shape)
    with suppress(Refused):
        return deploy(onnx_of(task_model(task, root), image), engine, image)
    return None
