"""What an adapted batch costs against a plain one: ZOA on a CNN and on a transformer, both quantized.

python benchmarks/adaptation.py [--data-root ../shared/data]

Steps of ``none`` and ``zoa`` on the same quantized network take turns, in batches of 64 of two threads; then ten rounds
of 33 domains, invented by shifting and scaling the images, show what the knowledge bank comes to.
"""

from __future__ import annotations

import warnings

import torch
from report import Figure, main, paired
from torch import Tensor

from evalsuite import adapt, quantize
from evalsuite.errors import RequestError
from evalsuite.running.task_data import normalise, task_data, task_model

BATCH = 64


def measure(data_root: str | None) -> list[Figure]:
    torch.set_num_threads(2)
    warnings.simplefilter("ignore")
    figures = []
    for task, pairs in (("cifar10/resnet20", 25), ("imagenet/deit_tiny", 7)):
        figures += _of(task, pairs, data_root)
    return figures


def _of(task: str, pairs: int, data_root: str | None) -> list[Figure]:
    name = f"{task} W8A8: zoa / none, seconds a batch"
    try:
        data, model = task_data(task, data_root), task_model(task, data_root)
    except RequestError as error:
        return [Figure(name, None, at_most=2.1, note=str(error))]
    source = normalise(data.pool_images[:64], data)
    quantized = quantize(model, source[:32], method="rtn", weight_bits=8, activation_bits=8)
    images = normalise(data.test_images[:BATCH], data)
    none, zoa = (adapt(quantized, method, source) for method in ("none", "zoa"))
    times = paired(lambda: none(images), lambda: zoa(images), pairs)
    costs = zoa.costs
    return [
        Figure(name, times.ratio, at_most=2.1, note=f"{1000 * times.first:.0f} and {1000 * times.second:.0f} ms"),
        Figure(f"{task}: forwards a batch", costs["forwards"] / costs["batches"], at_most=2, at_least=2),
        Figure(f"{task}: backwards a batch", costs["backwards"] / costs["batches"], at_most=0),
        Figure(f"{task}: adapted parameters", costs["adapted_parameters"]),
        *(_bank(quantized, source, data_root, task) if pairs > 10 else []),
    ]


def _bank(quantized: torch.nn.Module, images: Tensor, data_root: str | None, task: str) -> list[Figure]:
    zoa = adapt(quantized, "zoa", images)
    generator = torch.Generator().manual_seed(0)
    entries = 0
    for _ in range(10):
        for shift in torch.linspace(-2, 2, 33)[torch.randperm(33, generator=generator)]:
            zoa(images * (1 + shift.abs()) + shift)
            entries = max(entries, zoa.state.bank_entries)
    most = zoa.state.bank.capacity
    return [
        Figure(f"{task}: domains remembered after 10 rounds of 33", entries, at_most=most, at_least=most),
        Figure(f"{task}: bytes kept", zoa.costs["state_bytes"], "bytes"),
    ]


if __name__ == "__main__":
    main(measure, __doc__)
