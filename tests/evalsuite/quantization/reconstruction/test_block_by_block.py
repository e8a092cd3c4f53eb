from __future__ import annotations

import warnings

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import QuantizationWarning, RequestError
from evalsuite.quantization.grids.layers import activation_quantizers, quantized_layers
from evalsuite.quantization.grids.range_setting import set_activation_ranges, set_weight_ranges
from evalsuite.quantization.grids.ranges import PowerError
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantization.reconstruction.block_by_block import Reconstruction
from evalsuite.quantization.reconstruction.options import Pass, ReconstructionOptions, choose_unit_ranges
from evalsuite.quantization.reconstruction.unit_learner import Learner
from evalsuite.randomness import torch_generator

X = random_images(40)
OPTIONS = ReconstructionOptions(iterations=30, learning_rate=0.02, batch_size=16)


def grids(model: nn.Module, bits: int = 2) -> nn.Module:
    twin = insert_quantizers(model, BitPolicy(bits, 4), X[:1])
    set_weight_ranges(twin, PowerError())
    return twin


@torch.no_grad()
@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
@pytest.mark.parametrize("rounding", [True, False])
def test_a_unit_that_is_learnt_computes_what_it_did_and_is_left_as_it_was(build, rounding):
    twin = grids(build(), bits=8)
    set_activation_ranges(twin, X, PowerError())
    before = {name: value.clone() for name, value in twin.state_dict().items()}
    modules = dict(twin.named_modules())
    wanted = {name: parameter.requires_grad for name, parameter in twin.named_parameters()}
    reconstruction = Reconstruction(twin, X, OPTIONS)
    expected = twin(X)
    for unit in reconstruction.units:
        found: list[torch.Tensor] = []
        handle = twin.get_submodule(unit.name).register_forward_hook(
            lambda _, args, out, f=found: f.extend((args[0], out))
        )
        twin(X)
        handle.remove()
        tail = reconstruction._tails[unit.name]
        learner = Learner(twin, unit, Pass(1, rounding, 1e-3), OPTIONS, tail, X, torch_generator(0))
        with learner:
            assert bool(learner.weights) is rounding
            difference = learner.run(found[0]) - tail(found[1])
        assert difference.abs().max() < 0.05 * tail(found[1]).abs().max()  # half a step of 8 bits
    assert dict(twin.named_modules()) == modules
    assert {name: parameter.requires_grad for name, parameter in twin.named_parameters()} == wanted
    assert all(torch.equal(value, before[name]) for name, value in twin.state_dict().items())
    assert torch.equal(twin(X), expected)


@pytest.mark.parametrize("folded", [True, False])
def test_folded_or_not_the_same_is_learnt(folded):
    model = tiny_resnet()
    with torch.no_grad():
        expected = model(X)
        errors = []
        for learnt in (True, False):
            twin = insert_quantizers(model, BitPolicy(2, 8, fold_norm=folded), X[:1])
            set_weight_ranges(twin, PowerError())
            if learnt:
                Reconstruction(twin, X, OPTIONS).learn(Pass(60), torch_generator(0))
            else:
                for layer in quantized_layers(twin).values():
                    layer.round_weight()
            errors.append(float((twin(X) - expected).square().mean()))
    assert errors[0] < errors[1] / 2


def test_scales_alone_are_learnt_for_the_better():
    model = tiny_resnet()
    with torch.no_grad():
        expected = model(X)
        errors = []
        for iterations, seed in ((0, 0), (40, 0), (40, 1), (40, 2)):
            twin = grids(model, bits=8)
            set_activation_ranges(twin, X, PowerError())
            for one in activation_quantizers(twin).values():
                one.scale.mul_(1.5)
            weights = {name: layer.weight.clone() for name, layer in quantized_layers(twin).items()}
            if iterations:
                steps = Pass(iterations, rounding=False, step_rate=0.01)
                Reconstruction(twin, X, OPTIONS).learn(steps, torch_generator(seed))
            assert all(torch.equal(weights[name], layer.weight) for name, layer in quantized_layers(twin).items())
            errors.append(float((twin(X) - expected).square().mean()))
    assert sum(errors[1:]) / 3 < errors[0] * 0.8


class Flat(nn.Module):
    """Takes for granted that images lie in memory channel by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.next = nn.Conv2d(4, 4, 3, 2, 1)
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        x = self.next(self.stem(x).relu())
        return self.head(x.view(len(x), -1))


@pytest.mark.parametrize(
    ("channels", "options", "last"),
    [
        (6, {"kernel_size": 1, "stride": 2}, False),
        (12, {"kernel_size": 1, "stride": 2, "groups": 3}, False),
        (8, {"kernel_size": 1, "stride": 2}, True),
        (6, {"kernel_size": 1, "stride": 1}, True),
        (6, {"kernel_size": 3, "stride": 2}, True),
    ],
)
def test_a_layer_whose_gradient_would_overrun_keeps_its_network_from_channels_last(channels, options, last):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, channels, 3), nn.ReLU(), nn.Conv2d(channels, 12, **options), nn.AdaptiveAvgPool2d(1)
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(12, 2)).eval()
    reconstruction = Reconstruction(grids(model), X, OPTIONS)
    layout = torch.channels_last if last else torch.contiguous_format
    assert reconstruction.images.is_contiguous(memory_format=layout)
    reconstruction.learn(Pass(2), torch_generator(0))


def test_a_network_that_needs_its_layout_keeps_it():
    torch.manual_seed(0)
    twin = grids(Flat().eval())
    reconstruction = Reconstruction(twin, X, OPTIONS)
    assert reconstruction.images.is_contiguous()
    assert Reconstruction(grids(tiny_resnet()), X, OPTIONS).images.is_contiguous(memory_format=torch.channels_last)
    reconstruction.learn(Pass(2), torch_generator(0))


class Break(nn.Module):
    def forward(self, x):
        return x.index_fill(0, torch.tensor([0]), float("nan"))


@pytest.mark.parametrize("rounding", [True, False])
def test_what_is_not_finite_is_left_out_by_name(rounding):
    torch.manual_seed(0)
    twin = grids(nn.Sequential(nn.Conv2d(3, 4, 16), Break(), nn.Flatten(), nn.Linear(4, 3)).eval(), bits=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuantizationWarning)
        set_activation_ranges(twin, X, PowerError())
    scale = twin[3].input_quantizer.scale.clone()
    done = "rounded to nearest instead" if rounding else "its activation ranges are not learnt"
    choose = choose_unit_ranges(OPTIONS, 20) if rounding else None
    with pytest.warns(QuantizationWarning) as caught:
        Reconstruction(twin, X, OPTIONS).learn(Pass(2, rounding, 1e-3, choose), torch_generator(0))
    messages = [str(one.message) for one in caught]
    assert f"3: NaN or infinity reaches it, {done}" in messages
    if rounding:
        assert torch.equal(twin[3].weight, _rounded(twin[3]))
    else:
        assert twin[3].input_quantizer.scale == scale
    assert all(value.isfinite().all() for value in twin.state_dict().values())


def _rounded(layer):
    before = layer.weight.clone()
    layer.round_weight()
    assert torch.equal(layer.weight, before)
    return before


def test_the_regulariser_is_annealed_after_the_warm_up():
    exponents = [OPTIONS.annealed(step / 100) for step in range(100)]
    assert exponents[:20] == [None] * 20
    assert exponents[20] == 20
    assert exponents[60] == pytest.approx(11)
    assert exponents[99] == pytest.approx(2, abs=0.02)
    assert exponents[20:] == sorted(exponents[20:], reverse=True)


def test_the_learning_rate_follows_the_iterations_unless_given():
    assert ReconstructionOptions().rounding_rate == 1e-3
    assert ReconstructionOptions(iterations=200).rounding_rate == pytest.approx(1e-2)
    assert OPTIONS.rounding_rate == 0.02


@pytest.mark.parametrize(
    "wrong", [{"iterations": 0}, {"batch_size": 0}, {"warmup": 1.0}, {"learning_rate": 0.0}, {"percentile": 10.0}]
)
def test_impossible_options_are_named(wrong):
    with pytest.raises(RequestError, match=f"{next(iter(wrong))} = .*expected"):
        ReconstructionOptions(**wrong)
