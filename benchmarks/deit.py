"""What PTQ costs DeiT-Tiny on the ImageNet sample: full precision against ptq4vit, repq_vit and rtn.

python benchmarks/deit.py [--data-root DIR] [--images N] [--calibration N] [METHOD:W6A6 ...]

Accuracy on the task's 800 test images, calibrated with 32 images of its pool, which holds none of them; every method
with its default options. On stderr, how often a network names the class that full precision names, and its worst layer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch
from report import Figure, main, note
from torch import Tensor, nn

from evalsuite import quantize
from evalsuite.bits import parse_bits
from evalsuite.quantization.layer_report import layer_report
from evalsuite.running.task_data import normalise, task_data, task_model

TASK = "imagenet/deit_tiny"
CALIBRATION = 32
BATCH = 50
CASES = [f"{method}:{bits}" for method in ("rtn", "ptq4vit", "repq_vit") for bits in ("W8A8", "W6A6", "W4A4")]
POINTS_LOST_AT_MOST = {"ptq4vit:W8A8": 1.0, "ptq4vit:W6A6": 3.0}


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([model(batch).argmax(dim=1) for batch in images.split(BATCH)])


def measure(
    data_root: str | None, cases: Sequence[str] = CASES, images: int = 800, calibration: int = CALIBRATION
) -> list[Figure]:
    data, plain = task_data(TASK, data_root), task_model(TASK, data_root)
    test = normalise(data.test_images[:images], data)
    labels = torch.from_numpy(data.test_labels[:images])
    shown = normalise(data.pool_images[:calibration], data)
    expected = predict(plain, test)
    full = 100 * (expected == labels).float().mean().item()
    figures = [Figure(f"{TASK}, {len(test)} images: full precision", full, "%")]
    for case in cases:
        method, bits = case.split(":")
        weight_bits, activation_bits = parse_bits(bits)
        start = time.perf_counter()
        quantized = quantize(plain, shown, method=method, weight_bits=weight_bits, activation_bits=activation_bits)
        seconds = time.perf_counter() - start
        predicted = predict(quantized, test)
        lost = 100 * int((expected == labels).sum() - (predicted == labels).sum()) / len(labels)
        same = 100 * (predicted == expected).float().mean().item()
        report = layer_report(plain, quantized, shown[:8])
        worst = report.loc[report["snr_db"].idxmin()]
        note(f"{case}: {same:.1f} % the same class; least SNR {worst['snr_db']:.1f} dB, {worst['layer']}")
        name = f"{TASK}, {len(test)} images: {method} {bits}, points lost"
        calibrated = f"{full - lost:.2f} %, calibrated in {seconds:.0f} s"
        figures.append(Figure(name, lost, at_most=POINTS_LOST_AT_MOST.get(case), note=calibrated))
    return figures


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cases", nargs="*", default=CASES, help="method:bits, for example ptq4vit:W6A6")
    parser.add_argument("--images", type=int, default=800, help="test images, 800 at the most")
    parser.add_argument("--calibration", type=int, default=CALIBRATION, help="calibration images, 200 at the most")


if __name__ == "__main__":
    main(measure, __doc__, options)
