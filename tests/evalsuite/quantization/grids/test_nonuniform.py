from __future__ import annotations

import math

import pytest
import torch
from _dummies.models import random_images, tiny_resnet, tiny_transformer
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.bits import BitPolicy
from evalsuite.errors import Refused
from evalsuite.quantization.grids.layers import ActivationQuantizer, activation_quantizers
from evalsuite.quantization.grids.nonuniform import (
    LogSqrt2Error,
    LogSqrt2Quantizer,
    TwinQuantizer,
    log_sqrt2_quantize,
    quantizers_after,
    refuse_per_token,
    replace_quantizers,
    twin_quantize,
)
from evalsuite.quantization.grids.range_setting import Histogram
from evalsuite.quantization.insert import insert_quantizers

bit_widths = st.integers(2, 8)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value)


@settings(max_examples=30)
@given(bits=bit_widths, shift=st.integers(1, 10), seed=st.integers(0, 100))
def test_a_twin_grid_for_small_and_large_values(bits, shift, seed):
    last = 2 ** (bits - 1) - 1
    coarse = 1 / (last + 1)
    fine = coarse / 2**shift
    x = torch.rand(40, generator=torch.Generator().manual_seed(seed)) ** 4
    rounded = twin_quantize(x, scalar(fine), scalar(coarse), bits, signed=False)
    steps = torch.arange(last + 1)
    for value, level in zip(x, rounded, strict=True):
        own = steps * (fine if value < fine * (last + 1) else coarse)
        assert level in own
        assert torch.isclose((level - value).abs(), (own - value).abs().min())
    assert len(torch.cat([steps * fine, steps * coarse]).unique()) <= 2**bits


@given(bits=bit_widths, fine=st.floats(0.01, 0.1), coarse=st.floats(0.1, 1), seed=st.integers(0, 100))
def test_a_twin_grid_for_negative_and_positive_values(bits, fine, coarse, seed):
    last = 2 ** (bits - 1) - 1
    x = torch.randn(200, generator=torch.Generator().manual_seed(seed))
    rounded = twin_quantize(x, scalar(fine), scalar(coarse), bits, signed=True)
    expected = torch.where(
        x < 0, (x / fine).round().clamp(-last, 0) * fine, (x / coarse).round().clamp(0, last) * coarse
    )
    torch.testing.assert_close(rounded, expected)


@given(bits=bit_widths, scale=st.floats(0.01, 2), seed=st.integers(0, 100))
def test_the_log_grid_is_the_papers_and_its_reparameterisation_to_base_two(bits, scale, seed):
    x = torch.rand(300, generator=torch.Generator().manual_seed(seed)) ** 5 * scale * 1.1
    rounded = log_sqrt2_quantize(x, scalar(scale), bits)
    steps = (-2 * (x / scale).log2()).round().clamp(min=0)
    kept = steps < 2**bits - 1
    assert (rounded[~kept] == 0).all()
    odd = steps % 2
    shifted = scale * (1 + odd * (math.sqrt(2) - 1)) * 2.0 ** torch.floor(-steps / 2)
    torch.testing.assert_close(rounded[kept], shifted[kept], rtol=1e-5, atol=0)


def test_zero_stays_zero_and_everything_is_finite():
    x = torch.tensor([0.0, 1e-30, 1.0])
    assert log_sqrt2_quantize(x, scalar(1.0), 3).tolist() == [0, 0, 1]
    assert twin_quantize(x, scalar(0.01), scalar(0.25), 3, signed=False).tolist() == [0, 0, 0.75]


@given(low=st.floats(-5, 0), high=st.floats(0.01, 100), bits=bit_widths)
def test_a_signed_range_covers_the_negative_values_by_an_aligned_step(low, high, bits):
    quantizer = TwinQuantizer(bits, signed=True)
    quantizer.set_range(scalar(low), scalar(high))
    ratio = math.log2(float(quantizer.scale / quantizer.fine_scale))
    assert ratio == round(ratio)
    assert ratio >= 0
    least, greatest = quantizer.ends()
    assert math.isclose(float(greatest), high, rel_tol=1e-5)
    assert float(least) <= low * (1 - 1e-5) or -low > high  # wider than the positive range it never gets
    assert ratio == 15 or ratio == 0 or float(least) / 2 >= low * (1 + 1e-5)


def test_an_unsigned_range_starts_with_both_steps_aligned():
    quantizer = TwinQuantizer(4, signed=False)
    quantizer.set_range(scalar(0.0), scalar(1.0))
    assert float(quantizer.scale / quantizer.fine_scale) == 8


@pytest.mark.parametrize(
    "build", [lambda: TwinQuantizer(4, True), lambda: TwinQuantizer(4, False), lambda: LogSqrt2Quantizer(4)]
)
def test_a_quantizer_passes_until_its_range_is_set_and_is_restored_from_its_state(build):
    x = torch.rand(50) * 2 - (0.5 if getattr(build(), "signed", False) else 0)
    quantizer = build()
    assert torch.equal(quantizer(x), x)
    seen = []
    quantizer.set_range(x.min(), x.max())
    quantizer.observer = seen.append
    assert torch.equal(quantizer(x), x)
    assert len(seen) == 1
    quantizer.observer = None
    rounded = quantizer(x)
    assert not torch.equal(rounded, x)
    fresh = build()
    fresh.load_state_dict(quantizer.state_dict())
    assert torch.equal(fresh(x), rounded)
    assert "bits=4" in repr(fresh)
    assert len(rounded.unique()) <= 16


def test_gradients_pass_inside_the_grid_only():
    quantizer = TwinQuantizer(3, signed=True)
    quantizer.set_steps(scalar(0.1), scalar(0.2))
    x = torch.tensor([-0.5, -0.1, 0.0, 0.33, 0.9], requires_grad=True)
    out = quantizer(x)
    assert torch.equal(out.detach(), quantizer(x.detach()))
    out.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
    log = LogSqrt2Quantizer(3)
    log.set_range(scalar(0.0), scalar(1.0))
    y = torch.tensor([0.5, 1.5], requires_grad=True)
    log(y).sum().backward()
    assert y.grad.tolist() == [1, 0]


def test_the_log_scale_has_the_least_squared_error():
    x = torch.rand(2000, generator=torch.Generator().manual_seed(0)) ** 8
    x[:1000] *= 0.3
    histogram = Histogram(0.0, float(x.max()), 2**16)
    histogram.add(x)
    low, high = LogSqrt2Error(steps=20)(histogram.sample(), 3, False)
    assert low.item() == 0
    errors = {step: float((log_sqrt2_quantize(x, x.max() * step / 20, 3) - x).square().sum()) for step in range(1, 21)}
    assert math.isclose(float(high), float(x.max()) * min(errors, key=errors.__getitem__) / 20, rel_tol=1e-6)


def test_quantizers_are_found_by_what_computes_their_input():
    x = random_images(1)
    twin = insert_quantizers(tiny_transformer(), BitPolicy(), x)
    assert quantizers_after(twin, x, "softmax") == [f"blocks.{i}.attn.mix.left" for i in range(4)]
    assert quantizers_after(twin, x, "gelu") == [f"blocks.{i}.fc2.input_quantizer" for i in range(4)]
    assert quantizers_after(insert_quantizers(tiny_resnet(), BitPolicy(), x), x, "softmax") == []


def test_replaced_quantizers_stand_in_the_same_place():
    x = random_images(1)
    twin = insert_quantizers(tiny_transformer(), BitPolicy(4, 5), x)
    before = twin(x)
    names = quantizers_after(twin, x, "softmax")
    replace_quantizers(twin, names, lambda old: LogSqrt2Quantizer(old.bits))
    found = activation_quantizers(twin)
    assert all(type(found[name]) is (LogSqrt2Quantizer if name in names else ActivationQuantizer) for name in found)
    assert {found[name].bits for name in names} == {5}
    assert not any(one.training for one in found.values())
    assert torch.equal(twin(x), before)


def test_grids_of_each_token_leave_nothing_to_choose():
    with pytest.raises(Refused, match="mine chooses ranges"):
        refuse_per_token(BitPolicy(per_token=True), "mine")
