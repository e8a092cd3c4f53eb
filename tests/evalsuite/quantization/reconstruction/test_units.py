from __future__ import annotations

import pytest
import torch
from _dummies.capture import outputs_of
from _dummies.models import TinyBlock, random_images, tiny_resnet, tiny_transformer
from torch import nn
from torch.nn import functional as F

from evalsuite.bits import BitPolicy
from evalsuite.errors import Refused
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantization.reconstruction.scratch import Scratch
from evalsuite.quantization.reconstruction.units import Chain, Tail, find_units

X = random_images(70)


def quantizable(model: nn.Module) -> nn.Module:
    return insert_quantizers(model.eval(), BitPolicy(), X[:1])


class Dense(nn.Module):
    """Its last block reads what the first two give."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.blocks = nn.ModuleList([TinyBlock(4, 4), TinyBlock(4, 4), TinyBlock(4, 4)])
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(x)
        a = self.blocks[0](x)
        b = self.blocks[1](a)
        return self.head(self.blocks[2](a + b).mean((2, 3)))


def test_the_blocks_of_a_residual_network_follow_one_another():
    units = find_units(quantizable(tiny_resnet()), X[:1])
    assert [unit.name for unit in units][:3] == ["conv1", "layer1.0", "layer1.1"]
    assert [unit.follows for unit in units] == [None, *(unit.name for unit in units[:-1])]
    assert units[3].norms == {f"layer2.0.{a}": f"layer2.0.{b}" for a, b in
                              (("conv1", "bn1"), ("conv2", "bn2"), ("shortcut.0", "shortcut.1"))}  # fmt: skip
    assert (units[0].channels, units[-1].channels) == (1, -1)


def test_what_also_depends_on_earlier_blocks_is_found():
    torch.manual_seed(0)
    units = {unit.name: unit for unit in find_units(quantizable(Dense()), X[:1])}
    assert units["blocks.1"].follows == "blocks.0"
    assert units["blocks.2"].follows is None
    assert units["head"].follows == "blocks.2"


def test_layer_by_layer_a_shortcut_is_a_second_way():
    units = {unit.name: unit for unit in find_units(quantizable(tiny_resnet()), X[:1], blocks=False)}
    assert units["layer1.0.conv2"].follows == "layer1.0.conv1"
    assert units["layer1.1.conv1"].follows is None
    assert all(unit.layers == (name,) and not unit.norms for name, unit in units.items())


class TwoTensors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x, y, scale=1.0):
        return self.b(self.a(x) + y) * scale


class Pairs(nn.Module):
    def __init__(self, two: bool) -> None:
        super().__init__()
        self.two = two
        self.stem = nn.Conv2d(3, 4, 16)
        self.blocks = nn.ModuleList([TwoTensors(), TwoTensors()])
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(x).flatten(1)
        for block in self.blocks:
            x = block(x, x if self.two else 1.5, scale=2.0)
        return self.head(x)


@pytest.mark.parametrize("two", [True, False])
def test_a_block_of_several_tensors_gives_way_to_its_layers(two):
    model = quantizable(Pairs(two))
    units = find_units(model, X[:1])
    inner = ["blocks.0.a", "blocks.0.b", "blocks.1.a", "blocks.1.b"] if two else ["blocks.0", "blocks.1"]
    assert [unit.name for unit in units] == ["stem", *inner, "head"]
    if not two:
        x = torch.randn(2, 4)
        torch.testing.assert_close(units[1].run(model, x), model.blocks[0](x, 1.5, scale=2.0))


@torch.no_grad()
@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer, Dense])
@pytest.mark.parametrize("limit", [0, 1e9])
def test_a_chain_sees_what_a_full_run_does(build, limit):
    torch.manual_seed(0)
    model = quantizable(build())
    runs = []
    model.register_forward_hook(lambda *_: runs.append(1))
    expected = model(X)
    runs.clear()
    with Scratch(limit) as scratch:
        chain = Chain(model, find_units(model, X[:1]), X, scratch)
        runs.clear()
        for unit in chain.units:
            inputs = chain.inputs(unit)
            outputs = chain.advance(unit, inputs)
            inputs.release()
            torch.testing.assert_close(outputs.rows, outputs_of(model, unit.name, X))
            torch.testing.assert_close(chain.rest(unit, outputs.rows, X), expected)
        assert len(runs) == len(chain.units)  # only rest() goes to the end
    torch.testing.assert_close(outputs.rows, expected)


def test_the_rest_passes_gradients():
    model = quantizable(tiny_resnet())
    with Scratch(1e9) as scratch:
        chain = Chain(model, find_units(model, X[:1]), X, scratch)
        unit = chain.units[0]
        outputs = chain.advance(unit, chain.inputs(unit)).rows[:4].clone().requires_grad_()
        chain.rest(unit, outputs, X[:4]).sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.abs().sum() > 0


def test_images_that_take_another_path_are_refused():
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.large, self.head = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.head(x) + (self.large(x) if len(x) in (1, 64) else 0)

    model = quantizable(Fork())
    units = find_units(model, X[:1])
    with Scratch(1e9) as scratch, pytest.raises(Refused, match=r"^large is not reached by every"):
        Chain(model, units, X, scratch).inputs(next(unit for unit in units if unit.name == "large"))


class NormAct(nn.BatchNorm2d):
    """A norm with its activation inside, as timm has."""

    def forward(self, x):
        return F.relu(super().forward(x))


def test_the_tail_is_the_norm_and_the_activation_that_follow():
    from evalsuite.quantization.graph.trace import trace

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 4, 3)
            self.bn1 = nn.BatchNorm2d(4)
            self.conv2 = nn.Conv2d(4, 4, 1)
            self.conv3 = nn.Conv2d(4, 4, 1)
            self.bn3 = NormAct(4)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            x = F.relu_(self.bn1(self.conv1(x)))
            y = self.bn3(self.conv3(F.relu6(self.conv2(x)))) + x
            return self.head(y.mean((2, 3)))

    torch.manual_seed(0)
    model = Net().train()
    model(X)
    twin = quantizable(model)
    modules, found = dict(twin.named_modules()), trace(twin, X[:1])
    tails = {name: Tail.after(name, modules, found) for name in ("conv1", "conv2", "conv3", "head")}
    y = torch.randn(2, 4, 5, 5) * 5
    torch.testing.assert_close(tails["conv1"](y), F.relu(model.bn1(y)))
    torch.testing.assert_close(tails["conv2"](y), F.relu6(y))
    torch.testing.assert_close(tails["conv3"](y), model.bn3(y))
    assert tails["head"](y) is y
    assert tails["conv1"].clip(y).min() == 0
