from __future__ import annotations

import copy

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn
from torch.nn import functional as F

from evalsuite.bits import BitPolicy
from evalsuite.errors import QuantizationWarning, Refused, RequestError
from evalsuite.models.attention import MatMul
from evalsuite.quantization.grids.layers import (
    QuantConv2d,
    QuantLayer,
    QuantLinear,
    QuantMatMul,
    TokenQuantizer,
    activation_quantizers,
    quantized_layers,
)
from evalsuite.quantization.insert import check_overrides, insert_quantizers
from evalsuite.quantizers.rtn import RoundToNearest
from evalsuite.structure import describe
from evalsuite.torchvision_compat import import_torchvision

X = random_images(4)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fold_norm", [True, False])
def test_the_copy_computes_the_same_and_the_source_is_untouched(build, training, fold_norm):
    model = build().train(training)
    before = state(model)
    twin = insert_quantizers(model, BitPolicy(4, 4, fold_norm=fold_norm), X[:1])
    assert model.training == training
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(isinstance(module, QuantLayer) for module in model.modules())
    assert not any(module.training for module in twin.modules())
    torch.testing.assert_close(twin(X), model.eval()(X), rtol=1e-4, atol=1e-5)
    assert not set(map(id, model.parameters())) & set(map(id, twin.parameters()))


def test_first_layer_and_classifier_take_their_own_bits():
    policy = BitPolicy(3, 5, first_last_bits=7, per_channel=False, symmetric=True)
    layers = quantized_layers(insert_quantizers(tiny_resnet(), policy, X[:1]))
    assert len(layers) == 16
    for name, layer in layers.items():
        outer = name in ("conv1", "fc")
        assert (layer.weight_bits, layer.input_quantizer.bits) == ((7, 7) if outer else (3, 5))
        assert not layer.per_channel
        assert layer.symmetric


def test_overrides_reach_layers_and_products():
    policy = BitPolicy(4, 6, overrides={"blocks.1.*": "W3A5", "blocks.1.attn.mix": "W8A8", "head": "W2A2"})
    twin = insert_quantizers(tiny_transformer(), policy, X[:1])
    layers = quantized_layers(twin)
    assert (layers["blocks.1.fc1"].weight_bits, layers["blocks.1.fc1"].input_quantizer.bits) == (3, 5)
    assert (layers["blocks.0.fc1"].weight_bits, layers["blocks.0.fc1"].input_quantizer.bits) == (4, 6)
    assert layers["head"].weight_bits == 2
    assert twin.blocks[1].attn.scores.left.bits == 5
    assert twin.blocks[1].attn.mix.right.bits == 8
    assert twin.blocks[2].attn.mix.right.bits == 6


@pytest.mark.parametrize(
    ("build", "overrides", "left"),
    [
        (tiny_resnet, {"layer1.0.*": "float", "conv1": "float"}, ["conv1", "layer1.0.conv1", "layer1.0.conv2"]),
        (tiny_transformer, {"blocks.0.*": "float", "blocks.0.fc2": "W8A8"}, ["blocks.0.attn.scores", "blocks.0.fc1"]),
    ],
)
def test_overrides_leave_layers_in_floating_point(build, overrides, left):
    model = build()
    twin = insert_quantizers(model, BitPolicy(4, 4, overrides=overrides), X[:1])
    for name in left:
        assert not isinstance(twin.get_submodule(name), QuantLayer | QuantMatMul)
    assert quantized_layers(twin)
    assert ("blocks.0.fc2" in overrides) == ("blocks.0.fc2" in quantized_layers(twin))
    RoundToNearest().calibrate(twin, X, torch.Generator())
    weights = {
        name: module.weight for name, module in model.named_modules() if name in left and hasattr(module, "weight")
    }
    assert all(torch.equal(twin.get_submodule(name).weight, weight) for name, weight in weights.items())
    with pytest.raises(RequestError, match="leave no layer quantized"):
        insert_quantizers(model, BitPolicy(overrides={"*": "float"}), X[:1])


@pytest.mark.parametrize("check", [insert_quantizers, check_overrides])
def test_an_override_without_a_layer_is_named(check):
    with pytest.raises(RequestError, match=r"'layer4\.\*' matches no quantized layer; the nearest is 'layer\d"):
        check(tiny_resnet(), BitPolicy(overrides={"layer4.*": "W4A4"}), X[:1])
    check(tiny_transformer(), BitPolicy(overrides={"*.scores": "W4A4"}), X[:1])
    check(tiny_resnet(), BitPolicy(), X[:1])


@torch.no_grad()
def test_per_token_belongs_to_the_linear_layers_of_transformers():
    twin = insert_quantizers(tiny_transformer(), BitPolicy(4, 6, per_token=True), X[:1])
    kinds = {name: type(quantizer) for name, quantizer in activation_quantizers(twin).items()}
    per_token = {name for name, kind in kinds.items() if kind is TokenQuantizer}
    linear = {f"{name}.input_quantizer" for name, layer in quantized_layers(twin).items() if name != "patches"}
    assert per_token == linear
    torch.testing.assert_close(twin(X), tiny_transformer()(X))
    with pytest.raises(Refused, match="per_token: this network has no tokens; expected a transformer"):
        insert_quantizers(tiny_resnet(), BitPolicy(per_token=True), X[:1])


def test_symmetric_activations_reach_every_quantizer():
    twin = insert_quantizers(tiny_transformer(), BitPolicy(symmetric_activations=True, per_token=True), X[:1])
    assert all(quantizer.symmetric for quantizer in activation_quantizers(twin).values())
    assert not any(layer.symmetric for layer in quantized_layers(twin).values())


def test_a_transformers_products_are_quantized():
    twin = insert_quantizers(tiny_transformer(), BitPolicy(4, 6), X[:1])
    products = [module for module in twin.modules() if isinstance(module, QuantMatMul)]
    assert len(products) == 8
    assert all(product.left.bits == product.right.bits == 6 for product in products)
    assert describe(twin, X[:1]).layers == tuple(quantized_layers(twin))


def test_a_shared_layer_stays_shared():
    layer = nn.Conv2d(3, 3, 3, padding=1)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
    twin = insert_quantizers(model, BitPolicy(), X[:1])
    assert twin[0] is twin[2]
    assert isinstance(twin[0], QuantConv2d)


def test_a_network_that_is_one_layer():
    assert isinstance(insert_quantizers(nn.Conv2d(3, 2, 3), BitPolicy(), X[:1]), QuantConv2d)


def test_folding_leaves_no_norm_behind_a_convolution_and_keeps_the_others():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.BatchNorm2d(3)
            self.conv1 = nn.Conv2d(3, 4, 3, bias=True)
            self.bn1 = nn.BatchNorm2d(4)
            self.conv2 = nn.Conv2d(4, 4, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(4, affine=False)
            self.conv3 = nn.Conv2d(4, 4, 1)
            self.read_twice = nn.BatchNorm2d(4)
            self.conv4 = nn.Conv2d(4, 4, 1)
            self.statistics = nn.BatchNorm2d(4, track_running_stats=False)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            x = self.bn2(self.conv2(self.bn1(self.conv1(self.first(x))).relu()))
            y = self.conv3(x)
            x = self.statistics(self.conv4(self.read_twice(y) + y))
            return self.head(x.mean((2, 3)))

    torch.manual_seed(0)
    model = Net().train()
    for _ in range(3):
        model(torch.randn(16, 3, 16, 16) * 2 + 1)
    model.eval()
    with torch.no_grad():
        model.bn1.weight.uniform_(-1, 2)
        model.bn1.bias.normal_()
    twin = insert_quantizers(model, BitPolicy(fold_norm=True), X[:1])
    torch.testing.assert_close(twin(X), model(X), rtol=1e-4, atol=1e-5)
    gone = [name for name, module in twin.named_modules() if isinstance(module, nn.Identity)]
    assert gone == ["bn1", "bn2"]


def test_a_fused_norm_and_activation_cannot_be_folded():
    class NormAct(nn.BatchNorm2d):
        def forward(self, x):
            return F.relu(super().forward(x))

    model = nn.Sequential(nn.Conv2d(3, 4, 3), NormAct(4), nn.Flatten(), nn.Linear(4 * 14 * 14, 2)).eval()
    insert_quantizers(model, BitPolicy(), X[:1])
    with pytest.raises(Refused, match=r"^1 \(NormAct\)"):
        insert_quantizers(model, BitPolicy(fold_norm=True), X[:1])


def test_an_unreached_layer_is_named_and_stays():
    model = tiny_resnet()
    model.layer2[0].shortcut = Partly(model.layer2[0].shortcut[0])
    with pytest.warns(QuantizationWarning, match=r"^layer2\.0\.shortcut\.idle: not reached"):
        twin = insert_quantizers(model, BitPolicy(), X[:1])
    assert type(twin.layer2[0].shortcut.idle) is nn.Linear


class Partly(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.used = layer
        self.idle = nn.Linear(3, 3)

    def forward(self, x):
        return self.used(x)


class Own(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) * 2


class OwnTransposed(nn.ConvTranspose2d):
    pass


class Functional(nn.Module):
    def __init__(self, compute) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, x):
        return self.compute(x)


class First(nn.Module):
    def forward(self, values):
        return values[0]


@pytest.mark.parametrize(
    ("module", "what"),
    [
        (OwnTransposed(4, 4, 1), "OwnTransposed"),
        (nn.Sequential(nn.Unflatten(1, (4, 1)), nn.Conv3d(4, 1, 1)), r"odd\.1 \(Conv3d"),
        (nn.Sequential(nn.Flatten(2), nn.LSTM(36, 36), First()), "LSTM"),
        (nn.Sequential(nn.Flatten(2), nn.GRU(36, 36), First()), "GRU"),
        (Functional(lambda x: torch.einsum("nchw,nchv->ncw", x, x)), "Functional"),
        (Functional(lambda x: F.conv2d(x, torch.ones(4, 4, 1, 1))), "Functional.*convolution"),
        (Functional(lambda x: F.bilinear(x, x, torch.ones(6, 6, 6))), "Functional.*trilinear"),
        (Functional(lambda x: F.embedding(x.sigmoid().long(), torch.ones(2, 1))[..., 0]), "Functional.*embedding"),
        (Own(4, 4, 1), "Own.*plain Conv1d, Conv2d or Linear"),
        (nn.MultiheadAttention(4, 2, batch_first=True, add_zero_attn=True), "MultiheadAttention"),
    ],
)
def test_what_cannot_be_quantized_is_refused_by_name(module, what):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 11)
            self.odd = module
            self.head = nn.Linear(1, 2)

        def forward(self, x):
            x = self.conv(x)
            if isinstance(self.odd, nn.MultiheadAttention):
                tokens = x.flatten(2).transpose(1, 2)
                x = self.odd(tokens, tokens, tokens)[0]
            else:
                x = self.odd(x)
            return self.head(x.flatten(1).mean(1, keepdim=True))

    with pytest.raises(Refused, match=rf"^odd.*{what}|^{what}"):
        insert_quantizers(Net().eval(), BitPolicy(), X[:1])


def test_a_quantized_network_is_not_quantized_again():
    twin = insert_quantizers(tiny_resnet(), BitPolicy(2, 2), X[:1])
    RoundToNearest().calibrate(twin, X, torch.Generator())
    with pytest.raises(Refused, match="QuantConv2d"):
        insert_quantizers(twin, BitPolicy(), X[:1])


def test_a_model_that_fails_says_so():
    with pytest.raises(RequestError, match="fails on an input"):
        insert_quantizers(tiny_resnet(), BitPolicy(), torch.randn(1, 5, 16, 16))


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_timm_networks(name):
    import_torchvision()
    import timm

    torch.manual_seed(0)
    size = {"img_size": 32} if name.startswith("vit") else {}
    model = timm.create_model(name, num_classes=5, **size).eval()
    x = torch.randn(2, 3, 32, 32)
    twin = insert_quantizers(model, BitPolicy(), x[:1])
    torch.testing.assert_close(twin(x), model(x), rtol=1e-3, atol=1e-5)
    plain = sum(type(module) in (nn.Conv2d, nn.Linear, MatMul) for module in twin.modules())
    assert plain == 0
    assert sum(isinstance(module, (QuantConv2d, QuantLinear)) for module in twin.modules()) == len(
        describe(model, x[:1]).layers
    )


def test_torchvision_networks_fold_and_insert():
    vision = import_torchvision()
    torch.manual_seed(0)
    model = vision.models.mobilenet_v2(num_classes=5)
    model.train()(torch.randn(8, 3, 64, 64))
    model.eval()
    x = torch.randn(2, 3, 64, 64)
    twin = insert_quantizers(copy.deepcopy(model), BitPolicy(fold_norm=True), x[:1])
    torch.testing.assert_close(twin(x), model(x), rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in twin.modules())
