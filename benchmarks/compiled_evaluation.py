"""What --compile does to a pass of a simulated network: its time over the plain one's, and predictions that stay.

Images are clean and of the 15 corruptions at severity 5. Processor seconds, for other work may run beside it.

python benchmarks/compiled_evaluation.py [--task TASK] [--bits W4A4] [--batch 100] [--images 600] [--data-root DIR]
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from report import Figure, main, note

from evalsuite import corrupt, quantize
from evalsuite.bits import parse_bits
from evalsuite.compilation import CompiledNetwork, missing_compiler
from evalsuite.corruptions import COMMON
from evalsuite.environment import keep_freed_memory
from evalsuite.running.task_data import normalise, task_data, task_model


def measure(data_root: str | None, *, task: str, bits: str, batch: int, images: int) -> list[Figure]:
    keep_freed_memory()
    torch.set_num_threads(1)
    name = f"{task} {bits}, batch {batch}, 1 thread"
    if missing := missing_compiler("cpu"):
        return [Figure(f"{name}: compiled / plain", None, note=f"without {missing}")]
    data, (weight_bits, activation_bits) = task_data(task, data_root), parse_bits(bits)
    widths = {"weight_bits": weight_bits, "activation_bits": activation_bits}
    network = quantize(task_model(task, data_root), normalise(data.pool_images[:128], data), method="rtn", **widths)
    compiled = CompiledNetwork(network)
    compiled(normalise(data.test_images[:batch], data))
    ratios, same = [], []
    for domain in ("clean", *COMMON):
        shown = np.asarray(data.test_images[:images])
        shown = shown if domain == "clean" else corrupt(shown, domain, 5)
        for start in range(0, len(shown) - batch + 1, batch):
            inputs, before = normalise(shown[start : start + batch], data), time.process_time()
            with torch.no_grad():
                plain = network(inputs)
            between = time.process_time()
            other = compiled(inputs)
            ratios.append((time.process_time() - between) / (between - before))
            same.append(float((plain.argmax(1) == other.argmax(1)).float().mean()))
    note(f"{name}: {len(same) * batch:,} images")
    return [
        Figure(f"{name}: compiled / plain", statistics.median(ratios), at_most=0.6),
        Figure(f"{name}: predictions that stay", statistics.mean(same), at_least=0.9995),
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", default="cifar10/resnet20")
    parser.add_argument("--bits", default="W4A4")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--images", type=int, default=600, help="a domain")


if __name__ == "__main__":
    main(measure, __doc__, add_options)
