from __future__ import annotations

import math

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer

from evalsuite.errors import QuantizationWarning, RequestError
from evalsuite.quantization.apply import quantize
from evalsuite.quantization.grids.layers import quantized_layers
from evalsuite.quantization.layer_report import layer_report
from evalsuite.structure import describe

X = random_images(64)


def relative_error(model, quantized) -> float:
    with torch.no_grad():
        expected = model(X)
        return float((quantized(X) - expected).norm() / expected.norm())


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
def test_more_bits_less_error_and_the_source_is_untouched(build):
    model = build().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    twins = [quantize(model, X, method="rtn", weight_bits=bits, activation_bits=bits) for bits in (2, 4, 6, 8)]
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(twin.training for twin in twins)
    model.eval()
    errors = [relative_error(model, twin) for twin in twins]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05


def test_options_reach_the_policy_and_the_method():
    twin = quantize(tiny_resnet(), X, method="rtn", first_last_bits=5, symmetric=True, range="minmax", steps=10)
    layers = quantized_layers(twin)
    assert layers["fc"].weight_bits == 5
    assert layers["layer1.0.conv1"].symmetric


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "rnt"}, "unknown quantizer 'rnt': did you mean 'rtn'"),
        ({"method": "rtn", "first_last_bit": 4}, "'first_last_bit': did you mean 'first_last_bits'"),
        ({"method": "rtn", "percentil": 4}, "'percentil': did you mean 'percentile'"),
        ({"method": "rtn", "weight_bits": 1}, "weight_bits = 1: expected 2 to 8"),
        ({"method": "rtn", "activation_bits": 9}, "activation_bits = 9"),
        ({"method": "rtn", "per_channel": "maybe"}, "per_channel = 'maybe'"),
        ({"method": "rtn", "range": "max"}, "range = 'max'"),
        ({"method": "rtn", "images": X * float("nan")}, "NaN"),
    ],
)
def test_a_wrong_request_is_one_clear_line(options, match):
    with pytest.raises(RequestError, match=match) as caught:
        quantize(tiny_resnet(), options.pop("images", X), **options)
    assert "\n" not in str(caught.value)


def test_full_precision_takes_part():
    model = tiny_resnet()
    twin = quantize(model, X, method="full_precision")
    assert twin is not model
    assert relative_error(model, twin) == 0


@pytest.mark.parametrize("fold_norm", [True, False])
def test_the_report_finds_the_layer_that_loses_most(fold_norm):
    model = tiny_resnet()
    twin = quantize(model, X, method="rtn", weight_bits=8, activation_bits=8, fold_norm=fold_norm)
    report = layer_report(model, twin, X)
    assert list(report.columns)[3:] == ["weight_snr_db", "activation_snr_db", "snr_db"]
    assert tuple(report["layer"]) == describe(model, X[:1]).layers
    assert report["snr_db"].min() > 20
    twin.layer2[1].conv1.weight.data[0].zero_()
    broken = layer_report(model, twin, X).set_index("layer")["snr_db"] - report.set_index("layer")["snr_db"]
    assert broken.idxmin() == "layer2.1.conv1"


def test_the_report_tells_weights_from_activations():
    model = tiny_resnet()
    bits = {"weight_bits": 8, "activation_bits": 8}
    usual = layer_report(model, quantize(model, X, method="rtn", **bits), X).set_index("layer")
    coarse = {"layer2.0.conv1": "W2A8", "layer3.0.conv1": "W8A2"}
    mixed = layer_report(model, quantize(model, X, method="rtn", overrides=coarse, **bits), X).set_index("layer")
    assert mixed["weight_snr_db"].idxmin() == "layer2.0.conv1"
    assert mixed["activation_snr_db"].idxmin() == "layer3.0.conv1"
    same = mixed.index != "layer2.0.conv1"
    assert (mixed["weight_snr_db"][same] == usual["weight_snr_db"][same]).all()
    assert tuple(mixed.loc["layer2.0.conv1", ["weight_bits", "activation_bits"]]) == (2, 8)
    # Six decibels a bit, for values spread evenly over their range.
    assert usual["weight_snr_db"]["layer3.0.conv1"] - mixed["weight_snr_db"]["layer2.0.conv1"] > 30


def test_the_report_covers_opened_attention():
    model = tiny_transformer()
    report = layer_report(model, quantize(model, X, method="rtn", weight_bits=8, activation_bits=8), X)
    assert "blocks.0.attn.qkv" in set(report["layer"])
    assert (report["snr_db"] > 20).all()


def test_a_layer_without_signal_or_error_has_an_infinite_ratio():
    model = tiny_resnet()
    with torch.no_grad():
        model.layer1[1].bn1.weight.zero_()
        model.layer1[1].bn1.bias.fill_(-1)  # nothing passes the ReLU, so the next convolution gives zeros
    with pytest.warns(QuantizationWarning, match="constant"):
        twin = quantize(model, X, method="rtn")
    report = layer_report(model, twin, X).set_index("layer")["snr_db"]
    assert report["layer1.1.conv2"] == math.inf
    twin.layer1[1].bn1.bias.data.fill_(1)
    twin.layer1[1].conv2.input_quantizer.switch(False)
    assert layer_report(model, twin, X).set_index("layer")["snr_db"]["layer1.1.conv2"] == -math.inf
