from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import QuantizationWarning, RequestError
from evalsuite.quantization.grids.layers import QuantLinear, activation_quantizers, quantized_layers
from evalsuite.quantization.grids.range_setting import (
    Histogram,
    check_images,
    round_weights,
    set_activation_ranges,
    set_weight_ranges,
)
from evalsuite.quantization.grids.ranges import CosineSimilarity, Divergence, MinMax, Percentile, PowerError, Sample
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantizers.repq_vit import Tails

X = random_images(80)


def inserted(model: nn.Module, bits: int = 4) -> nn.Module:
    return insert_quantizers(model, BitPolicy(bits, bits, first_last_bits=bits), X[:1])


def network(middle: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), middle, nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 144, 3)).eval()


class Constant(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x):
        return torch.full_like(x, self.value)


class Break(nn.Module):
    """Puts a value into the first pixel."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x):
        return x.index_fill(3, torch.tensor([0]), self.value)


def finite_state(model: nn.Module) -> bool:
    return all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (torch.zeros(3, 8, 8), r"shape \(3, 8, 8\): expected"),
        (torch.zeros(0, 3, 8, 8), "at least one"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "uint8.*expected.*float"),
        (torch.tensor([0.0, 1.0, float("nan")]).reshape(3, 1, 1, 1), "image 2 holds NaN.*expected finite"),
        (torch.tensor([0.0, float("inf"), 1.0]).reshape(3, 1, 1, 1), "image 1 holds NaN or inf"),
    ],
)
def test_wrong_images_are_named(images, match):
    with pytest.raises(RequestError, match=match):
        check_images(images)


def test_weights_get_the_estimators_ranges():
    model = inserted(tiny_resnet())
    expected = {
        name: PowerError()(Sample.of(layer.rows()), 4, False)[1] for name, layer in quantized_layers(model).items()
    }
    set_weight_ranges(model, PowerError())
    for name, layer in quantized_layers(model).items():
        top = (15 - layer.weight_zero_point) * layer.weight_scale
        assert ((top - expected[name]).abs() <= layer.weight_scale / 2 * 1.001).all()


def test_a_channel_of_zeros_is_named_and_stays_zero():
    model = network(nn.ReLU())
    with torch.no_grad():
        model[2].weight[1] = 0
    twin = inserted(model)
    with pytest.warns(QuantizationWarning, match="^2: 1 of 4 output channels"):
        set_weight_ranges(twin, PowerError())
    round_weights(twin)
    assert (twin[2].weight[1] == 0).all()
    assert finite_state(twin)


def test_a_weight_that_is_not_finite_is_named():
    model = network(nn.ReLU())
    twin = inserted(model)
    twin[2].weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(RequestError, match=r"^2: its weight holds NaN"):
        set_weight_ranges(twin, MinMax())


@pytest.mark.parametrize("build", [tiny_resnet, tiny_transformer])
def test_minmax_ranges_are_the_extremes_of_what_the_float_network_computes(build):
    model = inserted(build(), bits=8)
    seen: dict[str, list[torch.Tensor]] = {}
    for name, quantizer in activation_quantizers(model).items():
        quantizer.register_forward_hook(lambda _, args, __, name=name: seen.setdefault(name, []).append(args[0]))
    with torch.no_grad():
        model(X)
    everything = {name: torch.cat([x.flatten() for x in values]) for name, values in seen.items()}
    for quantizer in activation_quantizers(model).values():
        quantizer._forward_hooks.clear()
    set_activation_ranges(model, X, MinMax())
    for name, quantizer in activation_quantizers(model).items():
        low, high = everything[name].min().clamp(max=0), everything[name].max().clamp(min=0)
        torch.testing.assert_close(quantizer.scale, (high - low) / 255, rtol=1e-4, atol=1e-7)
        assert quantizer.calibrated
    if build is tiny_transformer:
        weights = model.blocks[0].attn.mix.left  # the softmax's output
        assert int(weights.zero_point) == 0
        assert weights.scale * 255 <= 1 + 1e-6


def test_only_the_chosen_are_calibrated_while_the_others_go_on_rounding():
    model = inserted(tiny_resnet(), bits=2)
    set_activation_ranges(model, X, MinMax(), only=["conv1.input_quantizer"])
    calibrated = [name for name, one in activation_quantizers(model).items() if one.calibrated]
    assert calibrated == ["conv1.input_quantizer"]
    set_activation_ranges(model, X, MinMax(), only=["layer1.0.conv1.input_quantizer"])
    after_rounding = model.layer1[0].conv1.input_quantizer.scale.clone()
    set_activation_ranges(model, X, MinMax())
    assert model.layer1[0].conv1.input_quantizer.scale != after_rounding
    assert all(one.observer is None for one in activation_quantizers(model).values())


def test_calibration_in_batches_is_calibration_at_once(monkeypatch):
    states = []
    for size in (7, 80):
        model = inserted(tiny_resnet())
        monkeypatch.setattr("evalsuite.quantization.grids.range_setting._BATCH", size)
        set_activation_ranges(model, X, PowerError())
        states.append(torch.stack([one.scale for one in activation_quantizers(model).values()]))
    torch.testing.assert_close(*states, rtol=2e-2, atol=0)


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_a_constant_input_is_named_and_kept(value):
    model = network(Constant(value))
    twin = inserted(model)
    set_weight_ranges(twin, MinMax())
    for estimator in (MinMax(), Percentile(), PowerError()):
        with pytest.warns(QuantizationWarning, match=r"^2\.input_quantizer: constant"):
            set_activation_ranges(twin, X, estimator)
        assert finite_state(twin)
        assert float(twin[2].input_quantizer(torch.tensor(value))) == pytest.approx(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_named_and_left_out(value):
    twin = inserted(network(Break(value)))
    clean = inserted(network(nn.Identity()))
    set_activation_ranges(clean, X, MinMax())
    with pytest.warns(QuantizationWarning) as caught:
        set_activation_ranges(twin, X, PowerError())
    messages = [str(one.message) for one in caught]
    assert any(message.startswith("2.input_quantizer: 4480 values were NaN") for message in messages)
    assert finite_state(twin)
    assert twin[2].input_quantizer.calibrated
    assert 0 < twin[2].input_quantizer.scale <= clean[2].input_quantizer.scale


def test_where_nothing_is_finite_the_input_stays_as_it_is():
    twin = inserted(network(Constant(float("nan"))))
    with pytest.warns(QuantizationWarning) as caught:
        set_activation_ranges(twin, X, MinMax())
    assert [str(one.message).partition(":")[0] for one in caught] == ["2.input_quantizer", "4.input_quantizer"]
    assert all("no finite value, stays unquantized" in str(one.message) for one in caught)
    assert not twin[2].input_quantizer.calibrated
    assert finite_state(twin)


def test_a_layer_that_calibration_does_not_reach_stays_unquantized():
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bright = nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return self.bright(x) if len(x) == 1 else x

    twin = inserted(network(Branch()))
    with pytest.warns(QuantizationWarning, match=r"^1\.bright\.input_quantizer: not reached"):
        set_activation_ranges(twin, X[:64], MinMax())
    assert not twin[1].bright.input_quantizer.calibrated
    assert twin(X[:1]).isfinite().all()


def test_a_histogram_counts_everything_and_keeps_zeros_exactly():
    x = torch.cat([torch.zeros(1000), torch.randn(5000, generator=torch.Generator().manual_seed(0)).relu() * 3])
    histogram = Histogram(float(x.min()), float(x.max()), 128)
    for part in x.split(700):
        histogram.add(part)
    sample = histogram.sample()
    assert int(sample.counts.sum()) == len(x)
    assert int(sample.counts[sample.values == 0]) >= 1000
    for p in (90.0, 99.0, 99.9):
        _, high = Percentile(p)(sample, 4, False)
        assert abs(float(high) - np.percentile(x.numpy(), p)) <= histogram.width * 1.01
    assert sample.high == x.max()


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (1e-45, 1e-44), (-3e38, 3e38), (5.0, 5.0)])
def test_a_histogram_of_any_width(low, high):
    histogram = Histogram(low, high, 64)
    histogram.add(torch.tensor([low, high, float("nan")]))
    sample = histogram.sample()
    assert int(sample.counts.sum()) == 2
    assert sample.values.isfinite().all()
    assert len(sample.values[0]) <= 66


def through_a_histogram(x: torch.Tensor, estimator, bits: int = 8) -> tuple[float, float]:
    """Return the range of an input that is ``x``, by way of calibration."""
    layer = QuantLinear(nn.Linear(x.shape[1], 1), BitPolicy(bits, bits))
    ranges = []
    layer.input_quantizer.set_range = lambda low, high: ranges.append((float(low), float(high)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuantizationWarning)
        set_activation_ranges(layer, x, estimator)
    return ranges[0]


@pytest.mark.parametrize("outlier", [20.0, 700.0, 5000.0, 1e7, 3e37])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("estimator", [Percentile(99.99), Percentile(70.0), Tails()])
def test_percentiles_are_numpys_however_far_out_one_value_lies(estimator, sign, outlier):
    x = torch.rand(64, 3072, generator=torch.Generator().manual_seed(0))
    x[5, 7] = sign * outlier
    low, high = through_a_histogram(x, estimator)
    p = estimator.percentile if isinstance(estimator, Percentile) else 100 * (1 - 4.0**-9)
    expected = np.percentile(x.double().numpy(), [100 - p, p])
    np.testing.assert_allclose([low, high], expected, rtol=1e-3, atol=0.005)


@settings(max_examples=30)
@given(st.floats(0.1, 3.0), st.integers(0, 3), st.sampled_from([60.0, 90.0, 99.0, 99.9]))
def test_a_quantile_of_a_skewed_activation_is_numpys_within_a_hundredth(sigma, zeros, p):
    x = np.random.default_rng(3).lognormal(0, sigma, 20_000).astype(np.float32)
    x = torch.from_numpy(np.concatenate([x, np.zeros(zeros * 5_000, np.float32)]))[None]
    expected = np.percentile(x.double().numpy(), p)
    # Where the quantile lies above a 17th of the maximum, one histogram of 2048 bins is enough.
    tolerance = max(0.01 * expected, float(x.max()) / 2048 if expected > float(x.max()) / 18 else 0.0)
    assert through_a_histogram(x, Percentile(p))[1] == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("estimator", [PowerError(), PowerError(norm=1.0), CosineSimilarity(), Divergence()])
@pytest.mark.parametrize("outlier", [30.0, 5000.0])
def test_a_search_over_a_histogram_is_one_over_the_values(estimator, outlier):
    x = torch.randn(64, 512, generator=torch.Generator().manual_seed(1))
    x[3, 100] = outlier
    found = torch.tensor(through_a_histogram(x, estimator, bits=4))
    sample = Sample.of(x.reshape(1, -1))
    exact = torch.stack(estimator(sample, 4, False))
    loss = estimator.losses(sample, 4, False)
    least = float(loss(*exact[:, None]))
    assert float(loss(*found[:, None, None])) == pytest.approx(least, rel=0.02, abs=1e-9)
    brute = [float(loss(*(exact[:, None] * factor))) for factor in (0.8, 0.9, 1.1, 1.25)]
    assert least <= min(one for one in brute) * 1.05 + 1e-9


def test_the_divergence_looks_at_the_bulk_whatever_lies_beyond():
    x = torch.randn(64, 512, generator=torch.Generator().manual_seed(1))
    plain_low, plain_high = through_a_histogram(x, Divergence(), bits=4)
    x[3, 100] = 5000.0
    low, high = through_a_histogram(x, Divergence(), bits=4)
    assert (low, high) == pytest.approx((plain_low, plain_high), rel=0.15)


def test_an_outlier_in_a_large_bulk_does_not_end_the_search_above_it():
    """A hundredth of the maximum is ten times the bulk; by least absolute error nothing above the bulk is worth it."""
    x = torch.rand(16, 40_000, generator=torch.Generator().manual_seed(2))
    x[0, 0] = 1000.0
    _, high = through_a_histogram(x, PowerError(norm=1.0), bits=4)
    assert 0.9 < high < 1.2


def test_ordinary_activations_take_one_histogram():
    x = torch.randn(64, 512, generator=torch.Generator().manual_seed(4))
    for values in (x, x.relu(), nn.functional.gelu(x), x * 0, (x * 20 - 60).relu()):
        histogram = Histogram(float(values.min()), float(values.max()), 2048)
        histogram.add(values)
        assert histogram.finer(int(values.count_nonzero())) is None
        assert int(histogram.sample().counts.sum()) == values.numel()


@settings(max_examples=25)
@given(st.floats(1e-3, 1e30), st.sampled_from([2, 64, 2048, 65536]), st.booleans())
def test_finer_bins_count_everything_once(outlier, bins, negative):
    x = torch.randn(3000, generator=torch.Generator().manual_seed(5))
    x[:500] = 0
    x[700] = -outlier if negative else outlier
    histogram = Histogram(float(x.min()), float(x.max()), bins)
    histogram.add(x)
    while (finer := histogram.finer(int(x.count_nonzero()))) is not None:
        histogram = finer
        for part in x.split(999):
            histogram.add(part)
    sample = histogram.sample()
    assert int(sample.counts.sum()) == len(x)
    assert int(sample.counts[sample.values == 0]) >= 500
    repeated = sample.values[0].repeat_interleave(sample.counts[0].long()).sort().values
    gap = (repeated - x.sort().values).abs()
    assert (gap <= x.abs().max() / bins + 1e-6 if bins < 2048 else gap <= x.sort().values.abs() / 120 + 0.07).all()


def test_a_range_that_leaves_nothing_but_zeros_is_named():
    set_activation_ranges(inserted(network(Break(1e6))), X, MinMax())  # one column of 14 is more than a hundredth
    layer = QuantLinear(nn.Linear(512, 1), BitPolicy(8, 8))
    x = torch.rand(64, 512, generator=torch.Generator().manual_seed(1))
    x[0, 0] = 5000.0
    with pytest.warns(QuantizationWarning, match=r"^input_quantizer: of 8 bits over .* to 5000 all but the largest 1"):
        set_activation_ranges(layer, x, MinMax())
