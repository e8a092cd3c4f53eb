"""What simulated quantization costs: the W4A4 forward over the plain one, eager and compiled, in pairs of runs.

python benchmarks/simulated_forward.py [--data-root DIR]
"""

from __future__ import annotations

import shutil

import torch
from report import Figure, main, note, paired
from torch import nn

from evalsuite import quantize
from evalsuite.running.task_data import normalise, task_data, task_model

THREADS = 2
PAIRS = 15


def measure(data_root: str | None) -> list[Figure]:
    torch.set_num_threads(THREADS)
    figures = compare("cifar10/resnet20", 250, 1.15, data_root, compiled_at_most=0.6)
    figures += compare("imagenet/deit_tiny", 16, 1.3, data_root)
    return figures


def compare(
    task: str, batch: int, at_most: float, data_root: str | None, compiled_at_most: float | None = None
) -> list[Figure]:
    data, plain = task_data(task, data_root), task_model(task, data_root)
    images = normalise(data.test_images[:batch], data)
    quantized = quantize(plain, normalise(data.pool_images[:16], data), method="rtn", weight_bits=4, activation_bits=4)

    @torch.inference_mode()
    def run(model: nn.Module) -> None:
        model(images)

    setting = f"{task} W4A4, batch {batch}, {THREADS} threads"
    times = paired(lambda: run(plain), lambda: run(quantized), PAIRS)
    note(f"{setting}: plain {1000 * times.first:.0f} ms, simulated {1000 * times.second:.0f} ms")
    figures = [Figure(f"{setting}: simulated / plain", times.ratio, at_most=at_most)]
    if compiled_at_most is None:
        return figures
    name = f"{setting}: simulated, compiled / plain"
    if shutil.which("g++") is None:
        return [*figures, Figure(name, None, at_most=compiled_at_most, note="no C++ compiler")]
    compiled = torch.compile(quantized, fullgraph=True)
    times = paired(lambda: run(plain), lambda: run(compiled), PAIRS)
    note(f"{setting}: plain {1000 * times.first:.0f} ms, compiled {1000 * times.second:.0f} ms")
    return [*figures, Figure(name, times.ratio, at_most=compiled_at_most)]


if __name__ == "__main__":
    main(measure, __doc__)
