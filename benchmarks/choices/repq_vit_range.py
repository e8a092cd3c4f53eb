"""Which ranges repq_vit takes by default: those that keep DeiT-Tiny's predictions, on pool images it is not shown.

python benchmarks/choices/repq_vit_range.py [--data-root DIR] [--bits W8A8 W6A6 W4A4] [--draws 1] [--images N]

Of the task's 200 pool images, none of which is a test image, 32 calibrate, as the method's authors do; on the rest
the Kullback-Leibler divergence of the quantized network's prediction from the full-precision one's is taken. First
each range of activations, with weights from their least to their greatest value, then each range of weights with
the best of these. Best is the least geometric mean of the divergence over bits and draws. Writes repq_vit_range.csv.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evalsuite.bits import BitPolicy, parse_bits
from evalsuite.files import replacing
from evalsuite.quantization.grids.ranges import RangeEstimator
from evalsuite.quantizers.repq_vit import RepQViT, Tails
from evalsuite.randomness import numpy_generator, torch_generator
from evalsuite.running.task_data import normalise, task_data, task_model

TASK = "imagenet/deit_tiny"
CALIBRATION = 32
BATCH = 50
TABLE = Path(__file__).with_suffix(".csv")


@dataclass(frozen=True)
class Candidate(RepQViT):
    """RepQ-ViT with any share of tails."""

    spare_bits: int = 1

    def activation_estimator(self) -> RangeEstimator:
        """Return the estimator for activations."""
        return Tails(self.spare_bits) if self.range == "tails" else super().activation_estimator()


ACTIVATIONS: dict[str, dict[str, Any]] = {
    **{f"tails {k}": {"range": "tails", "spare_bits": k} for k in (-1, 0, 1, 2, 3)},
    "percentile 99.99": {"range": "percentile"},
    **{name: {"range": name} for name in ("minmax", "mse", "kl", "cosine")},
}
WEIGHTS = ("minmax", "mse", "percentile", "kl", "cosine")


@torch.inference_mode()
def log_probabilities(model: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([model(batch) for batch in images.split(BATCH)]).log_softmax(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default=os.environ.get("EVALSUITE_DATA"))
    parser.add_argument("--bits", nargs="+", default=["W8A8", "W6A6", "W4A4"])
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--images", type=int, help="of those not calibrated on; by default all")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    data, model = task_data(TASK, arguments.data_root), task_model(TASK, arguments.data_root)
    rows: list[tuple[Any, ...]] = []
    drawn = {}
    for draw in range(arguments.draws):
        order = numpy_generator(draw, "choice").permutation(len(data.pool_images))
        images = normalise(data.pool_images[order], data)
        calibration, held_out = images[:CALIBRATION], images[CALIBRATION:][: arguments.images]
        drawn[draw] = calibration, held_out, log_probabilities(model, held_out)

    def score(name: str, options: dict[str, Any], weights: str) -> float:
        """Measure a candidate, and return the mean logarithm of its divergence."""
        found = []
        for draw, (calibration, held_out, expected) in drawn.items():
            for bits in arguments.bits:
                start = time.perf_counter()
                plugin = Candidate(weight_range=weights, **options)
                quantized = plugin.insert(model, BitPolicy(*parse_bits(bits)), calibration[:1])
                plugin.calibrate(quantized, calibration, torch_generator(draw, "choice"))
                predicted = log_probabilities(quantized, held_out)
                divergence = float(F.kl_div(predicted, expected, log_target=True, reduction="batchmean"))
                same = 100 * float((predicted.argmax(1) == expected.argmax(1)).float().mean())
                rows.append((bits, name, weights, draw, len(held_out), round(divergence, 4), round(same, 1)))
                print(*rows[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
                found.append(np.log(divergence))
        return float(np.mean(found))

    activations = {name: score(name, options, WEIGHTS[0]) for name, options in ACTIVATIONS.items()}
    best = min(activations, key=lambda name: activations[name])
    weights = {WEIGHTS[0]: activations[best]}
    weights |= {name: score(best, ACTIVATIONS[best], name) for name in WEIGHTS[1:]}
    columns = ("bits", "activations", "weights", "draw", "images", "kl_divergence", "same_class_percent")
    with replacing(TABLE) as file:
        pd.DataFrame(rows, columns=columns).to_csv(file, index=False)
    for what, means in (("activations", activations), ("weights", weights)):
        for name, mean in sorted(means.items(), key=lambda pair: pair[1]):
            print(f"{what} {name}: geometric mean of the divergence {np.exp(mean):.4f}")


if __name__ == "__main__":
    main()
