from __future__ import annotations

from collections import Counter

import pytest
import torch
from _dummies.capture import outputs_of
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import Refused
from evalsuite.quantization.grids.layers import quantized_layers
from evalsuite.quantization.grids.range_setting import set_weight_ranges
from evalsuite.quantization.grids.ranges import MinMax
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantization.reconstruction.layer_by_layer import layers_in_turn
from evalsuite.structure import describe

X = random_images(70)


class Skipping(nn.Module):
    """Its last layer reads the first one's output as well; one layer runs twice, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.never = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(3, 4)

    def forward(self, x):
        x = self.first(x)
        y = self.twice(self.relu(self.twice(x)))
        return self.fc((x + y).mean((2, 3)))


def network(build) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build().eval()
    twin = insert_quantizers(model, BitPolicy(3, 8), X[:1])
    set_weight_ranges(twin, MinMax())
    return twin


@pytest.mark.filterwarnings("ignore:never.*stays unquantized")
@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer, Skipping])
def test_layers_changed_in_their_turn_get_what_the_whole_network_computes(build):
    model, seen = network(build), []
    for name, outputs in layers_in_turn(model, X):
        for module in (f"{name}.input_quantizer", name):
            found = torch.cat(list(outputs(module)))
            torch.testing.assert_close(found, outputs_of(model, module, X))
            assert not found.requires_grad
        quantized_layers(model)[name].round_weight()
        seen.append(name)
    assert seen == list(describe(model, X).layers)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_layer_costs_no_more_than_a_run_of_its_block():
    model, calls = network(tiny_resnet), Counter()
    for index, (name, outputs) in enumerate(layers_in_turn(model, X[:1])):
        if index == 0:  # the network's structure is known by then
            for one, layer in quantized_layers(model).items():
                layer.input_quantizer.register_forward_hook(lambda *_, one=one: calls.update([one]))
        list(outputs(name))
    assert len(calls) == len(quantized_layers(model))
    assert max(calls.values()) == 4  # three layers of a block, and what the block gives


def test_images_that_pass_a_layer_by_are_refused():
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.fc = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

        def forward(self, x):
            return self.fc((x if len(x) == 64 else self.first(x)).mean((2, 3)))

    with pytest.raises(Refused, match="first is not reached by every calibration image"):
        next(layers_in_turn(network(Fork), X))
