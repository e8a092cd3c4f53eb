"""What simulated quantization costs: the W4A4 forward over the plain one, medians of paired runs.

python benchmarks/simulated_forward.py [TASK] [--data-root DIR]
"""

import argparse
import os
import statistics
import time

import torch
from torch import Tensor, nn

from evalsuite import quantize, registry
from evalsuite.materials import normalise, task_data, task_model

PAIRS = 15
BATCH = 250


@torch.no_grad()
def seconds(model: nn.Module, images: Tensor) -> float:
    start = time.perf_counter()
    model(images)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", nargs="?", default="digits/resnet", choices=registry.names("tasks"))
    parser.add_argument("--data-root", default=os.environ.get("EVALSUITE_DATA"))
    arguments = parser.parse_args()
    data = task_data(arguments.task, arguments.data_root)
    plain = task_model(arguments.task, arguments.data_root)
    images = normalise(data.test_images[:BATCH], data)
    calibration = normalise(data.pool_images[:64], data)
    quantized = quantize(plain, calibration, method="rtn", weight_bits=4, activation_bits=4)
    seconds(plain, images), seconds(quantized, images)
    pairs = [(seconds(plain, images), seconds(quantized, images)) for _ in range(PAIRS)]
    base, simulated = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"{arguments.task}, batch {len(images)}, {torch.get_num_threads()} threads, {PAIRS} pairs:")
    print(f"plain {1000 * base:.1f} ms, simulated W4A4 {1000 * simulated:.1f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
