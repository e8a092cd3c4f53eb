from __future__ import annotations

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer

from evalsuite.bits import BitPolicy
from evalsuite.quantization.graph.norms import fold_norms
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantization.reconstruction.scratch import Kept, Scratch
from evalsuite.quantization.reconstruction.units import find_units
from evalsuite.quantizers._distribution_correction import StatisticsCorrection

X = random_images(40)


def corrected(correction: StatisticsCorrection, model, name: str, x: torch.Tensor):
    twin = insert_quantizers(model, BitPolicy(), X[:1])
    reference = fold_norms(insert_quantizers(model, BitPolicy(), X[:1]), X[:1]).requires_grad_(False)
    unit = next(unit for unit in find_units(twin, X[:1]) if unit.name == name)
    with Scratch(1e9) as scratch:
        sources = Kept(len(x), scratch)
        sources.add(x)
        found = correction(twin, reference, unit, sources, scratch)
        assert torch.equal(sources.rows, x)
        return found and [kept.rows.clone() for kept in found]


def test_activations_are_moved_to_the_statistics_of_training():
    model = tiny_resnet()
    with torch.no_grad():
        x = model.layer1(torch.relu(model.bn1(model.conv1(X)))) * 1.5 + 0.5
    seen = []
    model.layer2[0].bn1.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    norm = model.layer2[0].bn1

    def distance(x):
        with torch.no_grad():
            out = model.layer2[0](x)
        return (seen[-1].mean((0, 2, 3)) - norm.running_mean).square().mean(), out

    before, _ = distance(x[:32])
    moved, outputs = corrected(StatisticsCorrection(30, 0.02, 0.02), model, "layer2.0", x)
    after, out = distance(moved[:32])
    assert after < before / 3
    torch.testing.assert_close(outputs[:32], out, rtol=1e-3, atol=1e-4)
    tied, _ = corrected(StatisticsCorrection(30, 0.02, 50.0), model, "layer2.0", x)
    assert (tied - x).square().mean() < (moved - x).square().mean()


@pytest.mark.parametrize(("build", "name"), [(tiny_resnet, "conv1"), (tiny_transformer, "blocks.0")])
def test_where_there_are_no_statistics_nothing_is_moved(build, name):
    assert corrected(StatisticsCorrection(3, 0.02, 50.0), build(), name, X) is None


def test_no_steps_move_nothing():
    x = torch.rand(4, 8, 16, 16)
    assert corrected(StatisticsCorrection(0, 0.02, 50.0), tiny_resnet(), "layer2.0", x) is None
