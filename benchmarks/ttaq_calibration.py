"""TTAQ's parts against their base, on ResNet-20 W2A4 and the held-out corruptions: to choose strengths, never to test.

python benchmarks/ttaq_calibration.py [--data-root ../shared/data] [--pem 0 0.1 1] [--pcr 0 1] [--seeds 0]
                                      [--iterations 200] [--calibration 512] [--images 1000] [--severity 5]

Calibration images are drawn from the training images, the corrupted ones are other training images: their labels
are known to the networks, so errors are lower than on test images, and only comparable with each other. For each
pair of strengths: the mean error in % over the held-out corruptions; beside it the error on each and on clean images,
and how many predictions flip between an image and the same one perturbed.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from report import Figure, main, note
from torch import Tensor, nn

from evalsuite import quantize
from evalsuite.corruptions import HELD_OUT, corrupt
from evalsuite.quantizers._perturbations import perturb
from evalsuite.randomness import numpy_generator, torch_generator
from evalsuite.running.task_data import normalise, task_data, task_model

TASK = "cifar10/resnet20"


@torch.no_grad()
def predictions(model: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([model(images[i : i + 250]).argmax(1) for i in range(0, len(images), 250)])


def measure(
    data_root: str | None,
    pem: Sequence[float] = (0.0, 0.1, 1.0),
    pcr: Sequence[float] = (0.0, 0.3, 1.0, 3.0),
    perturbation: float = 1.0,
    covariance: str = "diagonal",
    consistency: str = "block",
    seeds: Sequence[int] = (0,),
    iterations: int = 200,
    calibration: int = 512,
    images: int = 1000,
    severity: int = 5,
    threads: int = 2,
) -> list[Figure]:
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    data, model = task_data(TASK, data_root), task_model(TASK, data_root)
    figures = []
    for weights in itertools.product(pem, pcr):
        errors: dict[str, list[float]] = {name: [] for name in ("clean", *HELD_OUT, "flips")}
        for seed in seeds:
            order = numpy_generator(seed, "benchmark").permutation(len(data.pool_images))
            held_out = order[-images:]
            pixels, labels = data.pool_images[held_out], torch.from_numpy(data.pool_labels[held_out].astype(np.int64))
            quantized = quantize(
                model,
                normalise(data.pool_images[order[:calibration]], data),
                method="ttaq",
                weight_bits=2,
                activation_bits=4,
                seed=seed,
                iterations=iterations,
                learning_rate=1e-2,
                pem=weights[0],
                pcr=weights[1],
                perturbation=perturbation,
                covariance=covariance,
                consistency=consistency,
            )
            clean = predictions(quantized, normalise(pixels, data))
            errors["clean"].append(float((clean != labels).float().mean()))
            changed = perturb(normalise(pixels, data), perturbation, torch_generator(seed, "flips"))
            errors["flips"].append(float((predictions(quantized, changed) != clean).float().mean()))
            for name in HELD_OUT:
                corrupted = corrupt(pixels, name, severity, seed=seed, indices=held_out, data_set="cifar10")
                found = predictions(quantized, normalise(corrupted, data))
                errors[name].append(float((found != labels).float().mean()))
        means = {name: 100 * statistics.mean(values) for name, values in errors.items()}
        each = ", ".join(f"{name} {value:.1f}" for name, value in means.items())
        name = f"{TASK} W2A4, ttaq, pem {weights[0]:g}, pcr {weights[1]:g}: held-out mean error"
        figures.append(Figure(name, statistics.mean(means[name] for name in HELD_OUT), "%", note=each))
        note(f"{name} {figures[-1].value:.1f} % ({each})")
    return figures


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pem", type=float, nargs="+", default=[0.0, 0.1, 1.0])
    parser.add_argument("--pcr", type=float, nargs="+", default=[0.0, 0.3, 1.0, 3.0])
    parser.add_argument("--perturbation", type=float, default=1.0)
    parser.add_argument("--covariance", default="diagonal", choices=["diagonal", "full"])
    parser.add_argument("--consistency", default="block", choices=["block", "prediction"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--calibration", type=int, default=512)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--severity", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)


if __name__ == "__main__":
    main(measure, __doc__, options)
