"""MobileNetV2 on the ImageNet sample: what quantization methods cost it, against full precision.

python benchmarks/mobilenet.py [METHOD ...] [--data-root DIR] [--images N] [--calibration N] [--iterations N]
    [--showcase]

The network has its BatchNorms folded away. Calibration images are the 200 of the pool, none of them a test image.
First W8A8 by rounding to nearest with ranges of least error, which must lie within a point of full precision; then
each METHOD (default: gptq) at W4A8, against rounding to nearest. With --showcase, what equalisation and bias
correction do for weights that share one range per tensor.
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
from evalsuite.materials import normalise, task_data, task_model

TASK = "imagenet/mobilenet_v2"
BATCH = 50
POINTS_ABOVE_NEAREST = {"brecq": 10.0}
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
    methods: Sequence[str] = ("gptq",),
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

    def count(text: str, **options: Any) -> int:
        began = time.perf_counter()
        twin = quantize(model, shown, **options)
        seconds = time.perf_counter() - began
        found = right(twin, test, labels)
        note(f"{text}: {percent(found):.2f} %, calibrated in {seconds:.0f} s")
        return found

    def percent(found: int) -> float:
        return 100 * found / len(test)

    full = right(model, test, labels)
    eight = count("W8A8 rtn", method="rtn", weight_bits=8, activation_bits=8)
    nearest = count("W4A8 rtn", method="rtn", weight_bits=4, activation_bits=8)
    figures = [
        Figure(f"{start}full precision", percent(full), "%"),
        Figure(f"{start}rtn W8A8, points lost", percent(full - eight), at_most=1),
        Figure(f"{start}rtn W4A8", percent(nearest), "%"),
    ]
    for method in methods:
        own = {"iterations": iterations} if iterations else {}
        own = own if "iterations" in registry.option_names("quantizers", method) else {}
        found = count(f"W4A8 {method}", method=method, weight_bits=4, activation_bits=8, **own)
        above, bar = percent(found - nearest), POINTS_ABOVE_NEAREST.get(method)
        said = ", ".join([f"{percent(found):.2f} %", *(f"{value} {name}" for name, value in own.items())])
        figures.append(Figure(f"{start}{method} W4A8, points above rtn", above, at_least=bar, note=said))
    if showcase:
        for bits in (8, 4):
            for options in SHOWCASE:
                text = f"rtn W{bits}A8, weights per tensor{''.join(f', {name}' for name in options)}"
                found = count(text, method="rtn", weight_bits=bits, activation_bits=8, per_channel=False, **options)
                figures.append(Figure(f"{start}{text}", percent(found), "%"))
    return figures


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("methods", nargs="*", default=["gptq"], metavar="METHOD")
    parser.add_argument("--images", type=int, default=800, help="test images, 800 at the most")
    parser.add_argument("--calibration", type=int, default=200, help="calibration images, 200 at the most")
    parser.add_argument("--iterations", type=int, help="of methods that iterate, instead of their own default")
    parser.add_argument("--showcase", action="store_true")


if __name__ == "__main__":
    main(measure, __doc__, options)
