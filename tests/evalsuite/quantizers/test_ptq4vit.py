from __future__ import annotations

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn
from torch.nn import functional as F

from evalsuite.bits import BitPolicy
from evalsuite.errors import QuantizationWarning, Refused, RequestError
from evalsuite.quantization.grids.layers import ActivationQuantizer, activation_quantizers, quantized_layers
from evalsuite.quantization.grids.nonuniform import TwinQuantizer
from evalsuite.quantizers.ptq4vit import PTQ4ViT
from evalsuite.quantizers.rtn import RoundToNearest
from evalsuite.randomness import torch_generator

X = random_images(16)
QUICK = PTQ4ViT(candidates=10, rounds=2, rows=64)


def calibrated(model: nn.Module, bits: BitPolicy, plugin=QUICK, images: torch.Tensor = X) -> nn.Module:
    twin = plugin.insert(model, bits, X[:1])
    plugin.calibrate(twin, images, torch_generator(0))
    return twin


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
@torch.no_grad()
def test_the_state_is_all_there_is_and_a_seed_gives_it_again(build):
    bits = BitPolicy(4, 4)
    twin = calibrated(build(), bits)
    fresh = QUICK.insert(build(), bits, X[:1])
    fresh.load_state_dict(twin.state_dict())
    assert torch.equal(fresh(X), twin(X))
    again = calibrated(build(), bits)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in twin.state_dict().items())


def test_twin_grids_stand_after_softmax_and_gelu_and_nowhere_else():
    found = activation_quantizers(calibrated(tiny_transformer(), BitPolicy(8, 5)))
    twins = {name: one for name, one in found.items() if isinstance(one, TwinQuantizer)}
    assert {name for name, one in twins.items() if not one.signed} == {f"blocks.{i}.attn.mix.left" for i in range(4)}
    assert {name for name, one in twins.items() if one.signed} == {f"blocks.{i}.fc2.input_quantizer" for i in range(4)}
    for one in twins.values():
        assert one.bits == 5
        ratio = torch.log2(one.scale / one.fine_scale)
        assert ratio == ratio.round()
        if not one.signed:
            assert one.scale == 1 / 16
    assert all(one.ready for one in found.values())
    plain = activation_quantizers(calibrated(tiny_resnet(), BitPolicy(4, 4)))
    assert all(type(one) is ActivationQuantizer for one in plain.values())


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
def test_predictions_change_less_than_with_full_ranges(build):
    model = build()
    with torch.no_grad():
        expected = model(X).log_softmax(1)

        def divergence(twin: nn.Module) -> float:
            return float(F.kl_div(twin(X).log_softmax(1), expected, log_target=True, reduction="batchmean"))

    bits = BitPolicy(3, 3)
    own = calibrated(model, bits, PTQ4ViT(candidates=50, rows=256))
    other = calibrated(model, bits, RoundToNearest(range="minmax"))
    with torch.no_grad():
        assert divergence(own) < 0.8 * divergence(other)


def test_weights_are_points_of_their_grids_within_the_fractions():
    model = tiny_transformer()
    source = dict(model.named_modules())
    plugin = PTQ4ViT(candidates=4, greatest_fraction=1.0, rounds=1, rows=64)
    for name, layer in quantized_layers(calibrated(model, BitPolicy(3, 8), plugin)).items():
        if name.endswith(("qkv", "proj")) or name in ("patches", "head"):
            continue
        rows = source[name].weight.flatten(1)
        low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
        fraction = layer.weight_scale * 7 / (high - low)
        assert torch.allclose(fraction * 4, (fraction * 4).round(), atol=1e-4)
        assert (fraction < 1).any()
        steps = layer.rows() / layer.weight_scale[:, None]
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)


def test_how_much_is_kept_at_once_changes_no_more_than_the_draw():
    bits = BitPolicy(4, 4)
    every = PTQ4ViT(candidates=10, rounds=1, rows=10**6)
    small = PTQ4ViT(candidates=10, rounds=1, rows=10**6, cache_gigabytes=0)
    images = X[:4]
    one, other = (calibrated(tiny_transformer(), bits, plugin, images) for plugin in (every, small))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


class Odd(nn.Module):
    """A layer that reads nothing but zeros, and one that only some images reach."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 4, 4)
        self.zeros = nn.Conv2d(4, 4, 1)
        self.rare = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.zeros(x.relu() * 0)
        if len(x) == 1:
            x = self.rare(x)
        return self.head(x.mean((2, 3)))


def test_a_constant_input_and_a_layer_out_of_reach_are_named():
    torch.manual_seed(0)
    twin = QUICK.insert(Odd().eval(), BitPolicy(4, 4), X[:1])
    with pytest.warns(QuantizationWarning) as caught:
        QUICK.calibrate(twin, torch.cat([X, X]), torch_generator(0))
    messages = "\n".join(str(one.message) for one in caught)
    assert "zeros.input_quantizer: constant" in messages
    assert "rare.input_quantizer: not reached" in messages
    with torch.no_grad():
        assert twin(X).isfinite().all()


def test_bad_options_and_per_token_grids():
    with pytest.raises(RequestError, match="rounds = 0: expected at least 1"):
        PTQ4ViT(rounds=0)
    with pytest.raises(RequestError, match="greatest_fraction = 0: expected above 0"):
        PTQ4ViT(greatest_fraction=0)
    with pytest.raises(Refused, match="ptq4vit chooses ranges"):
        PTQ4ViT().insert(tiny_transformer(), BitPolicy(per_token=True), X[:1])
