from __future__ import annotations

import pytest
import torch
from _dummies.models import TinyTransformer, random_images, tiny_resnet, tiny_transformer
from torch import nn
from torch.nn import functional as F

from evalsuite.bits import BitPolicy
from evalsuite.errors import QuantizationWarning, Refused, RequestError
from evalsuite.quantization.grids.layers import activation_quantizers, quantized_layers
from evalsuite.quantization.grids.nonuniform import LogSqrt2Quantizer
from evalsuite.quantization.grids.ranges import MinMax, PowerError, Sample
from evalsuite.quantizers.repq_vit import RepQViT, Tails
from evalsuite.quantizers.rtn import RoundToNearest
from evalsuite.randomness import torch_generator

X = random_images(16)
QUICK = RepQViT(range="minmax", weight_range="same")


def calibrated(model: nn.Module, bits: BitPolicy, plugin=QUICK, images: torch.Tensor = X) -> nn.Module:
    twin = plugin.insert(model, bits, X[:1])
    plugin.calibrate(twin, images, torch_generator(0))
    return twin


def uneven() -> TinyTransformer:
    """A transformer in which channels after LayerNorm differ as they do in real ones: in width and in centre."""
    model = tiny_transformer()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.copy_(torch.randn(12, generator=generator).mul(1.5).exp())
                module.bias.copy_(4 * torch.randn(12, generator=generator) * module.weight)
        for block in model.blocks:
            for layer, norm in ((block.attn.qkv, block.norm1), (block.fc1, block.norm2)):
                layer.weight.div_(3 * norm.weight)
    return model


@pytest.mark.parametrize("build", [tiny_resnet, uneven])
@torch.no_grad()
def test_the_state_is_all_there_is(build):
    bits = BitPolicy(4, 4)
    twin = calibrated(build(), bits)
    fresh = QUICK.insert(build(), bits, X[:1])
    fresh.load_state_dict(twin.state_dict())
    assert torch.equal(fresh(X), twin(X))


@torch.no_grad()
def test_one_grid_after_a_norm_is_a_grid_for_each_channel_before_it():
    model = uneven()
    twin = calibrated(model, BitPolicy(8, 4))
    for old, new in zip(model.blocks, twin.blocks, strict=True):
        x = torch.randn(50, 12, generator=torch.Generator().manual_seed(0))
        assert not torch.allclose(new.norm1.weight, old.norm1.weight)
        ratio = old.norm1.weight / new.norm1.weight
        shift = new.norm1.bias * ratio - old.norm1.bias
        torch.testing.assert_close((old.norm1(x) + shift) / ratio, new.norm1(x), rtol=1e-3, atol=1e-4)
        quantizer = new.attn.qkv.input_quantizer
        rounded = quantizer(new.norm1(x)) * ratio - shift
        step = quantizer.scale * ratio
        inside = (new.norm1(x) - quantizer(new.norm1(x))).abs() <= quantizer.scale / 2
        assert ((rounded - old.norm1(x)).abs() <= step * 0.501)[inside].all()
        assert step.max() > 3 * step.min()


@torch.no_grad()
def test_moving_scales_changes_no_output():
    model = uneven()
    twin = QUICK.insert(model, BitPolicy(8, 4), X[:1])
    QUICK.calibrate(twin, X, torch_generator(0))
    for one in activation_quantizers(twin).values():
        one.switch(False)
    torch.testing.assert_close(twin(X), model(X), rtol=0, atol=0.03 * float(model(X).abs().max()))  # 8-bit weights


def test_predictions_change_less_than_by_rounding_to_nearest():
    model = uneven()
    with torch.no_grad():
        expected = model(X).log_softmax(1)

        def divergence(twin: nn.Module) -> float:
            return float(F.kl_div(twin(X).log_softmax(1), expected, log_target=True, reduction="batchmean"))

        bits = BitPolicy(8, 4)
        own = divergence(calibrated(model, bits))
        assert own < 0.7 * divergence(calibrated(model, bits, RoundToNearest(range="minmax")))


def test_log_grids_stand_after_softmax():
    found = activation_quantizers(calibrated(tiny_transformer(), BitPolicy(8, 5)))
    log = {name for name, one in found.items() if isinstance(one, LogSqrt2Quantizer)}
    assert log == {f"blocks.{i}.attn.mix.left" for i in range(4)}
    assert all(0 < found[name].scale <= 1 for name in log)
    assert all(one.ready for one in found.values())


class Norms(nn.Module):
    """Norms without parameters before layers without bias; one is read by an addition as well."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.norm1 = nn.LayerNorm(8, elementwise_affine=False)
        self.fc1 = nn.Linear(8, 8, bias=False)
        self.fc2 = nn.Linear(8, 8, bias=False)
        self.norm2 = nn.LayerNorm(8, bias=False)
        self.fc3 = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.norm1(self.patches(x).flatten(2).transpose(1, 2))
        x = self.norm2(self.fc1(x) * self.fc2(x))
        return self.head((x + self.fc3(x)).mean(1))


@torch.no_grad()
def test_norms_without_parameters_layers_without_bias_and_other_readers():
    torch.manual_seed(0)
    model = Norms().eval()
    with pytest.warns(QuantizationWarning, match=r"^fc3: scales cannot be moved"):
        twin = calibrated(model, BitPolicy(8, 8))
    assert not torch.allclose(twin.norm1.weight, torch.ones(8))
    assert twin.fc1.bias.abs().max() > 0
    assert torch.equal(twin.fc1.input_quantizer.scale, twin.fc2.input_quantizer.scale)
    assert torch.equal(twin.norm2.weight, model.norm2.weight)
    assert torch.equal(twin.fc3.bias, model.fc3.bias)
    torch.testing.assert_close(twin(X), model(X), rtol=0, atol=0.1 * float(model(X).abs().max()))
    assert model.norm1.weight is None
    assert model.fc1.bias is None


@torch.no_grad()
def test_a_silent_channel_and_a_silent_norm():
    model = tiny_transformer()
    model.blocks[0].norm1.weight[3] = 0
    model.blocks[1].norm1.weight.zero_()
    with pytest.warns(QuantizationWarning) as caught:
        twin = calibrated(model, BitPolicy(8, 8))
    assert any("blocks.1.attn.qkv.input_quantizer: constant" in str(one.message) for one in caught)
    assert twin(X).isfinite().all()
    torch.testing.assert_close(twin(X), model(X), rtol=0, atol=0.1 * float(model(X).abs().max()))


def test_weights_are_points_of_their_grids():
    for layer in quantized_layers(calibrated(uneven(), BitPolicy(3, 8))).values():
        steps = layer.rows() / layer.weight_scale[:, None]
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)


def test_bad_options_and_per_token_grids():
    with pytest.raises(RequestError, match="log_steps = 0: expected at least 1"):
        RepQViT(log_steps=0)
    with pytest.raises(Refused, match="repq_vit chooses ranges"):
        RepQViT().insert(tiny_transformer(), BitPolicy(per_token=True), X[:1])


def test_tails_are_cut_off_where_they_are_rare_against_the_squared_step():
    values = torch.rand(1, 100_000, generator=torch.Generator().manual_seed(0))
    sample = Sample.of(values)
    ends = {bits: Tails()(sample, bits, False) for bits in (3, 4, 8)}
    for bits, (low, high) in ends.items():
        share = 4.0 ** -(bits + 1)
        assert float((values < low).float().mean()) == pytest.approx(share, rel=0.1, abs=1e-5)
        assert float((values > high).float().mean()) == pytest.approx(share, rel=0.1, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "activations", "weights"),
    [
        ({}, Tails(), MinMax()),
        ({"weight_range": "same"}, Tails(), Tails()),
        ({"range": "minmax", "weight_range": "same"}, MinMax(), MinMax()),
        ({"range": "mse", "norm": 2.0, "weight_range": "minmax"}, PowerError(norm=2.0), MinMax()),
    ],
)
def test_how_ranges_are_chosen(options, activations, weights):
    plugin = RepQViT(**options)
    assert (plugin.activation_estimator(), plugin.weight_estimator()) == (activations, weights)
