"""MobileNetV2 on the ImageNet sample: what quantization methods cost it, against full precision.

python benchmarks/mobilenet.py [METHOD:W4A8 ...] [--data-root DIR] [--images N] [--calibration N] [--iterations N]
    [--showcase]

The network has its BatchNorms folded away. Calibration images are the 200 of the pool, none of them a test image.
Methods take their default options, rounding to nearest ranges of least error; where it is asked for at the same bits,
before others, these are held against it. With --showcase, what equalisation and bias correction do for weights that
share one range per tensor.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import torch
from report import Figure, main, note
from torch import Tensor, nn

from evalsuite import quantize, registry
from evalsuite.bits import parse_bits
from evalsuite.running.task_data import normalise, task_data, task_model

TASK = "imagenet/mobilenet_v2"
BATCH = 50
CASES = ("rtn:W8A8", "rtn:W4A8", "gptq:W4A8")
POINTS_LOST_AT_MOST = {"rtn:W8A8": 1.0}
POINTS_ABOVE_NEAREST = {"brecq:W4A8": 10.0}
SHOWCASE: tuple[dict[str, Any], ...] = (
    {},
    {"equalisation": True},
    {"bias_correction": True},
    {"equalisation": True, "bias_correction": True},
)


@torch.no_grad()
def right(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Return how many images a network gets right."""
    return sum(
        int((model(x).argmax(1) == y).sum()) for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True)
    )


def measure(
    data_root: str | None,
    cases: Sequence[str] = CASES,
    images: int = 800,
    calibration: int = 200,
    iterations: int | None = None,
    showcase: bool = False,
) -> list[Figure]:
    data, model = task_data(TASK, data_root), task_model(TASK, data_root)
    test = normalise(data.test_images[:images], data)
    labels = torch.from_numpy(data.test_labels[:images])
    shown = normalise(data.pool_images[:calibration], data)
    start = f"{TASK}, {len(test)} images: "

    def count(text: str, bits: str, **options: Any) -> int:
        weight_bits, activation_bits = parse_bits(bits)
        began = time.perf_counter()
        twin = quantize(model, shown, weight_bits=weight_bits, activation_bits=activation_bits, **options)
        seconds = time.perf_counter() - began
        found = right(twin, test, labels)
        note(f"{text}: {percent(found):.2f} %, calibrated in {seconds:.0f} s")
        return found

    def percent(found: int) -> float:
        return 100 * found / len(test)

    full = right(model, test, labels)
    figures = [Figure(f"{start}full precision", percent(full), "%")]
    nearest: dict[str, int] = {}
    for case in cases:
        method, bits = case.split(":")
        iterates = iterations and "iterations" in registry.option_names("quantizers", method)
        own = {"iterations": iterations} if iterates else {}
        found = count(case, bits, method=method, **own)
        said = ", ".join([f"{percent(found):.2f} %", *(f"{value} {name}" for name, value in own.items())])
        lost = percent(full - found)
        name = f"{start}{method} {bits}, points"
        figures.append(Figure(f"{name} lost", lost, at_most=POINTS_LOST_AT_MOST.get(case), note=said))
        if method == "rtn":
            nearest[bits] = found
        elif bits in nearest:
            bar = POINTS_ABOVE_NEAREST.get(case)
            figures.append(Figure(f"{name} above rtn", percent(found - nearest[bits]), at_least=bar))
    if showcase:
        for bits in ("W8A8", "W4A8"):
            for options in SHOWCASE:
                text = f"rtn {bits}, weights per tensor{''.join(f', {name}' for name in options)}"
                found = count(text, bits, method="rtn", per_channel=False, **options)
                figures.append(Figure(f"{start}{text}", percent(found), "%"))
    return figures


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cases", nargs="*", default=CASES, help="method:bits, for example brecq:W4A8")
    parser.add_argument("--images", type=int, default=800, help="test images, 800 at the most")
    parser.add_argument("--calibration", type=int, default=200, help="calibration images, 200 at the most")
    parser.add_argument("--iterations", type=int, help="of methods that iterate, instead of their own default")
    parser.add_argument("--showcase", action="store_true")


if __name__ == "__main__":
    main(measure, __doc__, options)
