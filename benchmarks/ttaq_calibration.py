"""TTAQ's parts against their base, on ResNet-20 W2A4 and the held-out corruptions: to choose strengths, never to test.

python benchmarks/ttaq_calibration.py [--data-root ../shared/data] [--pem 0 0.1 1] [--pcr 0 1] [--seeds 0]
                                      [--iterations 200] [--calibration 512] [--images 1000] [--severity 5]

Calibration images are drawn from the training images, the corrupted ones are other training images: their labels
are known to the networks, so errors are lower than on test images, and only comparable with each other. Printed for
each pair of strengths: the error in % on each held-out corruption and clean, and how many predictions flip between
an image and the same one perturbed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from evalsuite import quantize
from evalsuite.corruptions import HELD_OUT, corrupt
from evalsuite.materials import normalise, task_data, task_model
from evalsuite.quantization.perturbations import perturb
from evalsuite.randomness import numpy_generator, torch_generator

TASK = "cifar10/resnet20"


@torch.no_grad()
def predictions(model: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([model(images[i : i + 250]).argmax(1) for i in range(0, len(images), 250)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default=os.environ.get("EVALSUITE_DATA"))
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
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    data, model = task_data(TASK, arguments.data_root), task_model(TASK, arguments.data_root)
    for pem, pcr in itertools.product(arguments.pem, arguments.pcr):
        errors: dict[str, list[float]] = {name: [] for name in ("clean", *HELD_OUT, "flips")}
        for seed in arguments.seeds:
            order = numpy_generator(seed, "benchmark").permutation(len(data.pool_images))
            calibration, held_out = order[: arguments.calibration], order[-arguments.images :]
            pixels, labels = data.pool_images[held_out], torch.from_numpy(data.pool_labels[held_out].astype(np.int64))
            quantized = quantize(
                model,
                normalise(data.pool_images[calibration], data),
                method="ttaq",
                weight_bits=2,
                activation_bits=4,
                seed=seed,
                iterations=arguments.iterations,
                learning_rate=1e-2,
                pem=pem,
                pcr=pcr,
                perturbation=arguments.perturbation,
                covariance=arguments.covariance,
                consistency=arguments.consistency,
            )
            clean = predictions(quantized, normalise(pixels, data))
            errors["clean"].append(float((clean != labels).float().mean()))
            changed = perturb(normalise(pixels, data), arguments.perturbation, torch_generator(seed, "flips"))
            errors["flips"].append(float((predictions(quantized, changed) != clean).float().mean()))
            for name in HELD_OUT:
                corrupted = corrupt(pixels, name, arguments.severity, seed=seed, indices=held_out, data_set="cifar10")
                found = predictions(quantized, normalise(corrupted, data))
                errors[name].append(float((found != labels).float().mean()))
        means = {name: 100 * statistics.mean(values) for name, values in errors.items()}
        mean = statistics.mean(means[name] for name in HELD_OUT)
        each = ", ".join(f"{name} {value:.1f}" for name, value in means.items())
        print(f"pem {pem:g}, pcr {pcr:g}: held-out mean {mean:.1f} ({each})", flush=True)


if __name__ == "__main__":
    main()
