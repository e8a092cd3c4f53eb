"""ZOA's domain change detector by its threshold: how many changes it sees at once, how often it cries wolf.

python benchmarks/detector.py [--data-root ../shared/data]

ResNet-20 in W8A8 on 10 batches of 64 of each corruption at severity 5: the 15 common ones in their usual order, and the
held-out ones over and over in random orders. The bars are those of the default threshold, 0.2; other thresholds show
what the first layer's statistics could do at best. The whitened distance stands beside it with its own threshold, which
was chosen on held-out corruptions at severities 1, 3 and 5: above all distances within a domain.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from report import Figure, main
from torch import Tensor

from evalsuite import quantize
from evalsuite.adapters._detector import Distance, DomainDetector, WhitenedDistance, gaussian_distance
from evalsuite.adapters._observer import Observer
from evalsuite.corruptions import COMMON, HELD_OUT, corrupt
from evalsuite.randomness import numpy_generator, torch_generator
from evalsuite.running.task_data import normalise, task_data, task_model
from evalsuite.structure import describe

TASK = "cifar10/resnet20"
BATCH, BATCHES = 64, 10
DEFAULT, OTHERS = 0.2, (0.1, 0.05, 0.03, 0.02)
WHITENED = 0.06

Moments = list[tuple[Tensor, Tensor]]


def rates(domains: Sequence[Moments], threshold: float, distance: Distance) -> tuple[float, float]:
    """Return the share of changes of domain reported with their first batch, and of other batches with a report."""
    detector = DomainDetector(threshold, BATCH, distance)
    told = np.array([[detector.changed(BATCH, mean, spread) for mean, spread in own] for own in domains])
    return told[1:, 0].mean(), told[:, 1:].mean()


@torch.no_grad()
def measure(data_root: str | None) -> list[Figure]:
    warnings.simplefilter("ignore")
    data, model = task_data(TASK, data_root), task_model(TASK, data_root)
    pool = normalise(data.pool_images[:256], data)
    quantized = quantize(model, pool, method="rtn", weight_bits=8, activation_bits=8)
    observer = Observer(quantized, describe(quantized, pool[:2]))
    single = [observer(image).stem for image in pool.split(1)]
    own = (torch.stack([stem.mean for stem in single]), torch.stack([stem.spread for stem in single]))
    whitened = WhitenedDistance.of_images(*own)
    shown = np.arange(BATCH * BATCHES)

    def moments(name: str) -> Moments:
        pixels = corrupt(data.test_images[shown], name, 5, seed=0, indices=shown, data_set="cifar10")
        order = torch.randperm(len(shown), generator=torch_generator(0, "detector", name))
        stems = [observer(batch).stem for batch in normalise(pixels, data)[order].split(BATCH)]
        return [(stem.mean, stem.spread) for stem in stems]

    known = {name: moments(name) for name in (*COMMON, *HELD_OUT)}
    draw = numpy_generator(0, "detector")
    again = [name for _ in range(20) for name in draw.permutation(HELD_OUT)]
    again = [name for name, last in zip(again, ["", *again[:-1]], strict=True) if name != last]
    figures = []
    measured = [(f"threshold {threshold:g}", threshold, gaussian_distance) for threshold in (DEFAULT, *OTHERS)]
    for title, threshold, distance in (*measured, (f"whitened, threshold {WHITENED:g}", WHITENED, whitened)):
        bars = (0.9, 0.05) if title == f"threshold {DEFAULT:g}" else (None, None)
        for what, names in (("15 corruptions", COMMON), ("held out", again)):
            seen, false = rates([known[name] for name in names], threshold, distance)
            figures += [
                Figure(f"{what}, {title}: changes seen at once", seen, at_least=bars[0]),
                Figure(f"{what}, {title}: false alarms", false, at_most=bars[1]),
            ]
    return figures


if __name__ == "__main__":
    main(measure, __doc__)
