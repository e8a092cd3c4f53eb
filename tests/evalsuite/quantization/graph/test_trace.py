from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from evalsuite.quantization.graph.trace import trace


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.bn = nn.BatchNorm2d(3)
        self.inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True))
        self.idle = nn.Linear(2, 2)

    def forward(self, x):
        x = self.bn(self.conv(x))
        y = self.inner(x)
        return F.relu(y + x) @ y


def test_operations_carry_their_module_and_order():
    model = Net().eval()
    found = trace(model, torch.randn(1, 3, 4, 4))
    named = [(operation.name, operation.module) for operation in found.operations]
    kept = [pair for pair in named if pair[0] in ("convolution", "native_batch_norm", "relu", "relu_", "add", "bmm")]
    assert kept == [
        ("convolution", "conv"),
        ("native_batch_norm", "bn"),
        ("convolution", "inner.0"),
        ("relu_", "inner.1"),
        ("add", ""),
        ("relu", ""),
        ("bmm", ""),
    ]
    assert found.calls == {"": 1, "conv": 1, "bn": 1, "inner": 1, "inner.0": 1, "inner.1": 1}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_only_reader_is_one_or_comes_in_place_before_all_others():
    found = trace(Net().eval(), torch.randn(1, 3, 4, 4))
    assert found.only_reader(found.outputs["conv"]).module == "bn"
    assert found.only_reader(found.outputs["bn"]) is None  # the inner convolution and the sum
    assert found.only_reader(found.outputs["inner.0"]).name == "relu_"
    assert found.only_reader(found.outputs[""]) is None


class Moves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Identity()
        self.second = nn.Identity()
        self.third = nn.Identity()

    def forward(self, x):
        y = F.gelu(x)
        self.first(F.dropout(y.flatten(2).transpose(1, 2).roll(1, 1)[:, 0], training=False))
        a, _ = y.softmax(1).chunk(2, dim=2)
        self.second(a.contiguous())
        self.third(F.pad(y, (1, 1)))
        return y


def test_the_source_is_what_computed_the_values_that_were_moved():
    found = trace(Moves(), torch.randn(1, 3, 4, 4))
    names = [found.source(found.inputs[name]).name for name in ("first", "second", "third")]
    assert names == ["gelu", "_softmax", "constant_pad_nd"]
    assert found.source(found.inputs[""]) is None
