from __future__ import annotations

import copy

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from torch import nn
from torch.nn import functional as F

import evalsuite
from evalsuite.bits import BitPolicy
from evalsuite.errors import Refused, RequestError
from evalsuite.number_formats import E4M3, FORMATS
from evalsuite.quantization.grids.formats import cast, neighbours, round_by, round_to
from evalsuite.quantization.grids.layers import FormatQuantizer, QuantConv2d, QuantMatMul, quantized_layers
from evalsuite.quantization.grids.ranges import CosineSimilarity, MinMax, Percentile, PowerError, Sample
from evalsuite.quantization.insert import prepare
from evalsuite.quantization.saving import load, save
from evalsuite.quantizers.gptq import hessian_of, second_order_rounding

X = random_images(4)
ONE = torch.tensor(1.0)


def formatted(name: str, **more) -> BitPolicy:
    return BitPolicy(weight_format=name, activation_format=name, **more)


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
def test_every_weight_is_on_its_grid_and_fewer_bits_lose_more(name, build):
    network = build().eval()
    options = {"method": "rtn", "range": "minmax"}
    quantized = evalsuite.quantize(network, X, weight_format=name, activation_format=name, **options)
    assert evalsuite.quantize(network, X, bits=name, **options)(X).equal(quantized(X))
    with torch.no_grad():
        expected, found = network(X), quantized(X)
    error = float((found - expected).square().sum() / expected.square().sum())
    assert 0 < error < {1: 0.3, 2: 0.1, 3: 0.06, 6: 0.005}[FORMATS[name].element.mantissa]
    for layer in quantized_layers(quantized).values():
        element = layer.weight_format.element
        again = layer.weight.clone()
        layer.round_weight()
        # A block scale of its own may be smaller the second time where the first saturated.
        assert layer.weight_format.block or torch.equal(again, layer.weight)
        assert layer.weight_format.name in (name, FORMATS[name].companion)
        assert layer.weight_bits == element.bits


def test_a_linear_layer_computes_what_the_specification_says():
    layer, x = nn.Linear(40, 5), torch.randn(7, 40, generator=torch.Generator().manual_seed(1))
    network = nn.Sequential(nn.Flatten(), layer)
    images = x.reshape(7, 1, 5, 8)
    quantized = evalsuite.quantize(network, images, method="rtn", bits="MXFP4", first_last_bits=4)
    parts = [F.linear(*(round_to(t[:, cut], ONE, FORMATS["MXFP4"]) for t in (x, layer.weight.detach()))) for cut in
             (slice(0, 32), slice(32, 40))]  # fmt: skip
    torch.testing.assert_close(quantized(images), sum(parts) + layer.bias)


def test_blocks_of_a_convolution_lie_along_the_input_channels_and_cross_no_group():
    conv = nn.Conv2d(80, 4, 3, groups=2)
    layer = QuantConv2d(conv, formatted("MXINT8").for_layer("a"))
    layer.round_weight()
    for start, stop in ((0, 32), (32, 40)):
        for place in range(9):
            block = conv.weight.detach().flatten(2)[:, start:stop, place]
            assert torch.equal(layer.weight.flatten(2)[:, start:stop, place], round_to(block, ONE, FORMATS["MXINT8"]))
    x = torch.randn(2, 80, 5, 5, generator=torch.Generator().manual_seed(0))
    layer.input_quantizer.switch(True)
    rounded = layer.input_quantizer(x)
    for group in (slice(0, 40), slice(40, 80)):
        expected = round_to(x[:, group].permute(0, 2, 3, 1), ONE, FORMATS["MXINT8"]).permute(0, 3, 1, 2)
        assert torch.equal(rounded[:, group], expected)


def test_a_product_rounds_both_factors_along_the_axis_that_is_summed_over():
    product = QuantMatMul(4, format="MXFP4")
    for quantizer in (product.left, product.right):
        quantizer.switch(True)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, *shape, generator=generator) for shape in ((3, 40), (40, 6)))
    exact = [round_to(one, ONE, FORMATS["MXFP4"]) for one in (a, b.transpose(1, 2))]
    torch.testing.assert_close(product(a, b), exact[0] @ exact[1].transpose(1, 2))


def test_gradients_pass_where_an_activation_is_rounded():
    quantizer = FormatQuantizer(FORMATS["MXFP4"])
    quantizer.switch(True)
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    quantizer(x).sum().backward()
    assert (x.grad == 1).all()


@pytest.mark.parametrize("estimator", [PowerError(50), CosineSimilarity(50)])
def test_searched_ranges_of_fp8_lose_no_more_than_the_extremes(estimator):
    fp8 = FORMATS["FP8"]
    values = torch.randn(3, 500, generator=torch.Generator().manual_seed(0))
    sample = Sample.of(values)
    loss = estimator.losses(sample, 8, True, fp8)
    full, chosen = MinMax()(sample, 8, True, fp8), estimator(sample, 8, True, fp8)
    assert (loss(*chosen) <= loss(*full)).all()
    assert (loss(*chosen) < loss(*full)).any()
    assert (Percentile(99.0)(sample, 8, True, fp8)[1] < full[1]).all()


def test_fp8_has_a_scale_per_channel_of_weights_that_its_greatest_is_on():
    network = tiny_resnet().eval()
    quantized = evalsuite.quantize(network, X, method="rtn", bits="FP8", range="minmax")
    for name, layer in quantized_layers(quantized).items():
        weight = network.get_submodule(name).weight.detach()
        scale = weight.flatten(1).abs().amax(dim=1).reshape(-1, *[1] * (weight.ndim - 1)) / 448
        assert torch.equal(layer.weight, round_by(weight, scale, E4M3))
    one = evalsuite.quantize(network, X, method="rtn", bits="FP8", range="minmax", per_channel=False)
    assert {len(layer.weight_scale) for layer in quantized_layers(one).values()} == {1}
    assert torch.equal(cast(torch.tensor([448.0]), E4M3), torch.tensor([448.0]))


@pytest.mark.parametrize("name", ["FP8", "MXFP4", "NVFP4"])
def test_gptq_stays_on_the_grid_that_rounding_to_nearest_is_on_and_loses_less(name):
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(40, 6, 2, bias=False)
    x = torch.randn(300, 5, 2, 2, generator=generator).repeat(1, 8, 1, 1)
    x += 0.1 * torch.randn(x.shape, generator=generator)
    layers = [QuantConv2d(conv, formatted(name).for_layer("a")) for _ in range(2)]
    for layer in layers:
        layer.set_weight_range(*torch.aminmax(layer.rows(), dim=1))
    scale = layers[0].point_scales()
    layers[0].set_points(second_order_rounding(layers[0], hessian_of(layers[0], [x])))
    layers[1].round_weight()
    assert torch.equal(round_by(layers[0].weight, scale, layers[0].weight_format.element), layers[0].weight)
    losses = [(layer.apply_weight(x, layer.weight) - conv(x)).square().mean() for layer in layers]
    assert losses[0] < 0.8 * losses[1]
    network = tiny_resnet().eval()
    assert evalsuite.quantize(network, X, method="gptq", bits=name, range="minmax")(X).isfinite().all()


@pytest.mark.parametrize("name", ["FP8", "WMXFP4AMXFP8", "WNVFP4AFP8"])
@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
def test_learnt_rounding_takes_neighbours_and_loses_less(name, build):
    network, images = build().eval(), random_images(32)
    options = {"bits": name, "range": "minmax", "weight_range": "minmax"}
    nearest = evalsuite.quantize(network, images, method="rtn", **options)
    learnt = evalsuite.quantize(network, images, method="adaround", iterations=80, learning_rate=0.02, **options)
    plain = prepare(network, X[:1], fold_norm=False)
    moved = 0
    for layer_name, layer in quantized_layers(learnt).items():
        weight = plain.get_submodule(layer_name).weight.detach()
        fresh = copy.deepcopy(layer)
        fresh.weight.copy_(weight)
        scale = fresh.point_scales()
        low, high = (each * scale for each in neighbours(weight / scale, layer.weight_format.element))
        nearer = torch.where((layer.weight - low).abs() < (layer.weight - high).abs(), low, high)
        torch.testing.assert_close(layer.weight, nearer)
        moved += int((layer.weight != quantized_layers(nearest)[layer_name].weight).sum())
    assert moved > 0
    with torch.no_grad():
        expected = network(images)
        errors = [float((each(images) - expected).square().mean()) for each in (learnt, nearest)]
    assert errors[0] < errors[1] * (1.1 if name == "FP8" else 0.9)


def test_what_cannot_be_in_a_format_is_refused_in_a_line():
    with pytest.raises(Refused, match=r"^range = kl with FP8: expected minmax, percentile, mse or cosine$"):
        evalsuite.quantize(tiny_resnet(), X, method="rtn", bits="FP8", range="kl")
    with pytest.raises(RequestError, match="give either bits or weight_format"):
        evalsuite.quantize(tiny_resnet(), X, method="rtn", bits="FP8", weight_format="FP8")


@pytest.mark.parametrize("method", ["brecq", "qdrop", "pd_quant", "ptq4vit", "repq_vit", "ttaq", "onnxruntime"])
def test_methods_of_integers_refuse_formats(method):
    with pytest.raises(Refused, match=r"^FP8: this method rounds to integers; expected bits such as W.A8$"):
        evalsuite.quantize(tiny_transformer(), X, method=method, bits="FP8")


def test_a_saved_network_gives_the_same_to_the_last_bit(tmp_path):
    network = tiny_transformer().eval()
    quantized = evalsuite.quantize(network, X, method="rtn", bits="NVFP4")
    save(quantized, tmp_path / "network.safetensors")
    assert torch.equal(load(tmp_path / "network.safetensors", network, X[:1])(X), quantized(X))
