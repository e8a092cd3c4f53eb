"""MobileNetV2 on the ImageNet sample: what quantization methods cost it, against full precision.

python benchmarks/mobilenet.py [METHOD ...] [--data-root DIR] [--images N] [--calibration N] [--iterations N]
    [--showcase]

The network has its BatchNorms folded away. Calibration images are the 200 of the pool, none of them a test image.
First W8A8 by rounding to nearest with ranges of least error, which must lie within a point of full precision; then
each METHOD (default: rtn gptq) at W4A8. With --showcase, what equalisation and bias correction do for weights that
share one range per tensor.
"""

import argparse
import os
import time
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite import quantize, registry
from evalsuite.materials import normalise
from evalsuite.tasks.imagenet import MobileNetV2

BATCH = 50
SHOWCASE: tuple[dict[str, Any], ...] = (
    {},
    {"equalisation": True},
    {"bias_correction": True},
    {"equalisation": True, "bias_correction": True},
)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the part of the images, 0..1, that a network gets right."""
    right = [(model(x).argmax(1) == y).sum() for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True)]
    return float(torch.stack(right).sum()) / len(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=["rtn", "gptq"])
    parser.add_argument("--data-root", default=os.environ.get("EVALSUITE_DATA"))
    parser.add_argument("--images", type=int, default=800, help="test images, 800 at the most")
    parser.add_argument("--calibration", type=int, default=200, help="calibration images, 200 at the most")
    parser.add_argument("--iterations", type=int, help="of methods that iterate, instead of their own default")
    parser.add_argument("--showcase", action="store_true")
    arguments = parser.parse_args()
    task = MobileNetV2()
    data = task.data(arguments.data_root)
    model = task.model(arguments.data_root)
    test = normalise(data.test_images[: arguments.images], data)
    labels = torch.from_numpy(data.test_labels[: arguments.images])
    calibration = normalise(data.pool_images[: arguments.calibration], data)
    full = accuracy(model, test, labels)
    print(f"full precision: {100 * full:.1f} % of {len(test)} images", flush=True)

    def row(text: str, **options: Any) -> float:
        start = time.perf_counter()
        twin = quantize(model, calibration, **options)
        seconds = time.perf_counter() - start
        found = accuracy(twin, test, labels)
        print(f"{text}: {100 * found:.1f} % ({100 * (found - full):+.1f}), {seconds:.0f} s", flush=True)
        return found

    eight = row("W8A8 rtn", method="rtn", weight_bits=8, activation_bits=8)
    print("within a point" if full - eight < 0.01 + 1e-9 else "MORE THAN A POINT LOST")
    for method in arguments.methods:
        own = {"iterations": arguments.iterations} if arguments.iterations else {}
        own = own if "iterations" in registry.option_names("quantizers", method) else {}
        row(f"W4A8 {method}", method=method, weight_bits=4, activation_bits=8, **own)
    if arguments.showcase:
        for bits in (8, 4):
            for options in SHOWCASE:
                text = f"W{bits}A8 rtn, weights per tensor{''.join(f', {name}' for name in options)}"
                row(text, method="rtn", weight_bits=bits, activation_bits=8, per_channel=False, **options)


if __name__ == "__main__":
    main()
