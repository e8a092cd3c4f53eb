from __future__ import annotations

import copy

import pytest
import torch
from _dummies.models import random_images, tiny_resnet
from torch import nn
from torch.nn import functional as F

from evalsuite.errors import QuantizationWarning
from evalsuite.quantization.equalisation import ChannelClip, equalise, find_pairs
from evalsuite.quantization.graph.norms import fold_norms

X = random_images(8)


class Chain(nn.Module):
    """Convolutions in a row with everything that may stand between them."""

    def __init__(self, activation: type[nn.Module] = nn.ReLU, norm: bool = True) -> None:
        super().__init__()
        bn = nn.BatchNorm2d if norm else lambda channels: nn.Identity()
        self.expand, self.bn1, self.act1 = nn.Conv2d(3, 8, 1, bias=not norm), bn(8), activation()
        self.depthwise, self.bn2, self.act2 = (
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=not norm),
            bn(8),
            activation(),
        )
        self.project, self.bn3 = nn.Conv2d(8, 6, 1, bias=not norm), bn(6)
        self.grouped = nn.Conv2d(6, 4, 3, groups=2)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = self.act1(self.bn1(self.expand(x)))
        x = self.act2(self.bn2(self.depthwise(x)))
        return self.head(self.grouped(self.bn3(self.project(x))).mean((2, 3)))


def uneven(model: nn.Module) -> nn.Module:
    """Give weights and norms very different scales per channel."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                factors = torch.exp(1.5 * torch.randn(len(module.weight), generator=generator))
                module.weight *= factors[:, None, None, None]
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(torch.randn(len(module.weight), generator=generator))
                module.bias.copy_(torch.randn(len(module.bias), generator=generator))
                module.running_var.copy_(torch.rand(len(module.bias), generator=generator) + 0.1)
    return model.eval()


def per_channel(first: nn.Conv2d, second: nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor]:
    rows = second.weight.reshape(second.groups, -1, *second.weight.shape[1:])
    return first.weight.abs().amax((1, 2, 3)), rows.abs().amax((1, 3, 4)).flatten()


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.Identity, lambda: nn.ReLU(inplace=True)])
@pytest.mark.parametrize("norm", [True, False])
@torch.no_grad()
def test_the_function_stays_and_ranges_become_equal(activation, norm):
    torch.manual_seed(0)
    model = uneven(Chain(activation, norm))
    before = copy.deepcopy(model.state_dict())
    twin = equalise(model, X[:1])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    torch.testing.assert_close(twin(X), model(X), rtol=1e-3, atol=1e-4 * float(model(X).abs().max()))
    folded = fold_norms(copy.deepcopy(twin), X[:1])
    for first, second in (("expand", "depthwise"), ("depthwise", "project"), ("project", "grouped")):
        own, following = per_channel(folded.get_submodule(first), folded.get_submodule(second))
        torch.testing.assert_close(own, following, rtol=1e-2, atol=0)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6])
@torch.no_grad()
def test_folding_before_or_after_is_the_same(activation):
    torch.manual_seed(0)
    model = uneven(Chain(activation))
    after = fold_norms(equalise(model, X[:1]), X[:1])
    before = equalise(fold_norms(copy.deepcopy(model), X[:1]), X[:1])
    assert after.state_dict().keys() == before.state_dict().keys()
    for name, value in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_a_residual_network_has_pairs_inside_its_blocks_only():
    model = tiny_resnet()
    names = {module: name for name, module in model.named_modules()}
    found = [(names[pair.first], names[pair.second]) for pair in find_pairs(model, X[:1])]
    assert found == [(f"layer{i}.{j}.conv1", f"layer{i}.{j}.conv2") for i in (1, 2, 3) for j in (0, 1)]


@torch.no_grad()
def test_relu6_becomes_a_clip_per_channel_only_where_it_is_a_module():
    class Functional(Chain):
        def forward(self, x):
            x = self.act1(self.expand(x))
            x = F.relu6(self.depthwise(x))
            return self.head(self.grouped(self.project(x)).mean((2, 3)))

    torch.manual_seed(0)
    model = uneven(Functional(nn.ReLU6, norm=False))
    twin = equalise(model, 3 * X[:1])
    assert isinstance(twin.act1, ChannelClip)
    assert isinstance(twin.act2, nn.ReLU6)
    assert len(find_pairs(model, X[:1])) == 2
    assert (model.expand(3 * X) > 6).any()
    torch.testing.assert_close(twin(3 * X), model(3 * X), rtol=1e-3, atol=1e-3)
    assert twin.act1.high.unique().numel() == 8


@pytest.mark.parametrize("shared", ["module", "weight", "activation"])
def test_what_is_used_twice_is_left_alone(shared):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)
            self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
            self.act, self.other = nn.ReLU6(), nn.ReLU6()
            self.head = nn.Linear(4, 2)
            if shared == "module":
                self.b = self.a
            if shared == "weight":
                self.b.weight = self.a.weight
            if shared == "activation":
                self.other = self.act

        def forward(self, x):
            x = self.act(self.stem(x)) + 1
            return self.head((self.b(self.other(self.a(x))) + x).mean((2, 3)))

    model = Twice().eval()
    with pytest.warns(QuantizationWarning, match="no two convolutions follow one another"):
        twin = equalise(model, X[:1])
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in twin.state_dict().items())


def test_a_norm_without_affine_parameters_ends_a_pair():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False), nn.Conv2d(4, 2, 1), nn.Flatten())
    assert find_pairs(model.eval(), X[:1]) == []


@torch.no_grad()
def test_channels_without_weight_stay_and_nothing_becomes_infinite():
    torch.manual_seed(0)
    model = uneven(Chain(nn.ReLU, norm=False))
    model.expand.weight[2] = 0
    model.depthwise.weight[5] = 0
    twin = equalise(model, X[:1])
    assert all(value.isfinite().all() for value in twin.state_dict().values())
    torch.testing.assert_close(twin(X), model(X), rtol=1e-3, atol=1e-4 * float(model(X).abs().max()))
